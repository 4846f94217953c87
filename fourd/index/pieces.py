"""The index of pieces: where in a shard each lies, and what it holds."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pyarrow as pa

from fourd.media import VideoInfo

KIND = "fourd piece index 1"

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("group", pa.string()),
        ("shard", pa.dictionary(pa.int32(), pa.string())),
        ("offset", pa.int64()),
        ("num_bytes", pa.int64()),
        ("crc32", pa.uint32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("num_frames", pa.int32()),
        ("start_s", pa.float64()),
    ]
)
"""Metadata beside `kind` and `content`: codec, time_base ("1/12800"), frame_ticks, gop, all as text."""


@dataclass(frozen=True)
class Piece:
    """Name a piece of a film in a shard.

    key: its name in the shard, without the ending. group: the film that it was cut from. shard: the tar file, by its
    path from the folder of the index. offset, num_bytes, crc32: of the MP4 itself within the shard. start_s: of its
    first frame in the film.
    """

    key: str
    group: str
    shard: str
    offset: int
    num_bytes: int
    crc32: int
    width: int
    height: int
    num_frames: int
    start_s: float


@dataclass(frozen=True)
class Timing:
    """Say what is true of all pieces of a corpus: they have one constant rate, and key frames at even distances."""

    codec: str
    time_base: Fraction
    frame_ticks: int
    gop: int

    @classmethod
    def from_metadata(cls, metadata: dict[str, str]) -> Timing:
        """Read the metadata of an index."""
        time_base = Fraction(metadata["time_base"])
        return cls(metadata["codec"], time_base, int(metadata["frame_ticks"]), int(metadata["gop"]))

    def metadata(self) -> dict[str, str]:
        """Write it as the metadata of an index."""
        return {name: str(value) for name, value in vars(self).items()}

    def describe(self, piece: Piece) -> VideoInfo:
        """Give the frame table of a piece, which needs no look into it."""
        pts = np.arange(piece.num_frames, dtype=np.int64) * self.frame_ticks
        return VideoInfo(piece.width, piece.height, 0, self.codec, self.time_base, pts, pts[:: self.gop])
