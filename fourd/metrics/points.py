"""Scores of point tracks."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fourd.metrics._means import count_where, mean_score, mean_where, ratio, widened
from fourd.types import ClipShape, Metric, Score

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
    squared = (widened(pred_xy) - widened(true_xy)).square().sum(-1)
    near = [squared < px**2 for px in THRESHOLDS_PX]
    num_true = count_where(truly)
    hits = [count_where(truly & claimed & within) for within in near]
    wrong = [count_where(claimed & ~(truly & within)) for within in near]
    jaccards = [ratio(hit, num_true + miss) for hit, miss in zip(hits, wrong, strict=True)]
    deltas = [ratio(count_where(truly & within), num_true) for within in near]
    accuracy = mean_where(pred_visible == true_visible, count)
    values = (_average(jaccards), accuracy, _average(deltas), *jaccards, *deltas)
    jaccard_defined, delta_defined = num_true + wrong[0] > 0, num_true > 0
    defined = (jaccard_defined, count_where(count) > 0, delta_defined, *[jaccard_defined] * 5, *[delta_defined] * 5)
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
    distance = torch.linalg.vector_norm(widened(pred_xy_px) - widened(true_xy_px), dim=-1)
    return mean_score(POINT_DISTANCE, distance, count)


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
