"""All units of a suite for all contenders: what is missing is done, by one process or by many, and nothing twice."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from fourd import evaluate, results, run_folder
from fourd.benchmark.contenders import Contender
from fourd.benchmark.missing import is_done, settle, unfinished
from fourd.benchmark.suite import Absent, Suite, available
from fourd.benchmark.units import AnyUnit, NoReadout, Wanted, plan, without_readout
from fourd.benchmark.work import Means, do
from fourd.media import UnreadableVideo
from fourd.results import Rows
from fourd.telemetry import duration
from fourd.types import Unreadable

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LOOKS = 2.0
_FREE_TO_CHANGE = tuple(f"exams.*.{name}" for name in ("root", "cache_dir", "cache", "folder", "task.class_names.*"))
"""Where data lie, and how classes are called: names are read from data that may be added later."""


@dataclass(frozen=True)
class Matrix:
    """Hold what is asked for: a suite, what of it has its data here, who is measured, all units.

    no_readouts: what is asked for and cannot be measured, for want of such a readout.
    """

    asked: Suite
    suite: Suite
    absent: tuple[Absent, ...]
    contenders: tuple[Contender, ...]
    units: tuple[AnyUnit, ...]
    no_readouts: tuple[NoReadout, ...] = ()


@dataclass(frozen=True)
class Failed:
    """Name a unit that could not be done, and why."""

    unit: AnyUnit
    reason: str


def lay_out(suite: Suite, contenders: Sequence[Contender], wanted: Wanted, out: Path) -> Matrix:
    """List the units of a matrix; those that an earlier call did are among them.

    Readouts that are asked for and that a task does not have are told of, and left out. Raises ValueError where no data
    are there at all, where no readout is left, or where `out` holds the results of another suite or version.
    """
    out.mkdir(parents=True, exist_ok=True)
    with FileLock(out / "claim.lock"):  # many processes may begin at once
        run_folder.claim(out, suite, _FREE_TO_CHANGE)
    held, absent = available(suite)
    if not held.all_exams:
        reasons = "\n".join(f"  {lost.exam.name}: {lost.reason}" for lost in absent)
        raise ValueError(f"the data of no exam of {suite.label} are there:\n{reasons}")
    no_readouts = without_readout(held, wanted)
    for pairs in no_readouts:
        log.warning("%s", pairs)
    units = [part for unit in plan(held, contenders, wanted) for part in settle(unit, out)]
    return Matrix(suite, held, absent, tuple(contenders), tuple(units), no_readouts)


def run_matrix(matrix: Matrix, out: Path, means: Means, seconds: Sequence[float] = ()) -> list[Failed]:
    """Do what is missing, and return what could not be done.

    Any number of processes may run this on one folder: each takes units that no other holds, and all end when all is
    done. A unit that fails is left to the next call, and to the other processes; the others go on. seconds: what each
    unit is expected to take.
    """
    expected = dict(zip(matrix.units, seconds, strict=True)) if seconds else {}
    failed: dict[str, Failed] = {}
    while todo := [unit for unit in unfinished(matrix.units, out) if unit.slug not in failed]:
        took_one = False
        for unit in todo:
            left = sum(expected.get(other, 0.0) for other in unfinished(matrix.units, out))
            if _take(unit, out, means, matrix, failed, left):
                took_one = True
        if not took_one:
            time.sleep(_SECONDS_BETWEEN_LOOKS)  # other processes are at them
    return list(failed.values())


def _take(unit: AnyUnit, out: Path, means: Means, matrix: Matrix, failed: dict[str, Failed], left_s: float) -> bool:
    """Do a unit unless another process is at it; say whether it was this one's turn."""
    folder = unit.folder(out)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "unit.lock", timeout=0):
            if is_done(unit, out):
                return False
            place = matrix.units.index(unit) + 1
            about = f"; about {duration(left_s)} left for all" if left_s else ""
            log.info("unit %d of %d: %s%s", place, len(matrix.units), unit.title, about)
            try:
                do(unit, out, means)
            except (ValueError, RuntimeError, OSError, FloatingPointError, ImportError, UnreadableVideo) as error:
                log.error("%s failed: %s", unit.title, error)
                failed[unit.slug] = Failed(unit, f"{type(error).__name__}: {error}")
            return True
    except Timeout:
        return False


def left_out(matrix: Matrix, out: Path) -> list[Unreadable]:
    """List what of the test sets could not be used by any unit that is done, each once."""
    found = {
        lost for unit in matrix.units if is_done(unit, out) for lost in run_folder.read_unreadable(unit.folder(out))
    }
    return sorted(found, key=lambda lost: lost.path)


def collect(matrix: Matrix, out: Path) -> Rows:
    """Read the rows of all units that are done; damaged ones are set aside, so that the next call makes them anew.

    Raises ValueError where there are none.
    """
    done = [unit for unit in matrix.units if is_done(unit, out)]
    parts = [rows for unit in done if (rows := _rows(unit, out)) is not None]
    if not parts:
        raise ValueError(f"{out}: no unit is done yet")
    return evaluate.join(parts)


def _rows(unit: AnyUnit, out: Path) -> Rows | None:
    path = unit.folder(out) / "rows.parquet"
    try:
        return results.read_rows(path)
    except ValueError as error:
        aside = path.with_name("rows.damaged")
        path.replace(aside)
        log.error("%s: %s. It was set aside as %s; the same command measures it again", unit.title, error, aside)
        return None
