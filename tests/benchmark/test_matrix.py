"""A matrix is done once, in any pieces, by any number of processes, and always with the same rows."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest
from filelock import FileLock

from fourd import results
from fourd.benchmark.contenders import resolve
from fourd.benchmark.matrix import Matrix, collect, lay_out, run_matrix
from fourd.benchmark.suite import Suite
from fourd.benchmark.units import Unit, Wanted
from fourd.benchmark.work import Means
from tests.small_suite import suite

BACKBONES = ("mean_pixel:tiny", "video_vit:tiny")
COMMAND = [
    *(sys.executable, "-m", "fourd", "evaluate", "--suite", "tests.small_suite:longer"),
    *("--backbones", *BACKBONES, "--save-every", "5", "--out"),
]


def lay(out: Path, wanted: Wanted | None = None, of: Suite | None = None) -> Matrix:
    return lay_out(of or suite(), resolve(BACKBONES), wanted or Wanted(), out)


def measure(out: Path, wanted: Wanted | None = None, of: Suite | None = None) -> pa.Table:
    matrix = lay(out, wanted, of)
    assert run_matrix(matrix, out, Means(save_every=2)) == []
    return in_order(collect(matrix, out).table)


def in_order(table: pa.Table) -> pa.Table:
    return table.sort_by([(name, "ascending") for name in table.column_names if name not in ("score", "weight")])


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    return measure(tmp_path_factory.mktemp("whole"))


def test_every_cell_has_a_row_for_every_clip(rows: pa.Table):
    counted = rows.group_by(["backbone", "weights", "readout", "entry", "depth", "metric"]).aggregate(
        [("clip", "count")]
    )
    assert set(counted["clip_count"].to_pylist()) == {11}
    cells = {(row["backbone"], row["weights"], row["readout"], row["depth"]) for row in counted.to_pylist()}
    frozen = {("video_vit:tiny", "random", kind, depth) for kind in ("attention", "linear") for depth in (0.5, 1.0)}
    floor = {("mean_pixel:tiny", "none", kind, 1.0) for kind in ("attention", "linear")}
    finetuned = {("video_vit:tiny", "random finetuned", "attention", 1.0)}
    controls = {(f"control:{name}", "none", "none", None) for name in ("nothing_moves", "mean_answer")}
    assert cells == frozen | floor | finetuned | controls


def test_rows_do_not_depend_on_what_is_learned_beside_them(rows: pa.Table, tmp_path: Path):
    measure(tmp_path, Wanted(readouts=("linear",), depths=(1.0,), uses=("frozen",)))
    measure(tmp_path, Wanted(depths=(1.0,), uses=("frozen",)))
    assert measure(tmp_path).equals(rows)


def test_what_is_done_is_not_done_again(tmp_path: Path):
    measure(tmp_path, Wanted(depths=(1.0,)))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("rows.parquet")}
    matrix = lay(tmp_path, Wanted(depths=(0.5, 1.0)))
    measure(tmp_path, Wanted(depths=(0.5, 1.0)))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    frozen = [u for u in matrix.units if isinstance(u, Unit) and u.use == "frozen" and u.contender.weights == "random"]
    assert [unit.depths for unit in frozen] == [(1.0,), (0.5,)]


def test_another_constant_is_another_version(tmp_path: Path):
    lay(tmp_path)
    with pytest.raises(ValueError, match="belongs to another run"):
        lay(tmp_path, of=suite(steps=7))


def test_names_of_classes_may_come_with_data_that_are_added_later(tmp_path: Path):
    lay(tmp_path)
    camera, action = suite().exams[0].entries
    task = dataclasses.replace(action.task, class_names=tuple(f"class {n}" for n in range(6)))  # type: ignore[call-arg]
    renamed = dataclasses.replace(suite().exams[0], entries=(camera, dataclasses.replace(action, task=task)))
    lay(tmp_path, of=dataclasses.replace(suite(), exams=(renamed,)))
    fewer = dataclasses.replace(task, class_names=("a", "b"))
    shorter = dataclasses.replace(renamed, entries=(camera, dataclasses.replace(action, task=fewer)))
    with pytest.raises(ValueError, match="class_names"):
        lay(tmp_path, of=dataclasses.replace(suite(), exams=(shorter,)))


def test_a_folder_of_data_is_no_constant():
    moved = dataclasses.replace(
        suite().exams[0], train=dataclasses.replace(suite().exams[0].train, cache_dir="/elsewhere")
    )
    assert dataclasses.replace(suite(), exams=(moved,)).fingerprint == suite().fingerprint
    assert suite(steps=7).fingerprint != suite().fingerprint


def test_the_learning_rate_is_chosen_by_training_clips_alone(tmp_path: Path):
    frozen = Wanted(uses=("frozen",))
    measure(tmp_path, frozen)
    unit = next(u for u in lay(tmp_path, frozen).units if isinstance(u, Unit) and len(u.depths) == 2)
    lines = (unit.folder(tmp_path) / "rates.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 * 2 * 2 * 2  # entries, kinds, depths, rates
    other = suite()
    exam = dataclasses.replace(other.exams[0], test=dataclasses.replace(other.exams[0].test, first_index=200))
    elsewhere = tmp_path / "elsewhere"
    measure(elsewhere, frozen, of=dataclasses.replace(other, exams=(exam,)))
    rates = sorted(path.read_text() for path in tmp_path.glob("units/*/*/rates.csv"))
    assert sorted(path.read_text() for path in elsewhere.glob("units/*/*/rates.csv")) == rates


def test_a_unit_that_fails_leaves_the_others(tmp_path: Path):
    matrix = lay(tmp_path)
    broken = next(u for u in matrix.units if isinstance(u, Unit) and u.use == "finetuned")
    (broken.folder(tmp_path)).mkdir(parents=True)
    (broken.folder(tmp_path) / "run").write_text("a file where a folder belongs")
    failed = run_matrix(matrix, tmp_path, Means())
    assert [lost.unit.title for lost in failed] == [broken.title]
    assert "run" in failed[0].reason
    (broken.folder(tmp_path) / "run").unlink()
    assert run_matrix(lay(tmp_path), tmp_path, Means()) == []


def start(out: Path, *more: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    root = Path(__file__).resolve().parents[2]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([*COMMAND, str(out), *more], cwd=root, env=environment, start_new_session=True, **quiet)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    """Give the rows of one process that nobody disturbed; processes of pytest share it."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    with FileLock(shared / "undisturbed.lock"):
        if not (shared / "undisturbed/rows.parquet").exists():
            assert start(shared / "undisturbed").wait(240) == 0
    return in_order(results.read_rows(shared / "undisturbed/rows.parquet").table)


