"""In which order a pass shows its clips: anywhere at once, or block by block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from fourd.loader.permutation import mix, permute, unpermute


@dataclass(frozen=True)
class Shuffle(ABC):
    """Say which clip stands at each place of a pass: a permutation, computed in constant memory."""

    @abstractmethod
    def clip_at(self, place: int, num_clips: int, key: tuple[int, int]) -> int:
        """Give the number of the clip at `place`, 0 to `num_clips` - 1; key: the seed and the pass."""


@dataclass(frozen=True)
class GlobalShuffle(Shuffle):
    """Show the clips in an order in which any may follow any."""

    def clip_at(self, place: int, num_clips: int, key: tuple[int, int]) -> int:
        """Give the number of the clip at `place`."""
        return permute(place, num_clips, key)


@dataclass(frozen=True)
class BlockShuffle(Shuffle):
    """Show the clips of a few blocks at a time, for stores from which neighbours are read in one go.

    Clips that follow each other in the index are parted into blocks, the blocks are permuted, so many of them are
    open at a time, and the clips of these are permuted. A machine then reads each block once per pass, if its cache
    holds the open ones (each machine: all ranks share all batches, so that their number changes nothing); in return,
    clips that stand near each other in training come from `blocks_open` blocks only. How well that mixes, `mixing`
    measures. The numbers are not from the paper.
    """

    block: int = 32
    """Clips of a block: neighbours in the index, and thus in a shard."""
    blocks_open: int = 256
    """Blocks whose clips are mixed: the window is `block` times `blocks_open` clips."""

    def __post_init__(self) -> None:
        """Refuse empty windows."""
        for name in ("block", "blocks_open"):
            if getattr(self, name) < 1:
                raise ValueError(f"BlockShuffle.{name} is {getattr(self, name)}: expected 1 or more")

    def clip_at(self, place: int, num_clips: int, key: tuple[int, int]) -> int:
        """Give the number of the clip at `place`."""
        num_blocks = -(-num_clips // self.block)
        missing = num_blocks * self.block - num_clips  # of the one short block, the last of the index
        short_slot = unpermute(num_blocks - 1, num_blocks, key)
        short_window = short_slot // self.blocks_open
        window, inside, size = self._window_of(place, num_blocks, missing, short_window)
        shuffled = permute(inside, size, (mix(window, 0, key), key[1]))
        slot, offset = divmod(shuffled, self.block)
        slot += window * self.blocks_open
        if missing and window == short_window:
            # places are counted as if the short block came last in its window
            last = min((window + 1) * self.blocks_open, num_blocks) - 1
            slot = {last: short_slot, short_slot: last}.get(slot, slot)
        return permute(slot, num_blocks, key) * self.block + offset

    def _window_of(self, place: int, num_blocks: int, missing: int, short_window: int) -> tuple[int, int, int]:
        """Find a place's window, its place inside, and how many clips the window holds."""
        full = self.block * self.blocks_open
        window = place // full
        if window >= short_window and place - short_window * full >= full - missing:
            window = (place + missing) // full
        start = window * full - (missing if window > short_window else 0)
        blocks = min(self.blocks_open, num_blocks - window * self.blocks_open)
        return window, place - start, blocks * self.block - (missing if window == short_window else 0)
