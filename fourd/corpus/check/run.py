"""Check a corpus row by row, and gather what is wrong and what is usable."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fourd.corpus.check.looking import Item, Look, Picture, look_at
from fourd.corpus.check.subjects import Subject, subjects_of
from fourd.corpus.check.tars import Refused
from fourd.isolation import Failure, Limits, isolated_map

_MOST_PICTURES = 48
_MOST_BAD_PICTURES = 16


@dataclass(frozen=True)
class CheckConfig:
    """Say what is checked. None of the values is from the paper."""

    sample: int | None = None
    """Check so many rows of each index, drawn at random, instead of all."""
    seed: int = 0
    """Chooses the sample."""
    quarantine: Path | None = None
    """A run's quarantine.jsonl: the clips that it names are among those checked."""
    num_workers: int | None = None
    """Rows that are checked at once; by default one for each processor."""

    def __post_init__(self) -> None:
        """Refuse an empty sample."""
        if self.sample is not None and self.sample < 1:
            raise ValueError(f"--sample is {self.sample}: expected 1 or more, or none to check all")


@dataclass(frozen=True)
class Problem:
    """Say what is wrong with a row; `unread` where its bytes could not be had, which says nothing of the film."""

    index: str
    key: str
    reason: str
    unread: bool = False


@dataclass
class Report:
    """Hold what was found.

    `bad` has the rows of each index that are at fault, `known` what indexes themselves say of rows that are no films.
    """

    num_rows: int = 0
    num_checked: int = 0
    num_usable: int = 0
    seconds: float = 0.0
    num_bytes: int = 0
    known: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    bad: dict[Path, dict[int, str]] = field(default_factory=dict)
    pictures: list[tuple[str, Picture | None]] = field(default_factory=list)

    @property
    def is_well(self) -> bool:
        """Tell whether nothing is wrong, and everything that was to be checked was."""
        return not self.problems


def check(paths: Sequence[str], config: CheckConfig, limits: Limits | None = None) -> Report:
    """Check indexes, prepared folders and tar files; raise ValueError or FileNotFoundError for what is none.

    Each film or piece is compared with its fingerprint, and its first, middle and last frame are decoded, in a
    process that may fail.
    """
    report = Report()
    named = _quarantined(config.quarantine)
    for subject in subjects_of(paths):
        _check(subject, config, named, limits or Limits(), report)
    return report


def apply(path: str, report: Report, out: Path) -> int:
    """Write a new version of an index without what is at fault; give the number of rows taken out.

    Raises: ValueError where `out` is the index itself, or `path` names more or other than one index.
    """
    subjects = subjects_of([path])
    if len(subjects) != 1:
        raise ValueError(f"--apply: {path} holds {len(subjects)} indexes; name one of them")
    if out.expanduser().resolve() == subjects[0].path.resolve():
        raise ValueError(f"--apply {out} is the index itself: name a new file")
    bad = report.bad.get(subjects[0].path, {})
    subjects[0].apply(bad, out.expanduser())
    return len(bad)


def write_problems(report: Report, path: Path) -> None:
    """List all that is wrong in a CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["index", "key", "reason", "unread"])
        writer.writerows([problem.index, problem.key, problem.reason, problem.unread] for problem in report.problems)


def _quarantined(path: Path | None) -> frozenset[str]:
    """Read which clips a run could not decode."""
    if path is None:
        return frozenset()
    try:
        return frozenset(str(json.loads(line)["path"]) for line in path.read_text().splitlines())
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"--quarantine {path} is no quarantine.jsonl of a run: {error!r}") from error


def _chosen(subject: Subject, config: CheckConfig, named: frozenset[str]) -> Sequence[int]:
    """Choose the rows that are checked: all, or a sample and what is named."""
    if config.sample is None or config.sample >= len(subject):
        return range(len(subject))
    drawn = np.random.default_rng(config.seed).choice(len(subject), config.sample, replace=False).tolist()
    if not named:
        return sorted(drawn)
    # a quarantine names films by their path, and pieces by their shard and their key
    ends = {name.rpartition(":")[2].removesuffix(".mp4") for name in named} | named
    return sorted({*drawn, *(number for number in range(len(subject)) if subject.key(number) in ends)})


def _check(subject: Subject, config: CheckConfig, named: frozenset[str], limits: Limits, report: Report) -> None:
    numbers = _chosen(subject, config, named)
    report.num_rows += len(subject)
    bad = report.bad.setdefault(subject.path, {})
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    workers = min(config.num_workers or os.cpu_count() or 1, max(len(numbers), 1))
    every = max(len(numbers) // _MOST_PICTURES, 1)
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(f"Checking {subject.path.name}", total=len(numbers))
        begun: deque[int] = deque()  # numbers of the rows that are being looked at, in order
        items = _items(subject, numbers, report, begun)
        with closing(isolated_map(look_at, items, workers, limits)) as looks:
            for place, (item, found) in enumerate(looks):
                look = Look(reason=found.reason) if isinstance(found, Failure) else found
                _note(subject, begun.popleft(), item, look, report, bad, is_shown=place % every == 0)
                progress.update(task, completed=place + 1)
        progress.update(task, completed=len(numbers))


def _items(subject: Subject, numbers: Sequence[int], report: Report, begun: deque[int]) -> Iterator[Item]:
    for number in numbers:
        report.num_checked += 1
        item = subject.item(number)
        if isinstance(item, Refused):
            report.problems.append(Problem(str(subject.path), item.name, item.reason))
        elif isinstance(item, str):
            report.known[item] += 1
        else:
            begun.append(number)
            yield item


def _note(
    subject: Subject, number: int, item: Item, look: Look, report: Report, bad: dict[int, str], is_shown: bool
) -> None:
    key = item.key
    if look.unread is not None:
        report.problems.append(Problem(str(subject.path), key, look.unread, unread=True))
        return
    if look.reason is not None:
        report.problems.append(Problem(str(subject.path), key, look.reason))
        bad[number] = look.reason
        if len(bad) <= _MOST_BAD_PICTURES:
            report.pictures.append((f"{key}: {look.reason}", None))
        return
    report.num_usable += 1
    report.seconds += look.seconds
    report.num_bytes += item.num_bytes
    if is_shown:
        report.pictures.append((key, look.picture))
