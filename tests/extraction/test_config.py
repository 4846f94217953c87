"""Options pick the frames that they say, and those that do not go together are refused before anything is done."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fourd.extraction.config import ExtractConfig, framing, settle
from fourd.types import NativeInput
from fourd.video import CropBox
from tests.extraction.small import backbone, image_encoder

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, range(10)),
        ({"stride": 3}, [0, 3, 6, 9]),
        ({"start_s": 0.25}, [3, 4, 5, 6, 7, 8, 9]),
        ({"start_s": 0.2, "end_s": 0.5, "stride": 2}, [2, 4]),
        ({"fps": 5.0}, [0, 2, 4, 6, 8]),
        ({"fps": 3.0}, [0, 3, 7]),  # 0, 0.333 and 0.667 s
        ({"fps": 20.0, "end_s": 0.3}, [0, 0, 1, 1, 2]),
        ({"fps": 5.0, "start_s": 0.3}, [3, 5, 7, 9]),
        ({"start_s": 2.0}, []),
        ({"start_s": 2.0, "fps": 1.0}, []),
    ],
)
def test_frames_are_chosen_by_their_times(options, expected):
    times_s = np.arange(10) / 10
    assert ExtractConfig(**options).frame_indices(times_s).tolist() == list(expected)


@given(st.lists(st.floats(0.001, 0.5), min_size=1, max_size=50), st.floats(0.5, 60))
def test_a_rate_picks_the_nearest_frame_of_an_uneven_film(gaps, fps):
    times_s = np.cumsum([0.0, *gaps])
    found = ExtractConfig(fps=fps).frame_indices(times_s)
    assert len(found) == int(times_s[-1] * fps + 1e-6) + 1
    for number, index in enumerate(found):
        distance = np.abs(times_s - number / fps)
        assert distance[index] <= distance.min() + 1e-9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depths": ()}, "expected one or more"),
        ({"depths": (0.5, 0.5)}, "each once"),
        ({"fps": 2.0, "stride": 2}, "a rate above 0, or a stride alone"),
        ({"fps": 0.0}, "a rate above 0"),
        ({"stride": 0}, "expected 1 or more"),
        ({"start_s": -1.0}, "0 <= start_s < end_s"),
        ({"start_s": 2.0, "end_s": 2.0}, "0 <= start_s < end_s"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ExtractConfig(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depths": (1.5,)}, "expected 0 < depth <= 1"),
        ({"num_frames": 8}, "num_frames is 8; this backbone takes 4"),
        ({"overlap": 3}, "the overlap is 3 frames; expected a multiple of 2"),
        ({"overlap": 4}, "from 0 to 2"),
        ({"fit": "keep"}, "native_size=False"),
    ],
)
def test_options_that_the_backbone_cannot_follow_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        settle(ExtractConfig(**options), backbone(), CPU)


def test_the_backbone_and_the_device_settle_what_is_left_open():
    settled = settle(ExtractConfig(), backbone(), CPU)
    assert (settled.num_frames, settled.precision) == (4, "fp32")
    assert settle(ExtractConfig(), backbone(), torch.device("cuda")).precision == "bf16"
    assert settle(ExtractConfig(precision="bf16"), backbone(), CPU).precision == "bf16"
    assert settle(ExtractConfig(num_frames=8), backbone(native_size=False), CPU).num_frames == 8


def test_an_image_encoder_takes_windows_of_any_length():
    assert settle(ExtractConfig(), image_encoder(), CPU).num_frames == 16
    assert settle(ExtractConfig(num_frames=5), image_encoder(), CPU).num_frames == 5


def test_a_tensor_is_named_by_its_depth_where_there_are_several():
    assert ExtractConfig(depths=(0.5,)).tensor_names == ("features",)
    assert ExtractConfig(depths=(0.5, 1.0)).tensor_names == ("features@0.5", "features@1.0")


@pytest.mark.parametrize(
    ("fit", "size", "box", "fitted"),
    [
        ("squash", (90, 160), (0, 0, 160, 90), (32, 64)),
        ("crop", (90, 160), (0, 5, 160, 80), (32, 64)),
        ("crop", (90, 100), (0, 20, 100, 50), (32, 64)),
        ("keep", (90, 160), (0, 0, 160, 90), (32, 64)),  # 32 x 56.9, in patches of 8 x 16
        ("keep", (160, 90), (0, 0, 90, 160), (56, 32)),
        ("keep", (90, 2000), (0, 0, 2000, 90), (32, 704)),
    ],
)
def test_a_picture_is_fitted_to_the_backbone(fit, size, box, fitted):
    native = NativeInput(4, (32, 64), (2, 8, 16), fixed=False)
    found = framing(*size, fit, native)
    assert found.box == CropBox(*box)
    assert found.size == fitted
