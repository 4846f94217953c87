"""TUM RGB-D, and sets in its form such as Bonn's: rooms filmed with a depth camera, poses from motion capture.

Pictures, depth and poses have times of their own, and are matched by them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64, Shaped

from fourd.datasets._files import by_number, colour, frames_of, identity, raster
from fourd.datasets._labelled import About, Found, LabelledConfig, LabelledDataset, Recording
from fourd.datasets._poses import rotation_of_quaternions
from fourd.datasets._sampling import FrameNumbers
from fourd.datasets._view import Labelled
from fourd.media import UnreadableVideo
from fourd.types import CameraPoses, Depth, Unreadable

ABOUT = About(
    title="TUM RGB-D (and Bonn RGB-D Dynamic, in the same form)",
    # from memory: the page is to be read
    licence="TUM: CC BY 4.0; Bonn: no licence stated, read its page",
    how_to_get=(
        "https://cvg.cit.tum.de/data/datasets/rgbd-dataset/download: unpack the archives of sequences into ROOT; "
        "https://www.ipb.uni-bonn.de/data/rgbd-dynamic-dataset for Bonn. Nothing to sign."
    ),
    layout="<sequence>/rgb.txt, depth.txt, groundtruth.txt, and the pictures that the first two name",
    source="Sturm et al., A benchmark for the evaluation of RGB-D SLAM systems (IROS 2012)",
)

Names = Shaped[np.ndarray, " F"]
"""Names of pictures."""
Intrinsics = tuple[float, float, float, float]
"""fx, fy, cx, cy in pixels, counted from the middle of the first one."""

# from memory, of the sets' own pages: what they recommend for pictures that have been rectified, or are used as such
_CAMERAS: dict[str, Intrinsics] = {
    "freiburg1": (517.3, 516.5, 318.6, 255.3),
    "freiburg2": (520.9, 521.0, 325.1, 249.7),
    "freiburg3": (535.4, 539.2, 320.1, 247.6),
    "bonn": (542.822841, 542.576870, 315.593520, 237.756098),
}
_QUATERNION_TOLERANCE = 0.01


@dataclass(frozen=True, kw_only=True)
class TumRgbdConfig(LabelledConfig):
    """Describe sequences of a folder: all, or those that are named; there is one split, "all".

    sequences: names of folders. units_per_metre: of depth pictures. longest_wait_s: how far apart the times of a
    picture, its depth and its pose may lie, as the set's own tools have it. longest_gap_s: a recording is cut where
    nothing could be matched for longer (not from the paper). intrinsics: fx, fy, cx, cy of a camera that the name of
    a sequence does not tell (freiburg1 to freiburg3, bonn).
    """

    split: str = "all"
    sequences: tuple[str, ...] = ()
    units_per_metre: float = 5000.0
    longest_wait_s: float = 0.02
    longest_gap_s: float = 0.5
    intrinsics: Intrinsics | None = None

    kinds: ClassVar[tuple[str, ...]] = ("depth", "camera_pose")

    def __post_init__(self) -> None:
        """Refuse a split that does not exist, and numbers that cannot be."""
        super().__post_init__()
        if self.split != "all":
            raise ValueError(f"TumRgbdConfig.split: found {self.split!r}; expected 'all', with names in `sequences`")
        for name in ("units_per_metre", "longest_wait_s", "longest_gap_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"TumRgbdConfig.{name}: found {getattr(self, name)}; expected more than 0")

    def build(self) -> TumRgbd:
        """Build what this config describes."""
        return TumRgbd(self)


@dataclass(frozen=True, eq=False)
class _Sequence:
    """Hold what belongs together: frame by frame a picture, and where asked for its depth and the camera's pose."""

    folder: Path
    time_s: Float64[np.ndarray, " F"]
    pictures: Names
    depths: Names | None
    world_from_camera: Float64[np.ndarray, "F 4 4"] | None
    intrinsics: Intrinsics | None

    def part(self, frames: Int64[np.ndarray, " K"] | slice) -> _Sequence:
        """Give some of the frames."""
        kept: dict[str, Any] = {
            name: None if (values := getattr(self, name)) is None else values[frames]
            for name in ("time_s", "pictures", "depths", "world_from_camera")
        }
        return replace(self, **kept)


