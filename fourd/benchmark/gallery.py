"""Pictures of wins and failures: where a contender does better than a rival, and where worse, on the same clips."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fourd import loader, pictures, results
from fourd.benchmark.contenders import Contender
from fourd.benchmark.matrix import Matrix
from fourd.benchmark.missing import is_done
from fourd.benchmark.suite import Entry, Exam
from fourd.benchmark.units import Unit
from fourd.benchmark.work import Means, chosen_heads, rebuild
from fourd.objectives.probe import Probe
from fourd.parallel import autocast, to_device
from fourd.report.benchmark import GalleryPick, choose_gallery
from fourd.results import Rows
from fourd.types import Batch, Dataset, map_tensors

_NUM_OF_A_KIND = 2
"""Wins and failures for each entry; a page has to stay small."""
_WIDTH_PX = 480
"""Of a film on the page."""


def draw_gallery(matrix: Matrix, rows: Rows, subject: Contender, rival: Contender, out: Path, means: Means) -> Path:
    """Draw for each entry clips on which two frozen contenders differ, once; return the folder.

    Writes films, strips and `pictures.json`, which says what each shows: above the subject's answer, below the rival's.
    """
    exams = [
        (exam, [_unit(matrix, contender, exam, out) for contender in (subject, rival)]) for exam in matrix.suite.exams
    ]
    drawn = [(exam, [unit for unit in units if unit is not None]) for exam, units in exams]
    drawn = [(exam, units) for exam, units in drawn if len(units) == 2]
    named = "".join(unit.slug for _, units in drawn for unit in units)
    digest = hashlib.sha256(named.encode()).hexdigest()[:8]
    folder = out / "pictures" / f"{subject.slug}_against_{rival.slug}_{digest}"
    if (folder / "pictures.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, str]] = []
    for exam, units in drawn:
        sides, dataset = [_Side.of(unit, out, means) for unit in units], exam.test.build()
        for number in range(len(exam.entries)):
            entries += _draw_entry(exam, number, sides, dataset, rows, folder)
    (folder / "pictures.json").write_text(json.dumps(entries, indent=2) + "\n")
    return folder


@dataclass(frozen=True, eq=False)
class _Side:
    """Hold one of two contenders: its trained readouts, and which of them count."""

    unit: Unit
    probe: Probe
    chosen: tuple[int, ...]

    @staticmethod
    def of(unit: Unit, out: Path, means: Means) -> _Side:
        probe = rebuild(unit, out, means)
        rates = unit.folder(out) / "rates.csv"
        chosen = chosen_heads(rates, probe) if rates.exists() else range(len(probe.heads))
        return _Side(unit, probe, tuple(chosen))

    def head(self, task: int) -> int:
        """Find the attention readout of a task at the deepest depth, learned at the rate that was chosen."""
        fitting = [
            n for n in self.chosen if self.probe.heads[n].task == task and self.probe.heads[n].kind == "attention"
        ]
        return max(fitting, key=lambda n: self.probe.config.depths[self.probe.heads[n].depth])

    def cell(self, task: int) -> dict[str, Any]:
        return asdict(self.unit.subject.cell(self.probe, self.probe.heads[self.head(task)]))


def _draw_entry(
    exam: Exam, number: int, sides: Sequence[_Side], dataset: Dataset, rows: Rows, folder: Path
) -> list[dict[str, str]]:
    """Draw one entry's clips."""
    entry, cells = exam.entries[number], [side.cell(number) for side in sides]
    found = []
    for place, pick in enumerate(choose_gallery(rows, entry.name, entry.metric, cells[0], cells[1], _NUM_OF_A_KIND)):
        batch = _find(dataset, rows, entry, cells[0], pick.clip)
        films = [_film(side.probe, side.head(number), batch, side.unit) for side in sides]
        names = (sides[0].unit.contender.backbone, sides[1].unit.contender.backbone)
        found.append(_save(_above(films), folder, entry, pick, place, *names))
    return found


def _unit(matrix: Matrix, contender: Contender, exam: Exam, out: Path) -> Unit | None:
    """Find the frozen unit with a contender's attention readouts on an exam, the deepest, if it is done."""
    found = [
        unit
        for unit in matrix.units
        if isinstance(unit, Unit)
        and (unit.use, unit.exam.name, unit.contender.slug) == ("frozen", exam.name, contender.slug)
        and "attention" in unit.readouts
        and is_done(unit, out)
    ]
    return max(found, key=lambda unit: max(unit.depths), default=None)


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


def _smaller(film: Tensor) -> Tensor:
    """Shrink a film so that a page can hold many."""
    factor = _WIDTH_PX / film.shape[2]
    if factor >= 1:
        return film
    size = (round(film.shape[1] * factor), _WIDTH_PX)
    shrunk = F.interpolate(film.permute(0, 3, 1, 2), size, mode="bilinear", antialias=True)
    return shrunk.permute(0, 2, 3, 1).contiguous()


def _save(
    film: Tensor, folder: Path, entry: Entry, pick: GalleryPick, place: int, subject: str, rival: str
) -> dict[str, str]:
    stem = f"{entry.name}_{pick.kind}_{place}"
    pictures.save_film(_smaller(film), folder / f"{stem}.webp")
    pictures.save_picture(pictures.filmstrip(film), folder / f"{stem}.png")
    caption = f"{entry.metric}: {subject} {pick.subject_score:.3g}, {rival} {pick.rival_score:.3g}"
    described = {"entry": entry.name, "kind": pick.kind, "clip": pick.clip, "caption": caption}
    return described | {"film": f"{stem}.webp", "strip": f"{stem}.png", "subject": subject, "rival": rival}
