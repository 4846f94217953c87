"""Ways to fit a predicted depth to the true one before it is scored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from fourd.metrics._means import mean_where, ratio, sum_where

Alignment = Literal[
    "none",
    "median",
    "median_per_frame",
    "scale_l1",
    "scale_shift_l2",
    "scale_shift_l2_per_frame",
    "scale_shift_l2_disparity",
]
"""What is fitted, by which norm, and per what: one fit for a clip unless it says per frame.

`median` is the ratio of medians, `scale_l1` the scale of least absolute error, `scale_shift_l2` the scale and shift of
least squared error: in metres, or in 1 / metres where it says disparity.
"""

Fit = tuple[Tensor, Tensor]
"""Scale and shift, one of each per clip."""

_IRLS_STEPS, _IRLS_EPSILON, _MIN_SCALE = 10, 1e-8, 1e-3


def align_depth(
    pred: Tensor, true: Tensor, count: Tensor, alignment: Alignment, disparity_range: tuple[float, float]
) -> Tensor:
    """Fit the prediction to what counts of the truth, both `B T H W`; leave it where the fit is not defined.

    disparity_range: bounds of 1 / metres, to which a disparity is clamped before it is turned into the other.
    """
    if alignment not in get_args(Alignment):
        raise ValueError(f"alignment is {alignment!r}; expected one of {get_args(Alignment)}")
    if alignment == "none":
        return pred
    if alignment.endswith("_per_frame"):
        return _move(_FITS[alignment.removesuffix("_per_frame")], *_frames_as_clips(pred, true, count)).view_as(pred)
    if alignment.endswith("_disparity"):
        low, high = disparity_range
        disparity = pred.clamp(1 / high, 1 / low).reciprocal()
        fit = _FITS[alignment.removesuffix("_disparity")]
        return _move(fit, disparity, true.reciprocal(), count).clamp(low, high).reciprocal()
    return _move(_FITS[alignment], pred, true, count)


def _frames_as_clips(*videos: Tensor) -> tuple[Tensor, ...]:
    return tuple(video.flatten(0, 1)[:, None] for video in videos)


def _move(fit: Callable[[Tensor, Tensor, Tensor], Fit], pred: Tensor, true: Tensor, count: Tensor) -> Tensor:
    scale, shift = (number[:, None, None, None] for number in fit(pred, true, count))
    return (scale * pred.double() + shift).to(pred.dtype)


def fit_median(pred: Tensor, true: Tensor, count: Tensor) -> Fit:
    """Divide the medians; scale 1 where that is not a positive number."""
    scale = ratio(_median(true, count), _median(pred, count))
    return torch.where(scale > 0, scale, 1), torch.zeros_like(scale)


def fit_scale_l1(pred: Tensor, true: Tensor, count: Tensor) -> Fit:
    """Find the scale of least absolute error by ten steps of Weiszfeld's reweighted least squares.

    The first guess is the ratio of means; no scale is below 0.001. Source: the video depth evaluation of MonST3R and
    CUT3R, down to the number of steps and the 1e-8 that is added to a residual.
    """
    pred, true = pred.double(), true.double()
    scale = ratio(mean_where(true, count), mean_where(pred, count))
    for _ in range(_IRLS_STEPS):
        weight = ((scale[:, None, None, None] * pred - true).abs() + _IRLS_EPSILON).reciprocal()
        scale = ratio(sum_where(weight * pred * true, count), sum_where(weight * pred.square(), count))
    return scale.clamp(min=_MIN_SCALE), torch.zeros_like(scale)


def fit_scale_shift_l2(pred: Tensor, true: Tensor, count: Tensor) -> Fit:
    """Find the scale and shift of least squared error; scale 0 where the prediction is the same everywhere."""
    pred_mean, true_mean = mean_where(pred, count), mean_where(true, count)
    pred_off, true_off = (
        values.double() - mean[:, None, None, None] for values, mean in ((pred, pred_mean), (true, true_mean))
    )
    scale = ratio(mean_where(pred_off * true_off, count), mean_where(pred_off.square(), count))
    return scale, true_mean - scale * pred_mean


_FITS = {"median": fit_median, "scale_l1": fit_scale_l1, "scale_shift_l2": fit_scale_shift_l2}


def _median(values: Tensor, where: Tensor) -> Tensor:
    """Take the median of what counts; the mean of the middle two for an even number, 0 for none."""
    ordered = torch.where(where, values, torch.inf).flatten(1).sort(dim=1).values
    ordered = F.pad(ordered, (0, 1), value=torch.inf)  # so that there is one to take where there is no pixel at all
    number = where.flatten(1).sum(1, keepdim=True)
    middle = torch.cat([(number - 1) // 2, number // 2], dim=1).clamp(min=0)
    median = ordered.gather(1, middle).double().mean(1)
    return torch.where(number[:, 0] > 0, median, 0)
