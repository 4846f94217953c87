"""What a check found: how much is usable, what is wrong and why, and pictures of both."""

from __future__ import annotations

import csv
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fourd.corpus.check.looking import Look, Picture

_MOST_PICTURES = 44
_MOST_BAD_PICTURES = 20


@dataclass(frozen=True)
class Problem:
    """Say what is wrong with a row; `judged` is false where that says nothing of the film, as when reading failed."""

    index: str
    key: str
    reason: str
    judged: bool


@dataclass(frozen=True)
class Fault:
    """Say why a row is at fault. is_harm: it crashed, hung, or took too much memory."""

    reason: str
    is_harm: bool


class Reasons:
    """Count problems by their reasons, in which numbers may differ, and keep the first of each."""

    def __init__(self) -> None:
        """Begin with none."""
        self.counts: Counter[str] = Counter()
        self.first: dict[str, Problem] = {}

    def add(self, problem: Problem) -> None:
        """Count one."""
        kind = re.sub(r"\d+", "0", problem.reason)
        self.counts[kind] += 1
        self.first.setdefault(kind, problem)

    def __len__(self) -> int:
        """Count the problems."""
        return self.counts.total()

    def most_common(self, number: int) -> Iterator[tuple[int, Problem]]:
        """Give the most frequent reasons, each with its count and its first example."""
        return ((count, self.first[kind]) for kind, count in self.counts.most_common(number))


@dataclass
class Report:
    """Hold what was found.

    num_rows: of all that was named; num_checked: those looked at, all or a sample. num_usable, seconds, num_bytes: of
    the checked ones that are well; num_damaged: those of them that are used up to a damage which the index knows.
    known: what indexes themselves say of rows that are no films. num_quarantined: clips that the quarantine named;
    num_found: rows of these. bad: for each index the rows that are at fault. on_problem: is told of each problem when
    it is found; the report itself keeps counts and examples, so that its size does not grow with the corpus.
    """

    on_problem: Callable[[Problem], None] = field(default=lambda problem: None)
    num_rows: int = 0
    num_checked: int = 0
    num_usable: int = 0
    num_damaged: int = 0
    num_quarantined: int = 0
    num_found: int = 0
    seconds: float = 0.0
    num_bytes: int = 0
    known: Counter[str] = field(default_factory=Counter)
    at_fault: Reasons = field(default_factory=Reasons)
    not_judged: Reasons = field(default_factory=Reasons)
    bad: dict[str, dict[int, Fault]] = field(default_factory=dict)
    pictures: list[tuple[str, Picture | None]] = field(default_factory=list)

    @property
    def is_well(self) -> bool:
        """Tell whether nothing is wrong, all that was to be checked was judged, and something is usable."""
        return not self.at_fault and not self.not_judged and self.num_usable > 0

    def add_problem(self, problem: Problem) -> None:
        """Count a problem, and show the first of them on the page of pictures."""
        (self.at_fault if problem.judged else self.not_judged).add(problem)
        self.on_problem(problem)
        if len(self.at_fault) + len(self.not_judged) <= _MOST_BAD_PICTURES:
            self.pictures.append((f"{problem.key}: {problem.reason}", None))

    def add_fault(self, number: int, problem: Problem, is_harm: bool) -> None:
        """Count a row that is at fault."""
        self.add_problem(problem)
        self.bad.setdefault(problem.index, {})[number] = Fault(sys.intern(problem.reason), is_harm)

    def add_usable(self, key: str, num_bytes: int, look: Look, is_damaged: bool, place: float) -> None:
        """Count a film or piece that is well; `place`, 0 to 1, is how far the check has come.

        The pictures that are shown lie evenly between the first and the last.
        """
        self.num_usable += 1
        self.num_damaged += is_damaged
        self.seconds += look.seconds
        self.num_bytes += num_bytes
        num_shown = sum(picture is not None for _, picture in self.pictures)
        if num_shown < _MOST_PICTURES and num_shown <= place * _MOST_PICTURES:
            self.pictures.append((key, look.picture))


@contextmanager
def problem_list(path: Path) -> Iterator[Callable[[Problem], None]]:
    """Write problems to a CSV file as they are found; it holds its head alone where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow(["index", "key", "reason", "outcome"])
        yield lambda p: writer.writerow([p.index, p.key, p.reason, "at fault" if p.judged else "not checked"]) and None
