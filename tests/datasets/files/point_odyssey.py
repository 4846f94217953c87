"""Write a small copy of PointOdyssey: two films of a moving camera among moving points, one archive compressed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from fourd.datasets.point_odyssey import PointOdysseyConfig, base
from tests.films import numbered_picture

WIDTH, HEIGHT = 64, 40
NUM_FRAMES = 10
NUM_POINTS = {"ani": 6, "r4_new_f": 4}
INTRINSICS = np.array([[55.0, 0, 33.0], [0, 48.0, 19.0], [0, 0, 1]])
HIDDEN, NOT_VALID, NOT_FINITE = (1, 2), (2, 3), (3, 0)
"""(frame, point) that cannot be seen, whose label does not count, whose place is no number."""


def camera_from_world(key: str, frame: int) -> np.ndarray:
    """Give a camera that turns about y and moves to a side: 4 x 4, OpenCV axes."""
    angle = 0.03 * frame + 0.01 * NUM_POINTS[key]
    turned = np.eye(4)
    turned[:3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    turned[:3, 3] = [0.02 * frame, -0.1, 0.05 * NUM_POINTS[key]]
    return turned


def world_points(key: str) -> np.ndarray:
    """Place points in the world, drifting upwards: T N 3."""
    number, frame = np.meshgrid(np.arange(NUM_POINTS[key]), np.arange(NUM_FRAMES))
    return np.stack([0.2 * number - 0.5, 0.4 - 0.1 * number - 0.02 * frame, 3 + 0.3 * number], axis=-1)


def pixels(key: str) -> np.ndarray:
    """Project the points: T N 2."""
    projected = []
    for frame, points in enumerate(world_points(key)):
        camera = camera_from_world(key, frame)
        seen = (points @ camera[:3, :3].T + camera[:3, 3]) @ INTRINSICS.T
        projected.append(seen[:, :2] / seen[:, 2:])
    return np.stack(projected)


def depth_raw(frame: int) -> np.ndarray:
    """Give depth as it is stored, which tells rows, columns and frames apart; one hole, one far corner: uint16."""
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    raw = (1000 * (frame + 1) + 10 * row + column).astype(np.uint16)
    raw[3, 5], raw[0, 0] = 0, 65535
    return raw


def labels(key: str) -> dict[str, np.ndarray]:
    """Give all arrays of a film's archive."""
    shape = (NUM_FRAMES, NUM_POINTS[key])
    places, visible, valid = pixels(key), np.ones(shape, bool), np.ones(shape, bool)
    visible[HIDDEN], valid[NOT_VALID], places[NOT_FINITE] = False, False, np.nan
    return {
        "trajs_2d": places.astype(np.float32),
        "trajs_3d": world_points(key).astype(np.float32),
        "visibs": visible,
        "valids": valid,
        "intrinsics": np.repeat(INTRINSICS[None], NUM_FRAMES, 0).astype(np.float32),
        "extrinsics": np.stack([camera_from_world(key, frame) for frame in range(NUM_FRAMES)]).astype(np.float32),
    }


def write(root: Path) -> PointOdysseyConfig:
    """Write the copy; its pictures show their numbers."""
    for key in NUM_POINTS:
        film = root / "val" / key
        for name in ("rgbs", "depths"):
            (film / name).mkdir(parents=True)
        for frame in range(NUM_FRAMES):
            picture = Image.fromarray(numbered_picture(frame, (WIDTH, HEIGHT)))
            picture.save(film / "rgbs" / f"rgb_{frame:05d}.jpg", quality=95)
            Image.fromarray(depth_raw(frame)).save(film / "depths" / f"depth_{frame:05d}.png")
        save = np.savez_compressed if key == "ani" else np.savez
        save(film / "anno.npz", **labels(key))
    config = base(str(root))
    return PointOdysseyConfig(
        root=config.root, split=config.split, tasks=config.tasks, num_frames=5, size=(HEIGHT, WIDTH)
    )
