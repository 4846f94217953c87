"""What a reader of the figures must know and no row says: who was measured, on what, by which constants."""

from __future__ import annotations

import hashlib
import importlib
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from fourd import results
from fourd.benchmark.contenders import Contender
from fourd.benchmark.matrix import Matrix
from fourd.benchmark.suite import Entry, Exam, Use
from fourd.benchmark.units import FINETUNED, Unit
from fourd.report.benchmark import BenchmarkStory, ContenderStory, EntryStory
from fourd.results import Rows


def tell(matrix: Matrix, rows: Rows, out: Path, arguments: Sequence[str]) -> BenchmarkStory:
    """Put together what stands beside the figures of a matrix."""
    environment = json.loads((out / "environment.json").read_text())
    git = environment["git"]
    suite = matrix.suite
    return BenchmarkStory(
        title=suite.title,
        suite=suite.label,
        protocol=_protocol(matrix),
        entries=tuple(_entry(exam, entry, rows) for exam in suite.exams for entry in exam.entries)
        + tuple(_absent(lost.exam, entry, lost.reason) for lost in matrix.absent for entry in lost.exam.entries),
        contenders=tuple(story for contender in matrix.contenders for story in _contender(matrix, contender)),
        table_depth=suite.table_depth,
        command=shlex.join(["fourd", "evaluate", *arguments]),
        machine=environment["gpu"] or f"{environment['num_cpus']} CPU cores, {environment['processor']}",
        commit=(git["commit"] or "unknown")[:10] + (" (changed since)" if git["changed"] else ""),
        notes=suite.notes,
    )


def _protocol(matrix: Matrix) -> tuple[tuple[str, str], ...]:
    suite = matrix.suite
    facts = [
        ("suite", f"{suite.name}, version {suite.version}, constants {suite.fingerprint}"),
        ("depths read, frozen", ", ".join(f"{depth:g}" for depth in suite.depths)),
        ("depth read, finetuned", f"{suite.finetuned_depth:g}"),
        ("precision", suite.precision),
    ]
    for exam in suite.exams:
        clip, frozen, tuned = exam.clip, exam.frozen, exam.finetuned
        rates = ", ".join(f"{rate * frozen.optim.learning_rate:g}" for rate in frozen.rates)
        facts.append(
            (
                exam.name,
                f"{clip.num_frames} frames of {clip.height} x {clip.width}; frozen {frozen.steps} steps of "
                f"{frozen.batch_size} clips at {rates}; finetuned {tuned.steps} at {tuned.optim.learning_rate:g}, "
                f"backbone at {tuned.optim.backbone_multiplier:g} of it",
            )
        )
    return tuple(facts)


def _entry(exam: Exam, entry: Entry, rows: Rows) -> EntryStory:
    clips = sorted(set(results.select(rows.table, entry=entry.name)["clip"].to_pylist()))
    return EntryStory(
        name=entry.name,
        title=entry.title,
        dataset=_title_of(exam),
        headline_metric=entry.metric,
        average=entry.average,
        question=entry.question,
        num_clips_note=f"{len(clips):,} clips",
        clips_sha256=hashlib.sha256("\n".join(clips).encode()).hexdigest(),
        warnings=(),
    )


def _absent(exam: Exam, entry: Entry, reason: str) -> EntryStory:
    return EntryStory(
        name=entry.name,
        title=entry.title,
        dataset=_title_of(exam),
        headline_metric=entry.metric,
        average=entry.average,
        question=entry.question,
        num_clips_note="no data",
        clips_sha256="",
        warnings=(f"no data: {reason}",),
    )


def _title_of(exam: Exam) -> str:
    about = getattr(_reader(exam), "ABOUT", None)
    return about.title if about is not None else exam.dataset.replace("_", " ")


def _reader(exam: Exam) -> ModuleType:
    return importlib.import_module(type(exam.test).__module__)


def _contender(matrix: Matrix, contender: Contender) -> list[ContenderStory]:
    """Tell of a contender once for each use of its backbone that is in the matrix."""
    mine = [
        unit
        for unit in matrix.units
        if isinstance(unit, Unit)
        and (unit.contender.backbone, unit.contender.weights) == (contender.backbone, contender.weights)
    ]
    uses: list[Use] = [use for use in ("frozen", "finetuned") if any(unit.use == use for unit in mine)]
    remarks = dict.fromkeys(remark for unit in mine for remark in unit.contender.remarks)
    return [
        ContenderStory(
            backbone=contender.backbone,
            weights=contender.weights + (FINETUNED if use == "finetuned" else ""),
            use=use,
            display_name=display_name(contender),
            num_parameters=contender.num_parameters,
            source_of_weights=contender.weights,
            is_random=contender.is_random,
            pretraining_data=contender.trained_on,
            warnings=tuple(remarks),
            contaminated=contaminated(matrix, contender),
        )
        for use in uses
    ]


def display_name(contender: Contender) -> str:
    """Name a contender with the source of its weights, which are part of what was measured."""
    if contender.weights == "none":
        return contender.backbone
    source = "random weights" if contender.is_random else f"{contender.weights} weights"
    return f"{contender.backbone}, {source}"


def contaminated(matrix: Matrix, contender: Contender) -> tuple[str, ...]:
    """List the entries whose test set, or films that it shares, a contender's published weights were trained on."""
    seen = set(contender.trained_on)
    found = []
    for exam in matrix.suite.exams:
        about = getattr(_reader(exam), "ABOUT", None)
        shared = {exam.dataset, *(about.overlaps if about is not None else ())}
        if shared & seen:
            found += [entry.name for entry in exam.entries]
    return tuple(found)
