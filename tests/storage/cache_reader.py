"""What a process of the tests does: read through a shared cache, and compare every byte with the truth."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

from fourd.storage import CacheConfig, CachedStore, LocalStore


class CountedStore(LocalStore):
    """Write down what is read, as objects of several processes may do at once."""

    def __init__(self, root: str, log: Path) -> None:
        super().__init__(root)
        self.log = log

    def read(self, path: str, start: int, stop: int) -> bytes:
        with open(self.log, "a") as file:
            file.write(f"{path} {start} {stop}\n")
        return super().read(path, start, stop)

    def reads(self) -> list[tuple[str, int, int]]:
        """List what was read so far."""
        lines = self.log.read_text().split("\n")[:-1] if self.log.exists() else []
        return [(path, int(start), int(stop)) for path, start, stop in map(str.split, lines)]


def read_at_random(root: str, log: str, config: CacheConfig, seed: int, most: int = 10**9) -> None:
    """Read ranges until it is killed, and fail where one is not what the file holds."""
    store = CachedStore(CountedStore(root, Path(log)), config)
    rng = random.Random(seed)
    truth = {name: Path(root, name).read_bytes() for name in sorted(os.listdir(root))}
    for _ in range(most):
        name = rng.choice(list(truth))
        start = rng.randrange(len(truth[name]))
        stop = min(start + rng.randrange(1, 3 * config.block_bytes), len(truth[name]))
        assert store.read(name, start, stop) == truth[name][start:stop], (name, start, stop)


def read_once(root: str, log: str, config: CacheConfig, names: list[str], begin_at: float) -> None:
    """Read whole files at the same moment as other processes do."""
    store = CachedStore(CountedStore(root, Path(log)), config)
    time.sleep(max(begin_at - time.time(), 0))
    for name in names:
        assert store.read(name, 0, store.num_bytes(name)) == Path(root, name).read_bytes()
