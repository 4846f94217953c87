"""Write sequences as TUM's RGB-D benchmark packs them: lists with times of their own, and a trajectory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from fourd.datasets.tum_rgbd import TumRgbdConfig
from tests.films import numbered_picture

NUM_FRAMES = 8
WIDTH, HEIGHT = 64, 48
FIRST_S = 1305031102.175304
STEP_S = 1 / 30
DEPTH_LATE_S, POSE_EARLY_S = 0.011, 0.003
SEQUENCES = ("rgbd_bonn_balloon", "rgbd_dataset_freiburg1_xyz", "rgbd_dataset_freiburg3_walking")


def write(root: Path) -> TumRgbdConfig:
    """Write three sequences of three cameras."""
    for sequence in SEQUENCES:
        write_sequence(root / sequence)
    return TumRgbdConfig(root=str(root), tasks=TumRgbdConfig.kinds, num_frames=4, size=(30, 36))


def number_of(sequence: str, frame: int) -> int:
    """Give the number that a picture carries."""
    return 20 * SEQUENCES.index(sequence) + frame + 1


def depth_of(sequence: str, frame: int) -> np.ndarray:
    """Make depth in units of 0.2 mm, with a hole at top left."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    depth = (5000 + 91 * rows + 17 * columns + 7 * frame + 900 * SEQUENCES.index(sequence)).astype(np.uint16)
    depth[:5, :9] = 0
    return depth


def axis_and_angle(sequence: str, frame: int) -> tuple[np.ndarray, float]:
    """Turn the camera about an axis that is none of the world's."""
    return np.array([2.0, -1.0, 2.0]) / 3, 0.2 + 0.1 * frame + SEQUENCES.index(sequence)


def place_of(sequence: str, frame: int) -> np.ndarray:
    """Say where the camera is, in the world."""
    return np.array([1 + 0.5 * frame, -2 + 0.25 * frame, 0.5 + SEQUENCES.index(sequence)])


def write_sequence(folder: Path, *, without_pose: tuple[int, ...] = (), without_depth: tuple[int, ...] = ()) -> None:
    """Write pictures and lists; the trajectory has three poses for each picture, of which one is near it."""
    for name in ("rgb", "depth"):
        (folder / name).mkdir(parents=True)
    remarks = "# remarks\n# file: 'test.bag'\n"
    lists = {name: [remarks] for name in ("rgb", "depth", "groundtruth")}
    for frame in range(NUM_FRAMES):
        time = FIRST_S + frame * STEP_S
        picture = f"rgb/{time:.6f}.png"
        Image.fromarray(numbered_picture(number_of(folder.name, frame), (WIDTH, HEIGHT))).save(folder / picture)
        lists["rgb"].append(f"{time:.6f} {picture}\n")
        if frame not in without_depth:
            depth = f"depth/{time + DEPTH_LATE_S:.6f}.png"
            Image.fromarray(depth_of(folder.name, frame)).save(folder / depth)
            lists["depth"].append(f"{time + DEPTH_LATE_S:.6f} {depth}\n")
        if frame not in without_pose:
            lists["groundtruth"] += [_pose_line(folder.name, frame, time - POSE_EARLY_S, 0)]
            lists["groundtruth"] += [_pose_line(folder.name, frame, time + 0.009, 0.5)]
    for name, lines in lists.items():
        (folder / f"{name}.txt").write_text("".join(lines))


def _pose_line(sequence: str, frame: int, time: float, off: float) -> str:
    axis, angle = axis_and_angle(sequence, frame)
    numbers = [*(place_of(sequence, frame) + off), *(axis * np.sin(angle / 2)), np.cos(angle / 2)]
    return f"{time:.4f} " + " ".join(f"{number:.6f}" for number in numbers) + "\n"
