"""How long a matrix will take here: each kind of unit is tried for a moment, on real clips."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from fourd import loader
from fourd.benchmark.suite import Exam, FilmExam
from fourd.benchmark.units import AnyUnit, ControlUnit, FilmUnit, Unit
from fourd.benchmark.work import Means, probe_config
from fourd.media import UnreadableVideo
from fourd.objectives.probe import Probe
from fourd.parallel import autocast, find_device, materialise, reproducible, to_device
from fourd.types import Batch, ReadoutKind

log = logging.getLogger(__name__)

_CONTROL_S_PER_CLIP = 0.01
"""Guessed: controls cost little beside what learns."""
_FILM_S = 30.0
"""Guessed: following the objects of a film, which depends on the encoder's grid; not tried beforehand."""


@dataclass(frozen=True)
class Cost:
    """Hold what a unit is expected to take, in seconds: its backbone's passes, its readouts' steps, reading clips."""

    backbone_s: float
    readouts_s: float
    reading_s: float = 0.0

    @property
    def seconds(self) -> float:
        """Add all up."""
        return self.backbone_s + self.readouts_s + self.reading_s


@dataclass(frozen=True)
class _Tried:
    """Hold the seconds of one batch: the backbone forward alone, a whole step of training, reading its clips."""

    forward_s: float
    step_s: float
    read_s: float = 0.0


def estimate(units: Sequence[AnyUnit], means: Means) -> list[Cost]:
    """Say what each unit will take."""
    tried: dict[tuple[str, str, str, tuple[ReadoutKind, ...], int], _Tried] = {}
    sizes: dict[str, dict[str, int]] = {}
    costs = []
    for unit in units:
        if unit.exam.name not in sizes:
            sizes[unit.exam.name] = _sizes(unit.exam)
        size = sizes[unit.exam.name]
        if isinstance(unit, ControlUnit):
            costs.append(Cost(0.0, _CONTROL_S_PER_CLIP * (unit.num_clips + size["test"])))
            continue
        if isinstance(unit, FilmUnit):
            costs.append(Cost(_FILM_S * size["test"], 0.0))
            continue
        # two tasks that are finetuned by themselves cost about the same: one stands for all
        alike = (unit.contender.slug, unit.exam.name, unit.use, unit.readouts, len(unit.depths))
        if alike not in tried:
            tried[alike] = _tried(unit, means)
        costs.append(_cost(unit, tried[alike], size))
    return costs


def _sizes(exam: Exam | FilmExam) -> dict[str, int]:
    """Count the clips of each part of an exam."""
    return {name: len(data.build()) for name in ("train", "test", "choose") if (data := getattr(exam, name, None))}


def _tried(unit: Unit, means: Means) -> _Tried:
    """Try a unit; one that cannot be tried fails by itself later, beside the others, and costs nothing till then."""
    try:
        return _try(unit, means)
    except (ValueError, RuntimeError, OSError, UnreadableVideo) as error:
        log.warning("%s cannot be tried, and is not in the estimate: %s", unit.title, error)
        return _Tried(0.0, 0.0)


def _cost(unit: Unit, tried: _Tried, sizes: dict[str, int]) -> Cost:
    training = unit.exam.training(unit.use)
    chosen_by = sizes.get("choose", 0) if len(training.rates) > 1 else 0
    readouts_s = max(tried.step_s - tried.forward_s, 0.0)
    scored = (sizes["test"] + chosen_by) / training.batch_size
    if unit.cached:
        seen = (sizes["train"] + sizes["test"] + chosen_by) / training.batch_size
        reading_s = (seen + training.steps + scored) * tried.read_s
        return Cost(seen * tried.forward_s, (training.steps + scored) * readouts_s, reading_s)
    reading_s = (training.steps + scored) * tried.read_s
    if unit.use == "frozen":
        backbone_s = (training.steps + scored) * tried.forward_s
        return Cost(backbone_s, (training.steps + scored / 3) * readouts_s, reading_s)
    return Cost(training.steps * tried.step_s + scored * tried.forward_s, 0.0, reading_s)


def _try(unit: Unit, means: Means) -> _Tried:
    """Do a step on one batch, twice, and time the second; a cached unit is tried with its backbone."""
    device = find_device(means.device)
    probe = materialise(probe_config(replace(unit, cached=False)), device, unit.seed)
    assert isinstance(probe, Probe)
    size = unit.exam.training(unit.use).batch_size
    train = loader.First(unit.exam.train.build(), size)
    train.prepare()
    began = time.perf_counter()
    batch = to_device(next(loader.in_order(train, size, unreadable=[])), device)
    read_s = (time.perf_counter() - began) / max(means.num_workers, 1)
    with reproducible(device), autocast(device, unit.precision):
        step_s = _timed(lambda: _step(probe, batch), device)
        forward_s = _timed(lambda: _forward(probe, unit, batch), device)
    return _Tried(forward_s, step_s, read_s)


def _step(probe: Probe, batch: Batch) -> None:
    probe.train()
    probe(batch).loss.backward()
    probe.zero_grad(set_to_none=True)


@torch.no_grad()
def _forward(probe: Probe, unit: Unit, batch: Batch) -> None:
    probe.backbone(batch.video, unit.depths)


def _timed(work: Callable[[], None], device: torch.device) -> float:
    """Time the second of two calls: the first warms up."""
    work()
    _wait(device)
    began = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
