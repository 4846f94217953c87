"""The index of films: one row for all that was found, usable or not."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from fourd.index.looking import film_source
from fourd.index.table import RowTable, RowWriter
from fourd.media import VideoInfo

__all__ = ["KIND", "SCHEMA", "Film", "FilmIndex", "film_of", "film_source", "path_hash", "write_films", "write_rows"]

KIND = "fourd film index 3"

SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("path_hash", pa.uint64()),
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
        ("duration_s", pa.float64()),
        ("time_base", pa.string()),
        ("counted", pa.bool_()),
        ("first_pts", pa.int64()),
        ("step_pts", pa.large_list(pa.int64())),
        ("step_counts", pa.large_list(pa.int64())),
        ("key_pts", pa.large_list(pa.int64())),
    ]
)
"""Time stamps are kept as runs of equal steps: `first_pts`, then `step_counts[i]` times a step of `step_pts[i]`, in
units of `time_base` seconds. A film of one rate, however long, has one run."""

_PLAIN = ("codec", "width", "height", "rotation", "has_sound", "counted", "damage")

_ROWS_PER_GROUP = 2**11
_STAMPS_PER_GROUP = 2**19
"""Rows, and numbers in their lists, that are read together: some MB, so that looking up one film is quick."""


@dataclass(frozen=True, eq=False)
class Film:
    """Say what is known of a file.

    path: from the root of the index. version: changes with the file (its time of change, or a store's own tag); empty
    where the store has none, and for what was not looked into. fingerprint: a hash of its size, beginning and end;
    empty where these could not be read, or where reading on crashed, hung or took too much memory. Either `info` says
    what it holds, or `reason` why it is not used.
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
        row["path_hash"] = path_hash(self.path)
        return row | _columns(self.info) if self.info is not None else row


def path_hash(path: str) -> int:
    """Hash a path to 64 bits: the first of its SHA-256. What is held out is chosen by it."""
    return int.from_bytes(hashlib.sha256(path.encode()).digest()[:8])


def _columns(info: VideoInfo) -> dict[str, Any]:
    columns = {name: getattr(info, name) for name in _PLAIN}
    columns |= {"num_frames": info.num_frames, "last_s": float(info.frame_times_s[-1]), "duration_s": info.duration_s}
    columns |= {"time_base": str(info.time_base), "key_pts": info.key_pts, "first_pts": int(info.pts[0])}
    columns["step_pts"], columns["step_counts"] = _runs(info.pts)
    return columns


def _runs(pts: Int64[np.ndarray, " F"]) -> tuple[Int64[np.ndarray, " R"], Int64[np.ndarray, " R"]]:
    """Give the steps between stamps, and how many of each follow one another."""
    steps = np.diff(pts)
    starts = np.flatnonzero(np.diff(steps, prepend=steps[:1] - 1))
    return steps[starts], np.diff(starts, append=len(steps))


def film_of(row: Mapping[str, Any]) -> Film:
    """Read a row of the index."""
    info = None
    if row["reason"] is None:
        steps = np.repeat(np.asarray(row["step_pts"], np.int64), np.asarray(row["step_counts"], np.int64))
        stamps = np.concatenate(([row["first_pts"]], row["first_pts"] + np.cumsum(steps))).astype(np.int64)
        info = VideoInfo(
            **{name: row[name] for name in _PLAIN},
            time_base=Fraction(row["time_base"]),
            pts=stamps,
            key_pts=np.asarray(row["key_pts"], np.int64),
        )
    return Film(row["path"], row["num_bytes"], row["version"], row["fingerprint"], info, row["reason"])


class FilmIndex:
    """Look films up by number, in memory that does not grow with their count.

    `root` is the folder or URL from which their paths start; `table` holds the rows.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open an index; raise ValueError where the file is none, FileNotFoundError where there is none."""
        self.table = RowTable(path, KIND, SCHEMA)
        self.root = self.table.metadata["root"]

    def __len__(self) -> int:
        """Count the rows, of films and of what is none."""
        return len(self.table)

    def film(self, number: int) -> Film:
        """Give what is known of a file."""
        return film_of(self.table.row(number))

    def films(self) -> Iterator[Film]:
        """Give all, in the order of their paths."""
        return (self.film(number) for number in range(len(self)))


def write_films(path: str | os.PathLike[str], films: Iterable[Film], root: str) -> None:
    """Write an index of films, which have to come in the order of their paths."""
    write_rows(path, (film.row() for film in films), root)


def write_rows(path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]], root: str) -> None:
    """Write an index from its rows, which have to come in the order of their paths."""
    with RowWriter(path, SCHEMA, KIND, root=root) as writer:
        for group in _grouped(rows):
            writer.write_table(pa.Table.from_pylist(group, schema=SCHEMA))


def _grouped(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Gather as many rows as are read together."""
    group: list[Mapping[str, Any]] = []
    num_stamps = 0
    for row in rows:
        group.append(row)
        num_stamps += sum(len(row[name]) for name in ("step_pts", "step_counts", "key_pts") if row[name] is not None)
        if len(group) == _ROWS_PER_GROUP or num_stamps >= _STAMPS_PER_GROUP:
            yield group
            group, num_stamps = [], 0
    if group:
        yield group
