"""Write scenes as MPI Sintel packs them: pictures, depth and cameras, the last two in binary files of its own."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from PIL import Image

from fourd.datasets.sintel import SintelConfig
from tests.films import numbered_picture

NUM_FRAMES = 6
WIDTH, HEIGHT = 64, 40
SCENES = ("alley_2", "bamboo_1", "temple_2")
K = np.array([[70.0, 0, 31.5], [0, 75, 18.5], [0, 0, 1]])
TAG = struct.pack("<f", 202021.25)
SKY = 1e10


def write(root: Path) -> SintelConfig:
    """Write three scenes, of which one is not among those of known use for poses."""
    for scene in SCENES:
        write_scene(root / "training", scene)
    return SintelConfig(root=str(root), tasks=SintelConfig.kinds, num_frames=3, size=(24, 36))


def number_of(scene: str, frame: int, render: str = "final") -> int:
    """Give the number that a picture carries; frames count from 1."""
    return 20 * SCENES.index(scene) + frame + (100 if render == "clean" else 0)


def depth_of(scene: str, frame: int) -> np.ndarray:
    """Make depth in metres: sky above, and below it ground that reaches beyond 70 metres."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    depth = (90 - 2.2 * rows + 0.01 * columns + 0.1 * frame + SCENES.index(scene)).astype(np.float32)
    depth[:6] = SKY
    return depth


def camera_from_world(scene: str, frame: int) -> np.ndarray:
    """Make a pose that its inverse is not."""
    angle = 0.1 * frame + SCENES.index(scene)
    pose = np.eye(4)
    pose[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    pose[:3, 3] = 1 + 0.5 * frame, 2 - frame, 3
    return pose


def camera_file(intrinsics: np.ndarray, pose: np.ndarray) -> bytes:
    """Pack a camera."""
    return TAG + intrinsics.astype("<f8").tobytes() + pose[:3].astype("<f8").tobytes()


def write_scene(root: Path, scene: str) -> None:
    """Write a scene in both renders, with its labels."""
    for part in ("final", "clean", "depth", "camdata_left"):
        (root / part / scene).mkdir(parents=True)
    for frame in range(1, NUM_FRAMES + 1):
        stem = f"frame_{frame:04d}"
        for render in ("final", "clean"):
            picture = numbered_picture(number_of(scene, frame, render), (WIDTH, HEIGHT))
            Image.fromarray(picture).save(root / render / scene / f"{stem}.png")
        depth = TAG + struct.pack("<2i", WIDTH, HEIGHT) + depth_of(scene, frame).astype("<f4").tobytes()
        (root / "depth" / scene / f"{stem}.dpt").write_bytes(depth)
        (root / "camdata_left" / scene / f"{stem}.cam").write_bytes(camera_file(K, camera_from_world(scene, frame)))
