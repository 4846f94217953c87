"""A matrix asks each entry for the readouts that its task has, and tells of the others."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fourd import provenance, results
from fourd.benchmark.contenders import resolve
from fourd.benchmark.matrix import Matrix, collect, lay_out, run_matrix
from fourd.benchmark.story import tell
from fourd.benchmark.suite import Entry, Exam, Suite
from fourd.benchmark.units import NoReadout, Unit, Wanted, plan
from fourd.benchmark.work import Means
from fourd.report.benchmark import markdown
from fourd.tasks.depth import DepthConfig
from fourd.types import ReadoutKind
from tests import small_suite
from tests.small_suite import SIZE

OTHERS = ("camera_pose", "camera_motion")


def with_depth(**changes: Any) -> Suite:
    """Describe the small suite with depth beside its two entries."""
    (exam,) = small_suite.suite().exams
    depth = Entry(DepthConfig(size=replace(SIZE, **changes)), "Depth", "How far is it?", "abs_rel", "weighted_mean")
    world = {name: replace(getattr(exam, name), tasks=(*small_suite.NAMES, "depth")) for name in ("train", "test")}
    choose = replace(exam.choose, tasks=(*small_suite.NAMES, "depth"))  # type: ignore[type-var, arg-type]
    exam = replace(exam, entries=(*exam.entries, depth), choose=choose, **world)
    return replace(small_suite.suite(), exams=(exam,))


def lay(out: Path, *readouts: ReadoutKind, of: Suite | None = None) -> Matrix:
    wanted = Wanted(uses=("frozen",), readouts=readouts, depths=(1.0,))
    return lay_out(of or with_depth(), resolve(("video_vit:tiny",)), wanted, out)


def asked(matrix: Matrix) -> list[tuple[ReadoutKind, ...]]:
    return [unit.readouts for unit in matrix.units if isinstance(unit, Unit)]


def test_what_an_entry_does_not_have_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        matrix = lay(tmp_path, "attention", "attention_deep", "dense")
    assert matrix.no_readouts == (NoReadout("dense", OTHERS),)
    assert "no dense readout of camera_pose, camera_motion: their tasks have none" in caplog.text
    assert asked(matrix) == [("attention", "attention_deep", "dense")]


def test_an_exam_without_such_an_entry_has_no_such_unit(tmp_path: Path):
    of = with_depth()
    (plain,) = small_suite.suite().exams
    both = replace(of, exams=(*of.exams, replace(plain, name="plain", entries=_renamed(plain))))
    assert asked(lay(tmp_path / "a", "attention", "dense", of=both)) == [("attention", "dense"), ("attention",)]
    matrix = lay(tmp_path / "b", "dense", of=both)
    assert asked(matrix) == [("dense",)]
    assert matrix.no_readouts == (NoReadout("dense", (*OTHERS, "plain_camera_pose", "plain_camera_motion")),)


def _renamed(exam: Exam) -> tuple[Entry, ...]:
    return tuple(replace(e, task=replace(e.task, name=f"plain_{e.name}")) for e in exam.entries)


def test_where_nothing_is_left_the_call_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"no entry of small_v1 has such a readout; camera_pose has attention, linear"):
        lay(tmp_path, "dense", of=small_suite.suite())


def test_default_readouts_leave_nothing_out(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        matrix = lay(tmp_path)
    assert (matrix.no_readouts, caplog.text) == ((), "")
    assert asked(matrix) == [("attention", "linear")]


def test_rows_are_of_the_readouts_that_a_task_has_and_the_page_tells_of_the_others(tmp_path: Path):
    """One pass of the backbone serves all; depth's rows are those that it has when it is measured by itself."""
    matrix = lay(tmp_path / "all", "attention", "dense")
    assert run_matrix(matrix, tmp_path / "all", Means()) == []
    rows = collect(matrix, tmp_path / "all")
    cells = rows.table.group_by(["entry", "readout"]).aggregate([]).to_pylist()
    learned = {(cell["entry"], cell["readout"]) for cell in cells if cell["readout"] != "none"}
    assert learned == {(name, "attention") for name in (*OTHERS, "depth")} | {("depth", "dense")}
    story = tell(matrix, rows, tmp_path / "all", [])
    assert any("no dense readout of camera_pose, camera_motion" in note for note in story.notes)
    assert "## Frozen, dense readout" in markdown(rows, story)
    alone = lay(tmp_path / "dense", "dense")
    assert run_matrix(alone, tmp_path / "dense", Means()) == []
    found = [
        results.select(r.table, entry="depth", readout="dense") for r in (rows, collect(alone, tmp_path / "dense"))
    ]
    assert found[0].num_rows
    assert found[0].equals(found[1])


def test_results_of_before_keep_their_place():
    """Fingerprints and folders are those of configs that knew no number of blocks; another number is another."""
    (exam,) = with_depth().exams
    described = _before(provenance.describe(exam))
    assert "num_blocks" not in json.dumps(described)
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:12]
    assert Suite.exam_fingerprint(exam) == digest
    deeper = with_depth(num_blocks=2)
    assert deeper.fingerprint != with_depth().fingerprint
    frozen = Wanted(uses=("frozen",))
    slugs = [{u.slug for u in plan(of, resolve(("video_vit:tiny",)), frozen)} for of in (with_depth(), deeper)]
    assert not slugs[0] & slugs[1]


def _before(described: Any) -> Any:
    if isinstance(described, list):
        return [_before(value) for value in described]
    if not isinstance(described, dict):
        return described
    named = {name: _before(v) for name, v in described.items() if name not in ("num_blocks", "cache_dir", "root")}
    return named | ({"class_names": len(named["class_names"])} if "class_names" in named else {})
