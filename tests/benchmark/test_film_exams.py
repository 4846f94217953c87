"""A suite in which nothing is learned: objects are followed by features, from the command line's suite to the table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fourd.benchmark.contenders import resolve
from fourd.benchmark.matrix import collect, lay_out, run_matrix
from fourd.benchmark.story import tell
from fourd.benchmark.suite import available
from fourd.benchmark.units import Wanted
from fourd.benchmark.work import Means
from fourd.recipes.suites import label_propagation
from fourd.report.benchmark import markdown
from tests.datasets.files import davis as files


def test_objects_are_followed_by_every_encoder(tmp_path: Path):
    config = files.write(tmp_path / "davis")
    suite = label_propagation(tmp_path)
    suite = replace(suite, film_exams=(replace(suite.film_exams[0], test=config),))
    out = tmp_path / "out"
    matrix = lay_out(suite, resolve(["mean_pixel", "dinov3:tiny"]), Wanted(), out)
    assert run_matrix(matrix, out, Means()) == []
    rows = collect(matrix, out)
    assert {(row["backbone"], row["readout"], row["entry"]) for row in rows.table.to_pylist()} == {
        (name, "propagation", "davis_objects") for name in ("mean_pixel", "dinov3:tiny")
    }
    page = markdown(rows, tell(matrix, rows, out, ["--suite", "x"]))
    assert "## Label propagation, nothing learned" in page
    assert "| dinov3:tiny, random weights |" in page
    assert "2 clips" in page
    again = lay_out(suite, resolve(["mean_pixel", "dinov3:tiny"]), Wanted(), out)
    assert run_matrix(again, out, Means()) == []
    assert collect(again, out).table.equals(rows.table)


def test_without_the_films_it_says_what_is_missing(tmp_path: Path):
    held, absent = available(label_propagation(tmp_path))
    assert held.all_exams == ()
    assert "fourd data doctor davis ROOT" in absent[0].reason
