"""What a suite is: a versioned tuple of exams with named constants, and nothing that depends on who is measured."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fourd import provenance
from fourd.label_propagation import LabelPropagationConfig
from fourd.optim import OptimConfig
from fourd.parallel import Precision
from fourd.results import Average
from fourd.types import ClipShape, DatasetConfig, ReadoutKind, TaskConfig

Use = Literal["frozen", "finetuned"]
USES: tuple[Use, ...] = ("frozen", "finetuned")


@dataclass(frozen=True)
class Training:
    """Describe how readouts, or readouts and backbone, learn.

    rates: what the learning rate is multiplied by; of several, that which does best on the clips for choosing counts.
    Gradients are never clipped across readouts, which would tie them to each other.
    """

    optim: OptimConfig
    steps: int
    batch_size: int
    rates: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        """Refuse what would make one readout depend on another."""
        if self.optim.clip_norm:
            raise ValueError(
                f"Training.optim.clip_norm is {self.optim.clip_norm}: expected 0, since the norm of all readouts "
                "together would tie each to the others"
            )
        if not self.rates or min(self.rates) <= 0:
            raise ValueError(f"Training.rates is {self.rates}: expected factors above 0, 1 for the rate as it is")


@dataclass(frozen=True)
class Entry:
    """Name one thing that is measured: a task, which of its figures stands for it, and what it asks.

    metric: the one a table shows. average: over clips each counted once, or by their weight in pixels or
    object-frames.
    """

    task: TaskConfig
    title: str
    question: str
    metric: str
    average: Average = "clip_mean"

    @property
    def name(self) -> str:
        """Give the name that its rows have."""
        return self.task.name

    @property
    def readouts(self) -> tuple[ReadoutKind, ...]:
        """List the kinds of readouts that its task has."""
        return self.task.build().readouts


@dataclass(frozen=True)
class Exam:
    """Hold entries that share their clips, so that a frozen backbone sees each clip once for all of them.

    train, test: datasets whose `tasks` are aligned with the entries. choose: clips of the training split that no
    readout learns from, by which learning rates are chosen; needed where there are several.
    """

    name: str
    dataset: str
    """The reader's module, such as `scannet`; published weights that were trained on it are marked."""
    train: DatasetConfig
    test: DatasetConfig
    choose: DatasetConfig | None
    clip: ClipShape
    entries: tuple[Entry, ...]
    frozen: Training
    finetuned: Training
    overlaps: tuple[str, ...] = ()
    """Other readers' modules whose films the test clips are taken from."""

    def __post_init__(self) -> None:
        """Refuse a sweep without clips to choose by."""
        if self.choose is None and max(len(self.frozen.rates), len(self.finetuned.rates)) > 1:
            raise ValueError(
                f"exam {self.name!r} has several learning rates: it needs clips to choose by, never the test's"
            )

    @property
    def tasks(self) -> tuple[TaskConfig, ...]:
        """List the tasks of its entries."""
        return tuple(entry.task for entry in self.entries)

    def only(self, number: int) -> Exam:
        """Keep one entry, and of the clips' labels those that it needs."""
        datasets = {name: _with_task(getattr(self, name), number) for name in ("train", "test", "choose")}
        return dataclasses.replace(self, entries=(self.entries[number],), **datasets)

    def training(self, use: Use) -> Training:
        """Say how it is learned."""
        return self.frozen if use == "frozen" else self.finetuned


def _with_task(dataset: Any, number: int) -> Any:
    return dataset and dataclasses.replace(dataset, tasks=(dataset.tasks[number],))


@dataclass(frozen=True)
class FilmExam:
    """Describe an exam in which nothing is learned: objects are followed through whole films by features alone.

    metric, average: as of an `Entry`. Encoders keep the films' size where they can.
    """

    name: str
    dataset: str
    test: DatasetConfig
    title: str
    question: str
    constants: LabelPropagationConfig = field(default_factory=LabelPropagationConfig)
    metric: str = "j_and_f_mean"
    average: Average = "weighted_mean"
    overlaps: tuple[str, ...] = ()