class TumRgbd(LabelledDataset):
    """Give clips of rooms, with depth and camera poses."""

    name = "tum_rgbd"

    def find(self) -> Found:
        """Match the times of every sequence."""
        folders = {folder.name: folder for folder in by_number([path.parent for path in self.root.glob("*/rgb.txt")])}
        if (self.root / "rgb.txt").is_file():
            folders[self.root.absolute().name] = self.root
        wanted = self.config.sequences or tuple(folders)
        unreadable = [Unreadable(name, f"no such sequence in {self.root}") for name in wanted if name not in folders]
        recordings: list[Recording] = []
        damaged: list[Unreadable] = []
        for folder in (folders[name] for name in wanted if name in folders):
            try:
                sequence, num_pictures = self._matched(folder)
            except UnreadableVideo as error:
                unreadable.append(Unreadable(error.path, error.reason))
                continue
            recordings += self._recordings(sequence)
            lost = num_pictures - len(sequence.pictures)
            if lost:
                reason = (
                    f"{lost} of {num_pictures} pictures have no {self._labels()} within {self.config.longest_wait_s} s"
                )
                damaged.append(Unreadable(str(folder), f"{reason}, and are left out"))
        self.damaged = tuple(damaged)
        return Found(tuple(recordings), tuple(unreadable))

    def load(self, recording: Recording, frames: FrameNumbers) -> Labelled:
        """Read pictures, and of depth and poses what the tasks ask for."""
        sequence: _Sequence = recording.source
        pictures = [colour(_there(sequence.folder, sequence.pictures[frame])) for frame in frames]
        return Labelled(
            video=frames_of(pictures, str(sequence.folder)),
            time_s=torch.from_numpy(sequence.time_s[frames] - sequence.time_s[0]),
            depth=None if sequence.depths is None else self._depth(sequence.folder, sequence.depths[frames]),
            camera=_camera(sequence, frames),
        )

    def _matched(self, folder: Path) -> tuple[_Sequence, int]:
        """Match pictures with what the tasks ask for; say how many pictures there are."""
        tasks = self.config.tasks
        times, pictures = _listed(folder / "rgb.txt")
        if not (np.diff(times) > 0).all():
            raise UnreadableVideo(str(folder / "rgb.txt"), "two pictures of one time: expected times that differ")
        kept = np.ones(len(times), bool)
        depths = poses = None
        if "depth" in tasks:
            depth_times, names = _listed(folder / "depth.txt")
            nearest, is_near = self._nearest(times, depth_times)
            depths, kept = names[nearest], kept & is_near
        if "camera_pose" in tasks:
            pose_times, all_poses = _trajectory(folder / "groundtruth.txt")
            nearest, is_near = self._nearest(times, pose_times)
            poses, kept = all_poses[nearest], kept & is_near
        if not kept.any():
            raise UnreadableVideo(str(folder), f"none of {len(times)} pictures has {self._labels()} at its time")
        intrinsics = self._intrinsics(folder) if "camera_pose" in tasks else None
        everything = _Sequence(folder, times, pictures, depths, poses, intrinsics)
        return everything.part(np.flatnonzero(kept)), len(times)

    def _labels(self) -> str:
        return " and ".join(self.config.tasks).replace("camera_pose", "pose")

    def _nearest(
        self, times: Float64[np.ndarray, " F"], others: Float64[np.ndarray, " G"]
    ) -> tuple[Int64[np.ndarray, " F"], Bool[np.ndarray, " F"]]:
        """Find for each time the nearest of others, and whether it is near enough."""
        nearest = np.searchsorted((others[1:] + others[:-1]) / 2, times)
        return nearest, np.abs(others[nearest] - times) <= self.config.longest_wait_s

    def _intrinsics(self, folder: Path) -> Intrinsics:
        if self.config.intrinsics is not None:
            intrinsics: Intrinsics = self.config.intrinsics
            return intrinsics
        match = re.search("|".join(_CAMERAS), folder.absolute().name)
        if match is None:
            known = ", ".join(_CAMERAS)
            raise UnreadableVideo(str(folder), f"its name tells none of the cameras {known}: set `intrinsics`")
        return _CAMERAS[match[0]]

    def _recordings(self, sequence: _Sequence) -> list[Recording]:
        """Cut a sequence where nothing was matched for long."""
        gaps = np.flatnonzero(np.diff(sequence.time_s) > self.config.longest_gap_s) + 1
        edges = [0, *gaps.tolist(), len(sequence.pictures)]
        name = sequence.folder.absolute().name
        files = [sequence.folder / name for name in ("rgb.txt", "depth.txt", "groundtruth.txt")]
        return [
            Recording(
                key=name if len(edges) == 2 else f"{name}/from{sequence.time_s[start]:.6f}",
                group=name,
                num_frames=stop - start,
                identity=identity(*(path for path in files if path.is_file())),
                source=sequence.part(slice(start, stop)),
            )
            for start, stop in pairwise(edges)
        ]

    def _depth(self, folder: Path, names: Names) -> Depth:
        pictures = [raster(_there(folder, name)) for name in names]
        if len({picture.shape for picture in pictures}) > 1:
            raise UnreadableVideo(str(folder), "depth pictures of different sizes: expected one size")
        metres = torch.from_numpy((np.stack(pictures) / self.config.units_per_metre).astype(np.float32))[None]
        return Depth(metres, metres > 0)


