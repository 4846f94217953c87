"""Features belong to the frames that are asked for, at their true times and in the size asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fourd import video
from fourd.extraction import ExtractConfig, extract
from fourd.video import CropBox
from tests.extraction.small import assert_close, backbone, features_of, film, frames_of, stored

UNEVEN_S = np.cumsum([0.0, *np.random.default_rng(3).uniform(0.01, 0.2, 22)])
FULL = {"dtype": "float32"}


def test_the_times_of_an_uneven_film_are_those_of_its_frames(tmp_path: Path):
    path = film(tmp_path / "a.mp4", 23, times_s=UNEVEN_S)
    (entry,) = extract(path, tmp_path / "out", backbone(), ExtractConfig(overlap=2))
    found = stored(tmp_path / "out", "a.mp4")
    pairs = [UNEVEN_S[start : start + 2] for start in range(0, 23, 2)]
    for name, value in (("time_s", np.mean), ("frame_start_s", np.min), ("frame_end_s", np.max)):
        assert found[name].dtype == torch.float64
        np.testing.assert_allclose(found[name], [value(pair) for pair in pairs], atol=1e-4)
    assert (entry.first_s, entry.last_s) == (0.0, pytest.approx(UNEVEN_S[-1], abs=1e-4))
    assert entry.fps == pytest.approx(22 / UNEVEN_S[-1], abs=1e-2)


@pytest.mark.parametrize(
    "options",
    [{"stride": 3}, {"fps": 7.0}, {"fps": 60.0}, {"start_s": 0.3, "end_s": 0.9}, {"start_s": 0.5, "stride": 2}],
)
def test_frames_are_sampled_as_asked(options: dict, tmp_path: Path):
    path, model = film(tmp_path / "a.mp4", 30, times_s=np.arange(30) * 0.04), backbone()
    extract(path, tmp_path / "out", model, ExtractConfig(**options, **FULL))
    info = video.probe(path)
    indices = ExtractConfig(**options).frame_indices(info.frame_times_s)
    found = stored(tmp_path / "out", "a.mp4")
    assert_close(found["features"], features_of(frames_of(path, indices), model))
    times_s = info.frame_times_s[indices]
    np.testing.assert_allclose(found["time_s"], [times_s[n : n + 2].mean() for n in range(0, len(times_s), 2)])


def test_a_frame_may_be_cropped_to_the_aspect_of_the_backbone(tmp_path: Path):
    path, model = film(tmp_path / "a.mp4", 6, size=(96, 48)), backbone()
    extract(path, tmp_path / "out", model, ExtractConfig(fit="crop", **FULL))
    expected = features_of(frames_of(path, box=CropBox(24, 0, 48, 48)), model)
    assert_close(stored(tmp_path / "out", "a.mp4")["features"], expected)


def test_a_frame_may_keep_its_aspect(tmp_path: Path):
    wide, tall = film(tmp_path / "a.mp4", 6, size=(96, 48)), film(tmp_path / "b.mp4", 5, size=(48, 64))
    model = backbone(native_size=False)
    entries = extract(tmp_path, tmp_path / "out", model, ExtractConfig(fit="keep", **FULL))
    assert [(entry.h, entry.w) for entry in entries] == [(4, 8), (5, 4)]
    assert_close(stored(tmp_path / "out", "a.mp4")["features"], features_of(frames_of(wide, size=(32, 64)), model))
    assert_close(stored(tmp_path / "out", "b.mp4")["features"], features_of(frames_of(tall, size=(40, 32)), model))


def test_a_backbone_without_a_native_size_takes_longer_windows(tmp_path: Path):
    path, model = film(tmp_path / "a.mp4", 12), backbone(native_size=False)
    extract(path, tmp_path / "out", model, ExtractConfig(num_frames=12, **FULL))
    with torch.no_grad():
        assert_close(stored(tmp_path / "out", "a.mp4")["features"], model(frames_of(path)[None], [0.95])[0].grid[0])
