"""Scores of relative camera poses."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fourd.geometry import angle_between, rotation_angle, transform_points
from fourd.metrics._means import count_where, mean_score, mean_where, ratio, widened
from fourd.types import Metric, Score

AucConvention = Literal["vggt", "kauldron", "superglue"]

END_POINT_ERROR = Metric("pose_epe", "Mean end-point error of eight points", higher_is_better=False, unit="scene units")
ROTATION_ERROR = Metric("rotation_error_deg", "Rotation error", higher_is_better=False, unit="deg")
TRANSLATION_ERROR = Metric("translation_error", "Translation error", higher_is_better=False, unit="scene units")
DIRECTION_ERROR = Metric("direction_error_deg", "Translation direction error", higher_is_better=False, unit="deg")
CAMERA_POSE = (END_POINT_ERROR, ROTATION_ERROR, TRANSLATION_ERROR, DIRECTION_ERROR)

MIN_TRANSLATION = 1e-6
"""Below this length, in scene units, a true translation has no direction. Not from the paper."""


def camera_pose(
    pred_a_from_b: Float[Tensor, "B N 4 4"],
    true_a_from_b: Float[Tensor, "B N 4 4"],
    valid: Bool[Tensor, "B N"] | None = None,
) -> tuple[Score, ...]:
    """Score relative poses; the score is the mean over the pairs of a clip, the weight their number.

    The end-point error moves the corners of a box, x, y in {-5, 5} and z in {0, 10} scene units, by
    both poses and measures how far apart they end. A direction is defined where the true translation
    is longer than `MIN_TRANSLATION`; a predicted translation of exactly 0 is at a right angle to it.
    Source: the eight points are those of kauldron's `PoseEndPointError`; the paper's are not public.
    """
    pred, true = widened(pred_a_from_b), widened(true_a_from_b)
    count = all_where_none(valid, pred)
    corners = epe_corners(pred)
    ends = transform_points(pred, corners) - transform_points(true, corners)
    rotation, direction, has_direction = _pose_errors_deg(pred, true)
    return (
        mean_score(END_POINT_ERROR, torch.linalg.vector_norm(ends, dim=-1).mean(-1), count),
        mean_score(ROTATION_ERROR, rotation, count),
        mean_score(
            TRANSLATION_ERROR, torch.linalg.vector_norm(translation_of(pred) - translation_of(true), dim=-1), count
        ),
        mean_score(DIRECTION_ERROR, direction, count & has_direction),
    )


def pose_auc_metric(threshold_deg: int, convention: AucConvention) -> Metric:
    """Name the area under the recall curve up to a threshold, in one of its conventions."""
    title = f"Pose AUC at {threshold_deg} degrees ({convention} convention)"
    return Metric(f"pose_auc_{threshold_deg}deg_{convention}", title, higher_is_better=True)


def pose_auc(
    pred_a_from_b: Float[Tensor, "B N 4 4"],
    true_a_from_b: Float[Tensor, "B N 4 4"],
    threshold_deg: int,
    convention: AucConvention,
    valid: Bool[Tensor, "B N"] | None = None,
) -> Score:
    """Score relative poses by the area under the recall of max(rotation, direction) errors.

    `kauldron` tells a direction from its opposite; `vggt` and `superglue` do not, since an essential
    matrix cannot. Pairs without a true direction do not count. For `vggt` and `kauldron` the weighted
    mean over clips is the area over all pairs; for `superglue`, which interpolates, it is not.
    """
    rotation, direction, has_direction = _pose_errors_deg(widened(pred_a_from_b), widened(true_a_from_b))
    if convention != "kauldron":
        direction = torch.minimum(direction, 180 - direction)
    count = all_where_none(valid, pred_a_from_b) & has_direction
    area = area_under_recall(torch.maximum(rotation, direction), count, threshold_deg, convention)
    return Score(pose_auc_metric(threshold_deg, convention), area, count_where(count))


def area_under_recall(
    error: Float[Tensor, "B N"], valid: Bool[Tensor, "B N"], threshold: int, convention: AucConvention
) -> Float[Tensor, " B"]:
    """Integrate, per clip, the share of errors below a bound while the bound grows to `threshold`.

    The recall is a staircase, read at the right of each bin, in `vggt` (bins of width 1) and `kauldron`
    (threshold + 1 bins); in `superglue` straight lines join the sorted errors. 0 where nothing counts.
    Source: PoseDiffusion and VGGT; kauldron 1.4.2; SuperGlue and LoFTR.
    """
    if convention == "superglue":
        return _trapezoid_area(error, valid, threshold)
    if convention not in ("vggt", "kauldron"):
        raise ValueError(f"convention is {convention!r}; expected one of {get_args(AucConvention)}")
    num_bins = threshold if convention == "vggt" else threshold + 1
    bin_index = (error * num_bins / threshold).floor()
    area = torch.where(error == threshold, 1, num_bins - bin_index) / num_bins
    return mean_where(torch.where(error <= threshold, area, 0), valid)


def _trapezoid_area(error: Tensor, valid: Tensor, threshold: int) -> Tensor:
    """Integrate recall by straight lines between sorted errors, flat after the last below the threshold."""
    number = count_where(valid)[:, None]
    ordered = torch.where(valid, error, torch.inf).sort(dim=1).values.double()
    ordered = torch.cat([torch.zeros_like(number), ordered], dim=1)
    below = ordered < threshold
    rank = torch.arange(ordered.shape[1], device=error.device, dtype=torch.float64).expand_as(ordered)
    recall = torch.where(below, ratio(rank, number), 0).cummax(dim=1).values
    bound = torch.where(below, ordered, threshold)
    area = torch.trapezoid(recall, bound, dim=1) + (threshold - bound[:, -1]) * recall[:, -1]
    return area / threshold


def _pose_errors_deg(pred: Tensor, true: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Measure rotation and direction errors per pair, and say where a direction is defined."""
    rotation = rotation_angle(pred[..., :3, :3].mT @ true[..., :3, :3])
    has_direction = torch.linalg.vector_norm(translation_of(true), dim=-1) > MIN_TRANSLATION
    return rotation.rad2deg(), angle_between(translation_of(pred), translation_of(true)).rad2deg(), has_direction


def translation_of(a_from_b: Tensor) -> Tensor:
    """Take the translation of poses `... 4 4`."""
    return a_from_b[..., :3, 3]


def all_where_none(valid: Tensor | None, poses: Tensor) -> Tensor:
    """Let every pose count where nothing says which do."""
    return torch.ones_like(poses[..., 0, 0], dtype=torch.bool) if valid is None else valid


def epe_corners(like: Tensor) -> Tensor:
    """List the eight points of the end-point error, in scene units: x, y in {-5, 5}, z in {0, 10}."""
    xy, z = like.new_tensor([-5.0, 5.0]), like.new_tensor([0.0, 10.0])
    return torch.cartesian_prod(xy, xy, z)
