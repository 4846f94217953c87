"""Future prediction sees the first frames, answers the last ones, and says what repeating a frame would cost."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fourd.backbones import video_vit
from fourd.objectives import future_prediction
from fourd.objectives._pixel_error import squared_difference
from fourd.objectives.future_prediction import FuturePrediction, FuturePredictionConfig
from fourd.types import Batch, map_tensors
from tests.objectives.learning import deviation, learn, moving_squares

TINY = future_prediction.tiny()
LONG = replace(TINY, backbone=replace(TINY.backbone, num_frames=8), mask_ratio=0.25)
"""Four frame groups, of which three are seen."""


def built(config: FuturePredictionConfig = TINY) -> FuturePrediction:
    objective = config.build()
    objective.init_weights(torch.Generator().manual_seed(0))
    return objective


def noise(frames: int, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    video = torch.randint(0, 256, (2, frames, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return Batch(video, torch.zeros(2, frames), ("a", "b"), ("a", "b"), torch.tensor([1, 2]))


@pytest.mark.parametrize(
    ("ratio", "seen", "patch", "latents"),
    [
        (0.5, 8, (4, 16, 16), 392),
        (0.5, 8, (2, 16, 16), 784),
        (0.25, 12, (4, 16, 16), 196),
        (0.875, 2, (2, 32, 32), 343),
    ],
)
def test_latents_cover_the_frames_that_follow(ratio, seen, patch, latents):
    backbone = video_vit.VideoViTConfig(width=12, depth=2, num_heads=2, mlp_width=24)
    objective = FuturePredictionConfig(backbone, mask_ratio=ratio, decoder_patch=patch).build()
    assert objective.num_seen_frames == seen
    assert objective.num_visible == seen // 2 * 196
    assert len(objective.latents) == latents
    assert latents * patch[0] * patch[1] * patch[2] == (16 - seen) * 224 * 224


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (replace(TINY, mask_ratio=0.75), "none of 2 frame groups visible; the largest that works is 0.5:"),
        (replace(TINY, mask_ratio=0.0), "hides none of 2 frame groups, so nothing follows"),
        (replace(TINY, decoder_patch=(4, 8, 8)), r"clip of \(2, 32, 32\).*cannot be cut into patches of \(4, 8, 8\)"),
        (replace(TINY, backbone=replace(TINY.backbone, native_size=False)), "FuturePrediction pretrains at"),
        (replace(TINY, num_decoder_blocks=5), "num_decoder_blocks is 5; expected 1 to 4"),
    ],
)
def test_a_config_that_cannot_be_trained_is_an_error(config, message):
    with pytest.raises(ValueError, match=message):
        config.build()


@pytest.mark.parametrize("config", [TINY, LONG])
def test_what_follows_never_reaches_the_prediction_and_every_seen_frame_does(config):
    objective, batch = built(config), noise(config.backbone.num_frames)
    other = noise(config.backbone.num_frames, seed=1).video
    _, before = objective._predict(batch)
    seen = objective.num_seen_frames
    spoiled = torch.cat([batch.video[:, :seen], other[:, seen:]], dim=1)
    assert torch.equal(objective._predict(replace(batch, video=spoiled))[1], before)
    for frame in range(seen):
        changed = batch.video.clone()
        changed[:, frame] = other[:, frame]
        after = objective._predict(replace(batch, video=changed))[1]
        assert (after != before).flatten(1).any(dim=1).all()


@pytest.mark.parametrize("config", [TINY, LONG])
def test_the_loss_is_the_error_of_the_frames_that_follow(config):
    objective, batch = built(config), noise(config.backbone.num_frames)
    pixels, visible, predicted = objective.reconstruct(batch)
    seen = objective.num_seen_frames
    assert pixels.shape == predicted.shape == batch.video.shape
    assert visible[:, : seen // 2].all()
    assert not visible[:, seen // 2 :].any()
    torch.testing.assert_close(pixels, batch.video / 255)
    assert torch.equal(predicted[:, :seen], pixels[:, :seen])
    expected = (predicted[:, seen:] - batch.video[:, seen:] / 255).square().mean()
    torch.testing.assert_close(objective(batch).loss, expected)


def test_the_prediction_stands_where_and_when_its_patch_is():
    objective, batch = built(replace(LONG, mask_ratio=0.5)), noise(8)
    with torch.no_grad():
        objective.decoder.weight.zero_()
        objective.decoder.bias.copy_(torch.arange(2 * 8 * 8 * 3))
    _, _, predicted = objective.reconstruct(batch)
    t, y, x, c = torch.meshgrid(*(torch.arange(n) for n in (4, 32, 32, 3)), indexing="ij")
    expected = ((t % 2 * 8 + y % 8) * 8 + x % 8) * 3 + c
    torch.testing.assert_close(predicted[0, 4:], expected.movedim(-1, 1).float())


def test_copying_the_last_frame_is_counted_by_hand():
    objective, batch = built(LONG), noise(8)
    pixels = batch.video.double() / 255
    errors = [(pixels[:, 5] - pixels[:, frame]).square().mean() for frame in (6, 7)]
    step = objective(batch)
    assert set(step.scalars) == {"copy_last"}
    torch.testing.assert_close(step.scalars["copy_last"].double(), sum(errors) / 2, rtol=1e-5, atol=0)
    still = replace(batch, video=batch.video[:, :1].repeat(1, 8, 1, 1, 1))
    assert float(objective(still).scalars["copy_last"]) == 0


def test_squared_difference_takes_bytes_and_shares_alike():
    one, other = (noise(4, seed).video for seed in (0, 1))
    torch.testing.assert_close(squared_difference(one[:, :1] / 255, other), squared_difference(one[:, :1], other))


def test_clips_of_another_size_are_resized():
    batch = noise(4)
    larger = replace(batch, video=batch.video.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2))
    objective = built()
    torch.testing.assert_close(objective(larger).loss, objective(batch).loss, rtol=0.1, atol=0)


def test_a_step_looks_at_no_number_on_the_host():
    blank = map_tensors(lambda tensor: tensor.to("meta"), noise(4))
    with torch.device("meta"):
        objective = TINY.build()
        objective(blank).loss.backward()
    assert objective.latents.grad is not None


def test_the_loss_falls_below_a_copy_and_features_do_not_collapse():
    objective, batch = built(replace(TINY, decoder_bias=0.2)), moving_squares(8)
    losses = learn(objective, batch, steps=80)
    copied = float(objective(batch).scalars["copy_last"])
    assert copied > 0.001
    assert losses[-1] < copied
    assert losses[-1] < losses[0] / 10
    assert deviation(objective.backbone, batch.video) > 0.2
    assert deviation(objective.backbone, batch.video[:1].expand_as(batch.video)) < 1e-3, "the control differs"


def test_the_encoder_is_what_is_exported():
    objective = built()
    parts = objective.export()
    assert parts["model"] is objective.backbone
    exported = [parameter for part in parts.values() for parameter in part.parameters()]
    assert sorted(map(id, exported)) == sorted(map(id, objective.parameters()))
