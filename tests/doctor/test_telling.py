"""The command says which datasets there are, how to get one, and what is wrong with a call."""

from __future__ import annotations

from pathlib import Path

import pytest

from fourd.cli import data
from fourd.cli.data import doctor
from fourd.doctor.readers import all_readers, find_reader
from tests.doctor import fake_reader


def test_the_readers_are_listed_with_title_and_licence(capsys: pytest.CaptureFixture[str]):
    data.run(["doctor"])
    said = capsys.readouterr().out
    readers = all_readers()
    assert {"scannet", "realestate10k", "visp_castle", "waymo"} <= {reader.name for reader in readers}
    assert "video_files" not in said  # it has no labels
    for reader in readers:
        assert f"{reader.name} " in said
        assert reader.about.title in said
        assert reader.about.licence in said


def test_a_dataset_that_is_not_there_is_told_how_to_get(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    doctor.run(["scannet"])
    said = capsys.readouterr().out
    assert "http://www.scan-net.org" in said
    assert "official: train 1,201, val 312, test 100" in said
    (tmp_path / "empty").mkdir()
    for root, words in ((tmp_path / "nowhere", "no such folder"), (tmp_path / "empty", "nothing in it")):
        with pytest.raises(SystemExit, match=words) as ended:
            doctor.run(["scannet", str(root)])
        assert ended.value.code not in (0, None)
        assert capsys.readouterr().out == said


def test_another_module_is_a_reader_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    doctor.run(["tests.doctor.fake_reader"])
    said = capsys.readouterr().out
    assert "call write(root)" in said
    assert "shares films with movi" in said
    other = find_reader("tests.doctor.fake_reader:base")
    assert other.describe("somewhere", "test") == fake_reader.base("somewhere", "test")
    assert other.splits == ("train", "test")


def test_a_reader_without_official_splits_examines_its_own():
    assert find_reader("realestate10k").splits == ("test",)
    assert find_reader("kinetics:k400").describe("somewhere", "val").classes == 400


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("scanet", "did you mean scannet"),
        ("fourd.datasets.nothing", "no such module"),
        ("tests.films", "it has no ABOUT and no base"),
        ("scannet:bass", "it has no bass"),
    ],
)
def test_what_is_no_reader_is_refused(name: str, words: str):
    with pytest.raises(ValueError, match=words):
        doctor.run([name, "somewhere"])


@pytest.mark.parametrize("options", [["--num-clips", "0"], ["--num-frames", "0"], ["--plausible.near-metres", "300"]])
def test_options_that_check_nothing_are_refused(options: list[str], tmp_path: Path):
    fake_reader.write(tmp_path / "rooms")
    with pytest.raises((ValueError, SystemExit)):
        doctor.run(["tests.doctor.fake_reader", str(tmp_path / "rooms"), *options])
