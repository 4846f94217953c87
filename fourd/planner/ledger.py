"""Memory as a book of entries: who takes how much and when, and so how much is taken at most, and by whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

Kind = Literal["weights", "gradients", "moments", "activations", "gathered", "other"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Book:
    """Hold entries: at each, the bytes of one storage change; each storage is of a kind.

    `start` is the entry at which a step begins; what was entered before is there all along.
    """

    storage: tuple[int, ...]
    change: tuple[int, ...]
    phase: tuple[str, ...]
    """What was going on at each entry."""
    kind: tuple[Kind, ...]
    """Of each storage."""
    start: int = 0


@dataclass(frozen=True)
class Peak:
    """Hold the bytes taken at the moment of a step at which most is taken, by kind; `phase`: what was going on."""

    phase: str
    by_kind: Mapping[str, int]

    @property
    def total(self) -> int:
        """Add all kinds up."""
        return sum(self.by_kind.values())


def peak_of(book: Book) -> Peak:
    """Find the moment of a step at which most is taken; raise ValueError for a step that takes nothing."""
    if book.start >= len(book.change):
        raise ValueError(f"no entry after {book.start}: a step that takes memory was expected")
    change = np.zeros((len(book.change), len(KINDS)), dtype=np.int64)
    column = [KINDS.index(book.kind[number]) for number in book.storage]
    change[np.arange(len(column)), column] = book.change
    levels = change.cumsum(axis=0)[book.start :]
    highest = int(levels.sum(axis=1).argmax())
    return Peak(book.phase[book.start + highest], dict(zip(KINDS, levels[highest].tolist(), strict=True)))
