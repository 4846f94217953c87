"""What was found out of films, kept on disk as it comes, until it stands in the index."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from fourd.index.films import KIND, SCHEMA, Film

_FILMS_AT_ONCE = 256
_SECONDS_AT_ONCE = 10.0
"""How many films, and how much time, a kill can cost."""


class Journal:
    """Keep films in files that are only ever added to, one for each time that the work is begun.

    A process may be killed while it writes: what is behind the last whole entry is left out when the file is read.
    """

    def __init__(self, folder: Path) -> None:
        """Name the folder, which is made when there is something to keep."""
        self.folder = folder

    def parts(self) -> list[JournalPart]:
        """List what earlier times left, oldest first."""
        return [JournalPart(path) for path in sorted(self.folder.glob("*.arrows"))]

    @contextmanager
    def begin(self, root: str) -> Iterator[JournalWriter]:
        """Begin a file of films below `root`, which come in the order of their paths; whatever ends it, they stay."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{len(list(self.folder.iterdir())):06d}.arrows"
        with path.open("xb") as file:
            writer = JournalWriter(file, root)
            try:
                yield writer
            finally:
                writer.keep()

    def remove(self) -> None:
        """Remove it, once all stands in the index."""
        if self.folder.exists():
            shutil.rmtree(self.folder)


class JournalWriter:
    """Write films to a file, some at once."""

    def __init__(self, file: Any, root: str) -> None:
        """Begin a stream of rows."""
        self._file = file
        self._schema = SCHEMA.with_metadata({"kind": KIND, "root": root})
        self._writer = pa.ipc.new_stream(file, self._schema)
        self._rows: list[Mapping[str, Any]] = []
        self._since = time.monotonic()

    def write(self, film: Film) -> None:
        """Keep a film, at the latest when some more have come or a while has passed."""
        self._rows.append(film.row())
        if len(self._rows) >= _FILMS_AT_ONCE or time.monotonic() - self._since > _SECONDS_AT_ONCE:
            self.keep()

    def keep(self) -> None:
        """Bring all that came to the disk."""
        if self._rows:
            self._writer.write_batch(pa.RecordBatch.from_pylist(self._rows, schema=self._schema))
            self._file.flush()
            os.fsync(self._file.fileno())
        self._rows, self._since = [], time.monotonic()


class JournalPart:
    """Read what one time left."""

    def __init__(self, path: Path) -> None:
        """Open a file; it is empty where not even its beginning was written."""
        self._path = path
        try:
            with path.open("rb") as file:
                metadata = pa.ipc.open_stream(file).schema.metadata or {}
        except (pa.ArrowInvalid, EOFError):
            metadata = {}
        self.root = metadata.get(b"root", b"").decode()
        self._is_whole = metadata.get(b"kind") == KIND.encode()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Give its rows, up to the last that were written whole."""
        if not self._is_whole:
            return
        with self._path.open("rb") as file:
            stream = pa.ipc.open_stream(file)
            while True:
                try:
                    batch = stream.read_next_batch()
                except (StopIteration, pa.ArrowInvalid, OSError):  # the end, or where a kill cut it off
                    return
                yield batch