@dataclass(frozen=True)
class Suite:
    """Describe a benchmark in full. Changing any constant makes another version.

    readouts: kinds of frozen readouts; an entry is read out by those that its task has. depths: fractions of the
    backbone's depth that frozen readouts read. table_depth: the one that a table shows,
    chosen here and never by a score. finetuned_depth: the one that is read where the backbone learns along.
    num_control_clips: training clips from which the answers that see no pixels are learned.
    """

    name: str
    version: int
    title: str
    exams: tuple[Exam, ...] = ()
    film_exams: tuple[FilmExam, ...] = ()
    readouts: tuple[ReadoutKind, ...] = ("attention", "linear")
    depths: tuple[float, ...] = (0.95,)
    table_depth: float = 0.95
    finetuned_depth: float = 0.95
    precision: Precision = "bf16"
    num_control_clips: int = 512
    notes: tuple[str, ...] = ()
    """What a reader of its figures must know."""

    def __post_init__(self) -> None:
        """Refuse two entries of one name."""
        names = [entry.name for exam in self.exams for entry in exam.entries]
        names += [exam.name for exam in self.film_exams]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"suite {self.name!r} has several entries called {', '.join(twice)}; give each its own name"
            )

    @property
    def label(self) -> str:
        """Give the name that its rows have."""
        return f"{self.name}_v{self.version}"

    @property
    def all_exams(self) -> tuple[Exam | FilmExam, ...]:
        """List all exams, those without learning last."""
        return (*self.exams, *self.film_exams)

    def without(self, names: Sequence[str]) -> Suite:
        """Leave out exams."""
        exams = tuple(exam for exam in self.exams if exam.name not in names)
        films = tuple(exam for exam in self.film_exams if exam.name not in names)
        return dataclasses.replace(self, exams=exams, film_exams=films)

    @property
    def fingerprint(self) -> str:
        """Change with any constant, whatever the folder that the data lie in."""
        described = json.dumps(_without_places(provenance.describe(self)), sort_keys=True)
        return hashlib.sha256(described.encode()).hexdigest()[:12]

    @staticmethod
    def exam_fingerprint(exam: Exam | FilmExam) -> str:
        """Change with any constant of an exam."""
        described = json.dumps(_without_places(provenance.describe(exam)), sort_keys=True)
        return hashlib.sha256(described.encode()).hexdigest()[:12]


_PLACES = ("root", "cache_dir", "cache", "folder")
"""Fields that say where files lie on a machine, which is no constant of a protocol."""


_CAME_LATER = {"fourd.readout:ReadoutSize": {"num_blocks": 3}}
"""Fields that came after results were stored, by type, with the value that these had: at it, fingerprints stay."""


def _without_places(described: Any) -> Any:
    if isinstance(described, dict):
        later = _CAME_LATER.get(described.get("type", ""), {}).items()
        kept = {name: value for name, value in described.items() if name not in _PLACES and (name, value) not in later}
        if "class_names" in kept:  # what classes are called is no constant, how many there are is
            kept["class_names"] = len(kept["class_names"])
        return {name: _without_places(value) for name, value in kept.items()}
    return [_without_places(value) for value in described] if isinstance(described, list) else described


@dataclass(frozen=True)
class Absent:
    """Name an exam that cannot be held on this machine, and say why."""

    exam: Exam | FilmExam
    reason: str


def available(suite: Suite) -> tuple[Suite, tuple[Absent, ...]]:
    """Keep the exams whose data are there; say of the others what is missing and how it is got."""
    absent = []
    for exam in suite.all_exams:
        datasets = (exam.train, exam.test, exam.choose) if isinstance(exam, Exam) else (exam.test,)
        try:
            for dataset in datasets:
                if dataset is not None:
                    dataset.build()
        except (FileNotFoundError, NotADirectoryError, ValueError) as error:
            absent.append(Absent(exam, str(error)))
    return suite.without([lost.exam.name for lost in absent]), tuple(absent)
