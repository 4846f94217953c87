"""A rendered toy castle, 40 frames with exact depth and poses: a small set that a package manager brings.

Grey pictures come from one camera, depth from a second one five centimetres to its right, so depth is moved to where
the pictures' camera sees it. The files say neither the unit of depth nor where the second camera stands; both numbers
are those of ViSP's own test of its depth tracker, and moving frames onto each other bears them out.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float32, Float64

from fourd.datasets._files import by_number, colour, frames_of, identity
from fourd.datasets._labelled import About, Found, LabelledConfig, LabelledDataset, Recording
from fourd.datasets._poses import require_rigid
from fourd.datasets._sampling import FrameNumbers, Windows
from fourd.datasets._view import Labelled
from fourd.geometry import rigid_inverse
from fourd.media import UnreadableVideo
from fourd.types import CameraPoses, Depth, Unreadable

ABOUT = About(
    title="Castle of ViSP's test pictures (simulated; visp-images-data)",
    licence="GPL-2, as the Debian package says",
    how_to_get=(
        "`apt-get download visp-images-data && dpkg-deb -x visp-images-data_*.deb .` on Debian or Ubuntu (75 MB), or "
        "https://visp.inria.fr/download; ROOT is usr/share/visp-images-data/ViSP-images or a folder in it"
    ),
    layout=(
        "in ROOT or up to two folders below: <scene>/Images/Image_0001.pgm, Depth/Depth_0001.bin, "
        "CameraPose/Camera_001.txt, Config/chateau.xml and chateau_depth.xml"
    ),
    source="Trinh et al., A modular framework for model-based visual tracking (IROS 2018), by the makers of ViSP",
    official={"all": 1, "train": 1, "test": 1},
)
METRES_PER_UNIT = 0.000030518
"""Unit of depth, from ViSP's test of its depth tracker: two metres in 65,535 steps."""
BASELINE_METRES = 0.05
"""How far the depth camera stands to the right of the pictures' camera, from the same test."""
FPS = 30.0
"""Frames a second. The files hold no times: this is ours."""
_FOLDERS = ("Images", "Depth", "CameraPose")
_CONFIGS = {"Images": "chateau.xml", "Depth": "chateau_depth.xml"}
_SPLITS = ("all", "train", "test")
_LARGEST_SKEW = 1e-4
_HIDDEN_BY = 0.02  # share of a distance by which something must be nearer to hide what lies behind
_ASIDE = 0.49  # pixels: just below half of one, so that edges on whole pixels stay where they are
_LARGEST_SIDE = 2**14


@dataclass(frozen=True, kw_only=True)
class VispCastleConfig(LabelledConfig):
    """Describe the frames: "all", or their first ("train") or second half ("test").

    Both halves show one scene: they serve to try a whole path, not to measure a model.
    """

    split: str = "all"

    kinds: ClassVar[tuple[str, ...]] = ("depth", "camera_pose")

    def __post_init__(self) -> None:
        """Refuse a split that is not one of the three."""
        super().__post_init__()
        if self.split not in _SPLITS:
            raise ValueError(f"VispCastleConfig.split: found {self.split!r}; expected one of {', '.join(_SPLITS)}")

    def build(self) -> VispCastle:
        """Build what this config describes."""
        return VispCastle(self)


@dataclass(frozen=True, eq=False)
class _Scene:
    """Say where the frames of a scene lie, by their numbers."""

    folder: Path
    numbers: tuple[int, ...]

    def picture(self, frame: int) -> Path:
        return self.folder / "Images" / f"Image_{self.numbers[frame]:04d}.pgm"

    def depth(self, frame: int) -> Path:
        return self.folder / "Depth" / f"Depth_{self.numbers[frame]:04d}.bin"

    def pose(self, frame: int) -> Path:
        return self.folder / "CameraPose" / f"Camera_{self.numbers[frame]:03d}.txt"

    def labels(self, frame: int) -> tuple[Path, Path]:
        return self.depth(frame), self.pose(frame)


class VispCastle(LabelledDataset):
    """Give clips of the castle, with depth and camera poses; the castle's own frame is the world."""

    name = "visp_castle"

    def find(self) -> Found:
        """List the scenes."""
        recordings, unreadable = [], []
        for folder in _scenes(self.root):
            numbers = _numbers(folder)
            half = (len(numbers) + 1) // 2
            chosen = {"all": numbers, "train": numbers[:half], "test": numbers[half:]}[self.config.split]
            scene = _Scene(folder, tuple(chosen))
            lost = [at for frame in range(len(chosen)) for at in scene.labels(frame) if not at.is_file()]
            if lost:
                reason = f"no such file ({len(lost)} are missing): unpack the package again"
                unreadable.append(Unreadable(str(lost[0]), reason))
            else:
                recordings.append(self._recording(scene))
        return Found(tuple(recordings), tuple(unreadable))

    def _recording(self, scene: _Scene) -> Recording:
        return Recording(
            key=scene.folder.name if self.config.split == "all" else f"{scene.folder.name}/{self.config.split}",
            group=scene.folder.name,
            num_frames=len(scene.numbers),
            identity=identity(scene.folder / "Images", scene.folder / "Depth", scene.folder / "CameraPose"),
            source=scene,
        )

    def load(self, recording: Recording, frames: FrameNumbers) -> Labelled:
        """Read grey pictures, depth as their camera sees it, and poses."""
        scene: _Scene = recording.source
        pictures = [colour(scene.picture(int(frame))) for frame in frames]
        eyes = {name: _intrinsics(scene.folder / "Config" / file) for name, file in _CONFIGS.items()}
        size = (pictures[0].shape[0], pictures[0].shape[1])
        raw = (_raw_depth(scene.depth(int(frame))) for frame in frames)
        seen = [_seen_from_the_left(depth, eyes["Depth"], eyes["Images"], size) for depth in raw]
        metres = torch.from_numpy(np.stack(seen))[None]
        poses = torch.from_numpy(np.stack([_camera_from_world(scene.pose(int(frame))) for frame in frames]))
        return Labelled(
            video=frames_of(pictures, str(scene.folder / "Images")),
            time_s=torch.from_numpy(np.array([scene.numbers[frame] for frame in frames]) / FPS),
            depth=Depth(metres, metres > 0),
            camera=CameraPoses(rigid_inverse(poses).float()[None], torch.from_numpy(eyes["Images"]).float()[None]),
        )


