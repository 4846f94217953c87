"""An encoder of windows looks at each by itself, with the weights of a video encoder of one window."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from fourd.backbones import video_vit, windowed_vit
from fourd.provenance import describe
from fourd.types import ClipShape
from fourd.weights.files import save_module
from fourd.weights.starting import fill_backbone


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


def test_weights_of_the_encoder_of_one_window_are_taken_and_no_others(tmp_path):
    encoder = built(video_vit.tiny())
    save_module(encoder, tmp_path / "one.safetensors", json.dumps(describe(encoder.config)))
    windowed = built(windowed_vit.by_windows(video_vit.tiny()))
    fill_backbone(windowed, tmp_path / "one.safetensors")
    save_module(windowed, tmp_path / "windowed.safetensors", json.dumps(describe(windowed.config)))
    fill_backbone(built(video_vit.tiny()), tmp_path / "windowed.safetensors")  # and the other way round
    longer = built(windowed_vit.by_windows(replace(video_vit.tiny(), num_heads=4)))
    with pytest.raises(ValueError, match="weights of another config: num_heads"):
        fill_backbone(longer, tmp_path / "one.safetensors")


def test_a_part_of_a_window_is_refused():
    encoder = built(windowed_vit.tiny())
    with pytest.raises(ValueError, match="clips have 6 frames; this backbone takes windows of 4"):
        encoder(frames(6), (1.0,))
    with pytest.raises(ValueError, match="windows of 4"):
        encoder.feature_shape(ClipShape(6, 32, 32))
