"""Examine a copy of a dataset, split by split."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from rich.console import Console
from rich.progress import track

from fourd.datasets import LabelledConfig, LabelledDataset, Windows
from fourd.doctor.counts import Counts, count
from fourd.doctor.findings import Expected, Plausible
from fourd.doctor.looking import Look, choose, look_at
from fourd.doctor.readers import Reader
from fourd.doctor.tally import Tally
from fourd.doctor.verdict import Verdict, absent, join, judge


@dataclass(frozen=True)
class ExamineConfig:
    """Say what is looked at. None of the values is from the paper."""

    num_clips: int = 16
    """Clips of each split that are loaded and checked, spread over its recordings."""
    all: bool = False
    """Load and check every clip."""
    num_frames: int | None = None
    """Frames of a clip, instead of those that the reader's `base` says."""
    seed: int = 0
    """Chooses the clips."""
    plausible: Plausible = field(default_factory=Plausible)

    def __post_init__(self) -> None:
        """Refuse to look at nothing."""
        if self.num_clips < 1 or (self.num_frames is not None and self.num_frames < 1):
            raise ValueError(
                f"--num-clips is {self.num_clips}, --num-frames is {self.num_frames}: expected 1 or more of each"
            )


@dataclass(frozen=True)
class SplitReport:
    """Hold what is known of a split. remarks: what could not be checked, and why."""

    split: str
    verdict: Verdict
    num_frames: int = 0
    counts: Counts | None = None
    tally: Tally = field(default_factory=Tally)
    class_names: tuple[str, ...] | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """Hold what is known of a copy."""

    reader: Reader
    root: Path
    splits: tuple[SplitReport, ...]
    verdict: Verdict


OnLook = Callable[[SplitReport, Look], None]


def examine(
    reader: Reader, root: Path, splits: Sequence[str], config: ExamineConfig, on_look: OnLook = lambda split, look: None
) -> Report:
    """Examine a copy: count it, load a sample of its clips, and check their labels.

    splits: which; none for those of the official lists. on_look: is told of each clip, while it is in memory.
    """
    _require_recordings(reader, root)
    reports = tuple(_examine(reader, root, split, config, on_look) for split in splits or reader.splits)
    verdict = join({report.split: report.verdict for report in reports}, asked=bool(splits))
    return Report(reader, root, reports, verdict)


def _require_recordings(reader: Reader, root: Path) -> None:
    """Raise ValueError for a reader of another kind, of which this says nothing."""
    described: object = reader.describe(str(root), reader.splits[0])
    if not isinstance(described, LabelledConfig):
        raise ValueError(
            f"{reader.name} has no recordings with labels of a kind that is examined here. Masks of objects are used "
            "by the suite fourd.recipes.suites:label_propagation, which lists what of them it cannot read"
        )


def _examine(reader: Reader, root: Path, split: str, config: ExamineConfig, on_look: OnLook) -> SplitReport:
    try:
        described = reader.describe(str(root), split)
        described = replace(described, num_frames=config.num_frames or described.num_frames)
        dataset = _open(described)
    except (ValueError, OSError) as error:
        return SplitReport(split, absent(error))
    names, remarks = _classes(reader, described)
    expected = Expected(**asdict(config.plausible), num_classes=None if names is None else len(names))
    counts = count(dataset, described, reader.about.official.get(split))
    report = SplitReport(split, Verdict("good"), described.num_frames, counts, Tally(), names, remarks)
    clips = choose(dataset.recordings, described, None if config.all else config.num_clips, config.seed)
    looks = look_at(dataset, described, clips, expected, config.seed)
    for look in track(looks, f"{split}: clips", total=len(clips), console=Console(file=sys.stderr), transient=True):
        report.tally.add(look)
        on_look(report, look)
    return replace(report, verdict=judge(counts, report.tally, described.tasks))


def _open(described: LabelledConfig) -> LabelledDataset:
    """Find the recordings, even if all of them are too short for a clip."""
    try:
        return described.build()  # type: ignore[return-value]
    except ValueError as error:
        try:
            return replace(described, num_frames=1, sampling=Windows()).build()  # type: ignore[return-value]
        except ValueError:
            raise error from None


def _classes(reader: Reader, described: LabelledConfig) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    try:
        return reader.names_of_classes(described), ()
    except Exception as error:  # whatever it is, it is told
        return None, (f"classes are not checked: {error}",)
