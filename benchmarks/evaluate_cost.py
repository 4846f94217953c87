"""What a frozen pass costs that all readouts share, beside the same readouts learned one by one.

    python benchmarks/evaluate_cost.py --clips 400 --steps 60

Times one frozen unit of the toy suite, all entries, readouts and depths together; then its two parts by themselves, the
backbone's one pass over the clips and the readouts on features that lie ready; then some of its cells each in a unit of
its own, as separate runs would do them, features kept too. Ratios, of one run on one machine.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fourd.benchmark.contenders import resolve
from fourd.benchmark.suite import Exam, Suite
from fourd.benchmark.units import Unit, Wanted, plan
from fourd.benchmark.work import Means, clips_of, do
from fourd.recipes.suites import toy_four_d


def shrunk(suite: Suite, num_clips: int, steps: int) -> Suite:
    """Keep the toy suite's shape with fewer clips and steps."""
    exam = suite.exams[0]
    sizes = {"train": num_clips, "test": num_clips // 2, "choose": num_clips // 10}
    data = {name: replace(getattr(exam, name), num_clips=count) for name, count in sizes.items()}
    return replace(suite, exams=(replace(exam, frozen=replace(exam.frozen, steps=steps), **data),))


def frozen_unit(suite: Suite, backbone: str) -> Unit:
    """Find the one frozen unit of a backbone."""
    units = plan(suite, resolve([backbone]), Wanted(("frozen",), cached=True))
    return next(unit for unit in units if isinstance(unit, Unit))


def alone(unit: Unit, cell: tuple[int, str, float]) -> Unit:
    """Make a unit of one cell: one entry, one kind of readout, one depth."""
    entry, kind, depth = cell
    exam: Exam = unit.exam.only(entry)
    return replace(unit, exam=exam, readouts=(kind,), depths=(depth,))  # type: ignore[arg-type]


def timed(work: Callable[[], object]) -> float:
    """Time one call, in seconds."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def encode(unit: Unit, out: Path) -> None:
    """Let the backbone see every clip once."""
    for data in (unit.exam.train, unit.exam.test):
        clips_of(unit, data, out, Means()).build()


def one_by_one(unit: Unit, out: Path) -> float:
    """Time a unit as a run of its own, which shares nothing."""
    return timed(lambda: do(unit, out, Means()))


def main() -> None:
    """Time it all and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=400)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--backbone", default="videomae:toy")
    parser.add_argument("--cells", type=int, default=6, help="how many cells are also done one by one")
    options = parser.parse_args()
    logging.disable(logging.INFO)
    unit = frozen_unit(shrunk(toy_four_d(), options.clips, options.steps), options.backbone)
    for data in (unit.exam.train, unit.exam.test):
        data.build()  # rendering the world is no part of it
    cells = list(itertools.product(range(len(unit.exam.entries)), unit.readouts, unit.depths))
    with tempfile.TemporaryDirectory() as folder:
        together_s = timed(lambda: do(unit, Path(folder) / "together", Means()))
        backbone_s = timed(lambda: encode(unit, Path(folder) / "apart"))
        readouts_s = timed(lambda: do(unit, Path(folder) / "apart", Means()))
        chosen = cells[:: max(len(cells) // options.cells, 1)]
        single_s = [one_by_one(alone(unit, cell), Path(folder) / str(number)) for number, cell in enumerate(chosen)]
    separate_s = sum(single_s) / len(single_s) * len(cells)
    training = f"{options.steps} steps of {unit.exam.frozen.batch_size} clips"
    print(f"{unit.contender.backbone}: {len(cells)} readouts, {training}")
    print(
        f"together {together_s:.1f} s; one pass of the backbone {backbone_s:.1f} s, readouts alone {readouts_s:.1f} s"
    )
    print(f"together / (one pass + readouts): {together_s / (backbone_s + readouts_s):.2f}")
    print(
        f"one by one, from {len(chosen)} of the cells: {separate_s:.0f} s, {separate_s / together_s:.1f} times as long"
    )


if __name__ == "__main__":
    main()
