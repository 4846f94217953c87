"""Checks of a decoded clip, one file for each kind of label.

A check takes a clip as large as it is kept and what is plausible; it gives a finding, or None where the clip holds
nothing that it could judge.
"""

from __future__ import annotations

from collections.abc import Callable

from fourd.datasets import Labelled
from fourd.doctor.checks.boxes import box_corners, box_places
from fourd.doctor.checks.depth import depth_is_there, depth_range
from fourd.doctor.checks.labels import label_range
from fourd.doctor.checks.pictures import pictures_show_something, times_rise
from fourd.doctor.checks.points import points_follow_the_picture, points_inside, points_move
from fourd.doctor.checks.poses import intrinsics_fit, poses_are_rigid, poses_are_smooth
from fourd.doctor.checks.reprojection import depth_fits_poses
from fourd.doctor.findings import Expected, Finding

Check = Callable[[Labelled, Expected], Finding | None]

CHECKS: tuple[Check, ...] = (
    pictures_show_something,
    times_rise,
    depth_is_there,
    depth_range,
    poses_are_rigid,
    poses_are_smooth,
    intrinsics_fit,
    depth_fits_poses,
    points_inside,
    points_move,
    points_follow_the_picture,
    box_corners,
    box_places,
    label_range,
)
"""All checks, in the order in which they are told; each is called what its function is."""

LABEL_OF = {
    "depth_is_there": "depth",
    "depth_range": "depth",
    "poses_are_rigid": "camera",
    "poses_are_smooth": "camera",
    "intrinsics_fit": "camera",
    "depth_fits_poses": "camera",
    "points_inside": "points",
    "points_move": "points",
    "points_follow_the_picture": "points",
    "box_corners": "boxes",
    "box_places": "boxes",
    "label_range": "label",
}
"""The label that each check is about; the others are about the pictures."""
