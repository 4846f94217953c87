"""ScanNet v2: rooms filmed with a depth camera, with the camera's poses from a reconstruction.

A scan may lie as one `.sens` file, as extracted pictures, or as common preprocessing leaves it; which one is found by
itself, scan by scan. Colour and depth are registered already: the transform between the two cameras that the files
also hold is not applied.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int32, UInt8
from rich.console import Console
from rich.progress import track

from fourd.datasets._files import frames_of
from fourd.datasets._labelled import About, Found, LabelledConfig, LabelledDataset, Recording
from fourd.datasets._poses import require_rigid
from fourd.datasets._sampling import FrameNumbers
from fourd.datasets._scannet_scans import Scan, open_scan
from fourd.datasets._view import Labelled
from fourd.media import UnreadableVideo
from fourd.types import CameraPoses, Depth, Unreadable

ABOUT = About(
    title="ScanNet v2",
    licence="ScanNet Terms of Use: research alone, a signed form from an institution's address; its code is MIT",
    how_to_get=(
        "Sign the form of http://www.scan-net.org (Terms of Use), mail it as it says, and run the download script that "
        "comes back with `--type .sens`. The lists of the splits are Tasks/Benchmark/scannetv2_{train,val,test}.txt "
        "of https://github.com/ScanNet/ScanNet: put them into ROOT or beside it."
    ),
    layout=(
        "[scans/ scans_test/ scans_train/]scene%04d_%02d/ with one of: <scan>.sens; color/0.jpg, depth/0.png, "
        "pose/0.txt, intrinsic/; frame-000000.color.jpg, .depth.pgm, .pose.txt, _info.txt; color/00000.jpg, "
        "depth/00000.png, cam/00000.npz. scannetv2_<split>.txt in ROOT or beside it"
    ),
    source="Dai et al., ScanNet (CVPR 2017)",
    official={"train": 1201, "val": 312, "test": 100},
)
FPS = 30.0
"""Frames a second of the sensor; frames are timed by their numbers."""
_HALF_A_PIXEL = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
_SCAN = re.compile(r"scene\d{4}_\d{2}")
_FOLDERS = {"train": ("scans", "scans_train"), "test": ("scans_test",)}
_SPLITS = ("train", "val", "test", "all")
_MANY_SCANS = 20
_LARGEST_SKEW = 0.02  # of R R^T from the identity: files keep six digits, or four


@dataclass(frozen=True, kw_only=True)
class ScanNetConfig(LabelledConfig):
    """Describe a split: "train", "val" or "test" by the official lists, or "all" scans that are there.

    split_list: a file that names one scan a line, used instead of `scannetv2_<split>.txt`. Where there is no list,
    the folders part training (with validation) from testing. With `camera_pose` among the tasks, clips are cut from
    the stretches in which every frame has a pose; without, from whole scans.
    """

    split_list: str | None = None

    kinds: ClassVar[tuple[str, ...]] = ("depth", "camera_pose")

    def __post_init__(self) -> None:
        """Refuse a split that ScanNet does not have."""
        super().__post_init__()
        if self.split not in _SPLITS:
            raise ValueError(f"ScanNetConfig.split: found {self.split!r}; expected one of {', '.join(_SPLITS)}")

    def build(self) -> ScanNet:
        """Build what this config describes."""
        return ScanNet(self)


@dataclass(frozen=True, eq=False)
class _Stretch:
    """Name the part of a scan that is a recording: frames from `start` on."""

    scan: Scan
    start: int
    path: Path


class ScanNet(LabelledDataset):
    """Give clips of rooms, with depth and camera poses."""

    name = "scannet"
    split_source: str
    """Which list or folders the split was taken from."""

    def find(self) -> Found:
        """List the scans of the split; read every pose where poses are asked for."""
        folders, unreadable = self._folders()
        recordings: list[Recording] = []
        damaged: list[Unreadable] = []
        asks_for_poses = "camera_pose" in self.config.tasks
        for folder in self._shown(folders):
            try:
                scan = open_scan(folder)
                usable = scan.has_pose() if asks_for_poses else np.ones(len(scan.numbers), bool)
                recordings += _recordings(folder, scan, usable)
            except UnreadableVideo as error:
                unreadable.append(Unreadable(error.path, error.reason))
                continue
            lost = f"{(~usable).sum()} of {len(usable)} frames have no camera pose"
            if not usable.any():
                unreadable.append(Unreadable(str(folder), lost))
            elif not usable.all():
                damaged.append(Unreadable(str(folder), f"{lost}: clips are cut from the frames between them"))
        self.damaged = tuple(damaged)
        return Found(tuple(recordings), tuple(unreadable))

    def load(self, recording: Recording, frames: FrameNumbers) -> Labelled:
        """Read pictures, and of depth and poses what the tasks ask for."""
        stretch: _Stretch = recording.source
        scan, tasks = stretch.scan, self.config.tasks
        kept = [stretch.start + int(frame) for frame in frames]
        pictures = [scan.colour(frame) for frame in kept]
        return Labelled(
            video=frames_of(pictures, str(stretch.path)),
            time_s=torch.from_numpy(scan.numbers[kept] / FPS),
            depth=_depth(stretch, kept) if "depth" in tasks else None,
            camera=_camera(stretch, kept, pictures[0]) if "camera_pose" in tasks else None,
        )

    def _folders(self) -> tuple[list[Path], list[Unreadable]]:
        """Find the scans of the split, and name those that are listed and not there."""
        listed = self._list_file()
        if listed is None:
            return self._by_folder()
        self.split_source = str(listed)
        there = {folder.name: folder for folder in _scans_in([self.root, *self._places("train", "test")])}
        names = [line.strip() for line in listed.read_text().splitlines() if line.strip()]
        lost = [name for name in names if name not in there]
        reason = f"listed in {listed}, no such folder below {self.root}"
        return [there[name] for name in names if name in there], [Unreadable(name, reason) for name in lost]

    def _by_folder(self) -> tuple[list[Path], list[Unreadable]]:
        """Take the scans of a split by the folder that they lie in."""
        split = self.config.split
        if split == "all":
            self.split_source = "all scans that are there"
            return _scans_in([self.root, *self._places("train", "test")]), []
        if split not in _FOLDERS:
            raise ValueError(
                f"{self.root}: no scannetv2_{split}.txt in it or beside it; split {split!r} needs that list. Get it "
                "from Tasks/Benchmark of github.com/ScanNet/ScanNet, or name a list by `split_list`"
            )
        places = [place for place in self._places(split) if place.is_dir()]
        wanted = " or ".join(f"{name}/" for name in _FOLDERS[split])
        self.split_source = f"folder {wanted}, since no scannetv2_{split}.txt was found"
        reason = f"neither it, nor scannetv2_{split}.txt, was found: expected one of them, or split='all'"
        return _scans_in(places), [] if places else [Unreadable(str(self.root / wanted), reason)]

    def _shown(self, folders: Sequence[Path]) -> Iterable[Path]:
        """Show how far the search is, where it is long and somebody looks."""
        console = Console(file=sys.stderr)
        quiet = len(folders) < _MANY_SCANS or not console.is_terminal
        return track(folders, f"{self.name}: scans", console=console, transient=True, disable=quiet)

    def _places(self, *splits: str) -> list[Path]:
        return [self.root / name for split in splits for name in _FOLDERS[split]]

    def _list_file(self) -> Path | None:
        """Find the list of the split, if there is one; raise FileNotFoundError where the config names none that is."""
        if self.config.split_list is not None:
            named = Path(self.config.split_list).expanduser()
            if not named.is_file():
                raise FileNotFoundError(f"ScanNetConfig.split_list: {named}: no such file; expected one scan a line")
            return named
        name = f"scannetv2_{self.config.split}.txt"
        return next((at for at in (self.root / name, self.root.absolute().parent / name) if at.is_file()), None)


def _scans_in(places: Sequence[Path]) -> list[Path]:
    found = [path for place in places if place.is_dir() for path in place.iterdir() if _SCAN.fullmatch(path.name)]
    return sorted((path for path in found if path.is_dir()), key=lambda path: path.name)


def _recordings(folder: Path, scan: Scan, usable: Bool[np.ndarray, " F"]) -> list[Recording]:
    """Cut a scan where frames are missing. The group is the space, which several scans may show."""
    parts = _stretches(scan.numbers, usable)
    whole = len(parts) == 1 and parts[0] == (0, len(usable))
    return [
        Recording(
            key=folder.name if whole else f"{folder.name}/from{scan.numbers[start]:06d}",
            group=folder.name.split("_")[0],
            num_frames=stop - start,
            identity=scan.identity(),
            source=_Stretch(scan, start, folder),
        )
        for start, stop in parts
    ]


def _stretches(numbers: Int32[np.ndarray, " F"], usable: Bool[np.ndarray, " F"]) -> list[tuple[int, int]]:
    """Find the runs of usable frames whose numbers follow each other at the usual step: (first, behind the last)."""
    if not len(numbers):
        return []
    steps = np.diff(numbers)
    usual = int(np.median(steps)) if len(steps) else 1
    breaks = np.flatnonzero((steps != usual) | ~usable[1:] | ~usable[:-1]) + 1
    edges = [0, *breaks.tolist(), len(numbers)]
    return [(start, stop) for start, stop in pairwise(edges) if usable[start]]


def _depth(stretch: _Stretch, kept: Sequence[int]) -> Depth:
    pictures = [stretch.scan.metres(frame) for frame in kept]
    if len({picture.shape for picture in pictures}) > 1:
        raise UnreadableVideo(str(stretch.path), "depth pictures of different sizes: expected one size")
    metres = torch.from_numpy(np.stack(pictures).astype(np.float32))[None]
    return Depth(metres, metres > 0)


def _camera(stretch: _Stretch, kept: Sequence[int], picture: UInt8[np.ndarray, "H W 3"]) -> CameraPoses:
    numbers = stretch.scan.numbers
    poses = [
        require_rigid(stretch.scan.pose(frame), stretch.path, f"pose of frame {numbers[frame]}", _LARGEST_SKEW)
        for frame in kept
    ]
    intrinsics = stretch.scan.intrinsics(kept[0])
    _check_intrinsics(intrinsics, picture, stretch.path)
    # files count from the middle of the first pixel: depth's principal point is (319.5, 239.5) in 640 x 480
    centred = intrinsics + _HALF_A_PIXEL
    return CameraPoses(torch.from_numpy(np.stack(poses)).float()[None], torch.from_numpy(centred).float()[None])


def _check_intrinsics(intrinsics: Float64[np.ndarray, "3 3"], picture: np.ndarray, path: Path) -> None:
    """Refuse a camera whose axis does not fall near the middle: it is that of pictures of another size."""
    middle = intrinsics[:2, 2] / (picture.shape[1], picture.shape[0])
    if not (np.abs(middle - 0.5) < 0.2).all():
        found = (
            f"principal point {intrinsics[:2, 2].round(1).tolist()} in {picture.shape[1]} x {picture.shape[0]} pixels"
        )
        raise UnreadableVideo(str(path), f"colour intrinsics: {found}, expected about the middle; were they resized?")


def base(root: str, split: str = "train") -> ScanNetConfig:
    """Describe a split, its clips of 16 frames in a row."""
    return ScanNetConfig(root=root, split=split, tasks=ScanNetConfig.kinds)
