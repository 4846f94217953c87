"""A study is made once: complete rows, nothing done twice, and what was stopped goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fourd import demonstration, results
from fourd.datasets.toy_world import World
from fourd.demonstration import StudyConfig, draw_pictures, run_study
from tests.small_study import study as small_study
from tests.small_study import tasks


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """List the runs that are trained."""
    titles: list[str] = []
    fit = demonstration.fit

    def counted(config, out, title="train"):
        titles.append(title)
        return fit(config, out, title)

    monkeypatch.setattr(demonstration, "fit", counted)
    return titles


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyConfig, Path]:
    config, out = small_study(), tmp_path_factory.mktemp("study")
    run_study(config, out, range(1))
    return config, out


def test_rows_are_complete(done):
    table = results.read_rows(done[1] / "rows.parquet").table
    found = {
        (row["entry"], row["backbone"], row["weights"], row["readout"], row["depth"], row["metric"], row["clip"])
        for row in table.to_pylist()
    }
    contenders = [
        ("video_vit", "pretrained", (0.5, 1.0)),
        ("video_vit", "random", (0.5, 1.0)),
        ("mean_pixel", "none", (1.0,)),
    ]
    learned = {
        (task.name, backbone, weights, readout, depth, metric.name, f"toy_world/0/{clip}")
        for task in (config.build() for config in tasks())
        for backbone, weights, depths in contenders
        for readout in ("attention", "linear")
        for depth in depths
        for metric in task.metrics
        for clip in range(10, 15)
    }
    controls = {row for row in found if row[1].startswith("control:")}
    assert found - controls == learned
    assert len(controls) == 5 * (2 * 4 + 2 * 4 + 1 * 2)
    assert table.num_rows == len(found)
    assert {row["seed"] for row in table.to_pylist()} == {0}


def test_a_second_call_trains_nothing(done, fits):
    config, out = done
    before = (out / "rows.parquet").read_bytes()
    rows = run_study(config, out, range(1))
    assert fits == []
    assert (out / "rows.parquet").read_bytes() == before
    assert rows.table.equals(results.read_rows(out / "rows.parquet").table)


def test_pictures_are_drawn_once_and_show_the_study(done, fits):
    config, out = done
    folder = draw_pictures(config, out, seed=0)
    assert (folder / "reconstruction.png").exists()
    drawn = (folder / "pictures.json").stat().st_mtime_ns
    draw_pictures(config, out, seed=0)
    assert (folder / "pictures.json").stat().st_mtime_ns == drawn
    assert not [title for title in fits if title.startswith("pretrain")]


def test_another_constant_is_another_study(done):
    config, out = done
    with pytest.raises(ValueError, match="probe_steps was"):
        run_study(replace(config, probe_steps=4), out, range(1))


def test_other_words_are_the_same_study(done, fits):
    config, out = done
    run_study(replace(config, presentation=replace(config.presentation, title="Other")), out, range(1))
    assert fits == []


def test_a_stopped_study_goes_on(tmp_path, done, fits, monkeypatch):
    """Stopped within the second probe, it trains neither what is done nor the first probe again."""
    config = small_study()
    with monkeypatch.context() as patch:
        patch.setattr(demonstration.evaluate, "evaluate", stop_at(2, demonstration.evaluate.evaluate))
        with pytest.raises(KeyboardInterrupt):
            run_study(config, tmp_path, range(1))
    assert fits == ["pretrain, seed 0", "probe video_vit (pretrained)", "probe video_vit (random)"]
    assert not (tmp_path / "rows.parquet").exists()
    del fits[:]
    run_study(config, tmp_path, range(1))
    assert fits == ["probe video_vit (random)", "probe mean_pixel (none)"]
    one, other = (results.read_rows(out / "rows.parquet").table for out in (tmp_path, done[1]))
    assert one.equals(other)


def stop_at(call, real):
    calls = []

    def broken(*arguments):
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return real(*arguments)

    return broken


def test_stopped_before_the_picture_a_pretraining_is_finished_later(tmp_path, fits, monkeypatch):
    """What is there when the weights are is complete: the picture of a study never goes missing."""
    config = small_study()
    with monkeypatch.context() as patch:
        patch.setattr("fourd.trainer.finish.Image.fromarray", stop_at(1, None))
        with pytest.raises(KeyboardInterrupt):
            run_study(config, tmp_path, range(1))
    run_study(config, tmp_path, range(1))
    assert (tmp_path / "seed_0/pretrain/reconstruction.png").exists()
    assert fits.count("pretrain, seed 0") == 2


def test_seeds_are_added(done, fits):
    config, out = done
    rows = run_study(config, out, range(2))
    assert {row["seed"] for row in rows.table.to_pylist() if row["weights"] == "random"} == {0, 1}
    assert len(fits) == 4
    scores = [results.select(rows.table, weights="random", seed=seed)["score"].to_pylist() for seed in (0, 1)]
    assert scores[0] != scores[1]


def test_clips_of_another_version_are_another_study(done, monkeypatch):
    config, out = done
    monkeypatch.setattr(World, "name", property(lambda world: "v999"))
    with pytest.raises(ValueError, match=r"inputs\.json belongs to another run: test was .*; train was"):
        run_study(config, out, range(1))
