"""How long a study will take here: a few real steps of each kind of pretraining, and the benchmark's own estimate."""

from __future__ import annotations

import json
import logging
import statistics
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from fourd import loader, provenance
from fourd.benchmark.estimate import estimate
from fourd.benchmark.matrix import Matrix
from fourd.benchmark.missing import unfinished
from fourd.benchmark.work import Means
from fourd.media import UnreadableVideo
from fourd.optim import build_optimizer
from fourd.parallel import autocast, find_device, materialise, reproducible, to_device
from fourd.study.costs import read_metrics
from fourd.study.measuring import alike
from fourd.study.runs import Run
from fourd.telemetry import duration
from fourd.trainer import RunConfig
from fourd.types import Batch, Objective

log = logging.getLogger(__name__)

_STEPS_TRIED = 3
"""The first warms up and is not counted."""
_CLIPS_TRIED = 16
"""Of a step on a CPU, which has no use for more at once. Not from the paper."""


@dataclass(frozen=True)
class Forecast:
    """Hold the seconds that are left: of runs and of units, by their titles."""

    runs: Mapping[str, float]
    units: Mapping[str, float]

    @property
    def told(self) -> str:
        """Write it for people."""
        runs_s, units_s = sum(self.runs.values(), 0.0), sum(self.units.values(), 0.0)
        return (
            f"this will take about {duration(runs_s + units_s)} here, by one process: pretraining {duration(runs_s)} "
            f"({len(self.runs)} runs), evaluation {duration(units_s)} ({len(self.units)} units)"
        )


def forecast(runs: Sequence[Run], folder: Path, matrix: Matrix, out: Path, means: Means) -> Forecast:
    """Say what is left to do, and how long it will take."""
    todo = [run for run in runs if not run.is_done(folder)]
    speeds = _known_speeds(runs, folder)
    of_runs = {run.title: _seconds_left(run, folder, means, speeds) for run in todo}
    units = unfinished(matrix.units, out)
    costs = estimate(alike(units), means)
    of_units: dict[str, float] = defaultdict(float)
    for unit, cost in zip(units, costs, strict=True):
        of_units[unit.title] += cost.seconds
    return Forecast(of_runs, of_units)


def _known_speeds(runs: Sequence[Run], folder: Path) -> dict[str, float]:
    """Learn seconds per step from runs that were begun, by the shape of their steps."""
    return {shape_of(run.config): seconds for run in runs if (seconds := _recorded(run, folder)[1])}


def _recorded(run: Run, folder: Path) -> tuple[int, float]:
    """Give the steps that are recorded, and the seconds of one; 0 where none is."""
    path = run.folder(folder)
    try:
        records = read_metrics(path) if (path / "metrics.jsonl").exists() else []
    except ValueError as error:
        log.warning("%s: its speed is not known: %s", run.title, error)
        records = []
    if not records:
        return 0, 0.0
    return records[-1]["step"], statistics.median(run.config.batch_size / r["clips_per_s"] for r in records)


def shape_of(config: RunConfig) -> str:
    """Describe what decides how long a step takes."""
    parts = (config.objective, config.data, config.batch_size, config.repeat, config.precision)
    return json.dumps([provenance.describe(part) for part in parts], sort_keys=True)


def _seconds_left(run: Run, folder: Path, means: Means, speeds: dict[str, float]) -> float:
    shape = shape_of(run.config)
    done, own = _recorded(run, folder)
    if shape not in speeds:
        speeds[shape] = _tried(run, folder, means)
    return (run.config.steps - done) * (own or speeds[shape])


def _tried(run: Run, folder: Path, means: Means) -> float:
    """Try a run; one that cannot be tried fails by itself later, beside the others, and costs nothing till then."""
    try:
        return seconds_per_step(run.resolved(folder, means))
    except (ValueError, RuntimeError, OSError, UnreadableVideo, TypeError, AttributeError, LookupError) as error:
        log.warning("%s cannot be tried, and is not in the estimate: %s", run.title, error)
        return 0.0


def seconds_per_step(config: RunConfig) -> float:
    """Do a few real steps from random weights, one process, nothing compiled; give the seconds of one.

    On a CPU they are of few clips, and taken to cost in proportion: a step meant for a GPU may not fit its memory.
    """
    device = find_device(config.device)
    objective = materialise(config.objective, device, config.seed, precision=config.precision)
    with torch.no_grad():
        objective.begin()
    optimizer = build_optimizer(objective, config.optim)
    parts = config.parallel.parts
    whole = max(config.clips_per_step // parts, 1)
    size = whole if device.type == "cuda" else min(whole, _CLIPS_TRIED)
    reading_s, step_s = [], []
    clips = loader.First(config.data.build(), size)
    clips.prepare()
    before = time.perf_counter()
    for loaded in loader.batches(clips, size, config.seed, range(_STEPS_TRIED)):
        batch = loader.masked_views(to_device(loaded.batch, device), config.repeat)
        begun = time.perf_counter()
        with reproducible(device):
            _step(objective, optimizer, batch, config, device)
        ended = time.perf_counter()
        reading_s.append(begun - before)
        step_s.append(ended - begun)
        before = ended
    read_s, own_s = (parts * whole / size * statistics.mean(spent[1:]) for spent in (reading_s, step_s))
    return max(read_s / config.num_workers, own_s) if config.num_workers else read_s + own_s


def _step(
    objective: Objective, optimizer: torch.optim.Optimizer, batch: Batch, config: RunConfig, device: torch.device
) -> None:
    objective.train()
    with autocast(device, config.precision):
        loss = objective(batch).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    with torch.no_grad():
        objective.after_step(1.0, torch.ones((), device=device))
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def by_unit(matrix: Matrix, found: Forecast) -> list[float]:
    """Give the seconds of each unit of a matrix, 0 for what is not foreseen."""
    titles = [unit.title for unit in matrix.units]
    return [found.units.get(title, 0.0) / titles.count(title) for title in titles]
