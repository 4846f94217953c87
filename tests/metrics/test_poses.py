"""Pose scores against golden numbers, closed forms, and what must not change a score."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fourd import metrics
from fourd.metrics.poses import epe_corners
from tests.metrics.helpers import (
    EXACT,
    F64,
    GOLDEN,
    assert_undefined,
    by_name,
    few,
    pose,
    tensor,
    turn,
)

GOLDEN_MOVES = {
    "identity_vs_t100": pose(translation=(1, 0, 0)),
    "identity_vs_ry10deg": pose(turn("y", 10)),
    "identity_vs_rz90_t_0.1_-0.2_0.3": pose(turn("z", 90), (0.1, -0.2, 0.3)),
}
GOLDEN_AREAS: dict[str, metrics.AucConvention] = {
    "vggt_posediffusion": "vggt",
    "kauldron": "kauldron",
    "superglue_loftr_trapz": "superglue",
}


def test_every_golden_number_of_poses_is_looked_at():
    assert set(GOLDEN["pose_epe"]) == {"points_3x8", "note", *GOLDEN_MOVES}
    assert set(GOLDEN["pose_auc"]) == {"r_deg", "t_deg", *GOLDEN_AREAS}


@pytest.mark.parametrize(("golden", "true"), GOLDEN_MOVES.items())
def test_end_point_error_equals_the_golden_numbers(golden: str, true: Tensor):
    score = metrics.camera_pose(pose()[None, None], true[None, None])[0]
    assert score.score.item() == pytest.approx(GOLDEN["pose_epe"][golden], **EXACT)


def test_end_point_error_moves_the_golden_points():
    ours = {tuple(point) for point in epe_corners(torch.zeros(())).tolist()}
    assert ours == set(zip(*GOLDEN["pose_epe"]["points_3x8"], strict=True))


def test_rotation_translation_and_direction_errors():
    pred = torch.stack([pose(turn("y", 30), (0, 0, 2)), pose(turn("z", 4), (0, 3, 0))])[None]
    true = torch.stack([pose(turn("y", 20), (0, 0, 1)), pose(turn("z", 10), (4, 0, 0))])[None]
    scores = by_name(metrics.camera_pose(pred, true))
    assert scores["rotation_error_deg"].score.item() == pytest.approx((10 + 6) / 2)
    assert scores["translation_error"].score.item() == pytest.approx((1 + 5) / 2)
    assert scores["direction_error_deg"].score.item() == pytest.approx((0 + 90) / 2)
    assert {score.weight.item() for score in scores.values()} == {2}


def test_a_camera_that_stands_still_has_no_direction():
    pred, true = pose(translation=(1, 0, 0))[None, None], pose(turn("y", 5))[None, None]
    scores = by_name(metrics.camera_pose(pred, true))
    assert scores["rotation_error_deg"].weight.item() == 1
    assert_undefined((scores["direction_error_deg"], metrics.pose_auc(pred, true, 30, "vggt")))


def test_predicting_no_translation_is_not_a_perfect_direction():
    pred, true = pose()[None, None], pose(translation=(0, 0, 1))[None, None]
    assert by_name(metrics.camera_pose(pred, true))["direction_error_deg"].score.item() == pytest.approx(90)
    assert metrics.pose_auc(pred, true, 30, "vggt").score.item() == 0


def test_invalid_pairs_are_never_looked_at():
    true = torch.stack([pose(translation=(1, 0, 0)), pose() * torch.nan])[None]
    valid = torch.tensor([[True, False]])
    scores = (*metrics.camera_pose(true, true, valid), metrics.pose_auc(true, true, 30, "superglue", valid))
    for score in scores:
        assert (score.score.item(), score.weight.item()) == (float(score.metric.higher_is_better), 1)
    assert_undefined(metrics.camera_pose(true, true, valid & False))


@pytest.mark.parametrize(("golden", "convention"), GOLDEN_AREAS.items())
def test_pose_auc_equals_the_golden_numbers(golden: str, convention: metrics.AucConvention):
    given = GOLDEN["pose_auc"]
    error = torch.maximum(tensor(given["r_deg"]), tensor(given["t_deg"]))[None]
    padded = torch.cat([error, torch.full((1, 3), torch.nan, dtype=F64)], 1)
    for threshold, value in given[golden].items():
        area = metrics.area_under_recall(padded, padded.isfinite(), int(threshold), convention)
        assert area.item() == pytest.approx(value, **EXACT), threshold


def test_pose_auc_from_poses_equals_the_golden_numbers():
    """Of the convention without bins: on the edges of the others' bins, rounding would decide."""
    given = GOLDEN["pose_auc"]
    pairs = list(zip(given["r_deg"], given["t_deg"], strict=True))
    shift = [(math.sin(math.radians(t)), 0.0, math.cos(math.radians(t))) for _, t in pairs]
    pred = torch.stack([pose(turn("y", r), t) for (r, _), t in zip(pairs, shift, strict=True)])[None]
    true = pose(translation=(0, 0, 5)).expand_as(pred)
    for threshold, value in given["superglue_loftr_trapz"].items():
        score = metrics.pose_auc(pred, true, int(threshold), "superglue")
        assert score.score.item() == pytest.approx(value, abs=1e-9), threshold
        assert (score.metric.name, score.weight.item()) == (f"pose_auc_{threshold}deg_superglue", len(pairs))


def test_only_kauldron_tells_a_direction_from_its_opposite():
    pred, true = pose(translation=(0, 0, -1))[None, None], pose(translation=(0, 0, 1))[None, None]
    areas = {name: metrics.pose_auc(pred, true, 30, name).score.item() for name in ("vggt", "kauldron", "superglue")}
    assert areas == {"vggt": 1, "kauldron": 0, "superglue": 1}


@few
@given(st.lists(st.floats(0, 180), min_size=4, max_size=4), st.sampled_from(["vggt", "kauldron"]))
def test_weighted_mean_of_binned_areas_is_the_area_over_all_pairs(errors: list[float], name: metrics.AucConvention):
    together, apart = tensor([errors]), tensor([errors]).reshape(2, 2)
    areas = metrics.area_under_recall(apart, torch.ones(2, 2, dtype=torch.bool), 30, name)
    whole = metrics.area_under_recall(together, torch.ones(1, 4, dtype=torch.bool), 30, name)
    torch.testing.assert_close(areas.mean(), whole[0])


@pytest.mark.parametrize("convention", ["vggt", "kauldron", "superglue"])
def test_area_of_no_error_is_one_and_of_nan_is_zero(convention: metrics.AucConvention):
    error = tensor([[0.0, 0.0], [torch.nan, torch.nan], [30.1, 180]])
    area = metrics.area_under_recall(error, torch.ones(3, 2, dtype=torch.bool), 30, convention)
    assert area.tolist() == [1, 0, 0]
