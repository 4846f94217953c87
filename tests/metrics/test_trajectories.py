"""Trajectory scores against golden numbers, closed forms, and what must not change a score."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fourd import metrics
from tests.metrics.helpers import (
    GOLDEN,
    assert_same,
    assert_undefined,
    by_name,
    pose,
    tensor,
    turn,
)


def golden_trajectory() -> tuple[Tensor, Tensor]:
    return tensor(GOLDEN["traj"]["est_c2w"])[None], tensor(GOLDEN["traj"]["ref_c2w"])[None]


def test_trajectory_equals_the_golden_numbers():
    golden = GOLDEN["traj"]["evo_1.38.1"]
    assert set(golden) == {"ate_rmse_sim3", "ate_rmse_se3", "rpe_trans_rmse_sim3_d1", "rpe_rot_deg_rmse_d1"}
    scores = by_name(metrics.trajectory(*golden_trajectory(), "sim3") + metrics.trajectory(*golden_trajectory(), "se3"))
    close = {"rel": 1e-7}  # the poses are stored with nine digits
    assert scores["ate_rmse_sim3"].score.item() == pytest.approx(golden["ate_rmse_sim3"], **close)
    assert scores["ate_rmse_se3"].score.item() == pytest.approx(golden["ate_rmse_se3"], **close)
    assert scores["rpe_translation_rmse_sim3"].score.item() == pytest.approx(golden["rpe_trans_rmse_sim3_d1"], **close)
    assert scores["rpe_rotation_rmse_deg_sim3"].score.item() == pytest.approx(golden["rpe_rot_deg_rmse_d1"], **close)


@pytest.mark.parametrize("alignment", list(metrics.TRAJECTORY))
def test_a_moved_world_is_a_perfect_trajectory(alignment: metrics.TrajectoryAlignment):
    _, true = golden_trajectory()
    moved = pose(turn("y", 70), (5, -3, 2)) @ true
    if alignment == "sim3":
        moved[..., :3, 3] *= 0.2
    for score in metrics.trajectory(moved, true, alignment):
        assert score.score.item() == pytest.approx(0, abs=1e-6), score.metric.name
        assert score.weight.item() == 1


@pytest.mark.parametrize(("hidden", "kept"), [(slice(-2, None), slice(-2)), (slice(2), slice(2, None))])
def test_trajectory_never_looks_at_invalid_frames(hidden: slice, kept: slice):
    pred, true = golden_trajectory()
    valid = torch.ones(true.shape[:2], dtype=torch.bool)
    valid[:, hidden] = False
    cut = metrics.trajectory(pred[:, kept], true[:, kept], "sim3")
    pred[:, hidden], true[:, hidden] = torch.nan, torch.nan
    assert_same(metrics.trajectory(pred, true, "sim3", valid), cut)


def test_a_trajectory_that_stands_still_has_no_scale():
    pred, true = golden_trajectory()
    still = true[:, :1].expand_as(true)
    assert_undefined(metrics.trajectory(pred, still, "sim3"))
    assert metrics.trajectory(pred, still, "se3")[0].weight.item() == 1
    assert metrics.trajectory(still, true, "sim3")[0].score.item() > 0.1  # a prediction may not hide in it
    assert_undefined(metrics.trajectory(pred, true, "se3", torch.zeros(true.shape[:2], dtype=torch.bool)))
