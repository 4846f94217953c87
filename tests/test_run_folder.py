"""A folder belongs to one run, and lists what could not be read."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from fourd import run_folder, trainer
from fourd.datasets.mixture import MixtureConfig, Part
from fourd.datasets.video_files import VideoFilesConfig
from fourd.run_folder import claim, list_unreadable
from fourd.types import Unreadable
from tests.small_runs import ClipsConfig, run


def listed(out: Path) -> list[list[str]]:
    with (out / "unreadable.csv").open(newline="") as file:
        return list(csv.reader(file))


def test_a_folder_says_whose_it_is(tmp_path):
    out = tmp_path / "deep" / "run"
    claim(out, run())
    assert json.loads((out / "config.json").read_text())["steps"] == 8
    assert "torch" in json.loads((out / "environment.json").read_text())
    claim(out, run())


def test_every_field_that_differs_is_named(tmp_path):
    claim(tmp_path, run())
    other = replace(run(data=ClipsConfig(5)), steps=9, device="auto")
    with pytest.raises(
        ValueError,
        match=r"config\.json belongs to another run: data\.num_clips was 12 and is 5; steps was 8 and is 9\.",
    ):
        claim(tmp_path, other, free_to_change=["device"])
    assert json.loads((tmp_path / "config.json").read_text())["steps"] == 8


def test_what_is_free_to_change_is_changed(tmp_path):
    claim(tmp_path, run())
    claim(tmp_path, run(device="auto"), free_to_change=["device"])
    assert json.loads((tmp_path / "config.json").read_text())["device"] == "auto"


def test_a_part_within_what_is_free_to_change_may_differ_too(tmp_path):
    claim(tmp_path, run(data=ClipsConfig(5)))
    claim(tmp_path, run(data=ClipsConfig(6)), free_to_change=["data"])
    with pytest.raises(ValueError, match="data"):
        claim(tmp_path, run(data=ClipsConfig(7)), free_to_change=["dat"])


def test_places_of_files_are_free_wherever_they_stand_and_what_is_read_from_them_is_not(tmp_path):
    def mixture(root: str, size: int = 32, weight: float = 1.0) -> MixtureConfig:
        films = VideoFilesConfig(root, num_frames=4, size=size, index_path=f"{root}.parquet")
        return MixtureConfig((Part("noise", ClipsConfig()), Part("films", films, weight)))

    free = trainer.FREE_TO_CHANGE
    claim(tmp_path, run(data=mixture("a"), held_out=mixture("b")), free)
    claim(tmp_path, run(data=mixture("c"), held_out=mixture("d")), free)
    for other, field in (
        (mixture("a", size=64), r"data\.parts\.1\.data\.size"),
        (mixture("a", weight=2.0), r"1\.weight"),
    ):
        with pytest.raises(ValueError, match=f"{field} was"):
            claim(tmp_path, run(data=other, held_out=mixture("b")), free)


def test_the_list_is_there_even_when_it_is_empty(tmp_path):
    list_unreadable(tmp_path, [])
    assert listed(tmp_path) == [["path", "reason"]]


def test_the_list_grows_and_repeats_nothing(tmp_path):
    list_unreadable(tmp_path, [Unreadable("b, with comma", "two\nlines"), Unreadable("c", "x")])
    list_unreadable(tmp_path, [])
    list_unreadable(tmp_path, [Unreadable("a", '"quoted"'), Unreadable("c", "newer")])
    expected = [["a", '"quoted"'], ["b, with comma", "two\nlines"], ["c", "newer"]]
    assert listed(tmp_path) == [["path", "reason"], *expected]


def test_a_list_that_is_interrupted_stays_as_it_was(tmp_path, monkeypatch):
    list_unreadable(tmp_path, [Unreadable("a", "x")])

    def torn(file: object) -> None:
        file.write("pa")
        raise KeyboardInterrupt

    monkeypatch.setattr(run_folder.csv, "writer", torn)
    with pytest.raises(KeyboardInterrupt):
        list_unreadable(tmp_path, [Unreadable("b", "x")])
    assert listed(tmp_path) == [["path", "reason"], ["a", "x"]]


def test_a_changed_input_is_another_run(tmp_path):
    claim(tmp_path, run(), inputs={"data": "a", "init": "b"})
    claim(tmp_path, run(), inputs={"data": "a", "init": "b"})
    with pytest.raises(ValueError, match=r"inputs\.json belongs to another run: init was"):
        claim(tmp_path, run(), inputs={"data": "a", "init": "c"})


def test_the_environment_of_the_first_call_is_kept(tmp_path, monkeypatch):
    claim(tmp_path, run())
    first = (tmp_path / "environment.json").read_text()
    monkeypatch.setattr(run_folder.provenance, "environment", lambda: {"torch": "newer"})
    claim(tmp_path, run())
    assert (tmp_path / "environment.json").read_text() == first
    assert json.loads((tmp_path / "restarts.jsonl").read_text()) == {"torch": "newer"}


def test_a_config_of_before_a_field_was_added_is_the_same_run(tmp_path):
    claim(tmp_path, run())
    path = tmp_path / "config.json"
    described = json.loads(path.read_text())
    del described["deterministic"], described["optim"]["clip_norm"]
    path.write_text(json.dumps(described))
    claim(tmp_path, run())
    assert json.loads(path.read_text())["deterministic"] is False
