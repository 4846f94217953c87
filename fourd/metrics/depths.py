"""Scores of depth maps."""

from __future__ import annotations

import dataclasses
import math
from typing import get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fourd.metrics._depth_alignment import Alignment, align_depth
from fourd.metrics._means import count_where, mean_where, widened
from fourd.types import Metric, Score

ABS_REL = Metric("abs_rel", "Absolute relative error", higher_is_better=False)
SQ_REL = Metric("sq_rel", "Squared relative error", higher_is_better=False, unit="m")
RMSE = Metric("rmse", "Root mean squared error", higher_is_better=False, unit="m")
RMSE_LOG = Metric("rmse_log", "Root mean squared error of ln depth", higher_is_better=False)
LOG10 = Metric("log10", "Mean absolute error of log10 depth", higher_is_better=False)
SILOG = Metric("silog_x100", "Scale-invariant log error, times 100", higher_is_better=False)
DELTA_1 = Metric("delta_1", "Share of pixels within a factor of 1.25", higher_is_better=True)
DELTA_2 = Metric("delta_2", "Share of pixels within a factor of 1.25^2", higher_is_better=True)
DELTA_3 = Metric("delta_3", "Share of pixels within a factor of 1.25^3", higher_is_better=True)
OVER_PIXELS = (ABS_REL, SQ_REL, RMSE, RMSE_LOG, LOG10, SILOG, DELTA_1, DELTA_2, DELTA_3)


def _per_frame(metric: Metric) -> Metric:
    return dataclasses.replace(metric, name=f"{metric.name}_per_frame", title=f"{metric.title}, mean over frames")


OVER_FRAMES = tuple(_per_frame(metric) for metric in (ABS_REL, RMSE, DELTA_1))


def _aligned(metric: Metric, alignment: Alignment) -> Metric:
    """Carry the alignment in the metric's name; an unaligned, metric depth has the plain one."""
    if alignment == "none":
        return metric
    title = f"{metric.title}, after {alignment.replace('_', ' ')} alignment"
    return dataclasses.replace(metric, name=f"{metric.name}_{alignment}_aligned", title=title)


DEPTH: dict[Alignment, tuple[Metric, ...]] = {
    alignment: tuple(_aligned(metric, alignment) for metric in (*OVER_PIXELS, *OVER_FRAMES))
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
    """Score depth maps: means over the pixels of a clip, weighted by their number, and means over its frames.

    A pixel counts where it is valid and `near < true < far`; predictions are aligned, then clamped to [near, far]. The
    weighted mean over clips is the mean over all pixels of a dataset, but for the roots (`rmse`, `rmse_log`,
    `silog_x100`): theirs is a mean of the clips' roots. Names in `_per_frame` score each frame by itself and take the
    mean over the frames that have a pixel, weighted by the number of those.

    near, far: metres; 0.001 and 10 suit indoor scenes (ScanNet, NYU); not from the paper.
    Source: the usual definitions (Eigen et al. 2014); delta_k is strict, `max(p / t, t / p) < 1.25^k`. Over pixels as
    kauldron and CUT3R average, over frames as probe3d does.
    """
    count = valid & (true_metres > near) & (true_metres < far)
    pred, true = (torch.where(count, widened(metres), 1.0) for metres in (pred_metres, true_metres))
    pred = align_depth(pred, true, count, alignment, (1 / far, 1 / near)).clamp(near, far)
    num_pixels, has_pixels = count_where(count), count.flatten(2).any(2)
    over_pixels = [(value, num_pixels) for value in _over_pixels(pred, true, count)]
    over_frames = [(value, count_where(has_pixels)) for value in _over_frames(pred, true, count, has_pixels)]
    scored = zip(DEPTH[alignment], [*over_pixels, *over_frames], strict=True)
    return tuple(Score(metric, value, weight) for metric, (value, weight) in scored)


def _over_pixels(pred: Tensor, true: Tensor, count: Tensor) -> tuple[Tensor, ...]:
    """Score what counts of each clip, in the order of `OVER_PIXELS`."""
    error, log_error = pred - true, true.log() - pred.log()
    mean_square_log = mean_where(log_error.square(), count)
    return (
        mean_where(error.abs() / true, count),
        mean_where(error.square() / true, count),
        mean_where(error.square(), count).sqrt(),
        mean_square_log.sqrt(),
        mean_where(log_error.abs(), count) / math.log(10),
        100 * (mean_square_log - mean_where(log_error, count).square()).clamp(min=0).sqrt(),
        *(mean_where(_factor(pred, true) < 1.25**k, count) for k in (1, 2, 3)),
    )


def _over_frames(pred: Tensor, true: Tensor, count: Tensor, has_pixels: Tensor) -> tuple[Tensor, ...]:
    """Score each frame by itself, and average over those that have a pixel, in the order of `OVER_FRAMES`."""
    pred, true, count = (video.flatten(0, 1) for video in (pred, true, count))
    per_frame = (
        mean_where((pred - true).abs() / true, count),
        mean_where((pred - true).square(), count).sqrt(),
        mean_where(_factor(pred, true) < 1.25, count),
    )
    return tuple(mean_where(score.view_as(has_pixels), has_pixels) for score in per_frame)


def _factor(pred: Tensor, true: Tensor) -> Tensor:
    return torch.maximum(pred / true, true / pred)
