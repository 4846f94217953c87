"""What may be said of figures that rest on several seeds and on groups of clips.

The test clips are the same for all seeds, so seeds and groups of clips are crossed, and each has a reach of its own.
That of groups, of which there are many, is a bootstrap's: they are drawn with replacement. Of two or three seeds a
bootstrap would be far too sure (of pure luck it finds a difference in a fifth of all cases): theirs is Student's, of
the mean of what they gave. Both are added in quadrature.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from fourd.results import Average, Interval

NUM_RESAMPLES = 2000
"""Not from the paper."""


@dataclass(frozen=True)
class Scores:
    """Hold the scores of one cell: a row for each seed, a column for each clip; weight 0 where one is not defined."""

    seeds: tuple[int, ...]
    clip: np.ndarray
    group: np.ndarray
    score: Float[np.ndarray, "S C"]
    weight: Float[np.ndarray, "S C"]

    def only(self, seeds: Sequence[int], clips: np.ndarray) -> Scores:
        """Keep some seeds and clips, in the order that is asked for."""
        rows = [self.seeds.index(seed) for seed in seeds]
        columns = np.searchsorted(self.clip, clips)
        score, weight = self.score[rows][:, columns], self.weight[rows][:, columns]
        return Scores(tuple(seeds), clips, self.group[columns], score, weight)

    def of_seeds(self, seeds: Sequence[int]) -> Scores:
        """Take the scores of the first seed for those of others: of what does not depend on a seed."""
        score, weight = (np.repeat(rows[:1], len(seeds), 0) for rows in (self.score, self.weight))
        return Scores(tuple(seeds), self.clip, self.group, score, weight)


@dataclass(frozen=True)
class Estimate:
    """Hold a figure with its 95% interval, and the same figure of each seed by itself."""

    interval: Interval
    by_seed: tuple[tuple[int, float], ...]

    @property
    def value(self) -> float:
        """Give the figure, the mean over seeds."""
        return self.interval.value

    def negated(self) -> Estimate:
        """Turn it round."""
        own = self.interval
        turned = Interval(-own.value, -own.high, -own.low, own.num_clips, own.num_groups, own.num_undefined)
        return Estimate(turned, tuple((seed, -value) for seed, value in self.by_seed))


def estimate(scores: Scores, average: Average) -> Estimate:
    """Estimate the average of one cell."""
    return contrast([(1.0, scores)], average)


def difference(a: Scores, b: Scores, average: Average) -> Estimate:
    """Estimate how much higher a scores than b, on the seeds and clips that both have."""
    return contrast([(1.0, a), (-1.0, b)], average)


def contrast(terms: Sequence[tuple[float, Scores]], average: Average, num_resamples: int = NUM_RESAMPLES) -> Estimate:
    """Estimate a sum of averages, each times its coefficient, on the seeds and clips that all terms have.

    All terms are drawn together: what makes a clip hard, or a seed lucky, for all of them cancels out. Raises
    ValueError where they have no seed, or no clip with a weight, in common.
    """
    seeds, clips = shared([scores for _, scores in terms])
    sides = [(coefficient, scores.only(seeds, clips)) for coefficient, scores in terms]
    defined = np.all([(scores.weight > 0).all(0) for _, scores in sides], axis=0)
    if not seeds or not defined.any():
        raise ValueError(f"{len(seeds)} seeds and {int(defined.sum())} clips with a weight in common: expected some")
    groups, member = np.unique(sides[0][1].group[defined], return_inverse=True)
    counts = _group_draws(len(groups), num_resamples)
    by_seed = np.zeros(len(seeds))
    drawn = np.zeros(num_resamples)
    for coefficient, scores in sides:
        up, down = _group_sums(scores, defined, member, len(groups), average)
        by_seed += coefficient * up.sum(1) / down.sum()
        drawn += coefficient * (counts @ up.mean(0)) / (counts @ down)
    low, high = np.quantile(drawn, [0.025, 0.975]) if len(groups) > 1 else (-np.inf, np.inf)
    num_clips = int(defined.sum())
    largest = max(len(scores.clip) for _, scores in terms)
    interval = Interval(float(by_seed.mean()), float(low), float(high), num_clips, len(groups), largest - num_clips)
    return Estimate(_widened(interval, _reach_of_seeds(by_seed)), tuple(zip(seeds, by_seed.tolist(), strict=True)))


def _reach_of_seeds(by_seed: Float[np.ndarray, " S"]) -> float:
    """Give how far the mean of some seeds' figures may be from that of all seeds; of one seed nothing is known."""
    if len(by_seed) == 1:
        return 0.0
    return t_reach(len(by_seed) - 1) * float(by_seed.std(ddof=1)) / len(by_seed) ** 0.5


