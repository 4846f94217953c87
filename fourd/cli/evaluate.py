"""`fourd evaluate`: any encoder on every entry of a suite, frozen and finetuned, by one protocol."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pyarrow.parquet as pq
import tyro
from filelock import FileLock

from fourd import results, run_folder
from fourd.benchmark.contenders import Contender, resolve
from fourd.benchmark.estimate import estimate
from fourd.benchmark.gallery import draw_gallery
from fourd.benchmark.matrix import Failed, Matrix, collect, lay_out, left_out, run_matrix
from fourd.benchmark.missing import unfinished
from fourd.benchmark.story import tell
from fourd.benchmark.suite import USES, Suite, Use
from fourd.benchmark.units import Wanted
from fourd.benchmark.work import Means
from fourd.cli.beside import beside, devices_of
from fourd.provenance import find
from fourd.report.benchmark import headlines, markdown, print_benchmark, summary_table, write_benchmark
from fourd.telemetry import duration
from fourd.types import ReadoutKind

ABOUT = """Measure encoders on depth, points, boxes, camera pose and action, frozen and finetuned, by one protocol.

Examples:
  fourd evaluate --backbones mean_pixel dinov2-base runs/mine/final/model.safetensors --data /datasets --out runs/bench
  fourd evaluate --suite fourd.recipes.suites:toy_four_d --backbones mean_pixel video_vit:toy --out runs/toy_bench
  fourd evaluate --backbones 4ds-b-dist-e dinov2-base --data /datasets --out runs/bench --processes 8

An encoder is a published name (python -c "import fourd; print(*fourd.names())"), a file or folder of weights, one of
our backbones at a size (videomae:base) or a dotted path of a function that gives its config; the last two have random
weights, and are never ranked as the model of that name. LABEL=... gives it another name in the table.

The same command goes on where it was stopped; with more encoders, depths or seeds it does only what is missing. Any
number of processes may work on one --out. What it will take here is measured and printed first (--dry-run: that
alone). Exams whose data are not in --data are listed with how to get them. Every constant and its source stands in
docs/protocol.md."""


@dataclass(frozen=True)
class Arguments:
    """Hold what the command line says."""

    backbones: tuple[str, ...]
    """Encoders to measure: [LABEL=]NAME, a file or folder of weights, module:size, or a dotted path."""
    out: Path
    """Folder of the results. The same command again does only what is missing."""
    suite: str = "fourd.recipes.suites:four_d"
    """Dotted path of a function that returns a Suite."""
    data: Path = Path("data")
    """Where the datasets lie, each in a folder of its name; the embedded world needs none."""
    use: Annotated[tuple[Use, ...], tyro.conf.arg(metavar="{frozen,finetuned} ...")] = USES
    """Frozen, finetuned, or both."""
    readouts: tuple[ReadoutKind, ...] = ()
    """Kinds of frozen readouts; all of the suite's by default."""
    depths: tuple[float, ...] = ()
    """Fractions of the backbone's depth to read, frozen; those of the suite by default."""
    seeds: tuple[int, ...] = (0,)
    """Of the readouts, and of random weights."""
    cache_features: bool = False
    """Keep what a frozen backbone says of each clip, in float16, and run it once per clip, however many steps follow.
    For clips that do not depend on chance."""
    rival: str = ""
    """Whom wins and failures are shown against; by default the next encoder of the list."""
    device: str = "auto"
    """cpu, cuda, cuda:N; by default a GPU where there is one."""
    processes: int = 0
    """How many to start, each with units of its own; by default one for each GPU, without a GPU one."""
    num_workers: int = 0
    """Processes that read clips ahead."""
    save_every: int = 200
    """Steps between checkpoints, from which a killed call goes on."""
    page: bool = True
    """Show what is there at the end; not needed of a process that shares the work of another one."""
    dry_run: bool = False
    """Say what would be done and what it would take, and end."""


