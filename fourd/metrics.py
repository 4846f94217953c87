"""Scores of predictions: depth, point tracks, box tracks, camera poses, classes.

Pure functions, batched over clips. Each gives per clip a score and the weight that the clip has in a
weighted mean; a clip where a metric is not defined has weight 0 and score 0. What is not `valid` is
never looked at, so it may hold anything, NaN included. A prediction that is NaN where it counts gives
a NaN score, or counts as wrong: it is never dropped.

Sums are taken in float64, so a score does not depend on how many pixels a clip has.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fourd.geometry import (
    angle_between,
    box_area,
    box_iou,
    rigid_inverse,
    rotation_angle,
    transform_points,
    umeyama,
)
from fourd.types import ClipShape, Metric, Score

# ----------------------------------------------------------------------------- means where something counts


def _sum(values: Tensor, where: Tensor) -> Tensor:
    """Add up, per clip, what counts."""
    return torch.where(where, values, 0).flatten(1).sum(1, dtype=torch.float64)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Divide; 0 where there is nothing to divide by."""
    return torch.where(whole > 0, part / whole.clamp(min=torch.finfo(whole.dtype).tiny), 0)


def _mean(values: Tensor, where: Tensor) -> Tensor:
    return _ratio(_sum(values, where), _count(where))


def _count(where: Tensor) -> Tensor:
    return where.flatten(1).sum(1, dtype=torch.float64)


def _mean_score(metric: Metric, values: Tensor, where: Tensor) -> Score:
    """Score the mean of what counts, weighted by how much counts."""
    return Score(metric, _mean(values, where), _count(where))


# ----------------------------------------------------------------------------- depth

Alignment = Literal["none", "median", "scale_shift"]

ABS_REL = Metric("abs_rel", "Absolute relative error", higher_is_better=False)
SQ_REL = Metric("sq_rel", "Squared relative error", higher_is_better=False, unit="m")
RMSE = Metric("rmse", "Root mean squared error", higher_is_better=False, unit="m")
RMSE_LOG = Metric("rmse_log", "Root mean squared error of ln depth", higher_is_better=False)
LOG10 = Metric("log10", "Mean absolute error of log10 depth", higher_is_better=False)
SILOG = Metric("silog_x100", "Scale-invariant log error, times 100", higher_is_better=False)
DELTA_1 = Metric("delta_1", "Share of pixels within a factor of 1.25", higher_is_better=True)
DELTA_2 = Metric("delta_2", "Share of pixels within a factor of 1.25^2", higher_is_better=True)
DELTA_3 = Metric("delta_3", "Share of pixels within a factor of 1.25^3", higher_is_better=True)


def _aligned(metric: Metric, alignment: Alignment) -> Metric:
    """Carry the alignment in the metric's name; an unaligned, metric depth has the plain one."""
    if alignment == "none":
        return metric
    title = f"{metric.title}, after {alignment.replace('_', ' and ')} alignment"
    return dataclasses.replace(metric, name=f"{metric.name}_{alignment}_aligned", title=title)


DEPTH: dict[Alignment, tuple[Metric, ...]] = {
    alignment: tuple(
        _aligned(metric, alignment)
        for metric in (ABS_REL, SQ_REL, RMSE, RMSE_LOG, LOG10, SILOG, DELTA_1, DELTA_2, DELTA_3)
    )
    for alignment in get_args(Alignment)
}
"""The metrics that `depth` gives, in order, for each alignment."""


def depth(
    pred_metres: Float[Tensor, "B T H W"],
    true_metres: Float[Tensor, "B T H W"],
    valid: Bool[Tensor, "B T H W"],
    near: float = 0.001,
    far: float = 10.0,
    alignment: Alignment = "none",
) -> tuple[Score, ...]:
    """Score depth maps: a mean over the pixels of a clip, weighted by their number.

    A pixel counts where it is valid and `near < true < far`; predictions are aligned, then clamped to
    [near, far]. An alignment is one per clip: the ratio of medians, or least-squares scale and shift.
    The weighted mean of `abs_rel` over clips is then the mean over all pixels of a dataset.

    near, far: metres; 0.001 and 10 suit indoor scenes (ScanNet, NYU); not from the paper.
    Source: the usual definitions (Eigen et al. 2014); delta_k is strict, `max(p / t, t / p) < 1.25^k`.
    """
    count = valid & (true_metres > near) & (true_metres < far)
    pred, true = (torch.where(count, _real(metres), 1.0) for metres in (pred_metres, true_metres))
    pred = _align_depth(pred, true, count, alignment).clamp(near, far)
    error, log_error = pred - true, true.log() - pred.log()
    factor = torch.maximum(pred / true, true / pred)
    mean_square_log = _mean(log_error.square(), count)
    values = (
        _mean(error.abs() / true, count),
        _mean(error.square() / true, count),
        _mean(error.square(), count).sqrt(),
        mean_square_log.sqrt(),
        _mean(log_error.abs(), count) / math.log(10),
        100 * (mean_square_log - _mean(log_error, count).square()).clamp(min=0).sqrt(),
        *(_mean(factor < 1.25**k, count) for k in (1, 2, 3)),
    )
    weight = _count(count)
    return tuple(Score(metric, value, weight) for metric, value in zip(DEPTH[alignment], values, strict=True))


