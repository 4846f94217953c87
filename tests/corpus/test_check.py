"""A check finds what is broken and says why, and takes what could not be read for no fault of the film."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fourd.corpus.check import CheckConfig
from fourd.corpus.check.looking import FilmItem, Item, Look, look_at
from fourd.datasets.video_shards import VideoShardsConfig
from fourd.index import films, pieces
from fourd.index.build import build_index
from fourd.index.films import FilmIndex
from fourd.index.looking import sample_sha256
from fourd.index.table import RowTable, RowWriter
from fourd.isolation import Limits
from tests.corpus.checking import checked, flip, write_films_and_index, write_prepared
from tests.corpus.hanging import Hanging
from tests.damaged_films import write_corpus
from tests.films import truncate


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Write films with an index, and a prepared corpus, once; tests that break them take their own."""
    folder = tmp_path_factory.mktemp("made")
    return write_films_and_index(folder), write_prepared(folder)


def test_films_that_are_well_are_all_usable(made: tuple[Path, Path]):
    report = checked(made[0]).report
    assert report.is_well
    assert (report.num_rows, report.num_checked, report.num_usable) == (5, 5, 4)
    assert report.known == {"not a video file": 1}
    assert report.seconds == pytest.approx((30 + 31 + 32 + 33) / 25)
    assert report.num_bytes == sum(film.num_bytes for film in FilmIndex(made[0]).films() if film.info)


def test_a_changed_a_grown_a_cut_and_a_missing_film_are_at_fault(tmp_path: Path):
    index, folder = write_films_and_index(tmp_path), tmp_path / "films"
    flip(folder / "0.mp4", 40)
    truncate(folder / "1.mp4", tmp_path / "cut.mp4", 0.5).replace(folder / "1.mp4")
    (folder / "2.mp4").unlink()
    with (folder / "3.mp4").open("ab") as file:
        file.write(bytes(8))
    result = checked(index)
    assert set(result.reasons) == {f"{number}.mp4" for number in range(4)}
    assert all("changed since it was indexed" in result.reasons[f"{number}.mp4"] for number in (0, 1, 3))
    assert result.reasons["2.mp4"] == "no such file"
    assert set(result.report.bad[str(index)]) == {0, 1, 2, 3}
    assert not result.report.is_well


def test_a_large_film_that_has_grown_is_found(made: tuple[Path, Path], tmp_path: Path):
    """Its first MiB, and the MiB before its former end, are as they were."""
    (film, *_) = FilmIndex(made[0]).films()
    path = tmp_path / "large.mp4"
    path.write_bytes(bytes(3 * 2**20))
    large = replace(film, path=path.name, num_bytes=2**21 + 2**19, version=str(path.stat().st_mtime_ns))
    large = replace(large, fingerprint=sample_sha256(path, large.num_bytes))
    assert "changed since" in (look_at(FilmItem("", 0, str(tmp_path), large)).reason or "")


