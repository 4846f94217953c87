"""Keep what is read from afar on a local disk, in blocks, up to a stated size."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from fourd.storage.block_folder import BlockFolder
from fourd.storage.store import Store, cut_off

_MOST_KNOWN = 2**17
"""Files whose size and version a process remembers: some 40 MB of them."""


@dataclass(frozen=True)
class CacheConfig:
    """Describe a folder of blocks, which all processes of a machine may share. None of the numbers is from the paper.

    folder: on a local disk. max_bytes: the folder never holds more. block_bytes: what is fetched at once; with a block
    shuffle, about what a block of clips takes, so that a machine fetches each once in a pass; without one, about what
    a clip takes.
    """

    folder: str
    max_bytes: int = 50 * 10**9
    block_bytes: int = 8 * 2**20

    def __post_init__(self) -> None:
        """Refuse a cache that holds no more than a few blocks."""
        if not 0 < 10 * self.block_bytes <= self.max_bytes:
            raise ValueError(
                f"CacheConfig.max_bytes is {self.max_bytes} with block_bytes {self.block_bytes}: expected room for ten "
                "blocks or more"
            )


class CachedStore(Store):
    """Read from a store through blocks on a local disk.

    A block is kept under the address, size and version of its file, so that a changed file is never read from old
    blocks. A process asks for these once: a file that changes while it reads is noticed by the next one, and by those
    who verify what they read, as `VideoShards` does. A block that was torn or changed on the disk is fetched again.
    Where the disk is full or cannot be written, reading goes on without the cache, after a warning.
    """

    def __init__(self, store: Store, config: CacheConfig) -> None:
        """Put a cache before a store."""
        super().__init__(store.root, store.retries)
        self._store, self._config = store, config
        self._blocks = BlockFolder(Path(config.folder).expanduser(), config.max_bytes)
        self._known: dict[str, tuple[int, str]] = {}

    def about(self, path: str) -> tuple[int, str]:
        """Ask the store, once for each file."""
        known = self._known.get(path)
        if known is None:
            known = self._known[path] = self._store.about(path)
            if len(self._known) > _MOST_KNOWN:
                self._known.pop(next(iter(self._known)), None)
        return known

    def read(self, path: str, start: int, stop: int) -> bytes:
        """Read a range from blocks, and from the store those that are not kept, neighbours in one request."""
        what = self._what(path, start, stop)
        num_bytes, version = self.about(path)
        if stop > num_bytes:
            raise cut_off(what, num_bytes)
        if not version:  # one that was changed could not be told from the one that is kept
            return self._store.read(path, start, stop)
        wanted = self._parts(start, stop)
        found = {number: self._kept(path, number, part) for number, part in wanted.items()}
        missing = [number for number in wanted if found[number] is None]
        if missing:
            with self._blocks.turn(self._name(path, missing[0])):
                found |= {number: self._kept(path, number, wanted[number]) for number in missing}
                for run in _runs([number for number in missing if found[number] is None]):
                    found |= self._fetch(path, run, wanted)
        return b"".join(part for part in found.values() if part is not None)

    def _parts(self, start: int, stop: int) -> dict[int, slice]:
        """Say which bytes of which blocks make up a range."""
        size = self._config.block_bytes
        blocks = range(start // size, -(-stop // size))
        return {number: slice(max(start - number * size, 0), min(stop - number * size, size)) for number in blocks}

    def _fetch(self, path: str, run: list[int], wanted: dict[int, slice]) -> dict[int, bytes]:
        """Read neighbouring blocks, keep them, and give what is wanted of each."""
        size, num_bytes = self._config.block_bytes, self.about(path)[0]
        data = self._store.read(path, run[0] * size, min((run[-1] + 1) * size, num_bytes))
        blocks = {number: data[place * size : (place + 1) * size] for place, number in enumerate(run)}
        for number, block in blocks.items():
            self._blocks.keep(self._name(path, number), block)
        return {number: block[wanted[number]] for number, block in blocks.items()}

    def _kept(self, path: str, number: int, part: slice) -> bytes | None:
        size = self._config.block_bytes
        num_bytes = min(size, self.about(path)[0] - number * size)
        return self._blocks.read(self._name(path, number), num_bytes, part.start, part.stop)

    def _name(self, path: str, number: int) -> str:
        num_bytes, version = self.about(path)
        described = f"{self.address(path)}\n{num_bytes}\n{version}\n{self._config.block_bytes}\n{number}"
        return hashlib.sha256(described.encode()).hexdigest()[:40]


def _runs(numbers: list[int]) -> list[list[int]]:
    """Part rising numbers into runs without a gap."""
    grouped = groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])
    return [[number for _, number in run] for _, run in grouped]
