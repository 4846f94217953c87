"""A room with patterned walls, seen by a camera that moves: pictures, depth, poses, points and boxes that agree.

Every pixel is found by following its ray to the inside of a cuboid. Nothing here uses the code that is tested.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

HALF_SIZE = np.array([2.0, 1.5, 3.0])  # metres: x right, y down, z forward


@dataclass(frozen=True)
class Room:
    """Say how the room is seen. seed: its pattern and the camera's way."""

    width: int = 64
    height: int = 48
    num_frames: int = 12
    seed: int = 0

    @property
    def intrinsics(self) -> np.ndarray:
        """Give the camera in continuous pixels, with unequal focal lengths and a point a little off the middle."""
        return np.array(
            [[0.8 * self.width, 0, 0.48 * self.width], [0, 1.1 * self.height, 0.53 * self.height], [0, 0, 1]]
        )

    def pose(self, frame: int) -> np.ndarray:
        """Give world_from_camera: it steps to the right and forward, and turns to the left and down."""
        yaw, pitch = 0.3 - 0.04 * frame, -0.1 - 0.01 * frame
        about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
        about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
        pose = np.eye(4)
        pose[:3, :3] = about_y @ about_x
        pose[:3, 3] = (-0.6 + 0.07 * frame, 0.2 - 0.02 * frame + 0.05 * self.seed, -1.2 + 0.05 * frame)
        return pose

    def hits(self, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """Give for each pixel's centre the z in the camera (H W), and the place on the wall (H W 3)."""
        x, y = np.meshgrid(np.arange(self.width) + 0.5, np.arange(self.height) + 0.5)
        (fx, fy), (cx, cy) = np.diag(self.intrinsics)[:2], self.intrinsics[:2, 2]
        rays = np.stack([(x - cx) / fx, (y - cy) / fy, np.ones_like(x)], axis=-1)
        pose = self.pose(frame)
        directions = rays @ pose[:3, :3].T
        walls = np.where(directions > 0, HALF_SIZE, -HALF_SIZE)
        z = ((walls - pose[:3, 3]) / directions).min(-1)
        return z, pose[:3, 3] + z[..., None] * directions

    def picture(self, frame: int) -> np.ndarray:
        """Paint the walls with smooth waves: uint8, H W 3."""
        _, places = self.hits(frame)
        phases = np.random.default_rng(self.seed).uniform(0, 6, 3)
        waves = [np.sin(places @ np.roll([5.0, 3.0, 4.0], channel) + phases[channel]) for channel in range(3)]
        return (128 + 90 * np.stack(waves, axis=-1)).astype(np.uint8)

    def depth(self, frame: int) -> np.ndarray:
        """Give metres along the camera's axis: H W, with a hole at top left."""
        z = self.hits(frame)[0]
        z[:5, :7] = 0
        return z

    def video(self) -> np.ndarray:
        """Give all pictures: T 3 H W."""
        return np.stack([self.picture(frame) for frame in range(self.num_frames)]).transpose(0, 3, 1, 2)

    def tracks(self, num_points: int = 24) -> tuple[np.ndarray, np.ndarray]:
        """Follow places on the walls: pixels (N T 2), and where they are in the picture (N T)."""
        rng = np.random.default_rng(self.seed + 1)
        row, column = rng.integers(4, self.height - 4, num_points), rng.integers(4, self.width - 4, num_points)
        places = self.hits(self.num_frames // 2)[1][row, column]
        xy = np.stack([self.seen(places, frame) for frame in range(self.num_frames)], axis=1)
        return xy, ((xy >= 0) & (xy < (self.width, self.height))).all(-1)

    def boxes(self) -> np.ndarray:
        """Follow two panels of the far wall: xyxy, 2 T 4, cut off at the border."""
        panels = [((-1.2, -0.8), (-0.3, 0.2)), ((0.1, -0.2), (0.9, 0.7))]
        kept = []
        for (left, top), (right, bottom) in panels:
            corners = np.array([[x, y, HALF_SIZE[2]] for x in (left, right) for y in (top, bottom)])
            seen = [self.seen(corners, frame) for frame in range(self.num_frames)]
            kept.append([np.concatenate([xy.min(0), xy.max(0)]) for xy in seen])
        border = np.array([self.width, self.height, self.width, self.height])
        return np.clip(np.array(kept), 0, border)

    def seen(self, places: np.ndarray, frame: int) -> np.ndarray:
        """Project places of the world: N 2."""
        pose = self.pose(frame)
        in_camera = (places - pose[:3, 3]) @ pose[:3, :3]
        homogeneous = in_camera @ self.intrinsics.T
        return homogeneous[:, :2] / homogeneous[:, 2:]
