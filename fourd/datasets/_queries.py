"""From what is seen of a clip to what a model is asked and must not see."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fourd.datasets._view import Labelled
from fourd.types import BoxQuery, BoxTracks, NoQuery, PointQuery, PointTracks, TaskSample


def ask(
    kind: str, clip: Labelled, num_slots: int, least_presence: float, rng: np.random.Generator
) -> TaskSample[Any, Any]:
    """Make the sample of one kind of task; queries are those of the clip's first frame, in `num_slots` slots.

    Points are asked for where they are visible in the first frame, boxes where they count there and in
    `least_presence` of the frames. Where there are more than slots, some are drawn at random; an empty slot is never
    valid.
    """
    if kind == "point_tracking":
        return _points(_required(clip.points, kind), num_slots, rng)
    if kind == "box_tracking":
        return _boxes(_required(clip.boxes, kind), num_slots, least_presence, rng)
    target = {"depth": clip.depth, "camera_pose": clip.camera, "action": clip.label}[kind]
    return TaskSample(NoQuery(), _required(target, kind), kind)


def _required(target: Any, kind: str) -> Any:
    if target is None:
        raise ValueError(f"a clip was loaded without labels for {kind!r}; its reader must give them")
    return target


def _points(points: PointTracks, num_slots: int, rng: np.random.Generator) -> TaskSample[PointQuery, PointTracks]:
    rows = _chosen((points.visible & points.valid)[0, :, 0], num_slots, rng)
    xy, visible, valid = (_slotted(values, rows, num_slots) for values in (points.xy_px, points.visible, points.valid))
    xy = torch.where(torch.isfinite(xy), xy, 0.0)
    query = PointQuery(torch.zeros(1, num_slots, dtype=torch.long), xy[:, :, 0].clone())
    return TaskSample(query, PointTracks(xy, visible & valid, valid), "point_tracking")


def _boxes(
    boxes: BoxTracks, num_slots: int, least_presence: float, rng: np.random.Generator
) -> TaskSample[BoxQuery, BoxTracks]:
    wanted = boxes.valid[0, :, 0] & (boxes.valid[0].float().mean(-1) >= least_presence)
    rows = _chosen(wanted, num_slots, rng)
    xyxy, valid = (_slotted(values, rows, num_slots) for values in (boxes.xyxy_px, boxes.valid))
    xyxy = torch.where(valid[..., None], xyxy, 0.0)
    query = BoxQuery(torch.zeros(1, num_slots, dtype=torch.long), xyxy[:, :, 0].clone())
    return TaskSample(query, BoxTracks(xyxy, valid), "box_tracking")


def _chosen(wanted: Tensor, num_slots: int, rng: np.random.Generator) -> Tensor:
    """Choose rows: all that are wanted, or as many of them as there are slots."""
    rows = wanted.nonzero()[:, 0]
    if len(rows) <= num_slots:
        return rows
    return rows[np.sort(rng.permutation(len(rows))[:num_slots])]


def _slotted(values: Tensor, rows: Tensor, num_slots: int) -> Tensor:
    """Put rows into slots; the rest is zero."""
    filled = values.new_zeros(1, num_slots, *values.shape[2:])
    filled[:, : len(rows)] = values[:, rows]
    return filled