def run(arguments: list[str]) -> None:
    """Do what is missing of a matrix, and show it."""
    options = tyro.cli(Arguments, prog="fourd evaluate", description=ABOUT, args=arguments)
    suite = suite_of(options.suite, options.data)
    contenders = resolve(options.backbones)
    wanted = Wanted(options.use, options.readouts, options.depths, options.seeds, options.cache_features)
    devices = devices_of(options.processes, options.device)
    means = Means(devices[0], options.num_workers, options.save_every)
    out = options.out.resolve()
    matrix = lay_out(suite, contenders, wanted, out)
    seconds = _say_what_will_be_done(matrix, out, means)
    if options.dry_run:
        return
    with beside(["evaluate", *arguments], out, devices[1:]):
        failed = run_matrix(matrix, out, means, seconds)
    if options.page and unfinished(matrix.units, out) != list(matrix.units):  # something is there to be shown
        with FileLock(out / "show.lock"):
            _show(matrix, out, means, options, arguments)
    _end(failed)


def _show(matrix: Matrix, out: Path, means: Means, options: Arguments, arguments: list[str]) -> None:
    """Write rows, table and page, print the table, and say where everything is."""
    rows = collect(matrix, out)
    results.write_rows(out / "rows.parquet", rows.table, rows.metrics)
    story = tell(matrix, rows, out, arguments)
    rows = headlines(rows, story)
    (out / "table.md").write_text(markdown(rows, story))
    pq.write_table(summary_table(rows, story), out / "table.parquet")
    print_benchmark(rows, story)
    lost = left_out(matrix, out)
    run_folder.list_unreadable(out, lost)
    if lost:
        print(
            f"left out of the test sets: {len(lost)}, such as {lost[0].path} ({lost[0].reason}); {out}/unreadable.csv"
        )
    print(f"rows:  {out}/rows.parquet")
    print(f"table: {out}/table.md, {out}/table.parquet")
    pair = _pair(matrix, options.rival)
    pictures = draw_gallery(matrix, rows, *pair, out, means) if pair else None
    print(f"page:  {write_benchmark(out / 'report.html', rows, story, pictures)}")


def _pair(matrix: Matrix, rival: str) -> tuple[Contender, Contender] | None:
    """Choose whose wins and failures are shown: those of the first encoder with weights, against the rival."""
    first = next((c for c in matrix.contenders if not c.is_random and c.weights != "none"), matrix.contenders[0])
    others = [c for c in matrix.contenders if c is not first and rival in ("", c.backbone)]
    if rival and not others:
        names = ", ".join(c.backbone for c in matrix.contenders if c is not first)
        raise ValueError(f"--rival {rival}: expected another encoder of this call than {first.backbone}: {names}")
    return (first, others[0]) if others else None


def suite_of(dotted: str, data: Path) -> Suite:
    """Call the function at a dotted path, with the folder of the datasets if it takes one."""
    function = find(dotted)
    suite = function(data=data) if "data" in inspect.signature(function).parameters else function()
    if not isinstance(suite, Suite):
        raise ValueError(f"--suite {dotted} returned a {type(suite).__name__}; expected a fourd.benchmark.Suite")
    return suite


def _say_what_will_be_done(matrix: Matrix, out: Path, means: Means) -> list[float]:
    """Print what is there, what is missing and what that will take; return the seconds of each unit."""
    todo = unfinished(matrix.units, out)
    print(f"{matrix.suite.label}: {len(matrix.units)} units, {len(matrix.units) - len(todo)} of them done; in {out}")
    for lost in matrix.absent:
        print(f"no data for {lost.exam.name}: {lost.reason}")
    for contender in matrix.contenders:
        print(f"  {contender.backbone}: {_described(contender)}")
    costs = dict(zip(todo, estimate(todo, means), strict=True))
    names = ("backbone", "readouts", "reading")
    parts = {name: sum(getattr(cost, f"{name}_s") for cost in costs.values()) for name in names}
    if todo:
        print(
            f"this will take about {duration(sum(parts.values()))} here: backbones {duration(parts['backbone'])}, "
            f"frozen readouts {duration(parts['readouts'])}, reading clips {duration(parts['reading'])}",
            flush=True,
        )
    return [costs[unit].seconds if unit in costs else 0.0 for unit in matrix.units]


def _described(contender: Contender) -> str:
    source = "random weights" if contender.is_random else f"{contender.weights} weights"
    source = "needs no weights" if contender.weights == "none" else source
    return f"{source}, {contender.num_parameters / 1e6:.1f}M parameters"


def _end(failed: list[Failed]) -> None:
    if failed:
        listed = "\n".join(f"  {lost.unit.title}: {lost.reason}" for lost in failed)
        raise ValueError(
            f"{len(failed)} units failed, and are missing from the table; the same command tries again:\n{listed}"
        )
