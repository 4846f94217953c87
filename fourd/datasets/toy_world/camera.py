"""Where the camera is at each moment."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from fourd.datasets.toy_world.scene import Array, CameraPlan

_CLASS_MOVES = np.array([[-1, 0, 0], [1, 0, 0], [0, -1, 0], [0, 1, 0], [0, 0, 1], [0, 0, -1]])
"""For each of CAMERA_MOTIONS, the sign of its move in (azimuth, distance, elevation)."""


def camera_path(plan: CameraPlan, motion: int, progress: Float[Array, " T"]) -> Float[Array, "T 4 4"]:
    """Follow the camera's plan; `progress` runs from 0 in the first frame to 1 in the last.

    Convention: world_from_camera with OpenCV axes; the world's z points up, metres.
    """
    moves = _CLASS_MOVES[motion] * np.array([plan.orbit_by, plan.dolly_by, plan.rise_by]) + plan.stray
    start = np.array([plan.azimuth, plan.distance, plan.elevation])
    azimuth, distance, elevation = (start + progress[:, None] * moves).T
    away = np.stack([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)], -1)
    return look_at(plan.target + distance[:, None] * away, plan.target)


def look_at(position: Float[Array, "T 3"], target: Float[Array, "3"]) -> Float[Array, "T 4 4"]:
    """Point cameras at a spot, upright.

    Convention: OpenCV axes (x right, y down, z forward); the world's z points up.
    """
    forward = target - position
    forward = forward / np.linalg.norm(forward, axis=-1, keepdims=True)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right = right / np.linalg.norm(right, axis=-1, keepdims=True)
    pose = np.zeros((len(position), 4, 4))
    pose[:, :3, :3] = np.stack([right, np.cross(forward, right), forward], axis=-1)
    pose[:, :3, 3] = position
    pose[:, 3, 3] = 1
    return pose


def intrinsics(height: int, width: int, field_of_view_rad: float) -> Float[Array, "3 3"]:
    """Give the pinhole of a raster, in pixels; the principal point is the middle of the frame.

    `field_of_view_rad` is the angle across the shorter side of a frame.
    """
    focal = min(height, width) / 2 / math.tan(field_of_view_rad / 2)
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
