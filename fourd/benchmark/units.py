"""What there is to do: units of work that share a pass of a backbone, each with its folder and its cells."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fourd import provenance
from fourd.benchmark.contenders import Contender
from fourd.benchmark.suite import Exam, FilmExam, Suite, Use
from fourd.evaluate import Subject
from fourd.parallel import Precision
from fourd.types import ReadoutKind

FINETUNED = " finetuned"
"""How the weights of a row end where the backbone learned along."""


@dataclass(frozen=True)
class Wanted:
    """Say which part of a suite's matrix is asked for."""

    uses: tuple[Use, ...] = ("frozen", "finetuned")
    readouts: tuple[ReadoutKind, ...] = ()
    """Empty for all of the suite's; an entry is asked for those that its task has (see `without_readout`)."""
    depths: tuple[float, ...] = ()
    """Empty for all of the suite's."""
    seeds: tuple[int, ...] = (0,)
    cached: bool = False
    """See `Unit.cached`."""

    def __post_init__(self) -> None:
        """Refuse what would be measured twice, or cannot be."""
        for name in ("uses", "readouts", "depths", "seeds"):
            asked = getattr(self, name)
            if len(set(asked)) < len(asked):
                raise ValueError(f"--{name} names something twice: {asked}; name each once")
        if any(not 0 < depth <= 1 for depth in self.depths):
            raise ValueError(f"--depths is {self.depths}: expected fractions above 0, up to 1")
        if not self.seeds or min(self.seeds) < 0 or not self.uses:
            raise ValueError(f"--seeds is {self.seeds}, --use {self.uses}: expected one or more, seeds from 0 on")


@dataclass(frozen=True)
class Unit:
    """Describe readouts that learn beside each other: all of a frozen backbone on an exam, or one finetuning.

    Each of its tasks is read out in those of the kinds that it has.
    """

    suite: str
    contender: Contender
    exam: Exam
    use: Use
    readouts: tuple[ReadoutKind, ...]
    depths: tuple[float, ...]
    seed: int
    precision: Precision
    clips: str
    """Fingerprints of the very clips that it learns from, chooses by and is tested on."""
    cached: bool
    """Whether what the frozen backbone says of each clip is kept on disk, in float16, so that it runs once per clip;
    only for clips that do not depend on chance."""

    @property
    def subject(self) -> Subject:
        """Give the columns that its rows share."""
        weights = self.contender.weights + (FINETUNED if self.use == "finetuned" else "")
        return Subject(self.suite, self.contender.backbone, weights, self.seed)

    @property
    def title(self) -> str:
        """Name it for people."""
        what = self.exam.name if self.use == "frozen" else f"{self.exam.name}/{self.exam.entries[0].name}"
        return f"{self.contender.backbone} ({self.subject.weights}) on {what}, seed {self.seed}"

    @property
    def slug(self) -> str:
        """Name its folder; another constant is another folder."""
        described = provenance.describe(self.contender.without_place())
        exam = Suite.exam_fingerprint(self.exam)
        parts = json.dumps(
            [described, exam, self.readouts, self.depths, self.precision, self.cached, self.clips], sort_keys=True
        )
        digest = hashlib.sha256(parts.encode()).hexdigest()[:8]
        entry = "" if self.use == "frozen" else f"_{self.exam.entries[0].name}"
        return f"{self.contender.slug}/{self.exam.name}{entry}_{self.use}_seed{self.seed}_{digest}"

    def folder(self, out: Path) -> Path:
        """Say where its work lies."""
        return out / "units" / self.slug


@dataclass(frozen=True)
class ControlUnit:
    """Describe the answers to an exam that see no pixels."""

    suite: str
    exam: Exam
    num_clips: int
    clips: str

    @property
    def title(self) -> str:
        """Name it for people."""
        return f"controls on {self.exam.name}"

    @property
    def slug(self) -> str:
        """Name its folder."""
        parts = f"{Suite.exam_fingerprint(self.exam)} {self.num_clips} {self.clips}"
        return f"controls/{self.exam.name}_{hashlib.sha256(parts.encode()).hexdigest()[:8]}"

    def folder(self, out: Path) -> Path:
        """Say where its work lies."""
        return out / "units" / self.slug


