"""ScanNet's `.sens` files, version 4: a film of colour and depth with a camera pose for each frame.

Pictures lie one after the other without an index, in files of gigabytes, so one is made by jumping from frame to
frame. It is kept in memory alone: data folders are often read-only.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8, UInt16

from fourd.datasets._files import colour
from fourd.media import UnreadableVideo

VERSION = 4
_COLOUR_CODES = {1: "png", 2: "jpeg"}
_DEPTH_CODES = {0: "raw", 1: "zlib"}
_LONGEST_NAME = 4096
_LARGEST_SIDE = 2**14
_MOST_FRAMES = 2**22
_FRAME = struct.Struct("<16f4Q")  # pose, two times, sizes of colour and depth
_KEPT_INDICES = 64  # half a megabyte each


@dataclass(frozen=True, eq=False)
class SensHeader:
    """Hold what stands before the first frame of a file. Sizes are (height, width)."""

    sensor: str
    colour_intrinsics: Float64[np.ndarray, "4 4"]
    depth_intrinsics: Float64[np.ndarray, "4 4"]
    colour_size: tuple[int, int]
    depth_size: tuple[int, int]
    depth_is_zipped: bool
    depth_shift: float
    """Units of depth in a metre."""
    num_frames: int
    num_bytes: int
    """Where the first frame begins."""


@dataclass(frozen=True, eq=False)
class SensIndex:
    """Say where each frame's pictures lie, and its pose: world_from_camera, not finite where tracking was lost."""

    header: SensHeader
    poses: Float32[np.ndarray, "F 4 4"]
    colour_at: Int64[np.ndarray, "F 2"]
    depth_at: Int64[np.ndarray, "F 2"]


def read_header(path: Path) -> SensHeader:
    """Read what stands before the first frame.

    Raises: UnreadableVideo, naming the field that cannot be right; OSError where the file cannot be read.
    """
    with path.open("rb") as file:
        return _header(_Fields(file, path))


def read_index(path: Path) -> SensIndex:
    """Find every frame, by jumping over their pictures; what was found is kept while the file does not change."""
    status = path.stat()
    return _index(path, status.st_size, status.st_mtime_ns)


def read_colour(path: Path, index: SensIndex, frame: int) -> UInt8[np.ndarray, "H W 3"]:
    """Decode the colour picture of a frame."""
    pixels = colour(_bytes(path, index.colour_at[frame]), f"{path}[frame {frame}].color")
    if pixels.shape[:2] != index.header.colour_size:
        found = f"{pixels.shape[:2]} pixels high and wide, the header says {index.header.colour_size}"
        raise UnreadableVideo(str(path), f"colour of frame {frame}: found {found}")
    return pixels


def read_depth(path: Path, index: SensIndex, frame: int) -> UInt16[np.ndarray, "h w"]:
    """Read the depth picture of a frame, in units of which `depth_shift` make a metre; 0 where it is not known."""
    height, width = index.header.depth_size
    expected = height * width * 2
    data = _bytes(path, index.depth_at[frame])
    if index.header.depth_is_zipped:
        try:
            data = zlib.decompressobj().decompress(data, expected + 1)
        except zlib.error as error:
            raise UnreadableVideo(
                str(path), f"depth of frame {frame}: not zlib ({error}): get the file again"
            ) from error
    if len(data) != expected:
        found = f"{len(data)} bytes or more" if len(data) > expected else f"{len(data)} bytes"
        raise UnreadableVideo(str(path), f"depth of frame {frame}: {found}, expected {expected} for {height} x {width}")
    return np.frombuffer(data, "<u2").reshape(height, width)


