"""Scores of object masks: the region J and the boundary F of DAVIS."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float64, Int16, UInt8
from torch import Tensor

from fourd.types import Metric, Score

MEAN_J_AND_F = Metric("j_and_f_mean", "J&F", higher_is_better=True)
MEAN_J = Metric("j_mean", "J, the IoU of regions", higher_is_better=True)
MEAN_F = Metric("f_mean", "F of boundaries", higher_is_better=True)
SEGMENTATION = (MEAN_J_AND_F, MEAN_J, MEAN_F)

BOUNDARY_TOLERANCE = 0.008
"""How far boundaries may lie apart, as a share of the picture's diagonal; rounded up to whole pixels."""


def segmentation(pred: UInt8[Tensor, "B T H W"], true: UInt8[Tensor, "B T H W"]) -> tuple[Score, ...]:
    """Score the numbers of objects that pixels show, 0 for the ground, as DAVIS-2017 does.

    The first frame, whose mask is given, and the last do not count. A film's score is the mean over its frames, then
    over the objects that its true masks hold; its weight is their number, so that the weighted mean over films is the
    benchmark's mean over all objects. Source: Pont-Tuset et al., The 2017 DAVIS challenge on video object segmentation,
    and its evaluation code.
    """
    films = [_film(*masks) for masks in zip(pred, true, strict=True)]
    region, boundary, weight = (torch.stack(values) for values in zip(*films, strict=True))
    values = ((region + boundary) / 2, region, boundary)
    return tuple(Score(metric, value, weight) for metric, value in zip(SEGMENTATION, values, strict=True))


def _film(pred: Tensor, true: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Average J and F over frames, then objects, and count the objects."""
    numbers = [number for number in true.unique().tolist() if number]
    if not numbers or len(true) < 3:
        return (true.new_zeros((), dtype=torch.float64),) * 3
    pairs = [(pred[1:-1] == number, true[1:-1] == number) for number in numbers]
    region, boundary = (
        torch.stack([measure(*pair).mean() for pair in pairs]).mean() for measure in (region_similarity, boundary_f)
    )
    return region, boundary, region.new_tensor(float(len(numbers)))


def region_similarity(pred: Bool[Tensor, "T H W"], true: Bool[Tensor, "T H W"]) -> Float64[Tensor, " T"]:
    """Give J of each frame, the intersection of two masks over their union; 1 where both are empty."""
    both, either = (mask.flatten(1).sum(1, dtype=torch.float64) for mask in (pred & true, pred | true))
    return torch.where(either > 0, both / either.clamp(min=1), 1.0)


def boundary_f(pred: Bool[Tensor, "T H W"], true: Bool[Tensor, "T H W"]) -> Float64[Tensor, " T"]:
    """Give F of each frame, the harmonic mean of how much of either boundary lies near the other; 1 without any.

    Near is within a disk of `BOUNDARY_TOLERANCE`. Where one mask alone has a boundary, F is 0.
    """
    radius = math.ceil(BOUNDARY_TOLERANCE * math.hypot(*true.shape[1:]))
    lines = [_boundary(mask) for mask in (pred, true)]
    near = [_dilated(line, radius) for line in lines]
    precision, recall = _share(lines[0], near[1]), _share(lines[1], near[0])
    harmonic = 2 * precision * recall / (precision + recall).clamp(min=torch.finfo(torch.float64).tiny)
    return torch.where((lines[0] | lines[1]).flatten(1).any(1), harmonic, 1.0)


def _share(line: Tensor, near: Tensor) -> Tensor:
    """Give the share of a line where something is near; 0 where there is no line."""
    hit, length = (mask.flatten(1).sum(1, dtype=torch.float64) for mask in (line & near, line))
    return hit / length.clamp(min=1)


def _boundary(mask: Bool[Tensor, "T H W"]) -> Bool[Tensor, "T H W"]:
    """Mark pixels that differ from their neighbour to the right, below, or both; outside goes on as the border is."""
    wider = torch.cat([mask, mask[..., -1:]], dim=2)
    wider = torch.cat([wider, wider[:, -1:]], dim=1)
    return (mask ^ wider[:, :-1, 1:]) | (mask ^ wider[:, 1:, :-1]) | (mask ^ wider[:, 1:, 1:])


def _dilated(line: Bool[Tensor, "T H W"], radius: int) -> Bool[Tensor, "T H W"]:
    """Mark what lies within a disk of a line: row by row, where the row's line is as near as the disk is wide there."""
    height, grown = line.shape[1], torch.zeros_like(line)
    aside = torch.minimum(_steps_since(line), _steps_since(line.flip(-1)).flip(-1))
    for down in range(min(radius, height - 1) + 1):
        wide = aside <= math.isqrt(radius**2 - down**2)
        grown[:, down:] |= wide[:, : height - down]
        grown[:, : height - down] |= wide[:, down:]
    return grown


def _steps_since(line: Bool[Tensor, "T H W"]) -> Int16[Tensor, "T H W"]:
    """Count, from left to right, how far behind the line was met; far more than any radius where it was not."""
    place = torch.arange(line.shape[2], dtype=torch.int16, device=line.device)
    return place - torch.where(line, place, -(2**14)).cummax(-1).values.to(torch.int16)
