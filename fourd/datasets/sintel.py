"""MPI Sintel: 23 scenes of a rendered film that anybody may have, with exact depth and cameras."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float32, Float64

from fourd.datasets._files import by_number, colour, frames_of, identity
from fourd.datasets._labelled import About, Found, LabelledConfig, LabelledDataset, Recording
from fourd.datasets._poses import require_rigid
from fourd.datasets._sampling import FrameNumbers
from fourd.datasets._view import Labelled
from fourd.geometry import rigid_inverse
from fourd.media import UnreadableVideo
from fourd.types import CameraPoses, Depth, Unreadable

ABOUT = About(
    title="MPI Sintel (training scenes, with depth and camera motion)",
    licence="for research, as its page says; the film itself is CC BY 3.0, Blender Foundation",
    how_to_get=(
        "http://sintel.is.tue.mpg.de: MPI-Sintel-complete.zip for the pictures, and MPI-Sintel-depth-training.zip "
        "(linked at /depth) for depth and cameras, both unpacked into ROOT. Nothing to sign."
    ),
    layout=(
        "[training/]final/<scene>/frame_0001.png (or clean/), depth/<scene>/frame_0001.dpt, "
        "camdata_left/<scene>/frame_0001.cam"
    ),
    source="Butler et al., A naturalistic open source movie for optical flow evaluation (ECCV 2012)",
    official={"all": 23, "posed": 14},
)
FPS = 24.0
"""Frames a second of the film."""
# the scenes in which works on moving cameras measure poses: the others stand still or see nothing rigid; from memory
_POSED = (
    *("alley_2", "ambush_4", "ambush_5", "ambush_6", "cave_2", "cave_4", "market_2", "market_5", "market_6"),
    *("shaman_3", "sleeping_1", "sleeping_2", "temple_2", "temple_3"),
)
_TAG = np.float32(202021.25)
_SKEW = 1e-4
_ZOOM = 1e-3  # share by which intrinsics may differ within a clip
_LARGEST_SIDE = 2**14


@dataclass(frozen=True, kw_only=True)
class SintelConfig(LabelledConfig):
    """Describe scenes: "all", or the fourteen on which camera poses are measured ("posed").

    render: with all effects ("final"), or without blur and haze ("clean"). farthest: metres from which depth does not
    count, such as the sky's; 70 as in works that measure video depth on it.
    """

    split: str = "all"
    render: str = "final"
    farthest: float = 70.0

    kinds: ClassVar[tuple[str, ...]] = ("depth", "camera_pose")

    def __post_init__(self) -> None:
        """Refuse what Sintel does not have."""
        super().__post_init__()
        if self.split not in ("all", "posed"):
            raise ValueError(f"SintelConfig.split: found {self.split!r}; expected 'all' or 'posed'")
        if self.render not in ("final", "clean"):
            raise ValueError(f"SintelConfig.render: found {self.render!r}; expected 'final' or 'clean'")

    def build(self) -> Sintel:
        """Build what this config describes."""
        return Sintel(self)


@dataclass(frozen=True, eq=False)
class _Scene:
    """Say where the frames of a scene lie, by their numbers."""

    root: Path
    render: str
    name: str
    numbers: tuple[int, ...]

    def path(self, part: str, frame: int) -> Path:
        """Name a frame's file: its picture, its "depth" or its "camdata_left"."""
        ending = {"depth": "dpt", "camdata_left": "cam"}.get(part, "png")
        return self.root / part / self.name / f"frame_{self.numbers[frame]:04d}.{ending}"


