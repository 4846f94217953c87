"""Check a corpus row by row, and gather what is wrong and what is usable."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fourd.corpus.check.looking import FilmItem, Item, Look, look_at
from fourd.corpus.check.report import Problem, Report
from fourd.corpus.check.subjects import Subject
from fourd.corpus.check.tars import Refused
from fourd.isolation import Failure, Limits, isolated_map


@dataclass(frozen=True)
class CheckConfig:
    """Say what is checked. None of the values is from the paper."""

    sample: int | None = None
    """Check so many rows of each index, drawn at random, instead of all."""
    seed: int = 0
    """Chooses the sample."""
    quarantine: Path | None = None
    """A run's quarantine.jsonl: the films and pieces that it names are among those checked, and decoded from end to
    end."""
    num_workers: int | None = None
    """Rows that are checked at once; by default one for each processor."""

    def __post_init__(self) -> None:
        """Refuse an empty sample, and no workers."""
        if self.sample is not None and self.sample < 1:
            raise ValueError(f"--sample is {self.sample}: expected 1 or more, or none to check all")
        if self.num_workers is not None and self.num_workers < 1:
            raise ValueError(f"--num-workers is {self.num_workers}: expected 1 or more")


def check(
    subjects: Sequence[Subject],
    config: CheckConfig,
    limits: Limits | None = None,
    on_problem: Callable[[Problem], None] = lambda problem: None,
) -> Report:
    """Compare each film or piece with its fingerprint, and decode its first, middle and last frame.

    Each is looked at in a process that may fail. on_problem: is told of each problem when it is found.
    Raises: ValueError where the quarantine is none; OSError where it, or an index, cannot be read.
    """
    report = Report(on_problem)
    clips = quarantined(config.quarantine) if config.quarantine is not None else frozenset[str]()
    report.num_quarantined = len(clips)
    named = [frozenset(subject.find(clips)) if clips else frozenset[int]() for subject in subjects]
    report.num_found = sum(map(len, named))
    chosen = [_chosen(subject, config, rows) for subject, rows in zip(subjects, named, strict=True)]
    report.num_rows = sum(map(len, subjects))
    total = sum(map(len, chosen))
    work = [_Work(*parts) for parts in zip(subjects, chosen, named, strict=True)]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("Checking", total=total)
        for num_done in _looked(work, report, config.num_workers or _num_processors(), limits or Limits()):
            progress.update(task, completed=num_done)
        progress.update(task, completed=total)
    return report


def _num_processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def quarantined(path: Path) -> frozenset[str]:
    """Read which clips a run could not decode; raise ValueError where the file is none of a run's."""
    try:
        lines = path.expanduser().read_text(encoding="utf-8").splitlines(keepends=True)
        return frozenset(str(json.loads(line)["path"]) for line in lines if line.endswith("\n"))
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"--quarantine {path} is no quarantine.jsonl of a run: {error!r}") from error


def _chosen(subject: Subject, config: CheckConfig, named: frozenset[int]) -> Sequence[int]:
    """Choose the rows that are checked: all, or a sample and what is in quarantine."""
    if config.sample is None or config.sample >= len(subject):
        return range(len(subject))
    drawn = np.random.default_rng(config.seed).choice(len(subject), config.sample, replace=False)
    return sorted({*drawn.tolist(), *named})


@dataclass(frozen=True)
class _Work:
    """Say which rows of a subject are checked, and which of them from end to end."""

    subject: Subject
    numbers: Sequence[int]
    whole: frozenset[int]


@dataclass(frozen=True)
class _Row:
    """Say where an item stands, which stays on this side while a worker looks at it."""

    subject: Subject
    number: int


def _looked(work: Sequence[_Work], report: Report, num_workers: int, limits: Limits) -> Iterator[int]:
    """Look at all that was chosen, note what is found, and give how many are done after each."""
    total = sum(len(part.numbers) for part in work)
    begun: deque[_Row] = deque()
    items = _items(work, report, begun)
    with closing(isolated_map(look_at, items, max(min(num_workers, total), 1), limits)) as looks:
        for item, found in looks:
            num_done = report.num_checked - len(begun)
            _note(begun.popleft(), item, found, report, num_done / total)
            yield num_done + 1


def _items(work: Sequence[_Work], report: Report, begun: deque[_Row]) -> Iterator[Item]:
    """Give what has to be looked at, and note what needs no look."""
    for part in work:
        for number in part.numbers:
            report.num_checked += 1
            item = part.subject.item(number)
            if isinstance(item, Refused):
                problem = Problem(part.subject.name, item.name, item.reason, judged=True)
                report.add_fault(number, problem, is_harm=False)
            elif isinstance(item, str):
                report.known[item] += 1
            else:
                begun.append(_Row(part.subject, number))
                yield replace(item, whole=number in part.whole)


def _note(row: _Row, item: Item, found: Look | Failure, report: Report, place: float) -> None:
    look = Look(reason=found.reason) if isinstance(found, Failure) else found
    if look.reason is not None:
        problem = Problem(row.subject.name, item.key, look.reason, judged=True)
        report.add_fault(row.number, problem, isinstance(found, Failure))
    elif look.unread is not None:
        report.add_problem(Problem(row.subject.name, item.key, look.unread, judged=False))
    else:
        report.add_usable(item.key, item.num_bytes, look, _is_damaged(item), place)


def _is_damaged(item: Item) -> bool:
    return isinstance(item, FilmItem) and item.film.info is not None and item.film.info.damage is not None