def _scenes(root: Path) -> list[Path]:
    """Find folders of pictures that have poses: ROOT itself, or up to two below."""
    candidates = [root, *(path.parent for depth in ("*", "*/*") for path in root.glob(f"{depth}/CameraPose"))]
    return by_number([folder for folder in candidates if all((folder / name).is_dir() for name in _FOLDERS)])


def _numbers(folder: Path) -> list[int]:
    matches = [re.fullmatch(r"Image_(\d{4})\.pgm", path.name) for path in (folder / "Images").iterdir()]
    return sorted(int(match[1]) for match in matches if match)


def _raw_depth(path: Path) -> Float32[np.ndarray, "H W"]:
    """Read depth as its own camera sees it, in metres: height, width, then 16 bits a pixel, little-endian."""
    data = path.read_bytes()
    height, width = np.frombuffer(data[:8], "<u4").tolist() if len(data) >= 8 else (0, 0)
    expected = 8 + 2 * height * width
    if not (0 < height <= _LARGEST_SIDE and 0 < width <= _LARGEST_SIDE) or len(data) != expected:
        found = f"{len(data)} bytes whose header says {height} x {width} pixels"
        raise UnreadableVideo(str(path), f"{found}, expected {expected} bytes: unpack it again")
    raw = np.frombuffer(data, "<u2", offset=8).reshape(height, width)
    return (raw * METRES_PER_UNIT).astype(np.float32)


def _camera_from_world(path: Path) -> Float64[np.ndarray, "4 4"]:
    """Read a pose, which takes points of the castle to the pictures' camera."""
    try:
        values = np.array(path.read_text().split(), np.float64)
    except ValueError as error:
        raise UnreadableVideo(str(path), f"pose: not numbers ({str(error)[:80]})") from error
    if len(values) != 16:
        raise UnreadableVideo(str(path), f"pose: found {len(values)} numbers, expected 16")
    return require_rigid(values.reshape(4, 4), path, "pose", _LARGEST_SKEW)


def _intrinsics(path: Path) -> Float64[np.ndarray, "3 3"]:
    """Read a camera; the file counts pixels from the middle of the first one."""
    names = ("px", "py", "u0", "v0")
    try:
        written = [ElementTree.fromstring(path.read_text()).findtext(f"camera/{name}", "") for name in names]
        px, py, u0, v0 = (float(value) for value in written)
    except (ElementTree.ParseError, ValueError) as error:
        raise UnreadableVideo(str(path), f"camera: expected numbers {', '.join(names)} ({error})") from error
    return np.array([[px, 0, u0 + 0.5], [0, py, v0 + 0.5], [0, 0, 1]])


def _seen_from_the_left(
    metres: Float32[np.ndarray, "h w"],
    eye: Float64[np.ndarray, "3 3"],
    left_eye: Float64[np.ndarray, "3 3"],
    size: tuple[int, int],
) -> Float32[np.ndarray, "H W"]:
    """Move depth into the camera to the left: the nearest hides the rest, and where nothing falls is not known.

    Where surfaces are stretched, what lies behind would shine through between their pixels. It counts as hidden if
    a surface half a pixel aside is nearer.
    """
    rows, columns = np.nonzero(metres)
    z = metres[rows, columns]
    x = (columns + 0.5 - eye[0, 2]) * z / eye[0, 0] + BASELINE_METRES
    y = (rows + 0.5 - eye[1, 2]) * z / eye[1, 1]
    u, v = x / z * left_eye[0, 0] + left_eye[0, 2], y / z * left_eye[1, 1] + left_eye[1, 2]
    seen, left, right = (_nearest(u + aside, v, z, size) for aside in (0.0, -_ASIDE, _ASIDE))
    is_open = seen <= np.minimum(left, right) * (1 + _HIDDEN_BY)
    return np.where(is_open & np.isfinite(seen), seen, 0).astype(np.float32)


def _nearest(
    u: Float64[np.ndarray, " N"], v: Float64[np.ndarray, " N"], z: Float32[np.ndarray, " N"], size: tuple[int, int]
) -> Float32[np.ndarray, "H W"]:
    """Keep for each pixel the nearest of the points that fall into it; infinity where none does."""
    height, width = size
    row, column = np.floor(v).astype(np.int64), np.floor(u).astype(np.int64)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    nearest = np.full(size, np.inf, np.float32)
    np.minimum.at(nearest, (row[inside], column[inside]), z[inside])
    return nearest


def base(root: str, split: str = "all") -> VispCastleConfig:
    """Describe the frames, with depth and poses, in clips that start two frames apart: there are few of them."""
    return VispCastleConfig(root=root, split=split, tasks=VispCastleConfig.kinds, sampling=Windows(hop=2))