def _real(values: Tensor) -> Tensor:
    """Widen half precision, in which pixels of a raster or metres are too coarse to compare."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _align_depth(pred: Tensor, true: Tensor, count: Tensor, alignment: Alignment) -> Tensor:
    """Fit the prediction to the truth, per clip; leave it where the fit is not defined."""
    if alignment == "none":
        return pred
    if alignment == "median":
        scale = _ratio(_median(true, count), _median(pred, count))
        return pred * torch.where(scale > 0, scale, 1)[:, None, None, None].to(pred.dtype)
    if alignment != "scale_shift":
        raise ValueError(f"alignment is {alignment!r}; expected one of {get_args(Alignment)}")
    pred_mean, true_mean = (_mean(values, count)[:, None, None, None] for values in (pred, true))
    centred = pred.double() - pred_mean
    spread = _mean(centred.square(), count)
    scale = _ratio(_mean(centred * (true - true_mean), count), spread)
    return (scale[:, None, None, None] * centred + true_mean).to(pred.dtype)


def _median(values: Tensor, where: Tensor) -> Tensor:
    """Take the median of what counts; the mean of the middle two for an even number, 0 for none."""
    ordered = torch.where(where, values, torch.inf).flatten(1).sort(dim=1).values
    number = where.flatten(1).sum(1, keepdim=True)
    middle = torch.cat([(number - 1) // 2, number // 2], dim=1).clamp(min=0)
    median = ordered.gather(1, middle.clamp(max=ordered.shape[1] - 1)).double().mean(1)
    return torch.where(number[:, 0] > 0, median, 0)


# ----------------------------------------------------------------------------- point tracks

QueryMode = Literal["first", "strided"]

THRESHOLDS_PX = (1, 2, 4, 8, 16)
RASTER_PX = 256


def _tap_vid_metrics(mode: QueryMode) -> tuple[Metric, ...]:
    def metric(name: str, title: str) -> Metric:
        return Metric(f"{name}_{mode}", f"{title} (query {mode})", higher_is_better=True)

    return (
        metric("average_jaccard", "Average Jaccard"),
        metric("occlusion_accuracy", "Occlusion accuracy"),
        metric("delta_avg", "Average position accuracy"),
        *(metric(f"jaccard_{px}px", f"Jaccard at {px} px of 256") for px in THRESHOLDS_PX),
        *(metric(f"delta_{px}px", f"Position accuracy at {px} px of 256") for px in THRESHOLDS_PX),
    )


TAP_VID: dict[QueryMode, tuple[Metric, ...]] = {mode: _tap_vid_metrics(mode) for mode in get_args(QueryMode)}
"""The metrics that `tap_vid` gives, in order, for each query mode."""

POINT_DISTANCE = Metric("point_distance_px", "Mean distance of visible points", higher_is_better=False, unit="px")


def to_raster(xy_px: Float[Tensor, "*batch 2"], clip: ClipShape) -> Float[Tensor, "*batch 2"]:
    """Rescale points from a clip's pixels to the raster of 256 x 256 in which TAP-Vid measures."""
    return xy_px * xy_px.new_tensor([RASTER_PX / clip.width, RASTER_PX / clip.height])


