"""The index of films: one row for all that was found, usable or not."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa

from fourd.index.table import RowTable, RowWriter
from fourd.media import FilmSource, StoredFile, VideoInfo
from fourd.storage import checked_relative, open_ranged, open_store

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


class FilmIndex:
    """Look films up by number, in memory that does not grow with their count.

    `root` is the folder or URL from which their paths start; `table` holds the rows.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open an index; raise ValueError where the file is none, FileNotFoundError where there is none."""
        self.table = RowTable(path, KIND)
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
    with RowWriter(path, SCHEMA, KIND, root=root) as writer:
        for film in films:
            writer.write(film.row())


def film_source(root: str, film_path: str, num_bytes: int) -> FilmSource:
    """Give what a film is read from: a local file, or an object of a store."""
    if "://" not in root:
        return os.path.join(root, checked_relative(film_path, root))
    store = open_store(root)
    return StoredFile(store.address(film_path), num_bytes, lambda: open_ranged(store, film_path))
