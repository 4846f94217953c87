"""Depth scores against golden numbers, closed forms, and what must not change a score."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fourd import metrics
from fourd.metrics._depth_alignment import fit_scale_l1, fit_scale_shift_l2
from tests.metrics.helpers import (
    EXACT,
    GOLDEN,
    assert_same,
    assert_undefined,
    by_name,
    few,
    seeds,
    tensor,
)

GOLDEN_OF: dict[metrics.Alignment, str] = {
    "none": "metric",
    "median": "median_scaled",
    "scale_shift_l2": "lstsq_scale_shift",
}
OURS = {"d1": "delta_1", "d2": "delta_2", "d3": "delta_3"}


def golden_depth() -> tuple[Tensor, Tensor]:
    pred, true = (tensor(GOLDEN["depth"][name])[None, None, None] for name in ("pred_m", "gt_m"))
    return pred, true


def test_every_golden_number_of_depth_is_looked_at():
    assert set(GOLDEN["depth"]) == {"gt_m", "pred_m", "valid", *GOLDEN_OF.values()}
    assert GOLDEN["depth"]["valid"] == "0.001<gt<10"  # what `depth` takes for near and far


@pytest.mark.parametrize("alignment", GOLDEN_OF)
def test_depth_equals_the_golden_numbers(alignment: metrics.Alignment):
    pred, true = golden_depth()
    scores = by_name(metrics.depth(pred, true, torch.ones_like(true, dtype=torch.bool), alignment=alignment))
    suffix = "" if alignment == "none" else f"_{alignment}_aligned"
    expected = {k: v for k, v in GOLDEN["depth"][GOLDEN_OF[alignment]].items() if k not in ("scale", "shift")}
    assert len(expected) == 9
    for name, value in expected.items():
        score = scores[OURS.get(name, name) + suffix]
        assert score.score.item() == pytest.approx(value, **EXACT), name
        assert score.weight.item() == 21
    for name in ("abs_rel", "rmse", "delta_1"):  # of one frame, a mean over frames is the mean over pixels
        over_frames, over_pixels = scores[f"{name}_per_frame{suffix}"], scores[f"{name}{suffix}"]
        assert (over_frames.score.item(), over_frames.weight.item()) == (over_pixels.score.item(), 1)


def test_least_squares_give_the_golden_scale_and_shift():
    pred, true = golden_depth()
    scale, shift = fit_scale_shift_l2(pred, true, (true > 0.001) & (true < 10))
    golden = GOLDEN["depth"]["lstsq_scale_shift"]
    assert (scale.item(), shift.item()) == (
        pytest.approx(golden["scale"], **EXACT),
        pytest.approx(golden["shift"], **EXACT),
    )


def random_depth(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    true = 0.1 + 12 * torch.rand(2, 3, 4, 5, generator=generator)
    pred = true * torch.exp(0.3 * torch.randn(true.shape, generator=generator))
    return pred, true, torch.rand(true.shape, generator=generator) < 0.7


@few
@given(seeds, st.sampled_from(list(metrics.DEPTH)))
def test_depth_never_looks_at_invalid_pixels(seed: int, alignment: metrics.Alignment):
    pred, true, valid = random_depth(seed)
    hidden = [torch.where(valid, depth, torch.nan) for depth in (pred, true)]
    assert_same(
        metrics.depth(*hidden, valid, alignment=alignment), metrics.depth(pred, true, valid, alignment=alignment)
    )


@few
@given(seeds, st.sampled_from(list(metrics.DEPTH)))
def test_perfect_depth_is_perfect(seed: int, alignment: metrics.Alignment):
    _, true, valid = random_depth(seed)
    for score in metrics.depth(true, true, valid, alignment=alignment):
        best = 1.0 if score.metric.higher_is_better else 0.0
        assert score.score.tolist() == pytest.approx([best, best], abs=1e-4)


FORGIVEN = {
    "none": (),
    "median": ("scaled",),
    "median_per_frame": ("scaled", "scaled_by_frame"),
    "scale_l1": ("scaled",),
    "scale_shift_l2": ("scaled", "moved"),
    "scale_shift_l2_per_frame": ("scaled", "scaled_by_frame", "moved", "moved_by_frame"),
    "scale_shift_l2_disparity": ("scaled", "moved_disparity"),
}


@pytest.mark.parametrize("alignment", list(metrics.DEPTH))
@pytest.mark.parametrize("seed", range(5))
def test_alignment_forgives_exactly_what_it_fits(seed: int, alignment: metrics.Alignment):
    _, true, valid = random_depth(seed)
    by_frame = torch.tensor([0.2, 0.5, 0.9])[:, None, None]
    wrong = {
        "scaled": 0.25 * true,
        "scaled_by_frame": by_frame * true,
        "moved": 0.5 * true + 0.3,
        "moved_by_frame": 0.5 * true + by_frame,
        "moved_disparity": 1 / (0.5 / true + 0.3),
    }
    errors = {name: metrics.depth(pred, true, valid, alignment=alignment)[0].score for name, pred in wrong.items()}
    for name, error in errors.items():
        assert (error.max() < 1e-4) if name in FORGIVEN[alignment] else (error.min() > 1e-3), name


@few
@given(seeds)
def test_scale_l1_is_ten_steps_of_reweighted_least_squares(seed: int):
    pred, true, valid = (x[:1] for x in random_depth(seed))
    p, t = pred[valid].double().tolist(), true[valid].double().tolist()
    expected = sum(t) / sum(p)
    for _ in range(10):
        weights = [1 / (abs(expected * a - b) + 1e-8) for a, b in zip(p, t, strict=True)]
        top = sum(w * a * b for w, a, b in zip(weights, p, t, strict=True))
        expected = top / sum(w * a * a for w, a in zip(weights, p, strict=True))
    scale, shift = fit_scale_l1(pred, true, valid)
    assert scale.item() == pytest.approx(expected, rel=1e-9)
    assert shift.item() == 0


@few
@given(seeds)
def test_scale_l1_is_close_to_the_best_scale_there_is(seed: int):
    pred, true, valid = (x[:1] for x in random_depth(seed))

    def error(scale: Tensor) -> Tensor:
        return (scale * pred - true)[valid].abs().mean()

    ratios = (true / pred)[valid]  # the sum of absolute errors is least at one of these
    best = min(error(scale).item() for scale in ratios)
    assert 0.9999 * best <= error(fit_scale_l1(pred, true, valid)[0]).item() <= 1.02 * best


def test_a_prediction_without_spread_is_scored_all_the_same():
    _, true, valid = random_depth(0)
    for value in (0.0, 3.0, -2.0):
        for alignment in metrics.DEPTH:
            for score in metrics.depth(torch.full_like(true, value), true, valid, alignment=alignment):
                assert score.score.isfinite().all(), (value, score.metric.name)


def test_depth_clamps_the_prediction_and_excludes_the_truth_out_of_range():
    true, pred = tensor([[[[2.0, 0.0005, 11.0, 8.0]]]]), tensor([[[[-5.0, 1, 1, 99]]]])
    abs_rel = metrics.depth(pred, true, torch.ones_like(true, dtype=torch.bool), near=0.001, far=10.0)[0]
    assert abs_rel.weight.item() == 2
    assert abs_rel.score.item() == pytest.approx(((2 - 0.001) / 2 + (10 - 8) / 8) / 2)


def test_scores_per_frame_are_means_over_the_frames_that_have_a_pixel():
    true = tensor([[[[2.0, 2.0]], [[4.0, 4.0]], [[8.0, 8.0]]]])
    pred = tensor([[[[3.0, 9.0]], [[4.0, 5.0]], [[9.0, 9.0]]]])
    valid = torch.tensor([[[[True, False]], [[True, True]], [[False, False]]]])
    scores = by_name(metrics.depth(pred, true, valid))
    assert scores["abs_rel"].score.item() == pytest.approx((0.5 + 0 + 0.25) / 3)
    assert scores["abs_rel_per_frame"].score.item() == pytest.approx((0.5 + 0.125) / 2)
    assert scores["rmse"].score.item() == pytest.approx(math.sqrt(2 / 3))
    assert scores["rmse_per_frame"].score.item() == pytest.approx((1 + math.sqrt(1 / 2)) / 2)
    assert scores["delta_1"].score.item() == pytest.approx(1 / 3)  # 5 / 4 is not below 1.25
    assert scores["delta_1_per_frame"].score.item() == pytest.approx((0 + 1 / 2) / 2)
    assert (scores["rmse"].weight.item(), scores["rmse_per_frame"].weight.item()) == (3, 2)


def test_scores_per_frame_are_those_of_clips_of_one_frame():
    pred, true, valid = random_depth(0)
    whole = by_name(metrics.depth(pred, true, valid, alignment="median_per_frame"))
    frames = by_name(metrics.depth(*(x.flatten(0, 1)[:, None] for x in (pred, true, valid)), alignment="median"))
    for name in ("abs_rel", "rmse", "delta_1"):
        apart = frames[f"{name}_median_aligned"].score.view(2, 3)
        together = whole[f"{name}_per_frame_median_per_frame_aligned"]
        torch.testing.assert_close(together.score, apart.mean(1))
        assert together.weight.tolist() == [3, 3]


@pytest.mark.parametrize("alignment", list(metrics.DEPTH))
def test_a_clip_without_valid_depth_has_no_weight(alignment: metrics.Alignment):
    depth = torch.full((1, 2, 3, 3), torch.nan)
    assert_undefined(metrics.depth(depth, depth, torch.zeros_like(depth, dtype=torch.bool), alignment=alignment))


@pytest.mark.parametrize("alignment", list(metrics.DEPTH))
def test_a_prediction_of_nan_is_not_swallowed(alignment: metrics.Alignment):
    true = torch.rand(1, 1, 2, 2) + 1
    pred = true.clone()
    pred[0, 0, 0, 0] = torch.nan
    scores = by_name(metrics.depth(pred, true, torch.ones_like(true, dtype=torch.bool), alignment=alignment))
    suffix = "" if alignment == "none" else f"_{alignment}_aligned"
    for name in ("abs_rel", "rmse", "silog_x100", "abs_rel_per_frame", "rmse_per_frame"):
        assert scores[name + suffix].score.isnan().all(), name
    assert scores["delta_1" + suffix].score.item() <= 3 / 4