def tap_vid(
    pred_xy: Float[Tensor, "B Q T 2"],
    pred_visible: Bool[Tensor, "B Q T"],
    true_xy: Float[Tensor, "B Q T 2"],
    true_visible: Bool[Tensor, "B Q T"],
    query_frame: Int[Tensor, "B Q"],
    valid: Bool[Tensor, "B Q T"] | None = None,
    query_mode: QueryMode = "first",
) -> tuple[Score, ...]:
    """Score point tracks as TAP-Vid does; weight 1 for each clip where a metric is defined.

    Points are in pixels of the 256 x 256 raster (`to_raster`). Query mode `first` looks at the frames
    after the query, `strided` at all but the query's own. Counts are pooled over the points and frames
    of a clip. A point is right within a distance strictly below the threshold.
    Source: Doersch et al., TAP-Vid (NeurIPS 2022), section 3.2.
    """
    count = _evaluated(query_frame, true_visible, valid, query_mode)
    truly, claimed = true_visible & count, pred_visible & count
    squared = (_real(pred_xy) - _real(true_xy)).square().sum(-1)
    near = [squared < px**2 for px in THRESHOLDS_PX]
    num_true = _count(truly)
    hits = [_count(truly & claimed & within) for within in near]
    wrong = [_count(claimed & ~(truly & within)) for within in near]
    jaccards = [_ratio(hit, num_true + miss) for hit, miss in zip(hits, wrong, strict=True)]
    deltas = [_ratio(_count(truly & within), num_true) for within in near]
    accuracy = _mean(pred_visible == true_visible, count)
    values = (_average(jaccards), accuracy, _average(deltas), *jaccards, *deltas)
    jaccard_defined, delta_defined = num_true + wrong[0] > 0, num_true > 0
    defined = (jaccard_defined, _count(count) > 0, delta_defined, *[jaccard_defined] * 5, *[delta_defined] * 5)
    scores = zip(TAP_VID[query_mode], values, defined, strict=True)
    return tuple(Score(metric, value, weight.double()) for metric, value, weight in scores)


def point_distance(
    pred_xy_px: Float[Tensor, "B Q T 2"],
    true_xy_px: Float[Tensor, "B Q T 2"],
    true_visible: Bool[Tensor, "B Q T"],
    query_frame: Int[Tensor, "B Q"],
    valid: Bool[Tensor, "B Q T"] | None = None,
) -> Score:
    """Measure how far predicted points are from visible ones after the query, in the pixels given.

    The score is the mean over the point-frames of a clip, the weight their number.
    """
    count = _evaluated(query_frame, true_visible, valid, "first") & true_visible
    distance = torch.linalg.vector_norm(_real(pred_xy_px) - _real(true_xy_px), dim=-1)
    return _mean_score(POINT_DISTANCE, distance, count)


def _evaluated(query_frame: Tensor, like: Tensor, valid: Tensor | None, mode: QueryMode) -> Tensor:
    """Mark the point-frames that are evaluated."""
    if mode not in get_args(QueryMode):
        raise ValueError(f"query_mode is {mode!r}; expected one of {get_args(QueryMode)}")
    frame = torch.arange(like.shape[-1], device=like.device)
    query = query_frame[..., None]
    asked = frame > query if mode == "first" else frame != query
    return asked if valid is None else asked & valid


