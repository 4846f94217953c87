"""A root from which files are read in ranges: a local folder, or a prefix of an object store."""

from __future__ import annotations

import io
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, BinaryIO, cast

from fourd.storage.paths import checked_relative


class StorageError(OSError):
    """Say that bytes could not be had although they should be there; it says nothing of what they hold."""


class Store(ABC):
    """Read files below a root in ranges. A store can be sent to another process."""

    def __init__(self, root: str) -> None:
        """Keep the root, a folder or a URL such as s3://bucket/prefix."""
        self.root = root

    @abstractmethod
    def read(self, path: str, start: int, stop: int) -> bytes:
        """Read bytes `start` to `stop` (excluded) of a file, all of them.

        Raises: FileNotFoundError where there is no such file; StorageError where it is shorter, or reading keeps
        failing; ValueError for a path that leaves the root.
        """

    @abstractmethod
    def num_bytes(self, path: str) -> int:
        """Say how long a file is; raises as `read` does."""

    def address(self, path: str) -> str:
        """Give a file's full path or URL, for messages."""
        return f"{self.root.rstrip('/')}/{checked_relative(path, self.root)}"


class LocalStore(Store):
    """Read from a local folder."""

    def read(self, path: str, start: int, stop: int) -> bytes:
        """Read a range of a local file."""
        with open(self.address(path), "rb") as file:
            found = os.pread(file.fileno(), stop - start, start)
        if len(found) != stop - start:
            raise StorageError(
                f"{self.address(path)}: {len(found)} bytes at {start}, expected {stop - start}: cut off?"
            )
        return found

    def num_bytes(self, path: str) -> int:
        """Say how long a local file is."""
        return os.stat(self.address(path)).st_size


class _Range(io.RawIOBase):
    """Be a file of a store, read in ranges."""

    def __init__(self, store: Store, path: str) -> None:
        self._store, self._path, self._at = store, path, 0
        self._size = store.num_bytes(path)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        stop = min(self._at + len(buffer), self._size)
        if stop <= self._at:
            return 0
        found = self._store.read(self._path, self._at, stop)
        buffer[: len(found)] = found
        self._at = stop
        return len(found)


def open_ranged(store: Store, path: str) -> BinaryIO:
    """Open a file of a store for reading and seeking, a MiB at a time."""
    return cast("BinaryIO", io.BufferedReader(_Range(store, path), 2**20))


def open_store(root: str) -> Store:
    """Open a local folder."""
    return LocalStore(str(Path(root).expanduser().resolve()))
