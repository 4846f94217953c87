"""Pictures of wins and failures: where a contender does better than a rival, and where worse, on the same clips."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fourd import loader, pictures, results
from fourd.benchmark.matrix import Matrix
from fourd.benchmark.missing import is_done
from fourd.benchmark.suite import Entry
from fourd.benchmark.units import ControlUnit, Unit
from fourd.benchmark.work import Means, chosen_heads, rebuild
from fourd.objectives.probe import Probe
from fourd.parallel import autocast, to_device
from fourd.report.benchmark import GalleryPick, choose_gallery
from fourd.results import Rows
from fourd.types import Batch, Dataset, map_tensors


def draw_gallery(matrix: Matrix, rows: Rows, subject: str, rival: str, out: Path, means: Means) -> Path:
    """Draw for each entry clips on which two frozen contenders differ, once; return the folder.

    subject, rival: names of contenders. Writes films, strips and `pictures.json`, which says what each shows: above
    the subject's answer, below the rival's.
    """
    folder = out / "pictures" / f"{_plain(subject)}_against_{_plain(rival)}"
    if (folder / "pictures.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, str]] = []
    for exam in matrix.suite.exams:
        sides = [_unit(matrix, name, exam.name, out) for name in (subject, rival)]
        if None in sides:
            continue
        probes = [rebuild(unit, out, means) for unit in sides if unit is not None]
        for number, entry in enumerate(exam.entries):
            answering = [_head(unit, probe, number, out) for unit, probe in zip(sides, probes, strict=True) if unit]
            units = [unit for unit in sides if unit is not None]
            cells = [
                unit.subject.cell(probe, probe.heads[head])
                for unit, probe, head in zip(units, probes, answering, strict=True)
            ]
            picks = choose_gallery(rows, entry.name, entry.metric, asdict(cells[0]), asdict(cells[1]), 2)
            dataset = exam.test.build()
            for place, pick in enumerate(picks):
                batch = _find(dataset, rows, entry, asdict(cells[0]), pick.clip)
                films = [
                    _film(probe, head, batch, unit) for unit, probe, head in zip(units, probes, answering, strict=True)
                ]
                entries.append(_save(_above(films), folder, entry, pick, place, subject, rival))
    (folder / "pictures.json").write_text(json.dumps(entries, indent=2) + "\n")
    return folder


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-." else "-" for c in name)


def _unit(matrix: Matrix, backbone: str, exam: str, out: Path) -> Unit | None:
    """Find the frozen unit that holds the table's depth for a contender, if it is done."""
    for unit in matrix.units:
        if isinstance(unit, ControlUnit) or unit.use != "frozen" or "attention" not in unit.readouts:
            continue
        if (unit.contender.backbone, unit.exam.name) == (backbone, exam) and is_done(unit, out):
            return unit
    return None


def _head(unit: Unit, probe: Probe, task: int, out: Path) -> int:
    """Find the attention readout of a task at the deepest depth, learned at the rate that was chosen."""
    rates = unit.folder(out) / "rates.csv"
    chosen: Sequence[int] = chosen_heads(rates, probe) if rates.exists() else range(len(probe.heads))
    fitting = [n for n in chosen if probe.heads[n].task == task and probe.heads[n].kind == "attention"]
    return max(fitting, key=lambda n: probe.config.depths[probe.heads[n].depth])


def _find(dataset: Dataset, rows: Rows, entry: Entry, cell: dict[str, Any], clip: str) -> Batch:
    """Read a clip by its key: rows are in the order of the dataset, less what was left out before."""
    of_cell = results.select(rows.table, metric=entry.metric, **cell)["clip"].to_pylist()
    for number in range(of_cell.index(clip), len(dataset) // dataset.num_views):
        batch = dataset.read(number * dataset.num_views, loader.Draw(number, 0, 0).rng())
        if batch.key[0] == clip:
            return batch
    raise ValueError(f"clip {clip!r} of the rows is not in the test set any more")


@torch.no_grad()
def _film(probe: Probe, head: int, batch: Batch, unit: Unit) -> Tensor:
    device = next(probe.parameters()).device
    with autocast(device, unit.precision):
        answer = map_tensors(torch.Tensor.cpu, probe.eval().predict(to_device(batch, device))[head])
    task = probe.heads[head].task
    sample = batch.tasks[task]
    return probe.tasks[task].draw(batch.video, sample.query, answer, sample.target)


def _above(films: Sequence[Tensor]) -> Tensor:
    """Set one film above the other."""
    return torch.from_numpy(np.concatenate([film.numpy() for film in films], axis=1))


def _save(
    film: Tensor, folder: Path, entry: Entry, pick: GalleryPick, place: int, subject: str, rival: str
) -> dict[str, str]:
    stem = f"{entry.name}_{pick.kind}_{place}"
    pictures.save_film(film, folder / f"{stem}.webp")
    pictures.save_picture(pictures.filmstrip(film), folder / f"{stem}.png")
    caption = f"{entry.metric}: {subject} {pick.subject_score:.3g}, {rival} {pick.rival_score:.3g}"
    described = {"entry": entry.name, "kind": pick.kind, "clip": pick.clip, "caption": caption}
    return described | {"film": f"{stem}.webp", "strip": f"{stem}.png", "subject": subject, "rival": rival}