def _there(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise UnreadableVideo(str(path), "no such file, though the sequence lists it: unpack it again")
    return path


def _camera(sequence: _Sequence, frames: FrameNumbers) -> CameraPoses | None:
    if sequence.world_from_camera is None or sequence.intrinsics is None:
        return None
    fx, fy, cx, cy = sequence.intrinsics
    intrinsics = torch.tensor([[fx, 0, cx + 0.5], [0, fy, cy + 0.5], [0, 0, 1]])
    return CameraPoses(torch.from_numpy(sequence.world_from_camera[frames]).float()[None], intrinsics[None])


def _lines(path: Path, num_fields: int, fields: str) -> list[list[str]]:
    """Read a table of words, without remarks; raise UnreadableVideo where it is none."""
    if not path.is_file():
        raise UnreadableVideo(str(path), "no such file: unpack the sequence again, or do not ask for what it holds")
    lines = path.read_text(errors="replace").splitlines()
    rows = [(number, line.split()) for number, line in enumerate(lines, 1) if line.strip() and line[0] != "#"]
    for number, row in rows:
        if len(row) != num_fields:
            raise UnreadableVideo(str(path), f"line {number}: found {len(row)} words, expected {num_fields}: {fields}")
    if not rows:
        raise UnreadableVideo(str(path), f"no line in it: expected {fields}")
    return [row for _, row in rows]


def _numbers(rows: Sequence[Sequence[str]], path: Path) -> Float64[np.ndarray, "N C"]:
    """Turn words into numbers."""
    try:
        table = np.array(rows, np.float64)
    except ValueError as error:
        raise UnreadableVideo(str(path), f"not numbers ({str(error)[:80]})") from error
    if not np.isfinite(table).all():
        line = int(np.flatnonzero(~np.isfinite(table).all(1))[0])
        raise UnreadableVideo(str(path), f"numbers that are not finite, {' '.join(rows[line])!r}: unpack it again")
    return table


def _listed(path: Path) -> tuple[Float64[np.ndarray, " N"], Names]:
    """Read the times and names of pictures, which must lie beside the list, in the order of their times."""
    rows = _lines(path, 2, "a time and the name of a picture")
    for _, name in rows:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise UnreadableVideo(str(path), f"names {name!r}, outside of its folder: expected a picture in it")
    times = _numbers([row[:1] for row in rows], path)[:, 0]
    order = np.argsort(times, kind="stable")
    return times[order], np.array([name for _, name in rows])[order]


def _trajectory(path: Path) -> tuple[Float64[np.ndarray, " N"], Float64[np.ndarray, "N 4 4"]]:
    """Read times and poses: where the camera is, and how it is turned, the real part of the quaternion last."""
    table = _numbers(_lines(path, 8, "time tx ty tz qx qy qz qw"), path)
    table = table[np.argsort(table[:, 0], kind="stable")]
    lengths = np.linalg.norm(table[:, 4:], axis=1)
    if (np.abs(lengths - 1) > _QUATERNION_TOLERANCE).any():
        found = lengths[np.abs(lengths - 1).argmax()]
        raise UnreadableVideo(str(path), f"qx qy qz qw: found a quaternion of length {found:.3f}, expected 1")
    poses = np.tile(np.eye(4), (len(table), 1, 1))
    poses[:, :3, :3], poses[:, :3, 3] = rotation_of_quaternions(table[:, 4:]), table[:, 1:4]
    return table[:, 0], poses


def base(root: str, split: str = "all") -> TumRgbdConfig:
    """Describe all sequences of a folder, with depth and poses."""
    return TumRgbdConfig(root=root, split=split, tasks=TumRgbdConfig.kinds)