class _Fields:
    """Read numbers one after the other, with errors that say which one is missing."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.file, self.path = file, path

    def bytes(self, count: int, field: str) -> bytes:
        """Read that many bytes."""
        data = self.file.read(count)
        if len(data) < count:
            raise UnreadableVideo(str(self.path), f"ends within field {field!r}: the file is cut off, get it again")
        return data

    def number(self, code: str, field: str) -> int | float:
        """Read a number of a `struct` code."""
        form = struct.Struct("<" + code)
        value: int | float = form.unpack(self.bytes(form.size, field))[0]
        return value

    def integer(self, code: str, field: str, least: int, most: int) -> int:
        """Read an integer, and refuse one out of range."""
        value = int(self.number(code, field))
        if not least <= value <= most:
            raise UnreadableVideo(str(self.path), f"field {field!r}: found {value}, expected {least} to {most}")
        return value

    def matrix(self, field: str) -> Float64[np.ndarray, "4 4"]:
        """Read a matrix, row by row."""
        return np.frombuffer(self.bytes(64, field), "<f4").reshape(4, 4).astype(np.float64)

    def choice(self, field: str, choices: dict[int, str]) -> str:
        """Read a code, and refuse one that is not known."""
        code = int(self.number("i", field))
        if code not in choices:
            known = ", ".join(f"{code} ({name})" for code, name in choices.items())
            raise UnreadableVideo(str(self.path), f"field {field!r}: found {code}, can read {known}")
        return choices[code]


def _header(fields: _Fields) -> SensHeader:
    fields.integer("I", "version", VERSION, VERSION)
    sensor = fields.bytes(fields.integer("Q", "length of sensor_name", 0, _LONGEST_NAME), "sensor_name")
    names = ("intrinsic_color", "extrinsic_color", "intrinsic_depth", "extrinsic_depth")
    matrices = {name: fields.matrix(name) for name in names}
    fields.choice("color_compression", _COLOUR_CODES)
    depth_code = fields.choice("depth_compression", _DEPTH_CODES)
    color_width, color_height, depth_width, depth_height = (
        fields.integer("I", name, 1, _LARGEST_SIDE)
        for name in ("color_width", "color_height", "depth_width", "depth_height")
    )
    shift = float(fields.number("f", "depth_shift"))
    if not 0 < shift < np.inf:
        raise UnreadableVideo(str(fields.path), f"field 'depth_shift': found {shift}, expected a number above 0")
    num_frames = fields.integer("Q", "num_frames", 1, _MOST_FRAMES)
    return SensHeader(
        sensor=sensor.decode("utf-8", "replace"),
        colour_intrinsics=matrices["intrinsic_color"],
        depth_intrinsics=matrices["intrinsic_depth"],
        colour_size=(color_height, color_width),
        depth_size=(depth_height, depth_width),
        depth_is_zipped=depth_code == "zlib",
        depth_shift=shift,
        num_frames=num_frames,
        num_bytes=fields.file.tell(),
    )


@lru_cache(maxsize=_KEPT_INDICES)
def _index(path: Path, num_bytes: int, changed_ns: int) -> SensIndex:
    with path.open("rb") as file:
        fields = _Fields(file, path)
        header = _header(fields)
        poses = np.empty((header.num_frames, 4, 4), np.float32)
        places = np.empty((2, header.num_frames, 2), np.int64)
        for frame in range(header.num_frames):
            *pose, _, _, colour_bytes, depth_bytes = _FRAME.unpack(fields.bytes(_FRAME.size, f"frame {frame}"))
            start = file.tell()
            end = start + colour_bytes + depth_bytes
            if end > num_bytes:
                held = f"the pictures of frame {frame} of {header.num_frames} would end at byte {end} of {num_bytes}"
                raise UnreadableVideo(str(path), f"{held}: the file is cut off, get it again")
            poses[frame] = np.reshape(pose, (4, 4))
            places[:, frame] = (start, colour_bytes), (start + colour_bytes, depth_bytes)
            file.seek(end)
    return SensIndex(header, poses, places[0], places[1])


def _bytes(path: Path, place: Int64[np.ndarray, " 2"]) -> bytes:
    offset, count = place.tolist()
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(count)
