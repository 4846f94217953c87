"""A root from which files are read in ranges: a local folder, or a prefix of an object store."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import fsspec

from fourd.storage.paths import checked_relative
from fourd.storage.retrying import Retries, StorageError, local_may_pass, remote_may_pass, retrying


class Store(ABC):
    """Read files below a root in ranges. A store can be sent to another process."""

    def __init__(self, root: str, retries: Retries | None = None) -> None:
        """Keep the root, a folder or a URL such as s3://bucket/prefix, and how often to try."""
        self.root, self.retries = root, retries or Retries()

    @abstractmethod
    def read(self, path: str, start: int, stop: int) -> bytes:
        """Read bytes `start` to `stop` (excluded) of a file, all of them.

        Raises: FileNotFoundError where there is no such file; PermissionError; StorageError where it is shorter, or
        reading keeps failing; ValueError for a path that leaves the root.
        """

    @abstractmethod
    def about(self, path: str) -> tuple[int, str]:
        """Say how many bytes a file has, and what tells this version of it from others; raises as `read` does."""

    def num_bytes(self, path: str) -> int:
        """Say how long a file is; raises as `read` does."""
        return self.about(path)[0]

    def address(self, path: str) -> str:
        """Give a file's full path or URL."""
        return f"{self.root.rstrip('/')}/{checked_relative(path, self.root)}"

    def _what(self, path: str, start: int, stop: int) -> str:
        return f"{self.address(path)}, bytes {start} to {stop}"


def _require_all(found: bytes, start: int, stop: int, what: str) -> bytes:
    if len(found) != stop - start:
        raise StorageError(f"{what}: {len(found)} came, expected {stop - start}; is the file cut off?")
    return found


class LocalStore(Store):
    """Read from a local folder; links may not lead out of it."""

    def read(self, path: str, start: int, stop: int) -> bytes:
        """Read a range of a local file."""
        what = self._what(path, start, stop)
        return retrying(lambda: self._read(path, start, stop, what), what, self.retries, local_may_pass)

    def _read(self, path: str, start: int, stop: int, what: str) -> bytes:
        with open(self._inside(path), "rb") as file:
            found = os.pread(file.fileno(), stop - start, start)
            while 0 < len(found) < stop - start:
                more = os.pread(file.fileno(), stop - start - len(found), start + len(found))
                if not more:
                    break
                found += more
        if len(found) != stop - start:  # a local file that is too short stays so
            raise StorageError(f"{what}: {len(found)} are there, expected {stop - start}; was the file cut off?")
        return found

    def about(self, path: str) -> tuple[int, str]:
        """Give a local file's size and time of change."""
        status = retrying(lambda: os.stat(self._inside(path)), self.address(path), self.retries, local_may_pass)
        return status.st_size, str(status.st_mtime_ns)

    def _inside(self, path: str) -> str:
        address = os.path.realpath(self.address(path))
        if not address.startswith(os.path.realpath(self.root) + os.sep):
            raise ValueError(f"{self.address(path)} is a link that leads out of {self.root}: copy the file")
        return address


class RemoteStore(Store):
    """Read from an object store or a server, by a URL that fsspec knows.

    Where it is and who asks come from the store's own environment: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and their like
    for s3:// (or a section of fsspec's configuration, FSSPEC_S3_ENDPOINT_URL), GOOGLE_APPLICATION_CREDENTIALS for
    gs://.
    """

    def __init__(self, root: str, retries: Retries | None = None) -> None:
        """Keep the URL; nothing is asked yet."""
        super().__init__(root.rstrip("/"), retries)
        self._files: tuple[int, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_files": None}

    def _open(self) -> Any:
        """Give this process's own client: those of another process do not survive a fork."""
        if self._files is None or self._files[0] != os.getpid():
            scheme = self.root.partition("://")[0]
            try:
                self._files = os.getpid(), fsspec.filesystem(scheme, skip_instance_cache=True)
            except ImportError as error:
                raise ImportError(f"{self.root}: {error}; for s3:// run `pip install fourd[s3]`") from error
        return self._files[1]

    def read(self, path: str, start: int, stop: int) -> bytes:
        """Read a range of an object; a short answer is asked for again."""
        what, address = self._what(path, start, stop), self.address(path)

        def work() -> bytes:
            return _require_all(self._open().cat_file(address, start=start, end=stop), start, stop, what)

        return retrying(work, what, self.retries, remote_may_pass)

    def about(self, path: str) -> tuple[int, str]:
        """Give an object's size, and its tag or time of change."""
        address = self.address(path)
        about = retrying(lambda: self._ask(address), address, self.retries, remote_may_pass)
        names = ("ETag", "etag", "LastModified", "mtime", "created")
        return int(about["size"]), next((str(about[name]) for name in names if name in about), "")

    def _ask(self, address: str) -> Any:
        files = self._open()
        files.invalidate_cache()
        return files.info(address)


def open_root(root: str, retries: Retries | None = None) -> Store:
    """Open a local folder, or a URL such as s3://bucket/prefix."""
    if "://" in root:
        return RemoteStore(root, retries)
    return LocalStore(str(Path(root).expanduser().resolve()), retries)
