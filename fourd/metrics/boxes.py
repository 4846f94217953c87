"""Scores of box tracks."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fourd.geometry import box_area, box_iou
from fourd.metrics._means import mean_score, mean_where, widened
from fourd.types import Metric, Score

MEAN_IOU = Metric("mean_iou", "Mean IoU", higher_is_better=True)
SUCCESS_50 = Metric("success_50", "Share of boxes with IoU > 0.5", higher_is_better=True)
SUCCESS_75 = Metric("success_75", "Share of boxes with IoU > 0.75", higher_is_better=True)
MEAN_IOU_OVER_TRACKS = Metric("mean_iou_over_tracks", "Mean over tracks of their mean IoU", higher_is_better=True)
BOX_TRACKS = (MEAN_IOU, SUCCESS_50, SUCCESS_75, MEAN_IOU_OVER_TRACKS)


def box_tracks(
    pred_xyxy: Float[Tensor, "B Q T 4"],
    true_xyxy: Float[Tensor, "B Q T 4"],
    valid: Bool[Tensor, "B Q T"],
    query_frame: Int[Tensor, "B Q"],
) -> tuple[Score, ...]:
    """Score box tracks over all valid object-frames but the query's own, which is given.

    A score is the mean over the object-frames of a clip, the weight their number: the weighted mean over clips is the
    mean over all object-frames of a dataset, the clip mean is one over clips. True boxes without an area do not count,
    since nothing can overlap them. IoU is that of areas, without rounding to pixels.

    `mean_iou_over_tracks` is the Perception Test's: over the frames after the query of each track, then over the tracks
    that have one; weight 1, so that both means over clips (there: whole videos) are its mean over videos.
    Source: `mean_iou` and the shares of success are GOT-10k's AO and SR. The area under its success curve is not given:
    with ever more thresholds it is the mean IoU, with 21 or 101 of them it depends on the toolkit.
    """
    pred, true = widened(pred_xyxy), widened(true_xyxy)
    frame, query = torch.arange(valid.shape[-1], device=valid.device), query_frame[..., None]
    count = valid & (frame != query) & (box_area(true) > 0)
    iou = box_iou(pred, true)
    values = (iou, (iou > 0.5).double(), (iou > 0.75).double())
    over_object_frames = (
        mean_score(metric, value, count) for metric, value in zip(BOX_TRACKS[:-1], values, strict=True)
    )
    return (*over_object_frames, _over_tracks(iou, count & (frame > query)))


def _over_tracks(iou: Tensor, count: Tensor) -> Score:
    """Average over the frames of each track, then over the tracks of each clip that have one."""
    has_frames = count.any(-1)
    per_track = mean_where(iou.flatten(0, 1), count.flatten(0, 1)).view_as(has_frames)
    return Score(MEAN_IOU_OVER_TRACKS, mean_where(per_track, has_frames), has_frames.any(1).double())
