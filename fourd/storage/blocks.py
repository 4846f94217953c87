"""How a block of a file is kept on disk: checksums first, so that any part of it can be read and verified alone."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

_PART = 2**17
"""Bytes under one checksum."""

_SUM_BYTES = 4


def num_file_bytes(num_bytes: int) -> int:
    """Say how much a block of `num_bytes` takes on disk."""
    return _SUM_BYTES * (1 + -(-num_bytes // _PART)) + num_bytes


def write_block(file: Path, name: str, block: bytes) -> None:
    """Write a block to a file, which is not there yet."""
    parts = memoryview(block)
    sums = b"".join(_sum(parts[start : start + _PART]) for start in range(0, len(block), _PART))
    with open(file, "wb", buffering=0) as target:
        for data in (_sum(name.encode() + sums), sums, block):
            view = memoryview(data)
            while view:
                view = view[target.write(view) :]


def read_block(file: Path, name: str, num_bytes: int, start: int, stop: int) -> bytes | None:
    """Read bytes `start` to `stop` of a block of `num_bytes`; None where it is not there, was torn, or is another's."""
    header = num_file_bytes(num_bytes) - num_bytes
    first, last = start // _PART, -(-stop // _PART)
    try:
        with open(file, "rb", buffering=0) as source:
            if os.fstat(source.fileno()).st_size != header + num_bytes:
                return None
            told = os.pread(source.fileno(), header, 0)
            found = os.pread(source.fileno(), min(last * _PART, num_bytes) - first * _PART, header + first * _PART)
    except OSError:  # whatever keeps it from being read, the store still has it
        return None
    sums = told[_SUM_BYTES:]
    if _sum(name.encode() + sums) != told[:_SUM_BYTES] or not _is_whole(found, sums, first, last):
        return None
    return found[start - first * _PART : stop - first * _PART]


def _is_whole(found: bytes, sums: bytes, first: int, last: int) -> bool:
    parts = memoryview(found)
    taken = b"".join(_sum(parts[place * _PART : (place + 1) * _PART]) for place in range(last - first))
    return taken == sums[_SUM_BYTES * first : _SUM_BYTES * last]


def _sum(data: bytes | memoryview) -> bytes:
    return zlib.crc32(data).to_bytes(_SUM_BYTES, "little")
