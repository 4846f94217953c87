"""Doing a study: what is missing is pretrained and measured, by one process or by many; then it is shown."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from fourd import results, run_folder
from fourd.benchmark.contenders import Contender
from fourd.benchmark.matrix import Failed, collect, run_matrix
from fourd.benchmark.missing import is_done, unfinished
from fourd.benchmark.units import AnyUnit, ControlUnit, FilmUnit, Unit
from fourd.benchmark.work import Means
from fourd.study import page as pages
from fourd.study.config import Arm, Study
from fourd.study.costs import Cost, cost_of, count_parameters, read_environment, read_metrics
from fourd.study.figures import Figures
from fourd.study.forecast import Forecast, by_unit, forecast
from fourd.study.measuring import ArmSeed, contender_of, lay_out_all
from fourd.study.runs import FailedRun, Run, Runs, pretrain

log = logging.getLogger(__name__)

_FIXED = ("name", "version", "scale")
"""What makes a folder this study's. All else may change between two calls: runs and units lie in folders named by their
own constants, so that nothing of another arm is ever shown as this one's."""


@dataclass(frozen=True)
class Outcome:
    """Hold what a call came to: the rows that are there, and what could not be done."""

    rows: results.Rows | None
    page: Path | None
    failed_runs: tuple[FailedRun, ...] = ()
    failed_units: tuple[Failed, ...] = ()

    @property
    def reasons(self) -> list[str]:
        """List what could not be done, and why."""
        runs = [f"{lost.run.title}: {lost.reason}" for lost in self.failed_runs]
        return [*runs, *(f"{lost.unit.title}: {lost.reason}" for lost in self.failed_units)]


@dataclass(frozen=True)
class Job:
    """Hold what a call works on: arms by seeds, where everything lies, and by which means.

    out: folder of the study. runs: that of the pretrainings and their readouts, which studies may share. damaged: runs
    that are complete, and of which something cannot be read; they are left out, and cost the others nothing.
    """

    known: Runs
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    out: Path
    runs: Path
    means: Means
    say: Callable[[str], None]
    damaged: tuple[FailedRun, ...] = ()

    @property
    def study(self) -> Study:
        """Give the whole study."""
        return self.known.study

    @property
    def evaluation(self) -> Path:
        """Name the folder of the matrix, which studies of the same suite share as they share runs."""
        suite = self.study.suite
        return self.runs / "evaluation" / f"{suite.name}_{suite.fingerprint}"


def run_study(
    study: Study,
    out: Path,
    seeds: Sequence[int] = (),
    means: Means | None = None,
    *,
    arms: Sequence[str] = (),
    runs: Path | None = None,
    dry_run: bool = False,
    page: bool = True,
    say: Callable[[str], None] = log.info,
) -> Outcome:
    """Do what is missing of a study and show all that is there: rows.parquet, arms.parquet, table.md, report.html.

    Any number of processes may work on one `out`. seeds: those of the study by default. arms: those to work on, and
    those whose weights they need; all by default. runs: a folder of pretrainings and readouts that several studies
    share. dry_run: say what would be done and how long it would take, and end, without taking `out`. page: show what
    is there at the end. A run or a unit that fails is reported and left to the next call. Raises ValueError for arms
    that are not there, for a folder that cannot be written to, or where `out` holds another study or version.
    """
    out = out.resolve()
    chosen = tuple(study.arm(name) for name in arms) or study.arms
    seeds = tuple(dict.fromkeys(seeds)) or study.seeds
    if min(seeds) < 0:
        raise ValueError(f"--seeds is {seeds}: expected numbers from 0 on")
    job = Job(Runs(study), chosen, seeds, out, (runs or out / "runs").resolve(), means or Means(), say)
    if not dry_run:
        _take(job)
    job = replace(job, damaged=tuple(_damaged(job)))
    plan = job.known.all(chosen, seeds)
    found = _foresee(job, plan)
    if dry_run:
        return Outcome(None, None)
    failed_runs = [*job.damaged, *pretrain(plan, job.runs, job.means, found.runs)]
    failed_units = _measure(job, found)
    if not page:
        return Outcome(None, None, tuple(failed_runs), tuple(failed_units))
    with FileLock(out / "show.lock"):
        shown = show(job, failed_runs)
    return Outcome(*shown, tuple(failed_runs), tuple(failed_units))


def _take(job: Job) -> None:
    """Take the folders of a study; many processes may begin at once."""
    run_folder.make(job.runs, "--runs")
    run_folder.make(job.out, "--out")
    with FileLock(job.out / "claim.lock"):
        run_folder.claim(job.out, job.study, _free())


def _free() -> list[str]:
    """List what may differ from an earlier call's study, at any depth."""
    free = [one.name for one in fields(Study) if one.name not in _FIXED]
    return [*free, *(f"{name}.*" for name in free)]


def _damaged(job: Job) -> list[FailedRun]:
    """List the complete runs of which something that the page needs cannot be read."""
    found = []
    for run in job.known.all(job.study.arms, sorted({*job.seeds, *_seeds_shown(job.out)})):
        try:
            if run.is_done(job.runs):
                cost_of(run, job.runs, job.means)
                read_metrics(run.folder(job.runs))
                read_environment(run.folder(job.runs))
        except (ValueError, OSError) as error:
            log.error("%s is left out: %s", run.title, error)
            found.append(FailedRun(run, str(error)))
    return found


