"""The index of a folder of features: one row per input, whatever became of it."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

INDEX_NAME = "index.parquet"
DONE, DAMAGED, UNREADABLE = "done", "damaged", "unreadable"

_KIND = "fourd features index 1"
_SECONDS_BETWEEN_WRITES = 5.0


@dataclass(frozen=True)
class Entry:
    """Say what became of an input.

    status: "done", "damaged: why" (features up to the damage), or "unreadable: why" (no features). num_frames: the
    frames that were encoded, at `fps` on average (None where there is but one). t, h, w, width: the grid of tokens,
    before pooling. first_s, last_s: when the first and the last of the frames are shown. num_bytes: of the file of
    features; source_bytes, source_mtime_ns: of the input;
    source_sample: see `sample_sha256`.
    """

    key: str
    path: str
    status: str
    num_frames: int = 0
    t: int = 0
    h: int = 0
    w: int = 0
    width: int = 0
    first_s: float | None = None
    last_s: float | None = None
    fps: float | None = None
    num_bytes: int = 0
    source_bytes: int | None = None
    source_mtime_ns: int | None = None
    source_sample: str | None = None

    @property
    def has_features(self) -> bool:
        """Tell whether there is a file of features."""
        return not self.status.startswith(UNREADABLE)

    def to_json(self) -> str:
        """Write the row as JSON."""
        return json.dumps(dataclasses.asdict(self))


_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("key", "path", "status")),
        *((name, pa.int64()) for name in ("num_frames", "t", "h", "w", "width")),
        *((name, pa.float64()) for name in ("first_s", "last_s", "fps")),
        *((name, pa.int64()) for name in ("num_bytes", "source_bytes", "source_mtime_ns")),
        ("source_sample", pa.string()),
    ]
)


class Index:
    """Keep the rows of a folder, those of earlier calls among them, and write them now and then."""

    def __init__(self, folder: Path, metadata: Mapping[str, str]) -> None:
        """Take up what an earlier call has written; `metadata` is kept in the file."""
        self.path = folder / INDEX_NAME
        self._schema = _SCHEMA.with_metadata({"kind": _KIND, **metadata})
        self.entries = {entry.key: entry for entry in read_index(self.path)} if self.path.exists() else {}
        self._due = 0.0

    def add(self, entry: Entry) -> None:
        """Put a row in the place of an earlier one of the same key; write the file if that was not done just now."""
        self.entries[entry.key] = entry
        if time.monotonic() >= self._due:
            self.write()

    def write(self) -> None:
        """Write all rows aside, then rename: a reader finds the old file or the new one."""
        started = time.monotonic()
        rows = [dataclasses.asdict(self.entries[key]) for key in sorted(self.entries)]
        aside = self.path.with_name(f".{self.path.name}.part")
        pq.write_table(pa.Table.from_pylist(rows, schema=self._schema), aside, compression="zstd")
        os.replace(aside, self.path)
        # a folder of very many videos has a long index: writing it must not become the work
        self._due = time.monotonic() + max(_SECONDS_BETWEEN_WRITES, 20 * (time.monotonic() - started))


def read_index(path: Path | str) -> tuple[Entry, ...]:
    """Read the rows of an index; raise ValueError for another kind of file."""
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"{path} is no Parquet file: delete it; it is made again from the files of features"
        ) from error
    if (table.schema.metadata or {}).get(b"kind") != _KIND.encode():
        raise ValueError(f"{path} is no index of features of this version of fourd: name another --out")
    return tuple(Entry(**row) for row in table.to_pylist())
