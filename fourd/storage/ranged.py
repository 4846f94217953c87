"""A file of a store as Python's own kind of file, for what expects to read and seek."""

from __future__ import annotations

import io
from typing import Any

from fourd.storage.store import Store

_AT_ONCE = 2**20


class _Ranged(io.RawIOBase):
    """Read ranges as they are asked for."""

    def __init__(self, store: Store, path: str) -> None:
        self._store, self._path, self._at = store, path, 0
        self._size = store.num_bytes(path)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        target = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if target < 0:
            raise ValueError(f"{self._store.address(self._path)}: byte {target} is before its beginning")
        self._at = target
        return self._at

    def readinto(self, buffer: Any) -> int:
        stop = min(self._at + len(buffer), self._size)
        if stop <= self._at:
            return 0
        buffer[: stop - self._at] = self._store.read(self._path, self._at, stop)
        count, self._at = stop - self._at, stop
        return count


def open_ranged(store: Store, path: str) -> io.BufferedReader:
    """Open a file of a store for reading and seeking, a MiB at a time."""
    return io.BufferedReader(_Ranged(store, path), _AT_ONCE)
