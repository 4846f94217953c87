"""Intervals over seeds and groups: right on what is known, and as wide as few seeds deserve."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from fourd import results
from fourd.results import Interval
from fourd.study.intervals import Estimate, Scores, centred, contrast, difference, estimate, t_reach, with_misfit
from fourd.study.sentences import verdict_of
from tests.study.synthetic import figures, study


def scores(values: np.ndarray, weight: np.ndarray | None = None, seeds=None) -> Scores:
    """Lay out seeds by clips, two clips to a group."""
    num_seeds, num_clips = values.shape
    clips = np.array([f"{n:03}" for n in range(num_clips)])
    groups = np.array([str(n // 2) for n in range(num_clips)])
    weight = np.ones(values.shape) if weight is None else weight
    return Scores(tuple(seeds or range(num_seeds)), clips, groups, values.astype(float), weight)


def test_one_seed_gives_what_results_gives():
    """The same draws of groups as the paired bootstrap that `fourd evaluate` uses."""
    of = study((0.5, 0.75))
    found = figures(of, (0.0, 0.2), seeds=(0,))
    asked = found.asked[0]
    sides = [next(s for key, s in found._cells.items() if key[:2] == (asked.name, arm.name)) for arm in of.arms]
    ours = difference(sides[1], sides[0], "clip_mean").interval
    table = _rows(of)
    tables = [results.select(table, entry=asked.name, backbone=arm.name) for arm in of.arms]
    theirs = results.paired_difference(tables[1], tables[0])
    assert dataclasses.asdict(ours) == pytest.approx(dataclasses.asdict(theirs), rel=1e-9)


def _rows(of):
    """Take the very rows that `figures` lays out."""
    import tests.study.synthetic as synthetic

    kept = {}
    real = synthetic.Figures
    try:
        synthetic.Figures = lambda study, rows, costs: kept.setdefault("rows", rows)
        figures(of, (0.0, 0.2), seeds=(0,))
    finally:
        synthetic.Figures = real
    return kept["rows"].table


def test_what_all_share_cancels_out():
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 10, (1, 60))
    a, b = scores(np.repeat(hard, 3, 0) + 0.1), scores(np.repeat(hard, 3, 0))
    found = difference(a, b, "clip_mean").interval
    assert found.value == pytest.approx(0.1)
    assert found.high - found.low < 1e-9
    assert estimate(a, "clip_mean").interval.high - estimate(a, "clip_mean").interval.low > 1
    apart = centred([a, b], "clip_mean")
    assert [one.value for one in apart] == pytest.approx([0.05, -0.05])


def test_seeds_that_differ_widen_an_interval():
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, (3, 60))
    alike = estimate(scores(noise), "clip_mean").interval
    apart = estimate(scores(noise + np.array([[-1.0], [0.0], [1.0]])), "clip_mean").interval
    assert apart.high - apart.low > 5 * (alike.high - alike.low)
    assert apart.low < -0.6 < 0.6 < apart.high


@pytest.mark.parametrize(("number", "quantile"), [(2, 12.71), (3, 4.303), (4, 3.182), (6, 2.571)])
def test_the_interval_of_a_few_seeds_is_student_s(number, quantile):
    """Without noise of clips it is the seeds' own standard error, times the quantile of t with one less."""
    values = np.random.default_rng(3).normal(0, 1, number)
    found = estimate(scores(np.repeat(values[:, None], 40, 1)), "clip_mean")
    reach = quantile * values.std(ddof=1) / number**0.5
    assert found.interval.high - found.value == pytest.approx(reach, rel=1e-3)
    assert found.value - found.interval.low == pytest.approx(reach, rel=1e-3)
    assert [value for _, value in found.by_seed] == pytest.approx(values.tolist())


@pytest.mark.parametrize(
    ("free", "quantile"), [(1, 12.7062), (2, 4.30265), (3, 3.18245), (10, 2.22814), (1000, 1.96234)]
)
def test_the_reach_of_student_s_distribution_is_that_of_its_tables(free, quantile):
    assert t_reach(free) == pytest.approx(quantile, rel=1e-4)


def test_noise_of_clips_and_luck_of_seeds_are_covered_together():
    """Both are as large as each other: 95% of intervals shall hold what is true, and not all of them."""
    rng = np.random.default_rng(7)
    held = 0
    for _ in range(400):
        seeds, clips = rng.normal(0, 0.6, (3, 1)), np.repeat(rng.normal(0, 2.0, (1, 20)), 2, 1)
        found = estimate(scores(seeds + clips), "clip_mean").interval
        held += found.low < 0 < found.high
    assert 0.91 < held / 400 < 0.99


@pytest.mark.parametrize("number", [2, 3, 5])
def test_luck_of_seeds_alone_is_seldom_taken_for_a_difference(number):
    """A bootstrap over two or three seeds said so in 39% and 19% of such cases."""
    rng = np.random.default_rng(number)
    shown = 0
    for _ in range(300):
        values = rng.normal(0, 1, number)[:, None] + rng.normal(0, 0.01, (number, 20))
        shown += verdict_of(estimate(scores(values), "clip_mean")) != "equal"
    assert shown / 300 < 0.09


def test_clips_that_are_not_defined_for_all_are_left_out_and_counted():
    values = np.array([[1.0, 2.0, 3.0, 100.0]] * 2)
    weight = np.ones((2, 4))
    weight[1, 3] = 0
    found = estimate(scores(values, weight), "clip_mean").interval
    assert (found.value, found.num_clips, found.num_undefined) == (2.0, 3, 1)


def test_a_weighted_mean_weighs():
    weight = np.array([[1.0, 3.0, 1.0, 1.0]])
    found = estimate(scores(np.array([[0.0, 4.0, 0.0, 0.0]]), weight), "weighted_mean")
    assert found.value == pytest.approx(2.0)


def test_one_group_says_nothing_of_the_spread():
    found = estimate(scores(np.array([[1.0, 3.0]])), "clip_mean").interval
    assert (found.value, found.low, found.high) == (2.0, -np.inf, np.inf)


def test_only_seeds_that_both_have_are_compared():
    a = scores(np.array([[1.0] * 6, [5.0] * 6]), seeds=(0, 1))
    b = scores(np.array([[4.0] * 6, [0.0] * 6]), seeds=(1, 2))
    found = difference(a, b, "clip_mean")
    assert found.by_seed == ((1, 1.0),)
    with pytest.raises(ValueError, match="0 seeds"):
        contrast([(1.0, a.only([0], a.clip)), (-1.0, b)], "clip_mean")


def test_a_slope_whose_points_lie_off_their_line_is_less_sure():
    sure = Estimate(Interval(1.0, 0.9, 1.1, 10, 10, 0), ((0, 1.0),))
    straight = with_misfit(sure, [0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 2.0, 3.0])
    assert (straight.interval.low, straight.interval.high) == (pytest.approx(0.9), pytest.approx(1.1))
    bent = with_misfit(sure, [1.0, -1.0, -1.0, 1.0], [0.0, 1.0, 2.0, 3.0])
    # a residual deviation of sqrt(4 / 2), over the root of the places' squares, 5; t of two degrees of freedom is 4.303
    reach = np.hypot(0.1, 4.303 * np.sqrt(2 / 5))
    assert bent.interval.high - 1.0 == pytest.approx(reach, rel=0.01)
    assert 1.0 - bent.interval.low == pytest.approx(reach, rel=0.01)
    assert with_misfit(sure, [0.0, 0.0], [0.0, 1.0]) == sure
