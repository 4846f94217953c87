"""Batches as a function of (seed, step): which clip, in which order, with which random numbers.

Nothing here has a state. Position p of a run (p = step * batch + slot) lies in pass p // n over the n
clips of a dataset; a keyed permutation says which clip that is, and a counter-based generator gives
all that is random about it. Workers, ranks and restarts therefore change nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch.utils.data

from fourd.media import UnreadableVideo
from fourd.types import Batch, Dataset, Unreadable, concatenate

_NUM_ROUNDS = 6
_MAX_SUBSTITUTES = 16


def permute(index: int, size: int, key: tuple[int, int]) -> int:
    """Send `index` to its place in a keyed permutation of `size` numbers, in constant memory.

    A Feistel network over the next power of four, walked along its cycle until it lands inside.
    """
    half_bits = max(((size - 1).bit_length() + 1) // 2, 1)
    while True:
        index = _feistel(index, half_bits, key)
        if index < size:
            return index


def _feistel(index: int, half_bits: int, key: tuple[int, int]) -> int:
    low = (1 << half_bits) - 1
    left, right = index >> half_bits, index & low
    for number in range(_NUM_ROUNDS):
        left, right = right, left ^ (_mix(right, number, key) & low)
    return left << half_bits | right


def _mix(value: int, number: int, key: tuple[int, int]) -> int:
    """Hash a half, the round and the key into 64 bits (the finaliser of splitmix64)."""
    mask = (1 << 64) - 1
    x = (value * 0x9E3779B97F4A7C15 + number + key[0] * 0xD1B54A32D192ED03 + key[1] * 0x8CB92BA72F3D8DD7) & mask
    x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ x >> 27) * 0x94D049BB133111EB) & mask
    return x ^ x >> 31


@dataclass(frozen=True)
class Draw:
    """Say what stands at a position of a run: which clip, in which pass, and its random numbers."""

    index: int
    pass_number: int
    seed: int

    def rng(self) -> np.random.Generator:
        """Make the generator of this draw; the same draw gives the same numbers."""
        return np.random.Generator(np.random.Philox(key=[self.seed, self.pass_number], counter=[0, 0, 0, self.index]))


def draw(position: int, num_clips: int, seed: int) -> Draw:
    """Say what stands at `position`: every pass shows every clip once, each in its own order."""
    pass_number, place = divmod(position, num_clips)
    return Draw(permute(place, num_clips, (seed, pass_number)), pass_number, seed)


@dataclass(frozen=True)
class Loaded:
    """Hold a batch, and what had to be replaced to fill it."""

    batch: Batch
    replaced: tuple[Unreadable, ...] = ()


class _Positions(torch.utils.data.Dataset[Loaded]):
    """Read what stands at a position of a run."""

    def __init__(self, dataset: Dataset, seed: int) -> None:
        self.dataset, self.seed = dataset, seed

    def __getitem__(self, position: int) -> Loaded:
        found = draw(position, len(self.dataset), self.seed)
        replaced: list[Unreadable] = []
        for attempt in range(_MAX_SUBSTITUTES):
            # a substitute is a function of the clip it stands for, so a restart finds the same one
            index = permute(found.index, len(self.dataset), (self.seed, -attempt)) if attempt else found.index
            try:
                return Loaded(self.dataset.read(index, found.rng()), tuple(replaced))
            except UnreadableVideo as error:
                replaced.append(Unreadable(str(error.path), error.reason))
        reasons = "; ".join(f"{item.path}: {item.reason}" for item in replaced[:3])
        raise ValueError(f"{_MAX_SUBSTITUTES} clips in a row cannot be read ({reasons}, ...): check the videos")


def _collate(items: list[Loaded]) -> Loaded:
    replaced = tuple(name for item in items for name in item.replaced)
    return Loaded(concatenate([item.batch for item in items]), replaced)


def batches(dataset: Dataset, batch_size: int, seed: int, steps: range, num_workers: int = 0) -> Iterator[Loaded]:
    """Give the batch of each step in `steps`, read ahead by worker processes when there are any."""
    loader = torch.utils.data.DataLoader(
        _Positions(dataset, seed),
        batch_sampler=[range(step * batch_size, (step + 1) * batch_size) for step in steps],  # type: ignore[arg-type,misc]
        collate_fn=_collate,
        num_workers=num_workers,
        multiprocessing_context="spawn" if num_workers else None,
    )
    return iter(loader)


def in_order(dataset: Dataset, batch_size: int, seed: int = 0) -> Iterator[Batch]:
    """Give every clip once, in the dataset's own order, the last batch as short as it comes."""
    for start in range(0, len(dataset), batch_size):
        indices = range(start, min(start + batch_size, len(dataset)))
        yield concatenate([dataset.read(index, Draw(index, 0, seed).rng()) for index in indices])