def _average(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean(0)


# ----------------------------------------------------------------------------- box tracks

MEAN_IOU = Metric("mean_iou", "Mean IoU", higher_is_better=True)
SUCCESS_50 = Metric("success_50", "Share of boxes with IoU > 0.5", higher_is_better=True)
SUCCESS_75 = Metric("success_75", "Share of boxes with IoU > 0.75", higher_is_better=True)
BOX_TRACKS = (MEAN_IOU, SUCCESS_50, SUCCESS_75)


def box_tracks(
    pred_xyxy: Float[Tensor, "B Q T 4"],
    true_xyxy: Float[Tensor, "B Q T 4"],
    valid: Bool[Tensor, "B Q T"],
    query_frame: Int[Tensor, "B Q"],
) -> tuple[Score, ...]:
    """Score box tracks over all valid object-frames but the query's own, which is given.

    The score is the mean over the object-frames of a clip, the weight their number. True boxes without
    an area do not count, since nothing can overlap them.
    """
    pred, true = _real(pred_xyxy), _real(true_xyxy)
    frame = torch.arange(valid.shape[-1], device=valid.device)
    count = valid & (frame != query_frame[..., None]) & (box_area(true) > 0)
    iou = box_iou(pred, true)
    values = (iou, (iou > 0.5).double(), (iou > 0.75).double())
    return tuple(_mean_score(metric, value, count) for metric, value in zip(BOX_TRACKS, values, strict=True))


# ----------------------------------------------------------------------------- camera poses

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
    pred, true = _real(pred_a_from_b), _real(true_a_from_b)
    count = _all_where_none(valid, pred)
    corners = _epe_corners(pred)
    ends = transform_points(pred, corners) - transform_points(true, corners)
    rotation, direction, has_direction = _pose_errors_deg(pred, true)
    return (
        _mean_score(END_POINT_ERROR, torch.linalg.vector_norm(ends, dim=-1).mean(-1), count),
        _mean_score(ROTATION_ERROR, rotation, count),
        _mean_score(TRANSLATION_ERROR, torch.linalg.vector_norm(_shift(pred) - _shift(true), dim=-1), count),
        _mean_score(DIRECTION_ERROR, direction, count & has_direction),
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
    rotation, direction, has_direction = _pose_errors_deg(_real(pred_a_from_b), _real(true_a_from_b))
    if convention != "kauldron":
        direction = torch.minimum(direction, 180 - direction)
    count = _all_where_none(valid, pred_a_from_b) & has_direction
    area = area_under_recall(torch.maximum(rotation, direction), count, threshold_deg, convention)
    return Score(pose_auc_metric(threshold_deg, convention), area, _count(count))


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
    return _mean(torch.where(error <= threshold, area, 0), valid)


def _trapezoid_area(error: Tensor, valid: Tensor, threshold: int) -> Tensor:
    """Integrate recall by straight lines between sorted errors, flat after the last below the threshold."""
    number = _count(valid)[:, None]
    ordered = torch.where(valid, error, torch.inf).sort(dim=1).values.double()
    ordered = torch.cat([torch.zeros_like(ordered[:, :1]), ordered], dim=1)
    below = ordered < threshold
    rank = torch.arange(ordered.shape[1], device=error.device, dtype=torch.float64).expand_as(ordered)
    recall = torch.where(below, _ratio(rank, number), 0).cummax(dim=1).values
    bound = torch.where(below, ordered, threshold)
    area = torch.trapezoid(recall, bound, dim=1) + (threshold - bound[:, -1]) * recall[:, -1]
    return area / threshold


def _pose_errors_deg(pred: Tensor, true: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Measure rotation and direction errors per pair, and say where a direction is defined."""
    rotation = rotation_angle(pred[..., :3, :3].mT @ true[..., :3, :3])
    has_direction = torch.linalg.vector_norm(_shift(true), dim=-1) > MIN_TRANSLATION
    return rotation.rad2deg(), angle_between(_shift(pred), _shift(true)).rad2deg(), has_direction


def _shift(a_from_b: Tensor) -> Tensor:
    return a_from_b[..., :3, 3]


def _all_where_none(valid: Tensor | None, poses: Tensor) -> Tensor:
    return torch.ones_like(poses[..., 0, 0], dtype=torch.bool) if valid is None else valid


def _epe_corners(like: Tensor) -> Tensor:
    xy, z = like.new_tensor([-5.0, 5.0]), like.new_tensor([0.0, 10.0])
    return torch.cartesian_prod(xy, xy, z)


# ----------------------------------------------------------------------------- camera trajectories

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
    count = _all_where_none(valid, true_world_from_camera)
    eye = torch.eye(4, dtype=torch.float64, device=count.device)
    pred, true = (
        torch.where(count[..., None, None], poses.double(), eye)
        for poses in (pred_world_from_camera, true_world_from_camera)
    )
    pred = umeyama(_shift(pred), _shift(true), count, with_scale=alignment == "sim3").move_poses(pred)
    position = torch.linalg.vector_norm(_shift(pred) - _shift(true), dim=-1)
    step_error = rigid_inverse(_steps(true)) @ _steps(pred)
    steps = count[:, 1:] & count[:, :-1]
    defined = _moves(true, count) if alignment == "sim3" else count.any(1)
    values = (
        (position, count),
        (torch.linalg.vector_norm(_shift(step_error), dim=-1), steps),
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
    first = count.int().argmax(1)[:, None, None].expand(-1, 1, 3)
    away = _shift(world_from_camera) - _shift(world_from_camera).gather(1, first)
    return ((torch.linalg.vector_norm(away, dim=-1) > MIN_TRANSLATION) & count).any(1)


def _root_mean_square(metric: Metric, error: Tensor, where: Tensor) -> Score:
    return Score(metric, _mean(error.square(), where).sqrt(), (_count(where) > 0).double())


# ----------------------------------------------------------------------------- classes


def top_k_metric(k: int) -> Metric:
    """Name the share of clips whose class is among the first k guesses."""
    return Metric(f"top_{k}", f"Top-{k} accuracy", higher_is_better=True)


TOP_1, TOP_5 = top_k_metric(1), top_k_metric(5)


def top_k(logits: Float[Tensor, "B K"], label: Int[Tensor, " B"], k: int) -> Score:
    """Score 1 where the true class is among the k highest; logits or probabilities serve alike.

    Ties count against the prediction, so that answering the same for all classes is never right.
    Not defined, hence weight 0, where there are no more than k classes.
    """
    own = logits.gather(1, label[:, None])
    num_not_lower = (~(logits < own)).sum(1)
    hit = (num_not_lower <= k).double()
    defined = logits.shape[1] > k
    return Score(top_k_metric(k), hit * defined, torch.full_like(hit, float(defined)))
