"""Write scans as ScanNet publishes them, as its two exporters extract them, and as others preprocess them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from fourd.datasets.scannet import ScanNetConfig
from tests.films import numbered_picture

NUM_FRAMES = 9
COLOUR, DEPTH = (80, 60), (40, 30)  # width, height
COLOUR_K = np.array([[70.0, 0, 39.25, 0], [0, 71, 29.75, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
DEPTH_K = np.array([[35.0, 0, 19.5, 0], [0, 36, 14.5, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
SCANS = ("scene0000_00", "scene0000_01", "scene0001_00", "scene0002_00")


def write(root: Path) -> ScanNetConfig:
    """Write a scan in each form, and the list that names them; the second scan shows the space of the first."""
    for scan, write_scan in zip(SCANS, (write_sens, write_extracted, write_exported, write_preprocessed), strict=True):
        write_scan(root / "scans" / scan)
    (root / "scannetv2_train.txt").write_text("\n".join(SCANS) + "\n")
    return ScanNetConfig(root=str(root), tasks=ScanNetConfig.kinds, num_frames=4, size=(28, 36))


def number_of(scan: str, frame: int) -> int:
    """Give the number that a picture carries."""
    return frame + 20 * SCANS.index(scan) + 1


def depth_of(scan: str, frame: int) -> np.ndarray:
    """Make depth in millimetres that differs between rows, columns, frames and scans, with a hole at top left."""
    rows, columns = np.mgrid[: DEPTH[1], : DEPTH[0]]
    depth = (1000 + 31 * rows + 7 * columns + 3 * frame + 500 * SCANS.index(scan)).astype(np.uint16)
    depth[:4, :6] = 0
    return depth


def pose_of(scan: str, frame: int) -> np.ndarray:
    """Make a world_from_camera that its inverse is not: turned and moved along every axis."""
    angle = 0.1 * frame + SCANS.index(scan)
    pose = np.eye(4)
    pose[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    pose[:3, 3] = 1 + 0.5 * frame, 2 - 0.25 * frame, 3 + SCANS.index(scan)
    return pose


def encoded(pixels: np.ndarray, form: str, **options: object) -> bytes:
    """Encode a picture."""
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, form, **options)
    return held.getvalue()


def write_sens(
    folder: Path,
    *,
    num_frames: int = NUM_FRAMES,
    pose: Callable[[str, int], np.ndarray] = pose_of,
    depth: Callable[[str, int], np.ndarray] = depth_of,
    colour: str = "JPEG",
    colour_code: int = 2,
    depth_code: int = 1,
    version: int = 4,
    shift: float = 1000.0,
) -> Path:
    """Write the official file."""
    folder.mkdir(parents=True)
    name = b"StructureSensor"
    matrices = [COLOUR_K, np.eye(4), DEPTH_K, np.eye(4)]
    parts = [struct.pack("<IQ", version, len(name)), name, *(m.astype("<f4").tobytes() for m in matrices)]
    parts += [struct.pack("<2i4IfQ", colour_code, depth_code, *COLOUR, *DEPTH, shift, num_frames)]
    for frame in range(num_frames):
        picture = encoded(numbered_picture(number_of(folder.name, frame), COLOUR), colour)
        raw = depth(folder.name, frame).astype("<u2").tobytes()
        packed = zlib.compress(raw) if depth_code == 1 else raw
        parts += [pose(folder.name, frame).astype("<f4").tobytes()]
        parts += [struct.pack("<4Q", 33333 * frame, 33333 * frame, len(picture), len(packed)), picture, packed]
    parts += [struct.pack("<Q", 1), struct.pack("<15dQ", *range(15), 7)]
    path = folder / f"{folder.name}.sens"
    path.write_bytes(b"".join(parts))
    return path


def write_extracted(
    folder: Path, num_frames: int = NUM_FRAMES + 3, pose: Callable[[str, int], np.ndarray] = pose_of
) -> None:
    """Write what the Python reader exports: numbers are not padded, so that 10 stands before 2 in a listing."""
    for name in ("color", "depth", "pose", "intrinsic"):
        (folder / name).mkdir(parents=True)
    for frame in range(num_frames):
        _write_colour(folder / "color" / f"{frame}.jpg", folder.name, frame)
        Image.fromarray(depth_of(folder.name, frame)).save(folder / "depth" / f"{frame}.png")
        np.savetxt(folder / "pose" / f"{frame}.txt", pose(folder.name, frame), "%f")
    for name, matrix in {"intrinsic_color": COLOUR_K, "intrinsic_depth": DEPTH_K, "extrinsic_color": np.eye(4)}.items():
        np.savetxt(folder / "intrinsic" / f"{name}.txt", matrix, "%f")


def write_exported(folder: Path) -> None:
    """Write what the C++ tool exports, here with depth of 2000 units a metre."""
    folder.mkdir(parents=True)
    calibration = " ".join(f"{value:.6g}" for value in COLOUR_K.flatten())
    lines = {"m_versionNumber": "4", "m_depthShift": "2000", "m_calibrationColorIntrinsic": calibration}
    (folder / "_info.txt").write_text("".join(f"{name} = {value}\n" for name, value in lines.items()))
    for frame in range(NUM_FRAMES):
        stem = folder / f"frame-{frame:06d}"
        _write_colour(stem.with_suffix(".color.jpg"), folder.name, frame)
        header = f"P5\n{DEPTH[0]} {DEPTH[1]}\n65535\n".encode()
        stem.with_suffix(".depth.pgm").write_bytes(header + (depth_of(folder.name, frame) * 2).astype(">u2").tobytes())
        np.savetxt(stem.with_suffix(".pose.txt"), pose_of(folder.name, frame), "%f")


def write_preprocessed(folder: Path, dropped: tuple[int, ...] = ()) -> None:
    """Write what CUT3R makes: colour as large as depth, without the frames that have no pose."""
    for name in ("color", "depth", "cam"):
        (folder / name).mkdir(parents=True)
    for frame in sorted({*range(NUM_FRAMES)} - {*dropped}):
        _write_colour(folder / "color" / f"{frame:05d}.jpg", folder.name, frame, DEPTH)
        Image.fromarray(depth_of(folder.name, frame)).save(folder / "depth" / f"{frame:05d}.png")
        pose = pose_of(folder.name, frame).astype(np.float32)
        np.savez(folder / "cam" / f"{frame:05d}.npz", intrinsics=DEPTH_K[:3, :3].astype(np.float32), pose=pose)


def _write_colour(path: Path, scan: str, frame: int, size: tuple[int, int] = COLOUR) -> None:
    path.write_bytes(encoded(numbered_picture(number_of(scan, frame), size), "JPEG", quality=95))
