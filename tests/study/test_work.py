"""A study is done once, in any pieces, by any number of processes, and always with the same rows and a page."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from fourd import results
from fourd.backbones import video_vit
from fourd.benchmark.units import Wanted
from fourd.benchmark.work import Means
from fourd.study import Arm, Outcome, Study, run_study, weights_of
from fourd.study import runs as study_runs
from fourd.study.costs import cost_of, read_metrics
from fourd.study.runs import Runs
from tests.small_suite import world
from tests.study.small_ablation import ablation, arm, broken, pretraining

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "fourd", "study", "tests.study.small_ablation:ablation", "--out"]


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """List the pretrainings that are done."""
    titles: list[str] = []
    fit = study_runs.fit

    def counted(config, out, title="train"):
        titles.append(title)
        return fit(config, out, title)

    monkeypatch.setattr(study_runs, "fit", counted)
    return titles


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    out = tmp_path_factory.mktemp("study")
    return out, run_study(ablation(), out)


def in_order(table: pa.Table) -> pa.Table:
    return table.sort_by([(name, "ascending") for name in table.column_names if name not in ("score", "weight")])


def test_every_arm_has_rows_of_every_seed(done):
    out, outcome = done
    assert outcome.reasons == []
    table = results.read_rows(out / "rows.parquet").table
    cells = {(row["backbone"], row["weights"], row["seed"], row["depth"]) for row in table.to_pylist()}
    learned = {
        (name, "pretrained", seed, depth)
        for name in ("mask 0.5", "mask 0.75")
        for seed in (0, 1)
        for depth in (0.5, 1.0)
    }
    random_ = {("random weights", "random", seed, depth) for seed in (0, 1) for depth in (0.5, 1.0)}
    floor = {("mean colour", "none", seed, 1.0) for seed in (0, 1)}
    assert {cell for cell in cells if not cell[0].startswith("control:")} == learned | random_ | floor


def test_arms_cost_what_they_cost(done):
    costs = {(row["arm"], row["seed"]): row for row in pq.read_table(done[0] / "arms.parquet").to_pylist()}
    assert set(costs) == {(arm.name, seed) for arm in ablation().arms for seed in (0, 1)}
    one, other, random_ = costs["mask 0.5", 0], costs["mask 0.75", 0], costs["random weights", 0]
    assert (one["samples"], one["unique_clips"], random_["samples"]) == (16, 8, 0)
    assert one["flop"] > other["flop"] > random_["flop"] == 0
    assert one["flop"] == pytest.approx(16 * one["flop_per_sample"])
    assert one["parameters"] == random_["parameters"] > 0
    assert one["seconds"] > 0
    assert 0 < one["final_loss"] < 10
    assert one["factor: mask ratio"] == 0.5
    assert random_["factor: mask ratio"] is None
    assert one["identity"] != costs["mask 0.5", 1]["identity"]


def test_figures_hold_each_seed(done):
    rows = pq.read_table(done[0] / "figures.parquet").to_pylist()
    one = next(row for row in rows if (row["arm"], row["entry"], row["depth"]) == ("mask 0.5", "camera_pose", 1.0))
    assert one["seeds"] == [0, 1]
    assert one["value"] == pytest.approx(sum(one["value_of_seed"]) / 2)
    assert one["low"] < one["value"] < one["high"]
    assert {(row["arm"], row["depth"]) for row in rows} >= {("random weights", 0.5), ("mean colour", 1.0)}


def test_the_page_holds_question_sentences_plots_table_and_command(done):
    out, outcome = done
    page = (outcome.page or Path()).read_text()
    assert "Does it help to hide more?" in page
    assert "mask 0.75 against mask 0.5: " in page
    assert "The paper says better: " in page
    assert page.count("data:image/png;base64,") == 3  # two plots, and the curves of pretraining
    assert "over 2 seeds (Student&#39;s t) and groups" in page
    assert "Everything here is tiny." in page
    assert (out / "plot_2.png").stat().st_size > 5000
    table = (out / "table.md").read_text()
    assert "| mask 0.75 | 0.75 | 0 1 | " in table
    assert re.search(r"\| no pixels: mean answer \|  \|  \| \d", table)
    assert "the best answer that sees no pixels" in page
    assert "- command: " in table


def test_a_second_call_does_nothing(done, fits):
    out, _ = done
    kept = {path: path.stat().st_mtime_ns for name in ("cost.json", "unit.json") for path in out.rglob(name)}
    before = results.read_rows(out / "rows.parquet").table
    said: list[str] = []
    (out / "plot_9.png").write_bytes(b"of an earlier form of the study")
    run_study(ablation(), out, say=said.append)
    assert fits == []
    assert not (out / "plot_9.png").exists()
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert results.read_rows(out / "rows.parquet").table.equals(before)
    assert "pretraining 0 s (0 runs), evaluation 0 s (0 units)" in said[0]


def test_more_seeds_and_fewer_arms_keep_what_is_there(done, fits, tmp_path):
    out, _ = done
    run_study(ablation(), out, (2,), arms=("mask 0.5",))
    assert fits == ["mask 0.5, seed 2"]
    cells = {(row["backbone"], row["seed"]) for row in results.read_rows(out / "rows.parquet").table.to_pylist()}
    assert {("mask 0.5", 2), ("mask 0.75", 0), ("mask 0.75", 1)} <= cells
    assert ("mask 0.75", 2) not in cells
    assert "mask 0.75 has no figures of seed 2." in (out / "report.html").read_text()


def test_a_study_of_the_same_suite_shares_runs_and_readouts(tmp_path, fits):
    two = dataclasses.replace(ablation(), seeds=(0,))
    run_study(two, tmp_path / "one", runs=tmp_path / "runs", page=False)
    assert len(fits) == 2
    said: list[str] = []
    other = dataclasses.replace(two, name="another", arms=two.arms[1:], claims=())
    assert run_study(other, tmp_path / "other", runs=tmp_path / "runs", say=said.append).page is not None
    assert "pretraining 0 s (0 runs), evaluation 0 s (0 units)" in said[0]
    assert len(fits) == 2


def test_a_readout_that_tasks_do_not_have_is_told_of_on_the_page(done, tmp_path):
    asked = Wanted(uses=("frozen",), readouts=("attention", "dense"), depths=(1.0,))
    study = dataclasses.replace(ablation(), wanted=asked)
    outcome = run_study(study, tmp_path, (0,), arms=("mask 0.5",), runs=done[0] / "runs")
    assert "no dense readout of camera_pose, camera_motion" in (outcome.page or Path()).read_text()


def test_a_dry_run_says_what_would_be_done(tmp_path, fits):
    said: list[str] = []
    assert run_study(ablation(), tmp_path, dry_run=True, say=said.append).rows is None
    assert "4 arms by 2 seeds; this will take about" in said[0]
    assert "(4 runs)" in said[0]
    assert "(9 units)" in said[0]
    assert fits == []
    assert not list(tmp_path.rglob("final"))


def test_a_dry_run_takes_no_folder(tmp_path):
    run_study(ablation(), tmp_path / "out", dry_run=True, runs=tmp_path / "runs")
    assert not (tmp_path / "out").exists()
    run_study(dataclasses.replace(ablation(), name="another"), tmp_path / "out", dry_run=True, runs=tmp_path / "runs")


@pytest.mark.parametrize("option", ["--out", "--runs"])
def test_a_file_in_the_place_of_a_folder_is_refused_by_its_option(tmp_path, option):
    (tmp_path / "file").write_text("mine")
    folders = {"--out": tmp_path / "out", "--runs": tmp_path / "runs"} | {option: tmp_path / "file"}
    with pytest.raises(ValueError, match=rf"{option} .*/file is a file: name a folder"):
        run_study(ablation(), folders["--out"], runs=folders["--runs"])
    assert (tmp_path / "file").read_text() == "mine"


def test_pictures_that_are_not_its_own_stay(done, tmp_path):
    out = shutil.copytree(done[0], tmp_path / "copy")
    (out / "holiday.png").write_text("mine")
    (out / "plot_99.png").write_text("of an earlier call")
    run_study(ablation(), out)
    assert (out / "holiday.png").read_text() == "mine"
    assert not (out / "plot_99.png").exists()


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("cost.json", "", r"cost\.json is damaged .*delete it, and it is made anew"),
        ("environment.json", "", r"environment\.json is damaged .*delete its folder"),
        ("metrics.jsonl", '{"step": 1}\n{"st\n', r"metrics\.jsonl, line 2: damaged"),
    ],
)
def test_what_is_damaged_is_named(done, tmp_path, name, content, told):
    """What cannot be read of one run costs the others nothing."""
    out = shutil.copytree(done[0], tmp_path / "copy")
    sorted(out.glob(f"runs/simple_mae_*/seed_0/{name}"))[0].write_text(content)
    outcome = run_study(ablation(), out)
    assert len(outcome.reasons) == 1
    assert re.search(told, outcome.reasons[0])
    assert outcome.rows is not None
    whole = results.read_rows(done[0] / "rows.parquet").table
    lost = outcome.reasons[0].partition(",")[0]
    kept = [row for row in in_order(whole).to_pylist() if (row["backbone"], row["seed"]) != (lost, 0)]
    assert in_order(outcome.rows.table).to_pylist() == kept
    page = (outcome.page or Path()).read_text()
    assert f"Left out: {lost}, seed 0: " in page
    assert f"{lost} has no figures of seed 0." in page


def test_damaged_rows_of_a_study_are_made_anew(done, tmp_path):
    out = shutil.copytree(done[0], tmp_path / "copy")
    (out / "rows.parquet").write_bytes((out / "rows.parquet").read_bytes()[:1000])
    outcome = run_study(ablation(), out)
    assert outcome.reasons == []
    whole = results.read_rows(done[0] / "rows.parquet").table
    asked = whole.filter(pc.is_in(whole["seed"], pa.array(ablation().seeds)))
    assert in_order(results.read_rows(out / "rows.parquet").table) == in_order(asked)


def test_a_line_that_is_being_written_is_not_read_yet(done, tmp_path):
    path = sorted(done[0].glob("runs/simple_mae_*/seed_0/metrics.jsonl"))[0]
    shutil.copy(path, tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1000, "lo')
    assert read_metrics(tmp_path) == read_metrics(path.parent)


def test_another_study_is_refused(done):
    with pytest.raises(ValueError, match="version was 1 and is 2"):
        run_study(dataclasses.replace(ablation(), version=2), done[0])
    with pytest.raises(ValueError, match="has no arm 'nobody'"):
        run_study(ablation(), done[0], arms=("nobody",))


def small(*arms: Arm) -> Study:
    return dataclasses.replace(ablation(), arms=arms, plots=(), claims=(), seeds=(0,))


def test_damaged_rows_of_a_unit_are_set_aside_and_measured_again(tmp_path):
    study = small(arm(0.5), Arm("random weights", (), video_vit.tiny()))
    whole = run_study(study, tmp_path).rows
    (path,) = tmp_path.glob("runs/evaluation/*/units/mask*/*/rows.parquet")
    path.write_bytes(path.read_bytes()[:1000])
    (path.parent / "unit.json").write_text("{")
    first = run_study(study, tmp_path)
    assert "mask 0.5 has no figures of seed 0." in (first.page or Path()).read_text()
    second = run_study(study, tmp_path)
    assert path.with_name("rows.damaged").exists()
    assert whole is not None
    assert second.rows is not None
    assert in_order(second.rows.table) == in_order(whole.table)


def test_a_failing_arm_is_reported_and_the_others_finish(done, tmp_path):
    study = dataclasses.replace(broken(), seeds=(0,))
    waits = Arm("waits", (), video_vit.tiny(), dataclasses.replace(pretraining(), init=weights_of("lost")))
    outcome = run_study(dataclasses.replace(study, arms=(waits, *study.arms)), tmp_path, runs=done[0] / "runs")
    assert len(outcome.reasons) == 2
    assert "lost, seed 0: FileNotFoundError: init: there is no file nowhere.safetensors" in outcome.reasons[0]
    assert "waits, seed 0: it needs the weights of lost, seed 0, which failed" in outcome.reasons[1]
    assert outcome.rows is not None
    found = {row["backbone"] for row in outcome.rows.table.to_pylist()}
    assert {"mask 0.5", "mask 0.75", "random weights"} <= found
    assert "lost" not in found
    assert "Not pretrained: lost, seed 0" in (outcome.page or Path()).read_text()


def test_studies_share_the_runs_that_are_the_same(done, tmp_path, fits):
    out, _ = done
    renamed = dataclasses.replace(arm(0.5), name="half hidden", factors=())
    twice = dataclasses.replace(renamed, name="the same again")
    assert run_study(small(renamed, twice), tmp_path, runs=out / "runs").reasons == []
    assert fits == []
    costs = pq.read_table(tmp_path / "arms.parquet").to_pylist()
    assert costs[0]["identity"] == costs[1]["identity"]


def test_another_constant_or_other_clips_are_another_run():
    def slug(**changes: object) -> str:
        one = Arm("a", (), video_vit.tiny(), dataclasses.replace(pretraining(), **changes))
        return Runs(small(one)).slug(one)

    assert slug() == slug(seed=3) == slug(device="cuda") == slug(num_workers=2)
    assert len({slug(), slug(steps=5), slug(init="other.safetensors"), slug(data=world(8, 8))}) == 4


def test_another_file_under_the_same_name_is_another_run(tmp_path):
    file = tmp_path / "start.safetensors"

    def slug() -> str:
        one = Arm("a", (), video_vit.tiny(), dataclasses.replace(pretraining(), init=str(file)))
        return Runs(small(one)).slug(one)

    file.write_bytes(b"one")
    before = slug()
    assert slug() == before
    file.write_bytes(b"other")
    assert slug() != before


def test_weights_of_an_arm_go_into_another(tmp_path, fits):
    first = arm(0.5, steps=2)
    second = Arm("goes on", (), video_vit.tiny(), dataclasses.replace(pretraining(), init=weights_of("mask 0.5")))
    study = small(second, first)
    assert run_study(study, tmp_path, page=False).reasons == []
    assert fits == ["mask 0.5, seed 0", "goes on, seed 0"]
    assert not (tmp_path / "report.html").exists()
    runs = [Runs(study).of(arm, 0) for arm in study.arms]
    costs = [cost_of(run, tmp_path / "runs", Means()) for run in runs if run is not None]
    assert costs[0].flop_before == costs[1].flop
    assert (costs[1].flop or 0) > 0
    config = json.loads(next(tmp_path.glob("runs/*/seed_0/config.json")).read_text())
    assert "arm:" not in json.dumps(config)


# ----------------------------------------------------------------------------- what is kept of it


def test_a_finished_study_is_kept_and_no_other(done, tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("keep_study", ROOT / "benchmarks/keep_study.py")
    keep_study = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(keep_study)
    monkeypatch.setattr(keep_study, "_ROOT", tmp_path)
    folder = tmp_path / "small"
    shutil.copytree(done[0], folder, ignore=shutil.ignore_patterns("runs"))
    (folder / "table.md").write_text("- seeds: 0, 1\n")

    def shown(changed: bool) -> None:
        (folder / "shown.json").write_text(json.dumps({"git": {"commit": "abc", "changed": changed}}))

    shown(True)
    with pytest.raises(ValueError, match="uncommitted changes"):
        keep_study.keep(folder, with_gaps=False)
    shown(False)
    kept = {path.name for path in keep_study.keep(folder, with_gaps=False)}
    assert {"small.parquet", "small.figures.parquet", "small.arms.parquet", "small.md", "small_plot_1.png"} <= kept
    rows = results.read_rows(tmp_path / "results/studies/small.parquet").table
    assert set(rows["metric"].to_pylist()) == {"pose_epe", "top_1"}
    (folder / "table.md").write_text("- missing: Not pretrained: one arm\n")
    with pytest.raises(ValueError, match="1 parts are missing, the first is '- missing: Not pretrained: one arm'"):
        keep_study.keep(folder, with_gaps=False)
    assert keep_study.keep(folder, with_gaps=True)


# ----------------------------------------------------------------------------- real processes


@pytest.fixture(scope="module")
def rows(done: tuple[Path, Outcome]) -> pa.Table:
    """Give the rows of one seed, as one process made them."""
    table = results.read_rows(done[0] / "rows.parquet").table
    return in_order(results.select(table, seed=0))


def start(out: Path, *more: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*COMMAND, str(out), "--seeds", "0", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )


def rows_of(out: Path) -> pa.Table:
    return in_order(results.read_rows(out / "rows.parquet").table)


def test_killed_in_the_middle_and_shared_by_two_processes_it_gives_the_same(rows, tmp_path):
    process = start(tmp_path)
    assert wait_for(tmp_path, "runs/*/seed_0/metrics.jsonl", process)
    time.sleep(random.Random(0).random() * 0.5)
    process.send_signal(signal.SIGKILL)
    told = process.communicate()[0]
    assert not (tmp_path / "rows.parquet").exists()
    told += start(tmp_path, "--processes", "2").communicate(timeout=120)[0]
    told += (tmp_path / "process_2.log").read_text()
    assert rows_of(tmp_path).equals(rows), told
    assert "report.html" in told
    again = f"- command: `fourd study tests.study.small_ablation:ablation --out {tmp_path} --seeds 0`"
    assert again in (tmp_path / "table.md").read_text().splitlines()
    units = [line for line in told.splitlines() if "INFO" in line and re.search(r"unit \d of 5:", line)]
    assert len(units) == len(set(units)) == 5, told  # each was done once, by whichever process


def wait_for(out: Path, pattern: str, process: subprocess.Popen[str]) -> list[Path]:
    until = time.monotonic() + 60
    while not (found := list(out.glob(pattern))) and time.monotonic() < until and process.poll() is None:
        time.sleep(0.05)
    return found