def test_damage_that_a_fingerprint_does_not_show_is_found_by_decoding(made: tuple[Path, Path], tmp_path: Path):
    film = next(film for film in FilmIndex(made[0]).films() if film.path == "3.mp4")
    path = Path(shutil.copy2(made[0].parent / "films" / "3.mp4", tmp_path))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 :] = np.random.default_rng(0).bytes(len(data) - len(data) // 2)
    path.write_bytes(data)
    look = look_at(FilmItem("", 0, str(tmp_path), replace(film, fingerprint=sample_sha256(path, film.num_bytes))))
    assert look.reason is not None
    assert "cannot be decoded" in look.reason


def test_films_that_were_only_touched_are_told_and_not_at_fault(tmp_path: Path):
    index = write_films_and_index(tmp_path, 1)
    os.utime(tmp_path / "films" / "0.mp4")
    report = checked(index).report
    assert (len(report.at_fault), len(report.not_judged), report.is_well) == (0, 1, False)


def test_a_folder_that_is_gone_is_no_fault_of_its_films(tmp_path: Path):
    index = write_films_and_index(tmp_path, 2)
    (tmp_path / "films").rename(tmp_path / "unmounted")
    result = checked(index)
    assert not result.report.bad
    assert [problem.judged for problem in result.problems] == [False, False]


def test_pieces_that_were_changed_moved_or_cut_off_are_found(tmp_path: Path):
    corpus = write_prepared(tmp_path)
    shard = corpus / "shards" / "train-00000.tar"
    assert checked(corpus).report.num_usable == 3
    dataset = VideoShardsConfig(str(corpus / "train.parquet"), num_frames=4, size=32).build()
    flip(shard, dataset.piece(0).offset + 700)
    flip(shard, dataset.piece(1).offset - 512)
    with shard.open("r+b") as file:
        file.truncate(dataset.piece(2).offset + 100)
    found = checked(corpus / "train.parquet").reasons
    assert "were changed or damaged" in found["piece0"]
    assert "at its place in shards/train-00000.tar stands" in found["piece1"]
    assert "shorter than the index says" in found["piece2"]


def test_a_shard_that_is_gone_is_no_fault_of_its_pieces(tmp_path: Path):
    corpus = write_prepared(tmp_path)
    (corpus / "shards" / "train-00000.tar").unlink()
    report = checked(corpus).report
    assert (len(report.at_fault), len(report.not_judged), report.bad) == (0, 3, {})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"shard": "../corpus/shards/train-00000.tar"}, "leads out of its root"),
        ({"offset": 0}, "numbers that no piece has"),
        ({"num_frames": 0}, "numbers that no piece has"),
        ({"num_frames": 200}, "frame 99 of 200 cannot be decoded"),
        ({"num_bytes": 2**50}, "shorter than the index says|more than .* MiB of memory"),
    ],
)
def test_rows_that_lie_are_at_fault(made: tuple[Path, Path], tmp_path: Path, change: dict[str, object], reason: str):
    corpus = Path(shutil.copytree(made[1], tmp_path / "corpus"))
    table = RowTable(corpus / "train.parquet", pieces.KIND)
    about = {name: table.metadata[name] for name in ("codec", "time_base", "frame_ticks", "gop")}
    with RowWriter(corpus / "train.parquet", pieces.SCHEMA, pieces.KIND, **about) as writer:
        writer.write(table.row(0) | change)
    result = checked(corpus)
    assert len(result.report.at_fault) == 1, result.problems
    assert re.search(reason, result.reasons["piece0"])


def test_a_film_whose_path_leads_out_of_the_root_is_not_read(made: tuple[Path, Path], tmp_path: Path):
    (film, *_) = FilmIndex(made[0]).films()
    path = tmp_path / "films.parquet"
    films.write_films(path, [replace(film, path="../films/0.mp4")], str(made[0].parent / "films"))
    assert checked(path).reasons == {"../films/0.mp4": "its path in the index leads out of its root"}


class Broken(Item):
    """Fail in a way that nobody foresaw."""

    def look(self) -> Look:
        raise ZeroDivisionError("division by zero")


def test_an_error_that_nobody_foresaw_is_told_and_is_no_fault():
    look = look_at(Broken("a", 1))
    assert look.reason is None
    assert "ZeroDivisionError" in (look.unread or "")


def test_what_crashes_or_hangs_is_at_fault_and_what_cannot_be_read_is_not(
    made: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("fourd.corpus.check.subjects.FilmItem", Hanging)
    result = checked(made[0], limits=Limits(seconds=3.0))
    assert "crashed" in result.reasons["0.mp4"]
    assert "hung" in result.reasons["1.mp4"]
    assert "Input/output error" in result.reasons["2.mp4"]
    assert {number: fault.is_harm for number, fault in result.report.bad[str(made[0])].items()} == {0: True, 1: True}
    assert result.report.num_usable == 1


def test_a_sample_is_drawn_the_same_again(made: tuple[Path, Path]):
    folder = made[0]
    drawn = [checked(folder, sample=2, seed=seed).report.pictures for seed in (0, 0, 1)]
    assert [name for name, _ in drawn[0]] == [name for name, _ in drawn[1]]
    with pytest.raises(ValueError, match="--sample is 0"):
        CheckConfig(sample=0)
    with pytest.raises(ValueError, match="--num-workers is 0"):
        CheckConfig(num_workers=0)


def test_a_corpus_of_damaged_films_gives_only_what_the_index_does_not_know(tmp_path: Path):
    folder, path = tmp_path / "damaged", tmp_path / "films.parquet"
    folder.mkdir()
    specimens = write_corpus(folder)
    summary = build_index([str(folder)], path)
    result = checked(path)
    report = result.report
    assert report.num_checked == report.num_rows > 70
    assert report.num_usable + len(report.at_fault) == summary.num_usable
    assert (len(report.not_judged), report.num_damaged > 5) == (0, True)
    assert set(result.reasons) <= {specimen.name for specimen in specimens if specimen.breaks}
    assert checked(path).reasons == result.reasons