def _widened(interval: Interval, reach: float) -> Interval:
    """Add a reach to both sides of an interval, in quadrature."""
    value = interval.value
    low, high = value - np.hypot(value - interval.low, reach), value + np.hypot(interval.high - value, reach)
    return replace(interval, low=float(low), high=float(high))


def with_misfit(slope: Estimate, rest: Sequence[float], places: Sequence[float]) -> Estimate:
    """Widen the interval of a slope by what its line leaves over.

    Seeds and clips say how well each point is known; where points lie off their line by more than that, another choice
    of points would give another slope. The reach of Student's t of the residuals, with as many degrees of freedom as
    there are points beyond two, is added in quadrature; of two points nothing is left over, and nothing is added.

    rest: how far each point is above the line. places: where they are along the axis that the slope is along.
    """
    free = len(rest) - 2
    if free < 1:
        return slope
    at = np.asarray(places, dtype=np.float64)
    error = float(np.sqrt(np.square(rest).sum() / free / np.square(at - at.mean()).sum()))
    return replace(slope, interval=_widened(slope.interval, t_reach(free) * error))


@functools.lru_cache(maxsize=64)
def t_reach(free: int) -> float:
    """Give how far to both sides 95% of Student's distribution with `free` degrees of freedom reaches.

    As t = sqrt(free) tan(angle) its density is cos(angle) ** (free - 1), on a bounded range, and adds up on a grid.
    """
    angle = np.linspace(0, np.pi / 2, 100_001)
    density = np.cos(angle) ** (free - 1)
    mass = np.cumsum((density[1:] + density[:-1]) / 2)
    return float(free**0.5 * np.tan(np.interp(0.95 * mass[-1], mass, angle[1:])))


def centred(parts: Sequence[Scores], average: Average) -> list[Estimate]:
    """Estimate how far each of several cells is from their mean: what is left when what all share cancels out.

    Raises as `contrast` does.
    """
    share = 1 / len(parts)
    terms = [[(float(one is own) - share, one) for one in parts] for own in parts]
    return [contrast(own, average) for own in terms]


def shared(parts: Sequence[Scores]) -> tuple[list[int], np.ndarray]:
    """Find the seeds and the clips that all have."""
    seeds = sorted(set.intersection(*(set(scores.seeds) for scores in parts)))
    clips = functools.reduce(lambda one, other: np.intersect1d(one, other, True), [scores.clip for scores in parts])
    return seeds, clips


def comparable(parts: Sequence[Scores]) -> bool:
    """Say whether cells have a seed, and a clip with a weight, in common."""
    seeds, clips = shared(parts)
    sides = [scores.only(seeds, clips) for scores in parts]
    return bool(seeds) and bool(np.all([(scores.weight > 0).all(0) for scores in sides], axis=0).any())


def _group_sums(
    scores: Scores, defined: np.ndarray, member: np.ndarray, num_groups: int, average: Average
) -> tuple[Float[np.ndarray, "S G"], Float[np.ndarray, " G"]]:
    """Add up weight * score for each seed, and weight, within each group; the weights are 1 for a clip mean."""
    score = scores.score[:, defined]
    weight = scores.weight[:, defined].mean(0) if average == "weighted_mean" else np.ones(score.shape[1])
    up = np.stack([np.bincount(member, weight * row, minlength=num_groups) for row in score])
    return up, np.bincount(member, weight, minlength=num_groups)


@functools.lru_cache(maxsize=8)
def _group_draws(num_groups: int, num_resamples: int) -> Float[np.ndarray, "draws G"]:
    """Say how often each group is in each draw."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(num_groups, size=(num_resamples, num_groups)) + num_groups * np.arange(num_resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=num_resamples * num_groups)
    return counts.reshape(num_resamples, num_groups).astype(np.float64)
