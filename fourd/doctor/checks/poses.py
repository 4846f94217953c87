"""Are the camera's poses rigid and smooth, and do its intrinsics fit the pictures?"""

from __future__ import annotations

import math

import torch

from fourd.datasets import Labelled
from fourd.doctor.findings import Finding, Plausible
from fourd.geometry import relative_pose, rotation_angle

_SKEW = 0.02  # files keep four to six digits
_OFF_CENTRE = 0.25  # share of a side
_VIEW_DEG = (5.0, 170.0)
_JUMP = 20.0


def poses_are_rigid(clip: Labelled, plausible: Plausible) -> Finding | None:
    """Refuse poses that are not finite, or whose rotation is not orthonormal with determinant +1."""
    if clip.camera is None:
        return None
    poses = clip.camera.world_from_camera[0].double()
    rotation = poses[:, :3, :3]
    skew = float((rotation @ rotation.mT - torch.eye(3).double()).abs().amax())
    determinant = float(torch.linalg.det(rotation).min()) if bool(poses.isfinite().all()) else math.nan
    measured = {"largest_skew": skew, "least_determinant": determinant}
    name, advice = "poses_are_rigid", "get the poses again"
    if not bool(poses.isfinite().all()):
        lost = int((~poses.isfinite()).any(-1).any(-1).sum())
        return Finding(name, "fault", f"poses of {lost} of {len(poses)} frames are not finite", advice, measured)
    if skew > _SKEW:
        told = f"rotations are not orthonormal: R R^T is {skew:.3g} off the identity, expected less than {_SKEW}"
        return Finding(name, "fault", told, advice, measured)
    if determinant < 0:
        told = "a rotation mirrors (determinant -1), expected +1"
        return Finding(name, "fault", told, "an axis is turned round: convert the poses to x right, y down, z forward")
    return Finding(name, "fine", measured=measured)


def poses_are_smooth(clip: Labelled, plausible: Plausible) -> Finding | None:
    """Refuse a camera that turns too far from frame to frame; find a sudden jump odd."""
    if clip.camera is None or len(clip.video) < 3 or not bool(clip.camera.world_from_camera.isfinite().all()):
        return None
    poses = clip.camera.world_from_camera[0].double()
    steps = torch.stack([relative_pose(poses[at : at + 2])[1] for at in range(len(poses) - 1)])
    turn = math.degrees(float(rotation_angle(steps[:, :3, :3]).max()))
    far = steps[:, :3, 3].norm(dim=-1)
    jump = float(far.max() / far.median()) if float(far.median()) > 0 else 0.0
    measured = {"largest_turn_deg": turn, "largest_step": float(far.max()), "largest_step_over_median": jump}
    name, advice = "poses_are_smooth", "look whether poses and frames are in the same order"
    if turn > plausible.most_turn_deg:
        told = (
            f"the camera turns by {turn:.0f} degrees between two frames, expected {plausible.most_turn_deg:g} at most"
        )
        return Finding(name, "fault", told, advice, measured)
    if jump > _JUMP:
        return Finding(name, "odd", f"the camera jumps: a step {jump:.0f} times the usual one", advice, measured)
    return Finding(name, "fine", measured=measured)


def intrinsics_fit(clip: Labelled, plausible: Plausible) -> Finding | None:
    """Refuse a principal point far from the middle, or an impossible field of view."""
    if clip.camera is None:
        return None
    height, width = clip.video.shape[2:]
    matrix = clip.camera.intrinsics_px[0].double()
    (fx, fy), (cx, cy) = matrix.diagonal()[:2].tolist(), matrix[:2, 2].tolist()
    view = 2 * math.degrees(math.atan2(width / 2, fx)) if fx > 0 < fy else math.nan
    measured = {"cx_share": cx / width, "cy_share": cy / height, "field_of_view_deg": view, "fy_over_fx": fy / fx}
    name = "intrinsics_fit"
    advice = "intrinsics are in pixels of the pictures: were those resized, cropped or turned?"
    if not all(abs(share - 0.5) <= _OFF_CENTRE for share in (cx / width, cy / height)):
        told = f"principal point ({cx:.1f}, {cy:.1f}) in {width} x {height} pixels, expected about the middle"
        return Finding(name, "fault", told, advice, measured)
    if not _VIEW_DEG[0] <= view <= _VIEW_DEG[1]:
        told = f"focal lengths ({fx:.4g}, {fy:.4g}) px in {width} x {height} pixels: no camera sees so"
        return Finding(name, "fault", told, advice, measured)
    return Finding(name, "fine", measured=measured)
