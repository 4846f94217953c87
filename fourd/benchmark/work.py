"""Doing one unit of work: learn the readouts, choose their learning rates, score them on the test clips."""

from __future__ import annotations

import csv
import logging
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from fourd import provenance, results, run_folder, weights
from fourd.benchmark.suite import Exam
from fourd.benchmark.units import AnyUnit, ControlUnit, FilmUnit, Unit
from fourd.encoded import EncodedConfig
from fourd.evaluate import Reading, evaluate, evaluate_controls
from fourd.label_propagation import READOUT, evaluate_label_propagation
from fourd.objectives.probe import Probe, ProbeConfig
from fourd.parallel import find_device, materialise
from fourd.results import Cell, Rows
from fourd.trainer import RunConfig, fit
from fourd.types import DatasetConfig, Unreadable
from fourd.weights.starting import fill_backbone

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Means:
    """Say with what the work is done, which changes no figure."""

    device: str = "auto"
    num_workers: int = 0
    save_every: int = 200


def do(unit: AnyUnit, out: Path, means: Means) -> None:
    """Do a unit, from where an earlier call was stopped; its rows are the last thing to be written."""
    folder = unit.folder(out)
    folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    excluded: list[Unreadable] = []
    if isinstance(unit, ControlUnit):
        rows = _score_controls(unit, means, excluded)
    elif isinstance(unit, FilmUnit):
        rows = _follow_objects(unit, means, excluded)
    else:
        rows = _learn_and_score(unit, out, means, excluded)
    run_folder.list_unreadable(folder, excluded)
    provenance.write_json(folder / "unit.json", _about(unit, time.perf_counter() - began))
    results.write_rows(folder / "rows.parquet", rows.table, rows.metrics)
    shutil.rmtree(folder / "run" / "checkpoints", ignore_errors=True)
    if isinstance(unit, Unit) and unit.use == "frozen":  # its weights are those of the contender's source
        (folder / "run" / "final" / "model.safetensors").unlink(missing_ok=True)


def _about(unit: AnyUnit, seconds: float) -> dict[str, object]:
    """Describe what was done; `seconds` are those of the call that ended it."""
    cells = {"readouts": list(unit.readouts), "depths": list(unit.depths)} if isinstance(unit, Unit) else {}
    return {"title": unit.title, "seconds": round(seconds, 1), **cells, "environment": provenance.environment()}


def _score_controls(unit: ControlUnit, means: Means, excluded: list[Unreadable]) -> Rows:
    tasks = [task.build() for task in unit.exam.tasks]
    reading = Reading(num_workers=means.num_workers, excluded=excluded)
    of_train = Reading(num_workers=means.num_workers, excluded=[])
    train, test = unit.exam.train.build(), unit.exam.test.build()
    excluded += test.unreadable
    rows = evaluate_controls(tasks, train, test, unit.suite, unit.num_clips, reading, of_train)
    _warn(unit, "learning", of_train.excluded)
    return rows


def _warn(unit: AnyUnit, what_for: str, lost: list[Unreadable] | None) -> None:
    """Tell of training clips that were left out; the table is of test clips alone."""
    if lost:
        log.warning("%s: %d clips for %s could not be decoded, such as %s", unit.title, len(lost), what_for, lost[0])


def _follow_objects(unit: FilmUnit, means: Means, excluded: list[Unreadable]) -> Rows:
    contender, device = unit.contender, find_device(means.device)
    backbone = contender.config.build().to(device)
    backbone.init_weights(torch.Generator(device).manual_seed(unit.seed))
    if contender.source:
        fill_backbone(backbone, contender.source)
    films = unit.exam.test.build()
    excluded += films.unreadable
    entry, block = unit.exam.name, backbone.block_at(unit.depth)
    weights_of = (contender.backbone, contender.weights, READOUT)
    cell = Cell(unit.suite, entry, *weights_of, "segmentation", unit.depth, block, unit.seed)
    return evaluate_label_propagation(backbone.eval(), films, cell, unit.exam.constants, unit.precision, excluded)


def _learn_and_score(unit: Unit, out: Path, means: Means, excluded: list[Unreadable]) -> Rows:
    probe = learn(unit, out, means)
    heads = _choose(unit, probe, out, means)
    reading = Reading(unit.exam.training(unit.use).batch_size, means.num_workers, excluded)
    test = clips_of(unit, unit.exam.test, out, means).build()
    excluded += test.unreadable
    return evaluate(probe, test, unit.subject, unit.precision, heads, reading)


# ----------------------------------------------------------------------------- learning


def learn(unit: Unit, out: Path, means: Means) -> Probe:
    """Train a unit's readouts, and its backbone where it learns along; or go on where that was stopped."""
    probe = fit(run_config(unit, out, means), unit.folder(out) / "run", unit.title)
    assert isinstance(probe, Probe)
    return probe


