"""A file of features that grows with its video: written aside in constant memory, and renamed once it is whole.

The format is safetensors: the length of a header, the header (JSON), the tensors one after the other. How many time
steps there will be is known from the video's frame table, so each tensor has its place from the beginning; where a
video breaks off before its end, the tensors are moved together.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Shaped
from torch import Tensor

ASIDE_SUFFIX = ".part"
"""How the name of a file ends that is not whole yet."""

_NAMES = {torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32", torch.float64: "F64"}
_CHUNK_BYTES = 2**24


@dataclass(frozen=True)
class TensorPlan:
    """Say how large a tensor will be at most: `shape` with the number of rows (time steps) in front."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        """Count the bytes of a row."""
        return self.dtype.itemsize * int(torch.Size(self.shape[1:]).numel())


class GrowingFile:
    """Write tensors row by row into one safetensors file."""

    def __init__(self, path: Path, tensors: Mapping[str, TensorPlan], header_bytes: int) -> None:
        """Begin the file aside; `header_bytes` leaves room for what `finish` will say."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.tensors = path, dict(tensors)
        self.aside = path.with_name(f".{path.name}{ASIDE_SUFFIX}")
        self._header_bytes = -(-header_bytes // 8) * 8
        self._num_rows = dict.fromkeys(tensors, 0)
        self._file = self.aside.open("w+b")

    def append(self, name: str, rows: Shaped[Tensor, "k ..."]) -> None:
        """Add rows to a tensor; raise ValueError for rows of another kind or more than were planned."""
        plan, num_rows = self.tensors[name], self._num_rows[name]
        if rows.dtype != plan.dtype or rows.shape[1:] != plan.shape[1:] or num_rows + len(rows) > plan.shape[0]:
            found = f"{len(rows)} rows of {tuple(rows.shape[1:])} {rows.dtype} after {num_rows}"
            raise ValueError(f"{self.path}: {name} is planned as {plan}; found {found}")
        self._file.seek(self._starts()[name] + num_rows * plan.row_bytes)
        self._file.write(rows.contiguous().view(torch.uint8).numpy().data)
        self._num_rows[name] += len(rows)

    def finish(self, metadata: Mapping[str, str], as_one_row: frozenset[str] = frozenset()) -> None:
        """Write the header, and give the file its name; tensors named in `as_one_row` lose their first axis."""
        self._close_gaps()
        offset = 0
        header: dict[str, object] = {"__metadata__": dict(metadata)}
        for name, plan in self.tensors.items():
            num_bytes = self._num_rows[name] * plan.row_bytes
            shape = list(plan.shape[1:]) if name in as_one_row else [self._num_rows[name], *plan.shape[1:]]
            header[name] = {"dtype": _NAMES[plan.dtype], "shape": shape, "data_offsets": [offset, offset + num_bytes]}
            offset += num_bytes
        encoded = json.dumps(header).encode()
        if len(encoded) > self._header_bytes:
            raise ValueError(f"{self.path}: the header has {len(encoded)} bytes, planned were {self._header_bytes}")
        self._file.seek(0)
        self._file.write(struct.pack("<Q", self._header_bytes) + encoded.ljust(self._header_bytes))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self.aside, self.path)

    def discard(self) -> None:
        """Forget the file, also where what it still holds cannot be written."""
        try:
            self._file.close()
        finally:
            self.aside.unlink(missing_ok=True)

    def _starts(self) -> dict[str, int]:
        """Say where in the file each tensor begins."""
        start, starts = 8 + self._header_bytes, {}
        for name, plan in self.tensors.items():
            starts[name] = start
            start += plan.shape[0] * plan.row_bytes
        return starts

    def _close_gaps(self) -> None:
        """Move the tensors together where rows are missing, and cut the file behind the last."""
        end = 8 + self._header_bytes
        for name, start in self._starts().items():
            num_bytes = self._num_rows[name] * self.tensors[name].row_bytes
            self._move(start, end, num_bytes)
            end += num_bytes
        self._file.truncate(end)

    def _move(self, start: int, to: int, num_bytes: int) -> None:
        """Move bytes towards the beginning."""
        for done in range(0, num_bytes if to < start else 0, _CHUNK_BYTES):
            self._file.seek(start + done)
            chunk = self._file.read(min(_CHUNK_BYTES, num_bytes - done))
            self._file.seek(to + done)
            self._file.write(chunk)


def read_metadata(path: Path) -> dict[str, str] | None:
    """Read what a file of features says of itself; None where it is none, or not whole."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if 8 + length > path.stat().st_size:
                return None
            header = json.loads(file.read(length))
        metadata: dict[str, str] = header.pop("__metadata__")
        end = max(entry["data_offsets"][1] for entry in header.values())
    except (struct.error, ValueError, KeyError, TypeError, AttributeError):
        return None
    return metadata if path.stat().st_size == 8 + length + end else None