@dataclass(frozen=True)
class FilmUnit:
    """Describe one encoder on an exam in which nothing is learned."""

    suite: str
    contender: Contender
    exam: FilmExam
    depth: float
    seed: int
    precision: Precision
    clips: str

    @property
    def title(self) -> str:
        """Name it for people."""
        return f"{self.contender.backbone} ({self.contender.weights}) on {self.exam.name}, seed {self.seed}"

    @property
    def slug(self) -> str:
        """Name its folder; another constant is another folder."""
        described = provenance.describe(self.contender.without_place())
        parts = json.dumps(
            [described, Suite.exam_fingerprint(self.exam), self.depth, self.precision, self.clips], sort_keys=True
        )
        digest = hashlib.sha256(parts.encode()).hexdigest()[:8]
        return f"{self.contender.slug}/{self.exam.name}_seed{self.seed}_{digest}"

    def folder(self, out: Path) -> Path:
        """Say where its work lies."""
        return out / "units" / self.slug


AnyUnit = Unit | ControlUnit | FilmUnit


@dataclass(frozen=True)
class NoReadout:
    """Name entries that are asked for a kind of readout which their tasks do not have."""

    kind: ReadoutKind
    entries: tuple[str, ...]

    def __str__(self) -> str:
        """Say it in words."""
        return f"no {self.kind} readout of {', '.join(self.entries)}: their tasks have none, and no row will be of it"


def without_readout(suite: Suite, wanted: Wanted) -> tuple[NoReadout, ...]:
    """List the pairs of entry and kind of readout that are asked for and cannot be; all others are measured.

    Raises ValueError where none is left to be measured frozen.
    """
    if "frozen" not in wanted.uses or not suite.exams:
        return ()
    entries = [entry for exam in suite.exams for entry in exam.entries]
    has, asked = {entry.name: entry.readouts for entry in entries}, wanted.readouts or suite.readouts
    lacking = {kind: tuple(name for name, kinds in has.items() if kind not in kinds) for kind in asked}
    if all(len(names) == len(has) for names in lacking.values()):
        told = "; ".join(f"{name} has {', '.join(kinds)}" for name, kinds in has.items())
        raise ValueError(f"--readouts {' '.join(asked)}: no entry of {suite.label} has such a readout; {told}")
    return tuple(NoReadout(kind, names) for kind, names in lacking.items() if names)


def plan(suite: Suite, contenders: Sequence[Contender], wanted: Wanted) -> list[AnyUnit]:
    """List the units of a matrix, controls first, in an order that never changes."""
    clips = {exam.name: clips_of_exam(exam) for exam in suite.all_exams}
    found: list[AnyUnit] = [
        ControlUnit(suite.label, exam, suite.num_control_clips, clips[exam.name]) for exam in suite.exams
    ]
    for seed in wanted.seeds:
        for contender in contenders:
            for exam in suite.exams:
                fitted = contender.fitted_to(exam.clip)
                for use in wanted.uses:
                    found += _of(suite, fitted, exam, use, wanted, seed, clips[exam.name])
            found += _of_films(suite, contender, wanted, seed, clips)
    return found


def clips_of_exam(exam: Exam | FilmExam) -> str:
    """Name the very clips of an exam, which change when files come, go or change."""
    datasets = (exam.train, exam.choose, exam.test) if isinstance(exam, Exam) else (exam.test,)
    return " ".join(dataset.build().fingerprint for dataset in datasets if dataset is not None)


def _of(suite: Suite, contender: Contender, exam: Exam, use: Use, wanted: Wanted, seed: int, clips: str) -> list[Unit]:
    if use == "frozen":
        depths = (1.0,) if contender.weights == "none" else wanted.depths or suite.depths
        kinds_had = {kind for entry in exam.entries for kind in entry.readouts}
        readouts = tuple(kind for kind in wanted.readouts or suite.readouts if kind in kinds_had)
        if not readouts:
            return []
        return [Unit(suite.label, contender, exam, use, readouts, depths, seed, suite.precision, clips, wanted.cached)]
    if not contender.num_parameters:  # nothing of it can be finetuned
        return []
    depths = (suite.finetuned_depth,)
    return [
        Unit(
            suite.label, contender, exam.only(number), use, ("attention",), depths, seed, suite.precision, clips, False
        )
        for number in range(len(exam.entries))
    ]


def _of_films(
    suite: Suite, contender: Contender, wanted: Wanted, seed: int, clips: Mapping[str, str]
) -> list[FilmUnit]:
    """Follow objects with frozen features; films keep their size, which is what the encoder's grid is as fine as."""
    if "frozen" not in wanted.uses:
        return []
    keeping = replace(contender, config=replace(contender.config, native_size=False))
    depths = (1.0,) if contender.weights == "none" else wanted.depths or suite.depths
    return [
        FilmUnit(suite.label, keeping, exam, depth, seed, suite.precision, clips[exam.name])
        for exam in suite.film_exams
        for depth in depths
    ]
