"""Camera poses as files keep them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float64

from fourd.media import UnreadableVideo


def require_rigid(
    pose: Float64[np.ndarray, "4 4"], path: Path, called: str, tolerance: float
) -> Float64[np.ndarray, "4 4"]:
    """Return a pose that is a rotation and a translation, to the digits that its file keeps.

    tolerance: of each entry of `R R^T`. Raises: UnreadableVideo, also for one that is not finite.
    """
    rotation = pose[:3, :3]
    # a comparison with what is not finite is false, so such a pose is refused too
    is_rotation = np.abs(rotation @ rotation.T - np.eye(3)).max() <= tolerance and np.linalg.det(rotation) > 0
    if not is_rotation or not np.isfinite(pose).all() or np.abs(pose[3] - (0, 0, 0, 1)).max() > tolerance:
        found = np.array2string(pose[:3], precision=3, separator=" ", max_line_width=10**6).replace("\n", "")
        raise UnreadableVideo(str(path), f"{called}: not a rotation and a translation, found {found}")
    return pose


def rotation_of_quaternions(xyzw: Float64[np.ndarray, "N 4"]) -> Float64[np.ndarray, "N 3 3"]:
    """Turn quaternions, the real part last, into rotations; they need not be of length one, but not of none."""
    x, y, z, w = (xyzw / np.linalg.norm(xyzw, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), -1, 0)
