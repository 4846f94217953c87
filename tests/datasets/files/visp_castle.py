"""Write scenes as ViSP's simulated castle lies in its package: a slanted wall, seen by two cameras side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from fourd.datasets.visp_castle import VispCastleConfig
from tests.films import numbered_picture

NUM_FRAMES = 6
WIDTH, HEIGHT = 64, 48
FOCAL, MIDDLE = (70.0, 77.0), (30.0, 25.0)  # as the config says them: pixels count from the middle of the first
SCENES = ("Castle-simu", "Tower-simu")
WALL = np.array([0.3, -0.2, 1.0]), 0.1  # n, c of the points X of the world with n X = c
STEP = 0.000030518
BASELINE = 0.05
_CONFIG = """<?xml version="1.0"?>
<conf>
  <klt><size_block>3</size_block></klt>
  <camera>
    <px>{}</px>
    <py>{}</py>
    <u0>{}</u0>
    <v0>{}</v0>
  </camera>
</conf>
"""


def write(root: Path) -> VispCastleConfig:
    """Write two scenes below a folder, as the package has them."""
    for scene in SCENES:
        write_scene(root / "mbt-depth" / scene)
    return VispCastleConfig(root=str(root), tasks=VispCastleConfig.kinds, num_frames=3, size=(24, 30))


def camera_from_world(scene: str, number: int) -> np.ndarray:
    """Make a pose that its inverse is not: turned about y, moved along every axis."""
    angle = 0.05 * number + 0.2 * SCENES.index(scene)
    pose = np.eye(4)
    pose[[0, 0, 2, 2], [0, 2, 0, 2]] = np.cos(angle), np.sin(angle), -np.sin(angle), np.cos(angle)
    pose[:3, 3] = 0.02 * number, 0.03, 0.6 + 0.01 * number
    return pose


def depth_of(scene: str, number: int, to_the_right: float = 0.0) -> np.ndarray:
    """Compute in metres what a camera sees of the wall that stands so far to the right of the pictures' camera."""
    normal, height = WALL
    pose = camera_from_world(scene, number)
    turned = pose[:3, :3] @ normal
    height = height + turned @ pose[:3, 3] - turned[0] * to_the_right
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    rays = np.stack([(columns - MIDDLE[0]) / FOCAL[0], (rows - MIDDLE[1]) / FOCAL[1], np.ones((HEIGHT, WIDTH))], -1)
    return height / (rays @ turned)


def number_of(scene: str, number: int) -> int:
    """Give the number that a picture carries."""
    return 30 * SCENES.index(scene) + number


def write_scene(folder: Path) -> None:
    """Write pictures, depth, poses and the two cameras; frames count from 1."""
    for name in ("Images", "Depth", "CameraPose", "Config"):
        (folder / name).mkdir(parents=True)
    for name in ("chateau", "chateau_depth"):
        (folder / "Config" / f"{name}.xml").write_text(_CONFIG.format(*FOCAL, *MIDDLE))
    for number in range(1, NUM_FRAMES + 1):
        grey = numbered_picture(number_of(folder.name, number), (WIDTH, HEIGHT))[..., 0]
        Image.fromarray(grey).save(folder / "Images" / f"Image_{number:04d}.pgm")
        units = np.round(depth_of(folder.name, number, BASELINE) / STEP).astype("<u2")
        header = np.array([HEIGHT, WIDTH], "<u4").tobytes()
        (folder / "Depth" / f"Depth_{number:04d}.bin").write_bytes(header + units.tobytes())
        np.savetxt(folder / "CameraPose" / f"Camera_{number:03d}.txt", camera_from_world(folder.name, number))
