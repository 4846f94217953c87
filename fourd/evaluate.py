"""From a trained probe to rows: one score per clip, for every readout it holds and for the controls."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from fourd import loader, pictures
from fourd.objectives.probe import Head, Probe
from fourd.parallel import Precision, autocast, reproducible, to_device
from fourd.results import Cell, Rows, tabulate
from fourd.types import Batch, Dataset, Metric, Score, Task, TaskSample, Unreadable, map_tensors

_BATCH_SIZE = 64


@dataclass(frozen=True)
class Subject:
    """Name whose features are read out: the columns that all rows of a probe share."""

    suite: str
    backbone: str
    weights: str
    seed: int

    def cell(self, probe: Probe, head: Head) -> Cell:
        """Name the cell of one readout."""
        return self._cell(probe.tasks[head.task], head.kind, probe.config.depths[head.depth], probe.blocks[head.depth])

    def control_cell(self, task: Task[Any, Any, Any]) -> Cell:
        """Name the cell of answers that know nothing of the pixels."""
        return self._cell(task, "none", None, None)

    def _cell(self, task: Task[Any, Any, Any], readout: str, depth: float | None, block: int | None) -> Cell:
        return Cell(self.suite, task.name, self.backbone, self.weights, readout, task.kind, depth, block, self.seed)


@dataclass(frozen=True)
class Reading:
    """Say how the clips to score are read.

    excluded: where to list clips that cannot be decoded, none of whose views is scored; None lets the first one end it.
    """

    batch_size: int = _BATCH_SIZE
    num_workers: int = 0
    excluded: list[Unreadable] | None = None

    def batches(self, dataset: Dataset) -> Iterator[Batch]:
        """Give every clip once, in order, all views of a clip in one batch."""
        return loader.in_order(dataset, self.batch_size, num_workers=self.num_workers, unreadable=self.excluded)


def evaluate(
    probe: Probe,
    dataset: Dataset,
    subject: Subject,
    precision: Precision = "bf16",
    heads: Sequence[int] | None = None,
    reading: Reading | None = None,
) -> Rows:
    """Score readouts of a probe on every clip of a dataset; the answers to several views of a clip are averaged.

    heads: which of `probe.heads`, no two of one cell; all by default.
    """
    collected = []
    chosen = range(len(probe.heads)) if heads is None else heads
    for batch, answers in _answers(probe, dataset, precision, reading or Reading()):
        for number in chosen:
            head = probe.heads[number]
            scores = _scores(probe.tasks[head.task], batch.tasks[head.task], answers[number], dataset.num_views)
            clips = batch.key[:: dataset.num_views], batch.group[:: dataset.num_views]
            collected.append(tabulate(subject.cell(probe, head), *clips, scores))
    return join(collected)


def _scores(task: Task[Any, Any, Any], sample: TaskSample[Any, Any], answer: Any, num_views: int) -> tuple[Score, ...]:
    if num_views == 1:
        return task.scores(answer, sample.query, sample.target)
    query, target = (map_tensors(lambda tensor: tensor[::num_views], noun) for noun in (sample.query, sample.target))
    return task.scores(task.pool_views(answer, num_views), query, target)


def _answers(
    probe: Probe, dataset: Dataset, precision: Precision, reading: Reading
) -> Iterator[tuple[Batch, list[Any]]]:
    device = next(probe.parameters()).device
    probe.eval()
    with reproducible(device):
        for batch in reading.batches(dataset):
            with torch.no_grad(), autocast(device, precision):
                answers = probe.predict(to_device(batch, device))
            yield batch, [map_tensors(torch.Tensor.cpu, answer) for answer in answers]


def evaluate_controls(
    tasks: Sequence[Task[Any, Any, Any]],
    train: Dataset,
    test: Dataset,
    suite: str,
    num_train: int | None = None,
    reading: Reading | None = None,
    train_reading: Reading | None = None,
) -> Rows:
    """Score the answers that know nothing of the pixels; what they know comes from `train` alone.

    num_train: look at so many of its clips, spread evenly over it; all by default. reading, train_reading: how test and
    training clips are read.
    """
    reading = reading or Reading()
    learned_from = loader.Thinned(train, num_train) if num_train is not None else train
    samples = [batch.tasks for batch in (train_reading or reading).batches(learned_from)]
    controls = [task.fit_controls([sample[number] for sample in samples]) for number, task in enumerate(tasks)]
    collected = []
    for batch in reading.batches(test):
        clips = batch.key[:: test.num_views], batch.group[:: test.num_views]
        for task, sample, own in zip(tasks, batch.tasks, controls, strict=True):
            for name, control in own.items():
                answer = control(sample.query, batch.clip_shape, len(batch.key))
                cell = Subject(suite, f"control:{name}", "none", 0).control_cell(task)
                collected.append(tabulate(cell, *clips, _scores(task, sample, answer, test.num_views)))
    return join(collected)


def join(parts: Sequence[Rows]) -> Rows:
    """Put rows together."""
    metrics: dict[str, Metric] = {}
    for part in parts:
        metrics |= part.metrics
    return Rows(pa.concat_tables([part.table for part in parts]), metrics)


# ----------------------------------------------------------------------------- pictures

_KINDS = (("success", 0.95), ("typical", 0.5), ("failure", 0.05))


def draw_gallery(
    probe: Probe,
    dataset: Dataset,
    rows: Rows,
    subject: Subject,
    folder: Path,
    precision: Precision,
    headlines: Mapping[str, str],
) -> None:
    """Draw for each task how its attention readout does on a good, a usual and a bad clip.

    headlines: the metric that ranks the clips of a task, where it is not the first. Writes films, strips
    and `pictures.json`, which says what each shows.
    """
    entries = []
    for head, answer_index in ((head, number) for number, head in enumerate(probe.heads) if head.kind == "attention"):
        task = probe.tasks[head.task]
        metric = rows.metrics[headlines.get(task.name, task.metrics[0].name)]
        for kind, position, score in _chosen(rows, probe, head, subject, metric):
            batch = dataset.read(position, loader.Draw(position, 0, 0).rng())
            answer = _answer_one(probe, batch, answer_index, precision)
            sample = batch.tasks[head.task]
            film = task.draw(batch.video, sample.query, answer, sample.target)
            stem = f"{task.name}_{kind}_{probe.config.depths[head.depth]:g}"
            pictures.save_film(film, folder / f"{stem}.webp")
            pictures.save_picture(pictures.filmstrip(film), folder / f"{stem}.png")
            entries.append(
                {
                    "entry": task.name,
                    "backbone": subject.backbone,
                    "readout": head.kind,
                    "clip": batch.key[0],
                    "kind": kind,
                    "caption": f"{metric.title} {score:.3g} {metric.unit}".strip(),
                    "film": f"{stem}.webp",
                    "strip": f"{stem}.png",
                }
            )
    (folder / "pictures.json").write_text(json.dumps(entries, indent=2) + "\n")


def _chosen(rows: Rows, probe: Probe, head: Head, subject: Subject, metric: Metric) -> list[tuple[str, int, float]]:
    """Choose clips by their place in the ranking of scores: kind, number in the dataset, score."""
    cell = dataclasses.asdict(subject.cell(probe, head))
    records = [
        record
        for record in rows.table.to_pylist()
        if record["metric"] == metric.name and all(record[name] == value for name, value in cell.items())
    ]
    ranked = sorted(enumerate(records), key=lambda item: item[1]["score"], reverse=not metric.higher_is_better)
    ranked = [item for item in ranked if item[1]["weight"] > 0]
    found = [(kind, ranked[int(share * (len(ranked) - 1))]) for kind, share in _KINDS if ranked]
    return [(kind, number, record["score"]) for kind, (number, record) in found]


def _answer_one(probe: Probe, batch: Batch, answer_index: int, precision: Precision) -> Any:
    device = next(probe.parameters()).device
    with torch.no_grad(), autocast(device, precision):
        return map_tensors(torch.Tensor.cpu, probe.eval().predict(to_device(batch, device))[answer_index])