def run_config(unit: Unit, out: Path, means: Means) -> RunConfig:
    """Describe the training of a unit."""
    training = unit.exam.training(unit.use)
    return RunConfig(
        objective=probe_config(unit),
        data=clips_of(unit, unit.exam.train, out, means),
        optim=training.optim,
        steps=training.steps,
        batch_size=training.batch_size,
        seed=unit.seed,
        init="" if unit.cached else unit.contender.source,
        precision=unit.precision,
        device=means.device,
        num_workers=means.num_workers,
        save_every=means.save_every,
        max_norm_sigmas=0.0 if unit.use == "frozen" else RunConfig.max_norm_sigmas,  # one readout's leap is its own
        max_skipped=1,  # a step that one readout spoils is a step less for all: none may be
    )


def probe_config(unit: Unit) -> ProbeConfig:
    """Describe a unit's readouts."""
    exam, training = unit.exam, unit.exam.training(unit.use)
    use = "encoded" if unit.cached else unit.use
    return ProbeConfig(
        unit.contender.config, exam.tasks, exam.clip, unit.readouts, unit.depths, use=use, rates=training.rates
    )


def clips_of(unit: Unit, data: DatasetConfig, out: Path, means: Means) -> DatasetConfig:
    """Give clips, with what the frozen backbone says of them where that is kept."""
    if not unit.cached:
        return data
    contender = unit.contender
    folder = str(out.resolve() / "features")
    return EncodedConfig(
        data, contender.config, unit.depths, contender.source, unit.seed, folder, unit.precision, means.device
    )


def rebuild(unit: Unit, out: Path, means: Means) -> Probe:
    """Build a unit's probe as it was when its training ended."""
    config = replace(probe_config(unit), use="frozen") if unit.use == "frozen" else probe_config(unit)
    device = find_device(means.device)
    probe = materialise(config, device, unit.seed)
    assert isinstance(probe, Probe)
    final = unit.folder(out) / "run" / "final"
    weights.load_module(probe.readouts, final / "readouts.safetensors")
    if unit.use == "finetuned":
        weights.load_module(probe.backbone, final / "model.safetensors")
    elif unit.contender.source:
        fill_backbone(probe.backbone, unit.contender.source)
    return probe.eval()


# ----------------------------------------------------------------------------- choosing learning rates


def _choose(unit: Unit, probe: Probe, out: Path, means: Means) -> list[int]:
    """Choose for each cell the readout whose learning rate did best on clips of the training split."""
    path = unit.folder(out) / "rates.csv"
    if len(probe.config.rates) == 1:
        return list(range(len(probe.heads)))
    if not path.exists():
        figures = _figures(unit, probe, out, means)
        _write_figures(path, unit, probe, figures)
    return chosen_heads(path, probe)


def _figures(unit: Unit, probe: Probe, out: Path, means: Means) -> list[float]:
    """Score every readout on the clips for choosing; higher is better."""
    assert unit.exam.choose is not None
    dataset = clips_of(unit, unit.exam.choose, out, means).build()
    reading = Reading(unit.exam.training(unit.use).batch_size, means.num_workers, [])
    by_rate = []
    for rate in range(len(probe.config.rates)):
        heads = [number for number, head in enumerate(probe.heads) if head.rate == rate]
        by_rate.append(evaluate(probe, dataset, unit.subject, unit.precision, heads, reading))
    _warn(unit, "choosing", reading.excluded)
    return [_figure(unit.exam, probe, number, by_rate[head.rate]) for number, head in enumerate(probe.heads)]


def _figure(exam: Exam, probe: Probe, number: int, rows: Rows) -> float:
    head = probe.heads[number]
    entry = exam.entries[head.task]
    depth = probe.config.depths[head.depth]
    own = results.select(rows.table, entry=entry.name, metric=entry.metric, readout=head.kind, depth=depth)
    value = getattr(results.mean(own), entry.average)
    if not math.isfinite(value):
        raise ValueError(
            f"{entry.name}: no clip for choosing has a figure of {entry.metric}: no rate can be chosen by them"
        )
    return float(value if rows.metrics[entry.metric].higher_is_better else -value)


_COLUMNS = ("readout", "rate", "figure")


def _write_figures(path: Path, unit: Unit, probe: Probe, figures: Sequence[float]) -> None:
    """Keep what was compared; the figure is negative where lower is better."""
    aside = path.with_suffix(".tmp")
    with aside.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for head, figure in zip(probe.heads, figures, strict=True):
            writer.writerow((probe.label(head).rpartition("/x")[0], probe.config.rates[head.rate], repr(figure)))
    aside.replace(path)


def chosen_heads(path: Path, probe: Probe) -> list[int]:
    """Read which readout is best for each cell; the lower rate where two do equally well."""
    with path.open(newline="") as file:
        figures = [float(row["figure"]) for row in csv.DictReader(file)]
    best: dict[tuple[int, str, int], int] = {}
    for number, head in enumerate(probe.heads):
        cell = (head.task, head.kind, head.depth)
        if cell not in best or figures[number] > figures[best[cell]]:
            best[cell] = number
    return sorted(best.values())
