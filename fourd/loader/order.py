"""What stands at each position of a run: a function of the seed, with nothing to remember.

Position p of a run over one corpus of n clips lies in pass p // n; a shuffle says which clip that is, and a
counter-based generator gives all that is random about it. Workers, ranks and restarts therefore change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fourd.loader.permutation import mix, permute
from fourd.loader.shuffle import GlobalShuffle, Shuffle
from fourd.types import Corpus

MIXTURE_PERIOD = 10_000
"""Clips after which a mixture has kept its weights to the clip; a corpus weighs a whole number of them."""


@dataclass(frozen=True)
class Draw:
    """Say what stands at a position of a run: which clip, in which pass over its corpus, and its random numbers."""

    index: int
    pass_number: int
    seed: int

    def rng(self) -> np.random.Generator:
        """Make the generator of this draw; the same draw gives the same numbers."""
        return np.random.Generator(np.random.Philox(key=[self.seed, self.pass_number], counter=[0, 0, 0, self.index]))


class Order:
    """Say what stands at each position of a run over one corpus, or a mixture of several.

    Every pass over a corpus shows each of its clips once, and ends before the next one begins. Of every
    `MIXTURE_PERIOD` positions each corpus of a mixture has its share, by weight, to the clip; at any position before,
    it is less than one clip from it, so that every batch shows the mixture as nearly as whole clips can.
    """

    def __init__(self, corpora: Sequence[Corpus], seed: int, shuffle: Shuffle | None = None) -> None:
        """Share positions out among the corpora; raise ValueError for one without clips, or too light to be seen."""
        self._corpora, self._seed, self._shuffle = tuple(corpora), seed, shuffle or GlobalShuffle()
        if empty := [number for number, corpus in enumerate(self._corpora) if corpus.num_clips < 1]:
            raise ValueError(f"corpus {empty[0]} of {len(self._corpora)} has no clip: there is no order to show it in")
        period = MIXTURE_PERIOD if len(self._corpora) > 1 else 1
        self._shares = _shares([corpus.weight for corpus in self._corpora], period)
        self._turns = _turns(self._shares)

    def draw(self, position: int) -> Draw:
        """Say what stands at `position`, 0 or more."""
        number, place = self._corpus_at(position)
        corpus = self._corpora[number]
        pass_number, place = divmod(place, corpus.num_clips)
        index = self._shuffle.clip_at(place, corpus.num_clips, self._key(number, pass_number))
        return Draw(self._first(number) + index, pass_number, self._seed)

    def substitute(self, draw: Draw, attempt: int) -> Draw:
        """Give another clip of the same corpus in place of one that cannot be read: a function of that draw alone."""
        number, first = 0, 0
        while draw.index >= first + self._corpora[number].num_clips:
            first += self._corpora[number].num_clips
            number += 1
        # passes are numbered from 0, so that no pass has the key of a substitute
        key = (self._seed, -1 - mix(draw.pass_number, attempt, (number, 0)))
        index = permute(draw.index - first, self._corpora[number].num_clips, key)
        return Draw(first + index, draw.pass_number, draw.seed)

    def _corpus_at(self, position: int) -> tuple[int, int]:
        """Find which corpus has a position, and at which place of its own sequence."""
        period, slot = divmod(position, len(self._turns))
        number, place = self._turns[slot]
        return number, period * self._shares[number] + place

    def _key(self, number: int, pass_number: int) -> tuple[int, int]:
        return (self._seed, pass_number) if number == 0 else (mix(number, 1, (self._seed, 0)), pass_number)

    def _first(self, number: int) -> int:
        return sum(corpus.num_clips for corpus in self._corpora[:number])


def _shares(weights: Sequence[float], period: int) -> list[int]:
    """Share a period out by weight; what rounding leaves over goes to the largest remainders."""
    exact = [weight / sum(weights) * period for weight in weights]
    shares = [int(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda number: shares[number] - exact[number])
    for number in by_remainder[: period - sum(shares)]:
        shares[number] += 1
    if min(shares) == 0:
        raise ValueError(f"weights {tuple(weights)}: one is less than 1/{period} of all, and would never be seen")
    return shares


def _turns(shares: Sequence[int]) -> list[tuple[int, int]]:
    """Say of each slot of a period which corpus has it, and how many of its clips come before in the period.

    Of the corpora that are behind their share, the one has the slot that must be shown again soonest; so no corpus is
    ever a whole clip before or behind (the earliest deadline first, as in proportionate scheduling of one processor).
    """
    period, shown, turns = sum(shares), [0] * len(shares), []
    for slot in range(period):
        behind = (n for n, share in enumerate(shares) if shown[n] * period < (slot + 1) * share)
        number = min(behind, key=lambda n: -(-(shown[n] + 1) * period // shares[n]))
        turns.append((number, shown[number]))
        shown[number] += 1
    return turns


def draw(position: int, num_clips: int, seed: int) -> Draw:
    """Say what stands at `position` of a run over one corpus, shuffled as a whole."""
    return Order((Corpus(num_clips),), seed).draw(position)
