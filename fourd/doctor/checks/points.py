"""Do tracks lie in the picture, do they move, and do they follow what they are on?"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fourd.datasets import Labelled
from fourd.doctor.findings import Finding, Plausible
from fourd.types import PointTracks

_ROUNDING_PX = 1.0
_LEAST_MOVE_PX = 0.01
_CLEARLY = 0.5  # one difference of colours is clearly less than another
_NO_BETTER = 0.95
_LEAST_POINTS = 8
_LEAST_SPREAD = 8.0  # grey levels between different points of one frame: less, and colours tell no points apart


def points_inside(clip: Labelled, plausible: Plausible) -> Finding | None:
    """Refuse visible points outside of the picture, or that are not finite, and say what they look like."""
    if clip.points is None:
        return None
    xy = clip.points.xy_px[_seen(clip.points)].double()
    if not len(xy):
        return None
    height, width = clip.video.shape[2:]
    outside = float((~_inside(xy, width, height)).double().mean())
    measured = {"num_visible": float(len(xy)), "outside_share": outside}
    if not bool(xy.isfinite().all()):
        told = "visible points whose place is not finite"
    elif float(xy.max()) <= 2 < min(width, height) / 4:
        told = f"points between {float(xy.min()):.2g} and {float(xy.max()):.2g}: shares of the picture, not pixels"
    elif outside > plausible.most_outside:
        told = f"{outside:.0%} of the visible points lie outside of the picture of {width} x {height} pixels"
        if bool(_inside(xy.flip(-1), width, height).all()):
            told += "; with x and y swapped all would lie inside"
    else:
        return Finding("points_inside", "fine", measured=measured)
    advice = "bring the points to (x, y) in the form that the reader expects, of these pictures"
    return Finding("points_inside", "fault", told, advice, measured)


def points_move(clip: Labelled, plausible: Plausible) -> Finding | None:
    """Find it odd if no point moves."""
    if clip.points is None or len(clip.video) < 2:
        return None
    both = clip.points.valid[..., 1:] & clip.points.valid[..., :-1]
    steps = clip.points.xy_px.diff(dim=2).norm(dim=-1)[both]
    if not len(steps):
        return None
    farthest = float(steps.max())
    measured = {"largest_step_px": farthest}
    if farthest >= _LEAST_MOVE_PX:
        return Finding("points_move", "fine", measured=measured)
    return Finding("points_move", "odd", "no point moves", "are these tracks of one frame, repeated?", measured)


def points_follow_the_picture(clip: Labelled, plausible: Plausible) -> Finding | None:
    """Compare the colours along tracks with those along swapped ones, and with those at places of other points.

    A fault where tracks with x and y swapped keep their colours clearly better; odd where the tracks keep them no
    better than chance.
    """
    if clip.points is None or len(clip.video) < 2 or clip.points.xy_px.shape[1] < 2:
        return None
    seen = _seen(clip.points)[0]
    pairs = seen[:, 1:] & seen[:, :1]
    if int(pairs.any(-1).sum()) < _LEAST_POINTS:
        return None
    xy = clip.points.xy_px[0]
    first = _colours(clip, xy)[pairs.any(-1), 0]
    if float((first - first.roll(1, 0)).abs().mean(-1).median()) < _LEAST_SPREAD:
        return None
    along, swapped, chance = (
        _change(clip, places, pairs) for places in (xy, xy.flip(-1), torch.cat([xy[:, :1], xy.roll(1, 0)[:, 1:]], 1))
    )
    measured = {"change_along": along, "change_swapped": swapped, "change_by_chance": chance}
    name, shown = "points_follow_the_picture", f"colours change by {along:.0f} grey levels along the tracks"
    if swapped < _CLEARLY * along and swapped < _CLEARLY * chance:
        told = f"{shown}, and by {swapped:.0f} with x and y swapped: x and y are swapped"
        return Finding(name, "fault", told, "bring the points to (x, y)", measured)
    if along > _NO_BETTER * chance:
        told = f"{shown}, and by {chance:.0f} between different points: tracks do not follow what is seen"
        return Finding(name, "odd", told, "look at the pictures: films and tracks may not belong together", measured)
    return Finding(name, "fine", measured=measured)


def _seen(points: PointTracks) -> Bool[Tensor, "B Q T"]:
    return points.visible & points.valid


def _inside(xy: Float[Tensor, "N 2"], width: int, height: int) -> Bool[Tensor, " N"]:
    limits = xy.new_tensor((width, height)) + _ROUNDING_PX
    return ((xy >= -_ROUNDING_PX) & (xy <= limits)).all(-1)


def _change(clip: Labelled, xy: Float[Tensor, "Q T 2"], pairs: Bool[Tensor, "Q rest"]) -> float:
    """Measure how far colours change from each point's first frame, in grey levels, in the middle."""
    colours = _colours(clip, xy)
    return float((colours[:, 1:] - colours[:, :1]).abs().mean(-1)[pairs].median())


def _colours(clip: Labelled, xy: Float[Tensor, "Q T 2"]) -> Float[Tensor, "Q T 3"]:
    """Take the pixel under each point; at the border, the nearest one."""
    height, width = clip.video.shape[2:]
    column, row = (xy[..., axis].nan_to_num().long().clamp(0, most - 1) for axis, most in ((0, width), (1, height)))
    frames = torch.arange(len(clip.video))[None].expand(len(xy), -1)
    return clip.video[frames, :, row, column].float()
