"""What a reader of the figures must know and no row says: who was measured, on what, by which constants."""

from __future__ import annotations

import hashlib
import importlib
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.compute as pc

from fourd import results
from fourd.benchmark.contenders import Contender
from fourd.benchmark.matrix import Matrix
from fourd.benchmark.missing import is_done
from fourd.benchmark.suite import USES, Absent, Entry, Exam, FilmExam, Use
from fourd.benchmark.units import FINETUNED, FilmUnit, Unit
from fourd.report.benchmark import BenchmarkStory, ContenderStory, EntryStory
from fourd.results import Rows


def tell(matrix: Matrix, rows: Rows, out: Path, arguments: Sequence[str]) -> BenchmarkStory:
    """Put together what stands beside the figures of a matrix."""
    suite = matrix.suite
    environments = [
        json.loads((unit.folder(out) / "unit.json").read_text())["environment"]
        for unit in matrix.units
        if is_done(unit, out)
    ]
    return BenchmarkStory(
        title=suite.title,
        suite=suite.label,
        protocol=_protocol(matrix),
        entries=(
            *(_entry(exam, entry, rows) for exam in suite.exams for entry in exam.entries),
            *(_film_entry(exam, rows) for exam in suite.film_exams),
            *(story for lost in matrix.absent for story in _absent(lost)),
        ),
        contenders=tuple(story for contender in matrix.contenders for story in _contender(matrix, contender)),
        table_depth=suite.table_depth,
        command=shlex.join(["fourd", "evaluate", *arguments]),
        machine=", ".join(dict.fromkeys(map(_machine, environments))),
        commit=", ".join(dict.fromkeys(map(_commit, environments))),
        notes=(*suite.notes, *map(str, matrix.no_readouts)),
    )


def _machine(environment: dict[str, Any]) -> str:
    return str(environment["gpu"] or f"{environment['num_cpus']} CPU cores, {environment['processor']}")


def _commit(environment: dict[str, Any]) -> str:
    git = environment["git"]
    return (git["commit"] or "unknown")[:10] + (" (changed since)" if git["changed"] else "")


def _protocol(matrix: Matrix) -> tuple[tuple[str, str], ...]:
    suite = matrix.suite
    facts = [
        ("suite", f"{suite.name}, version {suite.version}, constants {matrix.asked.fingerprint}"),
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
    return EntryStory(
        entry.name, entry.title, _title_of(exam), entry.metric, entry.average, entry.question, *_clips(rows, entry.name)
    )


def _film_entry(exam: FilmExam, rows: Rows) -> EntryStory:
    clips = _clips(rows, exam.name)
    return EntryStory(exam.name, exam.title, _title_of(exam), exam.metric, exam.average, exam.question, *clips)


def _clips(rows: Rows, entry: str) -> tuple[str, str]:
    """Say how many clips an entry's figures rest on, and name their list."""
    clips = sorted(pc.unique(results.select(rows.table, entry=entry)["clip"]).to_pylist())
    return f"{len(clips):,} clips", hashlib.sha256("\n".join(clips).encode()).hexdigest()


def _absent(lost: Absent) -> list[EntryStory]:
    exam = lost.exam
    if isinstance(exam, FilmExam):
        asked = [(exam.name, exam.title, exam.metric, exam.average, exam.question)]
    else:
        asked = [(e.name, e.title, e.metric, e.average, e.question) for e in exam.entries]
    warning = (f"no data: {lost.reason}",)
    return [
        EntryStory(name, title, _title_of(exam), metric, average, question, "no data", "", warning)
        for name, title, metric, average, question in asked
    ]


def _title_of(exam: Exam | FilmExam) -> str:
    about = getattr(_reader(exam), "ABOUT", None)
    return about.title if about is not None else exam.dataset.replace("_", " ")


def _reader(exam: Exam | FilmExam) -> ModuleType:
    return importlib.import_module(type(exam.test).__module__)


def _contender(matrix: Matrix, contender: Contender) -> list[ContenderStory]:
    """Tell of a contender once for each use of its backbone that is in the matrix."""
    mine = [
        unit
        for unit in matrix.units
        if isinstance(unit, Unit | FilmUnit)
        and (unit.contender.backbone, unit.contender.weights) == (contender.backbone, contender.weights)
    ]
    done = {unit.use if isinstance(unit, Unit) else "frozen" for unit in mine}
    uses: list[Use] = [use for use in USES if use in done]
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
    for exam in matrix.suite.all_exams:
        if {exam.dataset, *exam.overlaps} & seen:
            found += [entry.name for entry in exam.entries] if isinstance(exam, Exam) else [exam.name]
    return tuple(found)
