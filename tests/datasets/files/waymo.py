"""Write a small copy of the Waymo Open Dataset: two segments of Parquet files, rows in no order."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from fourd.datasets.waymo import WaymoConfig, base
from tests.films import numbered_picture

WIDTH, HEIGHT = 96, 64
SEGMENTS = {"1005081002024129653_5313_150_5333_150": 15, "10203656353524179475_7625_000_7645_000": 13}
"""Segments by name, with their numbers of frames."""
FIRST_US = 1_550_083_467_346_370
STEP_US = 100_000
FRONT, FRONT_LEFT = 1, 2
VEHICLE, PEDESTRIAN, SIGN = 1, 2, 3
OBJECTS = {"near-car": VEHICLE, "walker": PEDESTRIAN, "leaver": VEHICLE, "stop": SIGN}
GAP = range(4, 7)
"""Frames in which the walker is hidden."""
ROWS_PER_GROUP = 5


def time_us(segment: str, frame: int) -> int:
    """Say when a frame was taken; segments begin at different times."""
    return FIRST_US + list(SEGMENTS).index(segment) * 1_000_000_000 + frame * STEP_US


def centre_size(segment: str, name: str, frame: int) -> tuple[float, float, float, float]:
    """Give a box of the front camera as its file does: centre x, y, then its extent along x and y."""
    shift = 2.0 * list(SEGMENTS).index(segment)
    return {
        "near-car": (40.25 + 1.5 * frame + shift, 33.5, 22.5, 11.0),
        "walker": (52.0, 20.75 + 0.5 * frame + shift, 6.0, 17.0),
        "leaver": (68.0 + 3.0 * frame, 45.0 + shift, 14.0, 8.5),
        "stop": (30.0 + shift, 12.0, 5.0, 5.0),
    }[name]


def jpeg(number: int, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    """Encode a picture that carries a number."""
    file = io.BytesIO()
    Image.fromarray(numbered_picture(number, (width, height))).save(file, "JPEG", quality=95)
    return file.getvalue()


def image_table(segment: str) -> pa.Table:
    """Make the rows of a camera_image file; the left camera shows numbers from 100 on, in pictures less high."""
    rows = [(frame, camera) for frame in range(SEGMENTS[segment]) for camera in (FRONT, FRONT_LEFT)]
    rows = [rows[place] for place in np.random.default_rng(1).permutation(len(rows))]
    pictures = [jpeg(frame) if camera == FRONT else jpeg(100 + frame, WIDTH, HEIGHT - 16) for frame, camera in rows]
    return pa.table(
        {
            "key.segment_context_name": pa.array([segment] * len(rows)),
            "key.frame_timestamp_micros": pa.array([time_us(segment, frame) for frame, _ in rows], pa.int64()),
            "key.camera_name": pa.array([camera for _, camera in rows], pa.int8()),
            "[CameraImageComponent].image": pa.array(pictures, pa.binary()),
            "[CameraImageComponent].pose.transform": pa.array([[0.0] * 16] * len(rows), pa.list_(pa.float64(), 16)),
            "[CameraImageComponent].pose_timestamp": pa.array([0.0] * len(rows), pa.float64()),
        }
    )


def box_rows(segment: str) -> list[tuple[int, int, str, tuple[float, float, float, float]]]:
    """Say which boxes are marked: time, camera, object, and its place. The left camera names objects anew."""
    rows = []
    for frame in range(SEGMENTS[segment]):
        for name in OBJECTS:
            if name != "walker" or frame not in GAP:
                rows.append((time_us(segment, frame), FRONT, name, centre_size(segment, name, frame)))
        if segment == min(SEGMENTS):
            rows.append((time_us(segment, frame), FRONT_LEFT, "near-car", (70.0 - frame, 30.0, 9.0, 21.0)))
    return [rows[place] for place in np.random.default_rng(2).permutation(len(rows))]


def box_table(segment: str) -> pa.Table:
    """Make the rows of a camera_box file."""
    rows = box_rows(segment)
    box = "[CameraBoxComponent].box"
    places = [f"{box}.center.x", f"{box}.center.y", f"{box}.size.x", f"{box}.size.y"]
    level = "[CameraBoxComponent].difficulty_level"
    return pa.table(
        {
            "key.segment_context_name": pa.array([segment] * len(rows)),
            "key.frame_timestamp_micros": pa.array([row[0] for row in rows], pa.int64()),
            "key.camera_name": pa.array([row[1] for row in rows], pa.int8()),
            "key.camera_object_id": pa.array([row[2] for row in rows]),
            **{name: pa.array([row[3][place] for row in rows], pa.float64()) for place, name in enumerate(places)},
            "[CameraBoxComponent].type": pa.array([OBJECTS[row[2]] for row in rows], pa.int8()),
            f"{level}.detection": pa.array([None] * len(rows), pa.int8()),
            f"{level}.tracking": pa.array([None] * len(rows), pa.int8()),
        }
    )


def write(root: Path) -> WaymoConfig:
    """Write the copy; its pictures show their frames' numbers."""
    for segment in SEGMENTS:
        for part, make in (("camera_image", image_table), ("camera_box", box_table)):
            path = root / "validation" / part / f"{segment}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(make(segment), path, row_group_size=ROWS_PER_GROUP)
    return replace(base(str(root), "validation"), num_frames=4, size=(32, 48), num_boxes=5, least_together=2)
