"""Means per clip over what counts, in float64; what does not count is never looked at."""

from __future__ import annotations

import torch
from torch import Tensor

from fourd.types import Metric, Score


def sum_where(values: Tensor, where: Tensor) -> Tensor:
    """Add up, per clip, what counts."""
    return torch.where(where, values, 0).flatten(1).sum(1, dtype=torch.float64)


def ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Divide; 0 where there is nothing to divide by."""
    return torch.where(whole > 0, part / whole.clamp(min=torch.finfo(whole.dtype).tiny), 0)


def mean_where(values: Tensor, where: Tensor) -> Tensor:
    """Average, per clip, what counts; 0 where nothing does."""
    return ratio(sum_where(values, where), count_where(where))


def count_where(where: Tensor) -> Tensor:
    """Say, per clip, how many count."""
    return where.flatten(1).sum(1, dtype=torch.float64)


def mean_score(metric: Metric, values: Tensor, where: Tensor) -> Score:
    """Score the mean of what counts, weighted by how much counts."""
    return Score(metric, mean_where(values, where), count_where(where))


def widened(values: Tensor) -> Tensor:
    """Widen half precision, in which pixels of a raster or metres are too coarse to compare."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
