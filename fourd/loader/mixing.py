"""How well an order mixes: what the neighbours in a batch have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np

from fourd.loader.shuffle import Shuffle


@dataclass(frozen=True)
class Mixing:
    """Say how much the clips of a batch have in common.

    same_group: share of the pairs within a batch that come from one group (a film, a block of the index); ideal: the
    share if batches were drawn from all clips alike. groups_per_batch: groups that a batch shows, on average;
    ideal_groups: the same for batches drawn from all. Where `same_group` is not above `ideal`, a batch says as much
    as one drawn from all.
    """

    same_group: float
    ideal: float
    groups_per_batch: float
    ideal_groups: float


def mixing(
    shuffle: Shuffle,
    num_clips: int,
    batch_size: int,
    group_of: Callable[[int], Hashable],
    *,
    num_batches: int = 200,
    seed: int = 0,
) -> Mixing:
    """Look at batches spread evenly over a pass, beside as many that are drawn from all clips.

    group_of: names the group of a clip by its number. Raises ValueError where a batch has fewer than two clips.
    """
    if not 2 <= batch_size <= num_clips:
        raise ValueError(f"batch_size is {batch_size}: expected 2 to the number of clips, {num_clips}")
    starts = np.linspace(0, num_clips - batch_size, num_batches).astype(int).tolist()
    rng = np.random.default_rng(seed)
    shown, drawn = [], []
    for start in starts:
        clips = [shuffle.clip_at(start + slot, num_clips, (seed, 0)) for slot in range(batch_size)]
        shown.append(_in_common([group_of(clip) for clip in clips]))
        anywhere = (
            rng.choice(num_clips, batch_size, replace=False)
            if num_clips < 10**6
            else _sample(rng, num_clips, batch_size)
        )
        drawn.append(_in_common([group_of(int(clip)) for clip in anywhere]))
    (same, groups), (ideal, ideal_groups) = np.mean(shown, axis=0).tolist(), np.mean(drawn, axis=0).tolist()
    return Mixing(same, ideal, groups, ideal_groups)


def _sample(rng: np.random.Generator, num_clips: int, count: int) -> list[int]:
    """Draw different numbers out of very many, without listing them all."""
    chosen: dict[int, None] = {}
    while len(chosen) < count:
        chosen[int(rng.integers(num_clips))] = None
    return list(chosen)


def _in_common(groups: list[Hashable]) -> tuple[float, float]:
    counts = Counter(groups)
    pairs = len(groups) * (len(groups) - 1) / 2
    return sum(count * (count - 1) / 2 for count in counts.values()) / pairs, float(len(counts))