def test_two_processes_share_the_work_and_give_the_same_rows(undisturbed: pa.Table, tmp_path: Path):
    assert start(tmp_path / "two", "--processes", "2").wait(240) == 0
    assert "unit" in (tmp_path / "two/process_2.log").read_text()
    assert not list((tmp_path / "two").glob("process_3.log"))
    assert in_order(results.read_rows(tmp_path / "two/rows.parquet").table).equals(undisturbed)


KILLS = int(os.environ.get("FOURD_KILLS", "3"))
"""`make faults` kills ten times."""


def test_killed_at_random_it_ends_with_the_same_rows(undisturbed: pa.Table, tmp_path: Path):
    rng, kills = random.Random(0), 0
    while kills < KILLS:
        process = start(tmp_path / "killed")
        wait_for_work(process, tmp_path / "killed")
        time.sleep(rng.uniform(0.0, 0.5))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        if process.wait() == 0:
            break
    assert kills == KILLS, "it ended before it could be killed so often: give it more to do"
    assert start(tmp_path / "killed").wait(240) == 0
    assert in_order(results.read_rows(tmp_path / "killed/rows.parquet").table).equals(undisturbed)


def wait_for_work(process: subprocess.Popen[bytes], out: Path) -> None:
    """Wait until a process writes something of a unit, or ends."""
    began = time.time()
    while process.poll() is None:
        time.sleep(0.02)
        written = (path for path in out.glob("units/*/*/run/**/*") if path.is_file())
        if any(path.stat().st_mtime > began for path in written if path.exists()):
            return
