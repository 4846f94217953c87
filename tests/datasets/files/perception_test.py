"""Write a small copy of Perception Test: two films, points in one JSON file, boxes in another."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from fourd.datasets.perception_test import PerceptionTestConfig, base
from tests.films import write_film

WIDTH, HEIGHT, FPS = 64, 48, 10.0
NUM_FRAMES = {"video_7": 41, "video_11": 35}
POINTS = {"video_7": 3, "video_11": 2}
BOXES = {"video_7": 2, "video_11": 1}
ANNOTATED = range(0, 41, 10)
HIDDEN = range(4, 7)
"""Frames in which the first point of each film has no place."""


def point_xy(key: str, number: int, frame: int) -> tuple[float, float]:
    """Give a point's share of width and of height, which tell films, points and frames apart."""
    film = len(key) - 6
    return 0.1 + 0.05 * number + 0.004 * frame + 0.02 * film, 0.8 - 0.07 * number - 0.006 * frame - 0.01 * film


def box_xyxy(key: str, number: int, frame: int) -> tuple[float, float, float, float]:
    """Give a box as shares of width and height."""
    x, y = point_xy(key, number, frame)
    return x - 0.08, y - 0.2, x + 0.1, y + 0.05


def point_track(key: str, number: int) -> dict:
    """Describe a point as the files do: all y, then all x."""
    frames = [frame for frame in range(NUM_FRAMES[key]) if number or frame not in HIDDEN]
    xy = [point_xy(key, number, frame) for frame in frames]
    return {
        "id": number,
        "label": f"corner {number}",
        "parent_objects": [0],
        "frame_ids": frames,
        "points": [[y for _, y in xy], [x for x, _ in xy]],
    }


def box_track(key: str, number: int) -> dict:
    """Describe a box as the files do."""
    frames = [frame for frame in ANNOTATED if frame < NUM_FRAMES[key]]
    return {
        "id": number,
        "label": f"cup {number}",
        "is_occluder": 0,
        "bounding_boxes": [list(box_xyxy(key, number, frame)) for frame in frames],
        "initial_tracking_box": [int(frame == 0) for frame in frames],
        "frame_ids": frames,
        "timestamps": [round(frame / FPS * 1e6) for frame in frames],
        "is_masked": [0] * len(frames),
    }


def metadata(key: str) -> dict:
    """Describe a film."""
    return {
        "split": "valid",
        "video_id": key,
        "frame_rate": FPS,
        "num_frames": NUM_FRAMES[key],
        "resolution": [HEIGHT, WIDTH],
        "audio_samples": 0,
        "audio_sample_rate": 0,
        "is_cup_game": 0,
        "is_camera_moving": 0,
    }


def write(root: Path) -> PerceptionTestConfig:
    """Write the copy; its films show their frames' numbers."""
    (root / "videos").mkdir(parents=True)
    points, boxes = {}, {}
    for key, num_frames in NUM_FRAMES.items():
        write_film(root / "videos" / f"{key}.mp4", num_frames, size=(WIDTH, HEIGHT), fps=FPS)
        tracked = [point_track(key, number) for number in range(POINTS[key])]
        points[key] = {"metadata": metadata(key), "object_tracking": [], "point_tracking": tracked}
        boxed = [box_track(key, number) for number in range(BOXES[key])]
        boxes[key] = {"metadata": metadata(key), "object_tracking": boxed}
    (root / "point_tracking_valid.json").write_text(json.dumps(points))
    (root / "sot_valid.json").write_text(json.dumps(boxes))
    config = base(str(root))
    return PerceptionTestConfig(
        root=config.root,
        tasks=config.tasks,
        num_frames=2,
        size=(HEIGHT, WIDTH),
    )


def pixels(shares: list) -> np.ndarray:
    """Turn shares into pixels: float32, as long as the shares."""
    return np.array(shares, np.float64) * np.tile((WIDTH, HEIGHT), np.shape(shares)[-1] // 2)
