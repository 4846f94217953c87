"""Read from a local folder, which may be a disk on the network."""

from __future__ import annotations

import errno
import os

from fourd.storage.retrying import retrying
from fourd.storage.store import Store, cut_off

_MAY_PASS = {
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EAGAIN,
    errno.EBUSY,
    errno.EINTR,
    errno.ECONNRESET,
    errno.ENOTCONN,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
}
"""What a disk on the network says now and then, and does not repeat."""


class LocalStore(Store):
    """Read from a local folder; links may not lead out of it."""

    def read(self, path: str, start: int, stop: int) -> bytes:
        """Read a range of a local file."""
        what = self._what(path, start, stop)
        return retrying(lambda: self._read(path, start, stop, what), what, self.retries, _refusal)

    def _read(self, path: str, start: int, stop: int, what: str) -> bytes:
        with open(self._inside(path), "rb", buffering=0) as file:
            found = os.pread(file.fileno(), stop - start, start)
            while len(found) < stop - start:  # a signal, or 2 GiB at once, end a read early
                more = os.pread(file.fileno(), stop - start - len(found), start + len(found))
                if not more:
                    raise cut_off(what, os.fstat(file.fileno()).st_size)
                found += more
        return found

    def about(self, path: str) -> tuple[int, str]:
        """Give a local file's size and time of change."""
        status = retrying(lambda: os.stat(self._inside(path)), self.address(path), self.retries, _refusal)
        return status.st_size, str(status.st_mtime_ns)

    def _inside(self, path: str) -> str:
        address = os.path.realpath(self.address(path))
        if not address.startswith(os.path.join(os.path.realpath(self.root), "")):
            raise ValueError(f"{self.address(path)} is a link that leads out of {self.root}: copy the file there")
        return address


def _refusal(error: Exception) -> Exception | None:
    return None if isinstance(error, OSError) and error.errno in _MAY_PASS else error
