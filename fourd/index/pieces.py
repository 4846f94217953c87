"""The index of pieces: where in a shard each lies, and what it holds."""

from __future__ import annotations

from collections.abc import Mapping
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
    def from_metadata(cls, metadata: Mapping[str, str], owner: str = "this index") -> Timing:
        """Read the metadata of an index; raise ValueError, naming `owner`, where it is missing or cannot be."""
        try:
            time_base = Fraction(metadata["time_base"])
            timing = cls(metadata["codec"], time_base, int(metadata["frame_ticks"]), int(metadata["gop"]))
        except (KeyError, ValueError, ZeroDivisionError) as error:
            way_out = "make it again with `fourd data prepare`"
            raise ValueError(f"{owner} does not say how its frames are spaced ({error!r}): {way_out}") from error
        if timing.time_base <= 0 or timing.frame_ticks <= 0 or timing.gop <= 0:
            raise ValueError(f"{owner}: {timing}; expected time_base, frame_ticks and gop above 0")
        return timing

    def metadata(self) -> dict[str, str]:
        """Write it as the metadata of an index."""
        return {name: str(value) for name, value in vars(self).items()}

    def describe(self, piece: Piece) -> VideoInfo:
        """Give the frame table of a piece, which needs no look into it."""
        pts = np.arange(piece.num_frames, dtype=np.int64) * self.frame_ticks
        return VideoInfo(piece.width, piece.height, 0, self.codec, self.time_base, pts, pts[:: self.gop])