class Sintel(LabelledDataset):
    """Give clips of the film, with depth and camera poses."""

    name = "sintel"

    def find(self) -> Found:
        """List the scenes, and see that no frame lacks its labels."""
        root = self.root / "training" if (self.root / "training").is_dir() else self.root
        there = root / self.config.render
        if not there.is_dir():
            return Found((), (Unreadable(str(there), "no such folder: expected a folder of pictures for each scene"),))
        names = [path.name for path in by_number([path for path in there.iterdir() if path.is_dir()])]
        wanted = names if self.config.split == "all" else _POSED
        recordings, unreadable = [], []
        for name in wanted:
            scene = _Scene(root, self.config.render, name, _numbers(there / name))
            lost = self._missing(scene)
            if lost:
                unreadable.append(lost)
            else:
                recordings.append(self._recording(scene))
        return Found(tuple(recordings), tuple(unreadable))

    def load(self, recording: Recording, frames: FrameNumbers) -> Labelled:
        """Read pictures, and of depth and cameras what the tasks ask for."""
        scene: _Scene = recording.source
        chosen, tasks = [int(frame) for frame in frames], self.config.tasks
        return Labelled(
            video=frames_of([colour(scene.path(scene.render, frame)) for frame in chosen], scene.name),
            time_s=torch.tensor([scene.numbers[frame] / FPS for frame in chosen], dtype=torch.float64),
            depth=self._depth(scene, chosen) if "depth" in tasks else None,
            camera=_camera(scene, chosen) if "camera_pose" in tasks else None,
        )

    def _parts(self) -> list[str]:
        """Name the folders of what the tasks ask for."""
        return [
            part for kind, part in (("depth", "depth"), ("camera_pose", "camdata_left")) if kind in self.config.tasks
        ]

    def _missing(self, scene: _Scene) -> Unreadable | None:
        """Say what a scene lacks, if anything."""
        folder = scene.root / scene.render / scene.name
        if not scene.numbers:
            return Unreadable(str(folder), "no picture called frame_0001.png, or another number")
        paths = (scene.path(part, frame) for part in self._parts() for frame in range(len(scene.numbers)))
        lost = [path for path in paths if not path.is_file()]
        if not lost:
            return None
        reason = f"no such file ({len(lost)} are missing): unpack MPI-Sintel-depth-training.zip beside the pictures"
        return Unreadable(str(lost[0]), reason)

    def _recording(self, scene: _Scene) -> Recording:
        parts = (scene.render, *self._parts())
        return Recording(
            key=f"{scene.render}/{scene.name}",
            group=scene.name,
            num_frames=len(scene.numbers),
            identity=identity(*(scene.root / part / scene.name for part in parts)),
            source=scene,
        )

    def _depth(self, scene: _Scene, frames: list[int]) -> Depth:
        pictures = [_read_depth(scene.path("depth", frame)) for frame in frames]
        if len({picture.shape for picture in pictures}) > 1:
            raise UnreadableVideo(str(scene.root / "depth" / scene.name), "depth of different sizes: expected one size")
        metres = torch.from_numpy(np.stack(pictures))[None]
        valid = (metres > 0) & (metres < self.config.farthest)
        return Depth(torch.where(valid, metres, 0.0), valid)


def _numbers(folder: Path) -> tuple[int, ...]:
    paths = folder.iterdir() if folder.is_dir() else ()
    matches = [re.fullmatch(r"frame_(\d{4})\.png", path.name) for path in paths]
    return tuple(sorted(int(match[1]) for match in matches if match))


def _tagged(path: Path) -> bytes:
    """Read what follows the tag of a file; raise UnreadableVideo where it has another one."""
    data = path.read_bytes()
    if data[:4] != _TAG.tobytes():
        raise UnreadableVideo(str(path), f"tag: found {data[:4]!r}, expected {_TAG.tobytes()!r} ({_TAG}): get it again")
    return data[4:]


def _read_depth(path: Path) -> Float32[np.ndarray, "H W"]:
    """Read depth along z: width, height, then rows of 32-bit numbers, little-endian."""
    data = _tagged(path)
    width, height = np.frombuffer(data[:8], "<i4").tolist() if len(data) >= 8 else (0, 0)
    expected = 8 + 4 * width * height
    if not (0 < width <= _LARGEST_SIDE and 0 < height <= _LARGEST_SIDE) or len(data) != expected:
        found = f"{len(data) + 4} bytes whose header says {width} x {height}"
        raise UnreadableVideo(str(path), f"depth: {found}, expected {expected + 4} bytes: get it again")
    return np.frombuffer(data, "<f4", offset=8).reshape(height, width).astype(np.float32)


def _read_camera(path: Path) -> tuple[Float64[np.ndarray, "3 3"], Float64[np.ndarray, "4 4"]]:
    """Read intrinsics and camera_from_world, both of 64-bit numbers."""
    data = _tagged(path)
    if len(data) != 8 * (9 + 12):
        raise UnreadableVideo(
            str(path), f"camera: found {len(data) + 4} bytes, expected {4 + 8 * (9 + 12)}: get it again"
        )
    values = np.frombuffer(data, "<f8")
    pose = np.vstack([values[9:].reshape(3, 4), [0, 0, 0, 1]])
    return values[:9].reshape(3, 3), require_rigid(pose, path, "[R|t]", _SKEW)


def _camera(scene: _Scene, frames: list[int]) -> CameraPoses:
    cameras = [_read_camera(scene.path("camdata_left", frame)) for frame in frames]
    first = cameras[0][0]
    for frame, (intrinsics, _) in zip(frames, cameras, strict=True):
        if not np.allclose(intrinsics, first, rtol=_ZOOM, atol=_ZOOM):
            reason = (
                f"intrinsics {intrinsics[[0, 1, 0, 1], [0, 1, 2, 2]].tolist()} differ from those of the clip's first"
            )
            raise UnreadableVideo(str(scene.path("camdata_left", frame)), f"{reason}: a clip has one camera")
    world_from_camera = rigid_inverse(torch.from_numpy(np.stack([pose for _, pose in cameras])))
    centred = first.copy()
    centred[:2, 2] += 0.5  # from memory: (511.5, 217.5) in 1024 x 436, so pixels count from the middle of the first
    return CameraPoses(world_from_camera.float()[None], torch.from_numpy(centred).float()[None])


def base(root: str, split: str = "all") -> SintelConfig:
    """Describe scenes, with depth and poses."""
    return SintelConfig(root=root, split=split, tasks=SintelConfig.kinds)
