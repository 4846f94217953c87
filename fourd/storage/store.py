"""What can be asked of a root below which files lie."""

from __future__ import annotations

from abc import ABC, abstractmethod

from fourd.storage.paths import checked_relative
from fourd.storage.retrying import CutOffError, Retries


class Store(ABC):
    """Read files below a root in ranges. A store can be sent to another process, forked, and used by many threads."""

    def __init__(self, root: str, retries: Retries | None = None) -> None:
        """Keep the root, a folder or a URL such as s3://bucket/prefix, and how often to try."""
        self.root, self.retries = root, retries or Retries()

    @abstractmethod
    def read(self, path: str, start: int, stop: int) -> bytes:
        """Read bytes `start` to `stop` (excluded) of a file, all of them.

        Raises: FileNotFoundError where there is no such file; PermissionError where it may not be read; StorageError
        where reading keeps failing, CutOffError where the file is shorter; ValueError for a path that leaves the root.
        """

    @abstractmethod
    def about(self, path: str) -> tuple[int, str]:
        """Say how many bytes a file has, and what tells this version of it from others; raises as `read` does.

        The version is empty where the store tells of none.
        """

    def num_bytes(self, path: str) -> int:
        """Say how long a file is; raises as `read` does."""
        return self.about(path)[0]

    def address(self, path: str) -> str:
        """Give a file's full path or URL; raise ValueError for a path that leaves the root."""
        return f"{self.root.rstrip('/')}/{checked_relative(path, self.root)}"

    def _what(self, path: str, start: int, stop: int) -> str:
        if not 0 <= start <= stop:
            raise ValueError(f"{self.address(path)}: bytes {start} to {stop}; expected 0 <= start <= stop")
        return f"{self.address(path)}, bytes {start} to {stop}"


def cut_off(what: str, num_bytes: int) -> CutOffError:
    """Make the error that says where a file ends instead."""
    return CutOffError(f"{what}: the file ends at byte {num_bytes}. Was it cut off, or replaced by another one?")
