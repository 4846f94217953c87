"""An encoder of windows looks at each by itself, with the weights of a video encoder of one window."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fourd.backbones import video_vit, windowed_vit
from fourd.types import ClipShape


def built(config):
    model = config.build()
    model.init_weights(torch.Generator().manual_seed(0))
    return model.eval()


def frames(number: int) -> torch.Tensor:
    return torch.randint(0, 256, (2, number, 3, 32, 32), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def test_a_frame_changes_the_features_of_its_own_window_alone():
    encoder = built(windowed_vit.tiny())
    video = frames(12)
    other = video.clone()
    other[:, 5] = 255 - other[:, 5]
    (before,), (after,) = encoder(video, (1.0,)), encoder(other, (1.0,))
    moved = (before.grid - after.grid).abs().amax((0, 2, 3, 4))
    assert moved[2:4].min() > 0.01
    assert moved[[0, 1, 4, 5]].max() == 0


def test_an_encoder_of_frames_sees_no_motion():
    encoder = built(windowed_vit.by_frames(video_vit.tiny()))
    video = frames(5)
    (forth,), (back,) = encoder(video, (1.0,)), encoder(video.flip(1), (1.0,))
    assert torch.allclose(forth.grid, back.grid.flip(1), atol=1e-5)


def test_on_a_clip_of_its_own_length_it_is_the_video_encoder():
    video_encoder, windowed = built(video_vit.tiny()), built(windowed_vit.by_windows(video_vit.tiny()))
    windowed.load_state_dict(video_encoder.state_dict())
    clip = frames(4)
    for one, other in zip(windowed(clip, (0.5, 1.0)), video_encoder(clip, (0.5, 1.0)), strict=True):
        assert torch.equal(one.grid, other.grid)


def test_an_encoder_keeps_all_that_describes_it():
    toy = replace(video_vit.toy(), native_size=False)
    assert vars(windowed_vit.by_windows(toy)) == vars(toy)
    assert windowed_vit.by_frames(toy).patch == (1, 8, 8)


def test_a_part_of_a_window_is_refused():
    encoder = built(windowed_vit.tiny())
    with pytest.raises(ValueError, match="clips have 6 frames; this backbone takes windows of 4"):
        encoder(frames(6), (1.0,))
    with pytest.raises(ValueError, match="windows of 4"):
        encoder.feature_shape(ClipShape(6, 32, 32))
