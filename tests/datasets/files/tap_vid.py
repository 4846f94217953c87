"""Write small copies of TAP-Vid: DAVIS as a table, RGB-stacking as a list, RoboTAP in parts, Kinetics as JPEG."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fourd.datasets.tap_vid import TapVidConfig
from tests.films import numbered_picture

WIDTH, HEIGHT = 64, 48
NUM_POINTS = 4


def video(first: int, num_frames: int) -> np.ndarray:
    """Draw frames with their numbers, counted from `first`: uint8, T H W 3."""
    return np.stack([numbered_picture(first + frame, (WIDTH, HEIGHT)) for frame in range(num_frames)])


def points(first: int, num_frames: int, num_points: int = NUM_POINTS) -> np.ndarray:
    """Give shares of width and height, which tell films, points and frames apart: float32, N T 2."""
    number, frame = np.meshgrid(np.arange(num_points), np.arange(num_frames), indexing="ij")
    x = 0.1 + 0.1 * number + 0.01 * frame + first / 1000
    y = 0.9 - 0.12 * number - 0.007 * frame - first / 1000
    return np.stack([x, y], axis=-1).astype(np.float32)


def occluded(num_frames: int, num_points: int = NUM_POINTS) -> np.ndarray:
    """Hide the first point in frame 3, the last one until frame 2: bool, N T."""
    hidden = np.zeros((num_points, num_frames), bool)
    hidden[0, 3] = True
    hidden[-1, :2] = True
    return hidden


def example(first: int, num_frames: int, num_points: int = NUM_POINTS) -> dict[str, Any]:
    """Make a film with its labels."""
    return {
        "video": video(first, num_frames),
        "points": points(first, num_frames, num_points),
        "occluded": occluded(num_frames, num_points),
    }


def encoded(pictures: np.ndarray) -> list[bytes]:
    """Encode pictures as JPEG."""
    kept = []
    for picture in pictures:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=95)
        kept.append(file.getvalue())
    return kept


def kinetics_example(first: int, num_frames: int) -> dict[str, Any]:
    """Make a film as the official script does: JPEG bytes in one array, half a pixel taken from every place."""
    half_px = 0.5 / np.array((WIDTH, HEIGHT))
    return {
        "video": np.array(encoded(video(first, num_frames))),
        "points": points(first, num_frames).astype(np.float64) - half_px,
        "occluded": occluded(num_frames),
    }


def save(path: Path, held: Any, protocol: int = 4) -> None:
    """Pickle something."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(held, protocol))


def write(root: Path) -> TapVidConfig:
    """Write all sets, in folders as they are unpacked."""
    save(root / "tapvid_davis" / "tapvid_davis.pkl", {"goat": example(0, 11), "car-roundabout": example(40, 14, 6)})
    save(root / "tapvid_rgb_stacking.pkl", [example(0, 9), example(20, 9)])
    save(root / "robotap" / "robotap_split0.pkl", {"pick": example(10, 8)})
    save(root / "robotap" / "robotap_split1.pkl", {"place": example(30, 8)})
    save(root / "kinetics" / "0000_of_0002.pkl", [kinetics_example(0, 8), kinetics_example(50, 10)])
    save(root / "kinetics" / "0001_of_0002.pkl", [kinetics_example(90, 8)])
    return TapVidConfig(root=str(root), tasks=TapVidConfig.kinds, num_frames=4, size=(HEIGHT, WIDTH))
