"""The forms in which a scan of ScanNet may lie on a disk; which one it is, is found by itself."""

from __future__ import annotations

import re
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float64, Int32, UInt8

from fourd.datasets import _sens
from fourd.datasets._files import colour, identity, raster
from fourd.media import UnreadableVideo

MILLIMETRES = 1000.0
"""Units of depth in a metre, where no file says it."""


class Scan(ABC):
    """Say what every form of a scan can tell. Frames are counted as they are kept."""

    numbers: Int32[np.ndarray, " F"]
    """The sensor's own number of each frame that is kept, rising."""

    @abstractmethod
    def has_pose(self) -> Bool[np.ndarray, " F"]:
        """Say which frames have a camera pose: where tracking was lost, files hold one that is not finite."""

    @abstractmethod
    def identity(self) -> str:
        """Describe the files, so that a change shows."""

    @abstractmethod
    def colour(self, frame: int) -> UInt8[np.ndarray, "H W 3"]:
        """Read a picture."""

    @abstractmethod
    def metres(self, frame: int) -> Float[np.ndarray, "h w"]:
        """Read depth, 0 where it is not known."""

    @abstractmethod
    def pose(self, frame: int) -> Float64[np.ndarray, "4 4"]:
        """Read world_from_camera."""

    @abstractmethod
    def intrinsics(self, frame: int) -> Float64[np.ndarray, "3 3"]:
        """Read the camera of the colour pictures, as it is written."""


def open_scan(folder: Path) -> Scan:
    """Find out how a scan is kept; the official file goes before what was made from it.

    Raises: UnreadableVideo where it is in no known form, or has no frame.
    """
    sens = folder / f"{folder.name}.sens"
    if sens.is_file():
        return _SensScan(sens)
    for form in _FORMS:
        if (folder / form.sign).exists():
            return _pictures(folder, form)
    signs = ", ".join((sens.name, *(form.sign for form in _FORMS)))
    raise UnreadableVideo(str(folder), f"a scan in no known form: expected one of {signs} in it")


# ----------------------------------------------------------------------------- one file


