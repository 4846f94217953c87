"""Depth: metres without alignment, over valid pixels within the range."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fourd.backbones import video_vit
from fourd.tasks import depth
from fourd.types import ClipShape, Depth, Features, FeatureShape, NoQuery, TaskSample
from tests.tasks.learning import gradients, learn, values

CLIP, SAMPLE = depth.tiny_sample()
TASK = depth.tiny().build()
METRES = SAMPLE.target.metres


def sample_of(metres: torch.Tensor, valid: torch.Tensor) -> TaskSample:
    return TaskSample(NoQuery(), Depth(metres, valid))


def test_the_truth_is_perfect():
    found = values(TASK, METRES, SAMPLE)
    assert all(torch.equal(found[name], torch.zeros(2).double()) for name in ("abs_rel", "rmse", "silog_x100"))
    assert torch.equal(found["delta_1"], torch.ones(2).double())
    assert float(TASK.loss(METRES, SAMPLE.target).loss) == 0


def test_the_loss_is_the_mean_error_in_metres():
    assert float(TASK.loss(METRES + 0.5, SAMPLE.target).loss) == pytest.approx(0.5, rel=1e-5)
    halved = replace(SAMPLE.target, valid=torch.arange(32).expand(2, 4, 32, 32) < 16)
    assert float(TASK.loss(METRES + (torch.arange(32) < 16), halved).loss) == pytest.approx(1.0, rel=1e-5)


def test_scale_is_not_aligned():
    found = values(TASK, 1.1 * METRES, SAMPLE)["abs_rel"]
    torch.testing.assert_close(found, torch.full((2,), 0.1).double(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("value", [0.0005, 10.5, torch.nan, torch.inf])
def test_pixels_out_of_range_count_for_nothing(value):
    spoiled = METRES.clone()
    spoiled[..., :8] = value
    loss, (gradient,) = gradients(TASK, METRES + 1, Depth(spoiled, torch.ones_like(SAMPLE.target.valid)))
    assert float(loss) == pytest.approx(1.0, rel=1e-5)
    assert not gradient[..., :8].any()
    assert gradient[..., 8:].isfinite().all()
    assert gradient[..., 8:].all()
    found = values(TASK, METRES, sample_of(spoiled, torch.ones_like(SAMPLE.target.valid)))
    assert torch.equal(found["abs_rel"], torch.zeros(2).double())


@pytest.mark.parametrize("fill", [1.0, torch.nan])
def test_nothing_valid_gives_no_gradient_and_no_weight(fill):
    nothing = Depth(torch.full_like(METRES, fill), torch.zeros_like(SAMPLE.target.valid))
    loss, (gradient,) = gradients(TASK, METRES, nothing)
    assert loss == 0
    assert not gradient.any()
    for score in TASK.scores(METRES, NoQuery(), nothing):
        assert not score.score.any()
        assert not score.weight.any()


def test_the_control_is_the_mean_of_each_pixel_over_all_clips():
    metres = torch.stack([torch.full((1, 2, 2), 2.0), torch.full((1, 2, 2), 4.0), torch.full((1, 2, 2), 7.0)])
    valid = torch.ones(3, 1, 2, 2, dtype=torch.bool)
    valid[2, 0, 0, 0] = False  # two clips count here
    valid[:, 0, 1, 1] = False  # none does here
    metres[2, 0, 0, 0] = torch.nan
    metres[:, 0, 1, 0] = torch.tensor([50.0, 3.0, 5.0])  # the first is out of range
    samples = [sample_of(metres[:2], valid[:2]), sample_of(metres[2:], valid[2:])]
    answer = TASK.fit_controls(samples)["mean_answer"](NoQuery(), ClipShape(1, 2, 2), 5)
    everywhere = (2 + 4 + 2 + 4 + 7 + 3 + 5) / 7
    assert answer.shape == (5, 1, 2, 2)
    torch.testing.assert_close(answer[4, 0], torch.tensor([[3.0, 13 / 3], [4.0, everywhere]]))


@pytest.mark.parametrize("place", [(0, 0, 0), (1, 2, 3), (2, 1, 0)])
def test_a_linear_readout_answers_each_pixel_from_the_token_above_it(place):
    shape = FeatureShape(3, 4, 5, 6)
    clip = ClipShape(6, 8, 20)
    readout = TASK.build_readout(shape, clip, "linear")
    readout.init_weights(torch.Generator().manual_seed(0))
    grid = torch.zeros(1, 3, 4, 5, 6)
    before = readout(Features(grid), NoQuery())
    grid[(0, *place)] = torch.arange(6.0)
    changed = (readout(Features(grid), NoQuery()) != before)[0]
    t, h, w = place
    expected = torch.zeros_like(changed)
    expected[2 * t : 2 * t + 2, 2 * h : 2 * h + 2, 4 * w : 4 * w + 4] = True
    assert torch.equal(changed, expected)


@pytest.mark.parametrize("height", [3, 12, 64])
def test_a_grid_that_does_not_divide_the_clip_answers_in_the_clips_shape(height):
    readout = TASK.build_readout(FeatureShape(2, height, 4, 8), CLIP, "linear")
    readout.init_weights(torch.Generator().manual_seed(0))
    grid = torch.zeros(1, 2, height, 4, 8)
    grid[:, 0] = torch.randn(8, generator=torch.Generator().manual_seed(1))
    metres = readout(Features(grid), NoQuery())
    assert metres.shape == (1, CLIP.num_frames, CLIP.height, CLIP.width)
    assert not torch.allclose(metres[:, 0], metres[:, -1])  # time is not mixed up with space


def test_two_clips_can_be_learned_by_heart():
    first, last, answer = learn(TASK, CLIP, SAMPLE)
    assert last < first / 8
    assert values(TASK, answer, SAMPLE)["abs_rel"].max() < 0.25


def test_the_base_readout_has_as_many_parameters_as_the_released_one():
    clip = ClipShape(16, 224, 224)
    with torch.device("meta"):
        shape = video_vit.base().build().feature_shape(clip)
        readout = depth.base().build().build_readout(shape, clip, "attention")
    assert sum(parameter.numel() for parameter in readout.parameters()) == 17_587_840
