"""A forecast is made of a few small steps, whatever the steps are that it is of."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from fourd import loader
from fourd.study import forecast
from tests.study.small_ablation import pretraining


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """List how many clips each tried step has; a clock that ticks a second at each look."""
    found: list[int] = []
    batches = loader.batches

    def counted(dataset, batch_size, seed, steps):
        found.append(batch_size)
        return batches(dataset, batch_size, seed, steps)

    ticks = itertools.count()
    monkeypatch.setattr(forecast.loader, "batches", counted)
    monkeypatch.setattr(forecast.time, "perf_counter", lambda: float(next(ticks)))
    return found


@pytest.mark.parametrize(("batch_size", "tried", "times"), [(4, 4, 1), (4096, 16, 256)])
def test_a_large_step_is_tried_by_a_few_clips_on_a_cpu(sizes, batch_size, tried, times):
    config = dataclasses.replace(pretraining(), batch_size=batch_size)
    assert forecast.seconds_per_step(config) == times * (1.0 + 1.0)  # a second of reading, and one of computing
    assert sizes == [tried]


def test_what_reads_ahead_is_waited_for_only_where_it_takes_longer(sizes):
    config = dataclasses.replace(pretraining(), num_workers=2)
    assert forecast.seconds_per_step(config) == 1.0