class _SensScan(Scan):
    """Read a scan from its `.sens` file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.numbers = np.arange(_sens.read_header(path).num_frames, dtype=np.int32)

    def has_pose(self) -> Bool[np.ndarray, " F"]:
        return np.isfinite(_sens.read_index(self.path).poses).all((1, 2))

    def identity(self) -> str:
        return identity(self.path)

    def colour(self, frame: int) -> UInt8[np.ndarray, "H W 3"]:
        return _sens.read_colour(self.path, _sens.read_index(self.path), frame)

    def metres(self, frame: int) -> Float[np.ndarray, "h w"]:
        index = _sens.read_index(self.path)
        return _sens.read_depth(self.path, index, frame) / np.float32(index.header.depth_shift)

    def pose(self, frame: int) -> Float64[np.ndarray, "4 4"]:
        return _sens.read_index(self.path).poses[frame].astype(np.float64)

    def intrinsics(self, frame: int) -> Float64[np.ndarray, "3 3"]:
        return _sens.read_header(self.path).colour_intrinsics[:3, :3]


# ----------------------------------------------------------------------------- pictures in folders


@dataclass(frozen=True)
class _Form:
    """Say what the files of extracted pictures are called, {} being the frame. sign: what only this form has."""

    sign: str
    colour: str
    depths: tuple[str, ...]
    pose: str


_PREPROCESSED = _Form("cam", "color/{}.jpg", ("depth/{}.png",), "cam/{}.npz")
_EXTRACTED = _Form("color", "color/{}.jpg", ("depth/{}.png",), "pose/{}.txt")
_EXPORTED = _Form("_info.txt", "frame-{}.color.jpg", ("frame-{}.depth.pgm", "frame-{}.depth.png"), "frame-{}.pose.txt")
_FORMS = (_PREPROCESSED, _EXTRACTED, _EXPORTED)


@dataclass(frozen=True, eq=False)
class _Pictures(Scan):
    """Read a scan from pictures in a folder. digits: how many a number is padded to."""

    folder: Path
    form: _Form
    numbers: Int32[np.ndarray, " F"]
    digits: int
    depth_name: str
    info: Mapping[str, str]

    def has_pose(self) -> Bool[np.ndarray, " F"]:
        if self.form == _PREPROCESSED:  # frames without a pose are dropped in making it
            return np.ones(len(self.numbers), bool)
        return np.array([bool(np.isfinite(self.pose(frame)).all()) for frame in range(len(self.numbers))], bool)

    def identity(self) -> str:
        return identity((self.folder / self.form.colour).parent)

    def colour(self, frame: int) -> UInt8[np.ndarray, "H W 3"]:
        return colour(self._path(self.form.colour, frame))

    def metres(self, frame: int) -> Float[np.ndarray, "h w"]:
        shift = self._noted("m_depthShift", 1)[0] if self.form == _EXPORTED else MILLIMETRES
        return (raster(self._path(self.depth_name, frame)) / shift).astype(np.float32)

    def pose(self, frame: int) -> Float64[np.ndarray, "4 4"]:
        path = self._path(self.form.pose, frame)
        return _from_npz(path, "pose", (4, 4)) if self.form == _PREPROCESSED else _matrix(path)

    def intrinsics(self, frame: int) -> Float64[np.ndarray, "3 3"]:
        """Read the camera of the pictures: depth's, where colour has been brought to depth's size."""
        if self.form == _PREPROCESSED:
            return _from_npz(self._path(self.form.pose, frame), "intrinsics", (3, 3))
        if self.form == _EXPORTED:
            return self._noted("m_calibrationColorIntrinsic", 16).reshape(4, 4)[:3, :3]
        is_resized = self.metres(frame).shape == self.colour(frame).shape[:2]
        name = "intrinsic_depth.txt" if is_resized else "intrinsic_color.txt"
        return _matrix(self.folder / "intrinsic" / name)[:3, :3]

    def _path(self, name: str, frame: int) -> Path:
        path = self.folder / name.format(f"{self.numbers[frame]:0{self.digits}d}")
        if not path.is_file():
            raise UnreadableVideo(str(path), "no such file, in a scan that has this frame: extract it again")
        return path

    def _noted(self, field: str, count: int) -> Float64[np.ndarray, " N"]:
        path = self.folder / "_info.txt"
        if field not in self.info:
            raise UnreadableVideo(str(path), f"field {field!r} is missing: export the scan again")
        return _numbers(self.info[field], path, field, count)


def _pictures(folder: Path, form: _Form) -> _Pictures:
    """List the pictures of a scan by their numbers, which may be padded or not."""
    pattern = folder / form.colour
    if not pattern.parent.is_dir():
        raise UnreadableVideo(str(pattern.parent), "no such folder: expected the colour pictures of the scan")
    called = re.compile(re.escape(pattern.name).replace(re.escape("{}"), r"(\d+)"))
    written = sorted((m[1] for m in map(called.fullmatch, _names(pattern.parent)) if m), key=int)
    if not written:
        raise UnreadableVideo(
            str(pattern.parent), f"found no picture called {pattern.name.format(0)}, or another number"
        )
    is_padded = any(len(text) > 1 and text[0] == "0" for text in written)
    digits = len(written[0]) if is_padded else 1
    there = (name for name in form.depths if (folder / name.format(written[0])).is_file())
    info = _notes(folder / "_info.txt") if form == _EXPORTED else {}
    return _Pictures(folder, form, np.array(written, np.int32), digits, next(there, form.depths[0]), info)


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def _notes(path: Path) -> dict[str, str]:
    """Read lines of the form `field = value`."""
    pairs = (line.partition("=") for line in path.read_text(errors="replace").splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _numbers(text: str, path: Path, field: str, count: int) -> Float64[np.ndarray, " N"]:
    """Read numbers, which may be inf and nan."""
    try:
        numbers = np.array(text.split(), np.float64)
    except ValueError as error:
        raise UnreadableVideo(str(path), f"{field}: not numbers ({str(error)[:80]})") from error
    if len(numbers) != count:
        raise UnreadableVideo(str(path), f"{field}: found {len(numbers)} numbers, expected {count}")
    return numbers


def _matrix(path: Path) -> Float64[np.ndarray, "4 4"]:
    if not path.is_file():
        raise UnreadableVideo(str(path), "no such file: expected a 4x4 matrix, extract the scan again")
    return _numbers(path.read_text(errors="replace"), path, "matrix", 16).reshape(4, 4)


def _from_npz(path: Path, field: str, shape: tuple[int, int]) -> Float64[np.ndarray, "rows columns"]:
    """Read an array of an archive, never a pickle."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            if field not in archive:
                raise UnreadableVideo(str(path), f"field {field!r} is missing, found {', '.join(archive.files)}")
            found = archive[field]
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UnreadableVideo(str(path), f"not an archive of arrays ({error}): preprocess the scan again") from error
    if found.shape != shape:
        raise UnreadableVideo(str(path), f"field {field!r}: found shape {found.shape}, expected {shape}")
    return found.astype(np.float64)
