"""An estimate knows of everything that takes time, and of what cannot be tried."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fourd.benchmark.estimate as estimating
from fourd.benchmark.contenders import resolve
from fourd.benchmark.estimate import estimate
from fourd.benchmark.suite import Exam
from fourd.benchmark.units import Unit, Wanted, plan
from fourd.benchmark.work import Means
from fourd.datasets.toy_world import ToyWorldConfig
from fourd.types import Batch, Dataset
from tests.small_suite import suite

SECONDS = 0.02


class Clock:
    """Stand still but for what is read: a real clock runs while other processes have the machine."""

    now = 0.0


class Slow(Dataset):
    """Take a while for each clip."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset, self.fingerprint = dataset, dataset.fingerprint

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, index: int, rng: np.random.Generator) -> Batch:
        Clock.now += SECONDS
        return self.dataset.read(index, rng)


@dataclass(frozen=True)
class SlowConfig(ToyWorldConfig):
    """Describe clips that take a while to read."""

    def build(self) -> Any:
        return Slow(super().build())


def frozen(exam: Exam, cached: bool = False) -> Unit:
    units = plan(replace(suite(), exams=(exam,)), resolve(["video_vit:tiny"]), Wanted(("frozen",), cached=cached))
    return next(unit for unit in units if isinstance(unit, Unit))


def test_reading_is_a_part_of_it(monkeypatch):
    monkeypatch.setattr(estimating, "time", SimpleNamespace(perf_counter=lambda: Clock.now))
    exam = suite().exams[0]
    slow = replace(exam, train=SlowConfig(**vars(exam.train)))
    for cached, least_clips in ((False, 6 * 8), (True, 16 + 6 * 8)):
        (cost,) = estimate([frozen(slow, cached)], Means(device="cpu"))
        assert cost.reading_s >= least_clips * SECONDS
        assert cost.seconds >= cost.reading_s
        (halved,) = estimate([frozen(slow, cached)], Means(device="cpu", num_workers=2))
        assert halved.reading_s == pytest.approx(cost.reading_s / 2)


def test_only_what_is_tried_is_made_beforehand(tmp_path):
    exam = suite().exams[0]
    parts = {name: replace(getattr(exam, name), cache_dir=str(tmp_path)) for name in ("train", "test", "choose")}
    many = replace(exam, **{**parts, "train": replace(parts["train"], num_clips=100_000)})
    (cost,) = estimate([frozen(many)], Means(device="cpu"))
    assert cost.seconds > 0
    assert len(list(tmp_path.glob("toy_world/*/chunk-*"))) == 1


def test_what_cannot_be_tried_costs_nothing_and_stops_nothing():
    exam = suite().exams[0]
    wrong = replace(frozen(exam), contender=resolve(["videoprism:tiny"])[0])
    costs = estimate([wrong, frozen(exam)], Means(device="cpu"))
    assert costs[1].seconds > 0
