"""Keep what is read from afar on a local disk, in blocks, up to a stated size."""

from __future__ import annotations

import hashlib
import logging
import os
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from filelock import FileLock, Timeout

from fourd.storage.store import Store

log = logging.getLogger(__name__)

_CHECKSUM_BYTES = 4
_LOOKED_AFTER = 100  # the folder's size is looked at after a hundredth of it was written by this process
_KEPT_SHARE = 0.8


@dataclass(frozen=True)
class CacheConfig:
    """Describe a folder of blocks, which all processes of a machine may share. None of the numbers is from the paper.

    max_bytes: the folder stays below this, where at most twenty processes write into it. block_bytes: what is read at
    once; with a block shuffle, about what a block of clips takes, so that each is read once.
    """

    folder: str
    max_bytes: int = 50 * 10**9
    block_bytes: int = 8 * 2**20

    def __post_init__(self) -> None:
        """Refuse a cache that holds no block."""
        if not 0 < self.block_bytes * _LOOKED_AFTER // 10 <= self.max_bytes:
            raise ValueError(
                f"CacheConfig.max_bytes is {self.max_bytes} with block_bytes {self.block_bytes}: expected room for ten "
                "blocks or more"
            )


class CachedStore(Store):
    """Read from a store through blocks on a local disk.

    A block is written aside and renamed, and begins with a checksum: one that was torn or changed is read again from
    the store. Its name holds the version of the file that it is from. Where the disk is full or cannot be written,
    reading goes on without the cache, after a warning.
    """

    def __init__(self, store: Store, config: CacheConfig) -> None:
        """Put a cache before a store."""
        super().__init__(store.root, store.retries)
        self._store, self._config = store, config
        self._folder = Path(config.folder).expanduser()
        self._about: dict[str, tuple[int, str]] = {}
        self._written = 0
        self._has_warned = False

    def about(self, path: str) -> tuple[int, str]:
        """Ask the store, once for each file."""
        if path not in self._about:
            self._about[path] = self._store.about(path)
        return self._about[path]

    def read(self, path: str, start: int, stop: int) -> bytes:
        """Read a range from blocks, and those that are missing from the store, neighbours in one request."""
        size = self._config.block_bytes
        blocks = range(start // size, -(-stop // size))
        found = {number: self._kept(path, number) for number in blocks}
        missing = [number for number in blocks if found[number] is None]
        for run in _runs(missing):
            found |= self._fetch(path, run)
        whole = b"".join(block for block in found.values() if block is not None)
        return whole[start - blocks.start * size : stop - blocks.start * size]

    def _fetch(self, path: str, run: list[int]) -> dict[int, bytes | None]:
        size = self._config.block_bytes
        end = min((run[-1] + 1) * size, self.about(path)[0])
        data = self._store.read(path, run[0] * size, end)
        blocks = {number: data[place * size : (place + 1) * size] for place, number in enumerate(run)}
        for number, block in blocks.items():
            self._keep(path, number, block)
        return {**blocks}

    def _file(self, path: str, number: int) -> Path:
        num_bytes, version = self.about(path)
        described = f"{self.address(path)}\n{num_bytes}\n{version}\n{self._config.block_bytes}"
        name = hashlib.sha256(described.encode()).hexdigest()[:32]
        return self._folder / name[:2] / f"{name}-{number}"

    def _kept(self, path: str, number: int) -> bytes | None:
        """Give a block that is here and whole."""
        file = self._file(path, number)
        try:
            content = file.read_bytes()
            os.utime(file)
        except OSError:
            return None
        block = content[_CHECKSUM_BYTES:]
        return block if zlib.crc32(block).to_bytes(_CHECKSUM_BYTES) == content[:_CHECKSUM_BYTES] else None

    def _keep(self, path: str, number: int, block: bytes) -> None:
        file = self._file(path, number)
        aside = file.with_name(f".{uuid.uuid4().hex}")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            aside.write_bytes(zlib.crc32(block).to_bytes(_CHECKSUM_BYTES) + block)
            aside.replace(file)
        except OSError as error:
            aside.unlink(missing_ok=True)
            self._warn(error)
            return
        self._written += len(block)
        if self._written * _LOOKED_AFTER >= self._config.max_bytes:
            self._written = 0
            self._make_room()

    def _warn(self, error: OSError) -> None:
        if not self._has_warned:
            log.warning("the cache in %s cannot be written (%s): reading goes on without it", self._folder, error)
            self._has_warned = True

    def _make_room(self) -> None:
        """Remove the blocks that were not used for longest, unless another process is at it."""
        try:
            with FileLock(self._folder / "lock", timeout=0):
                blocks = sorted(self._blocks())
                excess = sum(num_bytes for _, num_bytes, _ in blocks) - _KEPT_SHARE * self._config.max_bytes
                for _, num_bytes, file in blocks:
                    if excess <= 0:
                        return
                    Path(file).unlink(missing_ok=True)
                    excess -= num_bytes
        except Timeout:
            return

    def _blocks(self) -> Iterator[tuple[float, int, str]]:
        """Give each file of the cache with its last use and its size; what a killed process left is among them."""
        for folder in self._folder.iterdir():
            if not folder.is_dir():
                continue
            for entry in os.scandir(folder):
                try:
                    status = entry.stat()
                except FileNotFoundError:
                    continue
                yield status.st_mtime, status.st_size, entry.path


def _runs(numbers: list[int]) -> list[list[int]]:
    """Part rising numbers into runs without a gap."""
    grouped = groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])
    return [[number for _, number in run] for _, run in grouped]
