"""Write a small copy of RealEstate10K: camera files with pictures and films, or the same clips as chunks."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fourd.datasets.realestate10k import RealEstate10KConfig, base
from tests.films import numbered_picture, write_film

WIDTH, HEIGHT = 64, 36
FPS = 30.0
CLIPS = {
    "0000cc6d8b108390": ("3pLcrRXmvAA", 12),
    "00028da87cc5a4c4": ("zQ1gVSoJ1fo", 9),
    "0002b126b0a8a685": ("3pLcrRXmvAA", 10),
}
"""Clips by name, with their film and number of frames; two are of one film."""
WITH_FILM = "00028da87cc5a4c4"
INTRINSICS = (0.47, 0.85, 0.52, 0.48)
"""fx, fy, cx, cy as shares of width, height, width, height."""


def first_frame(clip: str) -> int:
    """Say with which frame of its film a clip begins."""
    return 6 + 3 * list(CLIPS).index(clip)


def time_us(clip: str, frame: int) -> int:
    """Give a frame's time stamp as the files do: in whole microseconds, a little off the film's own."""
    return round((first_frame(clip) + 2 * frame) / FPS * 1e6) + 400 * (frame % 3 - 1)


def world_from_camera(clip: str, frame: int) -> np.ndarray:
    """Compute a pose from first principles: turned about y then x, and standing at a place of its own."""
    yaw, pitch = 0.3 + 0.05 * frame, -0.2 + 0.01 * frame
    about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    pose = np.eye(4)
    pose[:3, :3] = about_y @ about_x
    pose[:3, 3] = (1.5 + 0.1 * frame, -0.5 + list(CLIPS).index(clip), 2.0 + 0.03 * frame)
    return pose


def camera(clip: str, frame: int) -> list[float]:
    """Give the 18 numbers of a camera: intrinsics, two zeros, and camera from world, row by row."""
    return [*INTRINSICS, 0.0, 0.0, *np.linalg.inv(world_from_camera(clip, frame))[:3].flatten().tolist()]


def url(clip: str) -> str:
    """Give the address of a clip's film."""
    return f"https://www.youtube.com/watch?v={CLIPS[clip][0]}"


def write_cameras(path: Path, clip: str) -> None:
    """Write a camera file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        " ".join([str(time_us(clip, frame)), *(f"{number:.9f}" for number in camera(clip, frame))])
        for frame in range(CLIPS[clip][1])
    ]
    path.write_text("\n".join([url(clip), *rows, ""]))


def write_pictures(folder: Path, clip: str) -> None:
    """Write a clip's frames, named by their time stamps; they show the frames' numbers."""
    folder.mkdir(parents=True)
    for frame in range(CLIPS[clip][1]):
        Image.fromarray(numbered_picture(frame, (WIDTH, HEIGHT))).save(folder / f"{time_us(clip, frame)}.png")


def write_chunks(root: Path, split: str = "test", height: int = HEIGHT) -> RealEstate10KConfig:
    """Write the clips as two chunks; the last clip's pictures are `height` pixels high."""
    folder = root / split
    folder.mkdir(parents=True)
    index = {}
    for number, keys in enumerate((list(CLIPS)[:2], list(CLIPS)[2:])):
        name = f"{number:06d}.torch"
        torch.save([example(key, height if number else HEIGHT) for key in keys], folder / name)
        index |= dict.fromkeys(keys, name)
    (folder / "index.json").write_text(json.dumps(index))
    return small(base(str(root), split))


def example(clip: str, height: int) -> dict:
    """Describe a clip as a chunk does."""
    frames = range(CLIPS[clip][1])
    return {
        "url": url(clip),
        "timestamps": torch.tensor([time_us(clip, frame) for frame in frames], dtype=torch.int64),
        "cameras": torch.tensor([camera(clip, frame) for frame in frames], dtype=torch.float32),
        "images": [torch.frombuffer(bytearray(jpeg(frame, height)), dtype=torch.uint8) for frame in frames],
        "key": clip,
    }


def jpeg(frame: int, height: int) -> bytes:
    """Encode a picture that shows a frame's number."""
    file = io.BytesIO()
    Image.fromarray(numbered_picture(frame, (WIDTH, height))).save(file, "JPEG", quality=95)
    return file.getvalue()


def small(config: RealEstate10KConfig) -> RealEstate10KConfig:
    """Ask for clips that are read at once."""
    return replace(config, num_frames=4, size=(18, 24), chunk_shape=(HEIGHT, WIDTH))


def write(root: Path) -> RealEstate10KConfig:
    """Write camera files; all clips have pictures but one, which has the film that it was cut from."""
    folder = root / "test"
    for clip in CLIPS:
        write_cameras(folder / f"{clip}.txt", clip)
        if clip == WITH_FILM:
            write_film(folder / f"{clip}.mp4", 40, size=(WIDTH, HEIGHT), fps=FPS)
        else:
            write_pictures(folder / clip, clip)
    return small(base(str(root)))
