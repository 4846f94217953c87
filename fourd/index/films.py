"""The index of films: one row for all that was found, usable or not."""

from __future__ import annotations

from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa

from fourd.media import VideoInfo

KIND = "fourd film index 2"

SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("num_bytes", pa.int64()),
        ("version", pa.string()),
        ("fingerprint", pa.string()),
        ("reason", pa.string()),
        ("damage", pa.string()),
        ("codec", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("rotation", pa.int32()),
        ("has_sound", pa.bool_()),
        ("num_frames", pa.int64()),
        ("last_s", pa.float64()),
        ("time_base", pa.string()),
        ("counted", pa.bool_()),
        ("pts", pa.large_list(pa.int64())),
        ("key_pts", pa.large_list(pa.int64())),
    ]
)


@dataclass(frozen=True, eq=False)
class Film:
    """Say what is known of a file.

    path: from the root of the index. version: changes with the file (its time of change, or a store's own tag);
    fingerprint: a hash of its size, beginning and end. Either `info` says what it holds, or `reason` why it is not
    used.
    """

    path: str
    num_bytes: int
    version: str
    fingerprint: str
    info: VideoInfo | None = None
    reason: str | None = None

    def row(self) -> dict[str, Any]:
        """Write it as a row of the index."""
        row: dict[str, Any] = dict.fromkeys(SCHEMA.names)
        row |= {name: getattr(self, name) for name in ("path", "num_bytes", "version", "fingerprint", "reason")}
        if self.info is not None:
            row |= {field.name: getattr(self.info, field.name) for field in fields(VideoInfo)}
            row |= {"num_frames": self.info.num_frames, "last_s": float(self.info.frame_times_s[-1])}
            row["time_base"] = str(self.info.time_base)
        return row


def film_of(row: dict[str, Any]) -> Film:
    """Read a row of the index."""
    info = None
    if row["reason"] is None:
        values = {field.name: row[field.name] for field in fields(VideoInfo)}
        stamps = {name: np.asarray(row[name], np.int64) for name in ("pts", "key_pts")}
        info = VideoInfo(**values | stamps | {"time_base": Fraction(row["time_base"])})
    return Film(row["path"], row["num_bytes"], row["version"], row["fingerprint"], info, row["reason"])
