"""Scores of whole camera trajectories."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fourd.geometry import rigid_inverse, rotation_angle, umeyama
from fourd.metrics._means import count_where, mean_where
from fourd.metrics.poses import MIN_TRANSLATION, all_where_none, translation_of
from fourd.types import Metric, Score

TrajectoryAlignment = Literal["se3", "sim3"]


def _trajectory_metrics(alignment: TrajectoryAlignment) -> tuple[Metric, ...]:
    def metric(name: str, title: str, unit: str) -> Metric:
        return Metric(f"{name}_{alignment}", f"{title} after {alignment} alignment", higher_is_better=False, unit=unit)

    return (
        metric("ate_rmse", "Absolute trajectory error", "scene units"),
        metric("rpe_translation_rmse", "Relative translation error from frame to frame", "scene units"),
        metric("rpe_rotation_rmse_deg", "Relative rotation error from frame to frame", "deg"),
    )


TRAJECTORY: dict[TrajectoryAlignment, tuple[Metric, ...]] = {
    alignment: _trajectory_metrics(alignment) for alignment in get_args(TrajectoryAlignment)
}
"""The metrics that `trajectory` gives, in order, for each alignment."""


def trajectory(
    pred_world_from_camera: Float[Tensor, "B T 4 4"],
    true_world_from_camera: Float[Tensor, "B T 4 4"],
    alignment: TrajectoryAlignment,
    valid: Bool[Tensor, "B T"] | None = None,
) -> tuple[Score, ...]:
    """Score whole trajectories after aligning the predicted to the true one; weight 1 where defined.

    The root mean square of position errors, and of the errors of the motion between neighbouring valid
    frames. With `sim3` a true camera that stands still has no scale: nothing is defined then.
    Source: Sturm et al. (IROS 2012), with the conventions of evo (delta of 1 frame, all pairs).
    """
    if alignment not in get_args(TrajectoryAlignment):
        raise ValueError(f"alignment is {alignment!r}; expected one of {get_args(TrajectoryAlignment)}")
    count = all_where_none(valid, true_world_from_camera)
    eye = torch.eye(4, dtype=torch.float64, device=count.device)
    pred, true = (
        torch.where(count[..., None, None], poses.double(), eye)
        for poses in (pred_world_from_camera, true_world_from_camera)
    )
    pred = umeyama(translation_of(pred), translation_of(true), count, with_scale=alignment == "sim3").move_poses(pred)
    position = torch.linalg.vector_norm(translation_of(pred) - translation_of(true), dim=-1)
    step_error = rigid_inverse(_steps(true)) @ _steps(pred)
    steps = count[:, 1:] & count[:, :-1]
    defined = _moves(true, count) if alignment == "sim3" else count.any(1)
    values = (
        (position, count),
        (torch.linalg.vector_norm(translation_of(step_error), dim=-1), steps),
        (rotation_angle(step_error[..., :3, :3]).rad2deg(), steps),
    )
    return tuple(
        _root_mean_square(metric, error, where & defined[:, None])
        for metric, (error, where) in zip(TRAJECTORY[alignment], values, strict=True)
    )


def _steps(world_from_camera: Tensor) -> Tensor:
    return rigid_inverse(world_from_camera[:, :-1]) @ world_from_camera[:, 1:]


def _moves(world_from_camera: Tensor, count: Tensor) -> Tensor:
    """Say which cameras are ever in two places."""
    if not count.shape[1]:
        return count.any(1)
    first = count.int().argmax(1)[:, None, None].expand(-1, 1, 3)
    away = translation_of(world_from_camera) - translation_of(world_from_camera).gather(1, first)
    return ((torch.linalg.vector_norm(away, dim=-1) > MIN_TRANSLATION) & count).any(1)


def _root_mean_square(metric: Metric, error: Tensor, where: Tensor) -> Score:
    return Score(metric, mean_where(error.square(), where).sqrt(), (count_where(where) > 0).double())
