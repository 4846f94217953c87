"""A folder of blocks that never grows beyond a stated size, however many processes use it."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from fourd.storage.blocks import num_file_bytes, read_block, write_block

log = logging.getLogger(__name__)

_KEPT_SHARE = 0.8
"""Share of the folder that is left when room is made, so that it is not made for every block."""

_PATIENCE_S = 30.0
"""How long to wait for another process before doing without what it was to bring."""

_DIGITS = 20
_POLL_S = 0.002
"""How often to look whether it is done; a block is written in about as long."""


class BlockFolder:
    """Keep blocks by name, and remove those that were not used for longest.

    Processes of a machine may share it. They write one at a time, so that the size holds at every moment, and read
    without waiting. A block is written aside and renamed: one that is cut off never has a name to be met by.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Name the folder, which is made when something is kept."""
        self._folder, self._max_bytes = folder, max_bytes
        self._blocks, self._aside, self._turns = (folder / name for name in ("blocks", "aside", "turns"))
        self._used_file = folder / "used-bytes"
        self._has_warned = False

    def read(self, name: str, num_bytes: int, start: int, stop: int) -> bytes | None:
        """Give bytes of a block of `num_bytes`; None where it is not kept, or not as it was written."""
        file = self._file(name)
        found = read_block(file, name, num_bytes, start, stop)
        if found is not None:
            with suppress(OSError):  # removed since, or another user's: it only does not count as used
                os.utime(file)
        return found

    @contextmanager
    def turn(self, name: str) -> Iterator[None]:
        """Let one process at a time fetch a block, so that the others find it kept."""
        lock = FileLock(self._turns / name[:2], timeout=_PATIENCE_S, poll_interval=_POLL_S)
        try:
            self._turns.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            log.debug("another process is slow to fetch block %s: it is fetched here as well", name)
        except OSError as error:
            self._warn(error)
        try:
            yield
        finally:
            lock.release()

    def keep(self, name: str, block: bytes) -> None:
        """Keep a block if that is possible; warn, once, where it is not."""
        try:
            for folder in (self._aside, self._file(name).parent):
                folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self._folder / "lock", timeout=_PATIENCE_S, poll_interval=_POLL_S):
                self._write(name, block)
        except OSError as error:
            self._warn(error)

    def _write(self, name: str, block: bytes) -> None:
        """Write a block, as the only process that does."""
        file, aside = self._file(name), self._aside / uuid.uuid4().hex
        self._make_room(num_file_bytes(len(block)))
        try:
            write_block(aside, name, block)
            aside.replace(file)
        finally:
            aside.unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        return self._blocks / name[:2] / name

    def _warn(self, error: OSError) -> None:
        if not self._has_warned:
            log.warning("the cache in %s cannot be written (%s): reading goes on without it", self._folder, error)
            self._has_warned = True

    # ------------------------------------------------------------------------- room

    def _make_room(self, num_bytes: int) -> None:
        """Reserve bytes, and remove blocks if need be; a process that is killed after it leaves too high a count."""
        used = self._used_bytes()
        if used is None or used + num_bytes > self._max_bytes:
            used = self._evict(num_bytes)
        self._count(used + num_bytes)

    def _count(self, used: int) -> None:
        """Write the count over the old one: a file that is emptied first has to reach the disk on some systems."""
        file = os.open(self._used_file, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.pwrite(file, f"{used:0{_DIGITS}}".encode(), 0)
        finally:
            os.close(file)

    def _used_bytes(self) -> int | None:
        """Give what was counted so far; None where nobody did, or was killed over it."""
        try:
            counted = self._used_file.read_bytes()
        except FileNotFoundError:
            return None
        return int(counted) if len(counted) == _DIGITS and counted.isdigit() else None

    def _evict(self, num_bytes: int) -> int:
        """Remove the blocks that were not used for longest, and what killed processes left; count what remains."""
        for left in os.scandir(self._aside):
            os.unlink(left)
        blocks = sorted(self._scan())
        used = sum(size for _, size, _ in blocks)
        if used + num_bytes <= self._max_bytes:
            return used
        for _, size, path in blocks:
            if used + num_bytes <= _KEPT_SHARE * self._max_bytes:
                break
            os.unlink(path)
            used -= size
        return used

    def _scan(self) -> Iterator[tuple[int, int, str]]:
        """Give the last use, the size and the path of each block."""
        for folder in self._blocks.iterdir():
            for entry in os.scandir(folder):
                status = entry.stat()
                yield status.st_mtime_ns, status.st_size, entry.path
