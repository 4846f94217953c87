"""Records of a run on disk, one JSON object a line, that go on where a checkpoint stands."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

log = logging.getLogger(__name__)

_BLOCK = 1 << 20


class JsonLines:
    """Append records to a file, one a line, in the order of their steps."""

    def __init__(self, path: Path, last_step: int, of_every_step: bool = True) -> None:
        """Open a file, and cut off the records of steps after `last_step`; only those are read.

        of_every_step: each has one, so that it is told where the last ones are missing.
        """
        path.touch()
        with path.open("r+b") as file:
            end, found = _end_of(file, last_step)
            file.truncate(end)
        if of_every_step and found < last_step:
            log.warning("%s ends with step %d: the lines of steps up to %d are lost", path, found, last_step)
        self._path = path
        self._file = path.open("a")

    @property
    def num_records(self) -> int:
        """Count the records; the file is read for it."""
        self.flush()
        with self._path.open("rb") as file:
            return sum(1 for _ in file)

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record; numbers that are not finite are written as null."""
        self._file.write(json.dumps({name: _finite(value) for name, value in record.items()}) + "\n")

    def flush(self, to_disk: bool = False) -> None:
        """Hand everything to the system, or force it to the disk, as a checkpoint that relies on it is."""
        self._file.flush()
        if to_disk:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _end_of(file: BinaryIO, last_step: int) -> tuple[int, int]:
    """Find where the records of steps up to the last one end, and the last of them; a torn line lies beyond them."""
    end = file.seek(0, os.SEEK_END)
    for start, line in _lines_backwards(file, end):
        if line.endswith(b"\n") and (step := _step_of(line)) <= last_step:
            return start + len(line), int(step)
    return 0, 0


def _step_of(line: bytes) -> float:
    try:
        return float(json.loads(line)["step"])
    except ValueError:
        return math.inf


def _lines_backwards(file: BinaryIO, end: int) -> Iterator[tuple[int, bytes]]:
    """Give the lines of a file and where they start, the last one first."""
    rest = b""
    while end:
        start = max(end - _BLOCK, 0)
        file.seek(start)
        lines = (file.read(end - start) + rest).splitlines(keepends=True)
        place = start + sum(map(len, lines))
        whole_from = 0 if start == 0 else 1  # the first one may begin before this block
        for line in reversed(lines[whole_from:]):
            place -= len(line)
            yield place, line
        rest, end = b"".join(lines[:whole_from]), start


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