def _foresee(job: Job, plan: Sequence[Run]) -> Forecast:
    """Say what is left to do, and how long it will take; whose weights are not there yet is stood in for."""
    matrix = lay_out_all(job.study, contenders(job, job.arms, job.seeds, stand_in=True), job.evaluation)
    for lost in matrix.absent:
        job.say(f"no data for {lost.exam.name}: {lost.reason}")
    found = forecast(plan, job.runs, matrix, job.evaluation, job.means)
    job.say(f"{job.study.name}: {len(job.arms)} arms by {len(job.seeds)} seeds; {found.told}; in {job.out}")
    return found


def _measure(job: Job, found: Forecast) -> list[Failed]:
    """Measure all whose weights are there, and return what could not be done."""
    there = contenders(job, job.arms, job.seeds)
    if not there:
        return []
    matrix = lay_out_all(job.study, there, job.evaluation)
    return run_matrix(matrix, job.evaluation, job.means, by_unit(matrix, found))


def contenders(job: Job, arms: Sequence[Arm], seeds: Sequence[int], stand_in: bool = False) -> dict[ArmSeed, Contender]:
    """Say who is to be measured: all whose weights are there; with `stand_in` the others as well."""
    found: dict[ArmSeed, Contender] = {}
    for seed in seeds:
        for arm in arms:
            run = job.known.of(arm, seed)
            if run is not None and _is_damaged(job, run):
                continue
            if run is not None and run.is_done(job.runs):
                cost = cost_of(run, job.runs, job.means)
                found[arm.name, seed] = contender_of(arm, run.weights(job.runs), cost)
            elif run is None or stand_in:
                found[arm.name, seed] = contender_of(arm, None, None)
    return found


def _is_damaged(job: Job, run: Run) -> bool:
    return any(lost.run.title == run.title for lost in job.damaged)


# ----------------------------------------------------------------------------- showing


def show(job: Job, failed: Sequence[FailedRun]) -> tuple[results.Rows | None, Path | None]:
    """Write rows, tables and page of all that is there, also of what earlier calls did, and say where they are."""
    study, out = job.study, job.out
    seeds = sorted({*job.seeds, *_seeds_shown(out)})
    there = contenders(job, study.arms, seeds)
    matrix = lay_out_all(study, there, job.evaluation) if there else None
    if matrix is None or not any(is_done(unit, job.evaluation) for unit in matrix.units):
        job.say("nothing is measured yet: there is nothing to be shown")
        return None, None
    rows = collect(matrix, job.evaluation)
    results.write_rows(out / "rows.parquet", rows.table, rows.metrics)
    measured = {(str(row["backbone"]), int(row["seed"])) for row in _distinct(rows.table)}
    costs = {(name, seed): _cost(job, study.arm(name), seed) for name, seed in there if (name, seed) in measured}
    gaps = [f"{_lost(job, one)}: {one.run.title}: {one.reason.rstrip('.')}." for one in failed]
    gaps += _gaps(study, seeds, measured, unfinished(matrix.units, job.evaluation))
    study = replace(study, notes=(*study.notes, *map(str, matrix.no_readouts)))
    seeded = "" if tuple(seeds) == study.seeds else f" --seeds {' '.join(map(str, seeds))}"
    command = study.command and study.command + seeded
    written = pages.write(Figures(study, rows, costs), out, _curves(job, seeds), command, gaps)
    job.say(f"rows:  {out}/rows.parquet, {out}/figures.parquet, {out}/arms.parquet")
    job.say(f"table: {out}/table.md\npage:  {written}")
    return rows, written


def _lost(job: Job, failed: FailedRun) -> str:
    return "Left out" if failed in job.damaged else "Not pretrained"


def _distinct(table: pa.Table) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = table.group_by(["backbone", "seed"]).aggregate([]).to_pylist()
    return found


def _seeds_shown(out: Path) -> set[int]:
    """List the seeds that an earlier call has shown: what was paid for stays."""
    path = out / "rows.parquet"
    if not path.exists():
        return set()
    try:
        pairs = _distinct(pq.ParquetFile(path).read(columns=["backbone", "seed"]))
    except (pa.ArrowException, OSError) as error:
        log.warning("%s is damaged (%s) and is written anew, of the seeds that are asked for", path, error)
        return set()
    return {pair["seed"] for pair in pairs if not pair["backbone"].startswith("control:")}


def _gaps(study: Study, seeds: Sequence[int], measured: set[ArmSeed], missing: Sequence[AnyUnit]) -> list[str]:
    """Name the arms that were not measured with some seed, and what is missing of the others."""
    found = []
    for arm in study.arms:
        without = [str(seed) for seed in seeds if (arm.name, seed) not in measured]
        if without:
            found.append(
                f"{arm.name} has no figures of {'seeds' if len(without) > 1 else 'seed'} {', '.join(without)}."
            )
    begun = [unit for unit in missing if isinstance(unit, ControlUnit) or _of(unit) in measured]
    return [*found, *(f"Not measured: {unit.title}." for unit in begun)]


def _of(unit: Unit | FilmUnit) -> ArmSeed:
    return unit.contender.backbone, unit.seed


def _cost(job: Job, arm: Arm, seed: int) -> Cost:
    run = job.known.of(arm, seed)
    return Cost(count_parameters(arm.backbone)) if run is None else cost_of(run, job.runs, job.means)


def _curves(job: Job, seeds: Sequence[int]) -> list[tuple[str, Path]]:
    """List the runs that are complete, by the names of their arms."""
    runs = [run for run in job.known.all(job.study.arms, seeds) if run.is_done(job.runs) and not _is_damaged(job, run)]
    return [(", ".join(run.arms), run.folder(job.runs)) for run in runs]
