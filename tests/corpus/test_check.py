"""A check finds what is broken and says why, takes out nothing else, and never writes what it reads."""

from __future__ import annotations

import csv
import io
import json
import os
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fourd.cli.data import check as command
from fourd.corpus.check import CheckConfig, Report, check
from fourd.corpus.check.looking import FilmItem, look_at
from fourd.datasets.video_files import VideoFilesConfig
from fourd.datasets.video_shards import VideoShardsConfig, write_pieces
from fourd.index.build import build_index
from fourd.index.films import FilmIndex
from tests.damaged_films import write_corpus
from tests.datasets.test_video_shards import encode
from tests.films import truncate, write_film


def problems(report: Report) -> dict[str, str]:
    return {problem.key: problem.reason for problem in report.problems}


@pytest.fixture
def index(tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    folder.mkdir()
    for number in range(4):
        write_film(folder / f"{number}.mp4", 30 + number, index_first=True)
    (folder / "notes.txt").write_text("mine")
    path = tmp_path / "films.parquet"
    build_index([str(folder)], path)
    return path


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    write_pieces(folder, [encode(0), encode(50), encode(100)], num_frames=24)
    return folder


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0xFF
    path.write_bytes(data)


def test_films_that_are_well_are_all_usable(index: Path):
    report = check([str(index)], CheckConfig())
    assert report.is_well
    assert (report.num_rows, report.num_checked, report.num_usable) == (5, 5, 4)
    assert report.known == {"not a video file": 1}
    assert report.seconds == pytest.approx((30 + 31 + 32 + 33) / 25)
    assert report.num_bytes == sum(film.num_bytes for film in FilmIndex(index).films() if film.info)


def test_a_changed_a_cut_and_a_missing_film_are_found(index: Path):
    folder = index.parent / "films"
    flip(folder / "0.mp4", 40)
    truncate(folder / "1.mp4", folder / "cut.mp4", 0.5)
    (folder / "cut.mp4").replace(folder / "1.mp4")
    (folder / "2.mp4").unlink()
    found = problems(check([str(index)], CheckConfig()))
    assert set(found) == {"0.mp4", "1.mp4", "2.mp4"}
    assert "changed since it was indexed" in found["0.mp4"]
    assert "changed since it was indexed" in found["1.mp4"]
    assert found["2.mp4"] == "no such file"


def test_damage_that_a_fingerprint_does_not_show_is_found_by_decoding(index: Path, tmp_path: Path):
    path = tmp_path / "films" / "3.mp4"
    before = path.stat()
    film = next(film for film in FilmIndex(index).films() if film.path == "3.mp4")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 :] = os.urandom(len(data) - len(data) // 2)
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    from dataclasses import replace

    from fourd.index.looking import sample_sha256

    lying = replace(film, fingerprint=sample_sha256(path, film.num_bytes))
    look = look_at(FilmItem("3.mp4", film.num_bytes, str(tmp_path / "films"), lying))
    assert look.reason is not None
    assert "cannot be decoded" in look.reason


def test_pieces_that_were_changed_moved_or_cut_off_are_found(corpus: Path):
    path, shard = corpus / "train.parquet", corpus / "shards" / "train-00000.tar"
    assert check([str(corpus)], CheckConfig()).num_usable == 3
    dataset = VideoShardsConfig(str(path), num_frames=4, size=32).build()
    flip(shard, dataset.piece(0).offset + 700)
    flip(shard, dataset.piece(1).offset - 512)
    with shard.open("r+b") as file:
        file.truncate(dataset.piece(2).offset + 100)
    found = problems(check([str(path)], CheckConfig()))
    assert "were changed or damaged" in found["piece0"]
    assert "at its place in shards/train-00000.tar stands" in found["piece1"]
    assert "shorter than the index says" in found["piece2"]


def test_apply_writes_a_new_index_of_films_which_trains(
    index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    flip(index.parent / "films" / "1.mp4", 40)
    before, new = index.read_bytes(), tmp_path / "new.parquet"
    with pytest.raises(SystemExit) as left:
        command.run([str(index), "--apply", str(new)])
    assert left.value.code == 1
    assert "without 1 that are at fault" in capsys.readouterr().out
    assert index.read_bytes() == before
    dataset = VideoFilesConfig(index_path=str(new), num_frames=4, size=32).build()
    assert [film.path for film in dataset.films] == ["0.mp4", "2.mp4", "3.mp4"]
    assert {item.path: item.reason for item in dataset.unreadable}["1.mp4"].startswith("changed since")
    assert check([str(new)], CheckConfig()).is_well


def test_apply_writes_a_new_index_of_pieces_which_trains(corpus: Path):
    path, new = corpus / "train.parquet", corpus / "train-2.parquet"
    dataset = VideoShardsConfig(str(path), num_frames=4, size=32).build()
    flip(corpus / "shards" / "train-00000.tar", dataset.piece(1).offset + 700)
    with pytest.raises(SystemExit):
        command.run([str(path), "--apply", str(new)])
    left = VideoShardsConfig(str(new), num_frames=4, size=32).build()
    assert [left.piece(number).key for number in range(len(left))] == ["piece0", "piece2"]
    assert left.fingerprint != dataset.fingerprint
    left.read(1, np.random.default_rng(0))


@pytest.mark.parametrize("out", ["films.parquet", "../{parent}/films.parquet"])
def test_apply_never_writes_over_what_it_read(index: Path, out: str):
    place = index.parent / out.format(parent=index.parent.name)
    before = index.read_bytes()
    with pytest.raises(ValueError, match="is the index itself: name a new file"):
        command.run([str(index), "--apply", str(place)])
    assert index.read_bytes() == before


def test_what_cannot_be_read_is_told_and_not_taken_out(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object) -> str:
        raise OSError(5, "Input/output error")

    film = next(iter(FilmIndex(index).films()))
    monkeypatch.setattr("fourd.corpus.check.looking.sample_sha256", broken)
    look = look_at(FilmItem(film.path, film.num_bytes, str(tmp_path / "films"), film))
    assert look.reason is None
    assert "Input/output error" in (look.unread or "")


def test_a_sample_is_drawn_the_same_again_and_holds_what_is_in_quarantine(index: Path, tmp_path: Path):
    flip(index.parent / "films" / "1.mp4", 40)
    quarantine = tmp_path / "quarantine.jsonl"
    quarantine.write_text(json.dumps({"step": 3, "path": "1.mp4", "reason": "x", "substitute": "0.mp4"}) + "\n")
    for seed in range(4):
        config = CheckConfig(sample=1, seed=seed, quarantine=quarantine)
        first, again = (check([str(index)], config) for _ in range(2))
        assert 1 <= first.num_checked <= 2
        assert "1.mp4" in problems(first)
        assert problems(first) == problems(again)


def test_a_corpus_of_damaged_films_gives_only_what_the_index_does_not_know(tmp_path: Path):
    folder, path = tmp_path / "damaged", tmp_path / "films.parquet"
    folder.mkdir()
    write_corpus(folder)
    summary = build_index([str(folder)], path)
    report = check([str(path)], CheckConfig())
    assert report.num_checked == report.num_rows > 70
    assert report.num_usable + len(report.problems) == summary.num_usable
    assert not any(problem.unread for problem in report.problems)
    assert len(report.problems) <= 3  # such as a film whose packets are whole and do not decode


def test_problems_and_pictures_are_written(index: Path, tmp_path: Path):
    flip(index.parent / "films" / "1.mp4", 40)
    sheet = tmp_path / "pictures" / "sheet.png"
    with pytest.raises(SystemExit):
        command.run([str(index), "--picture", str(sheet)])
    with Image.open(sheet) as image:
        assert np.asarray(image).std() > 20
        assert image.width == 4 * 160
    with (index.parent / "films.parquet.problems.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["key"], row["unread"]) == ("1.mp4", "False")


# ----------------------------------------------------------------------------- tar files of anyone


def write_tar(path: Path, members: list[tuple[tarfile.TarInfo, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for member, data in members:
            if data:
                member.size = len(data)
            tar.addfile(member, io.BytesIO(data) if data else None)
    return path


def test_films_in_a_tar_file_are_checked_without_an_index(tmp_path: Path):
    film = encode(0)
    members = [("a.mp4", film), ("a.json", b"{}"), ("b.mp4", film[: len(film) // 2]), ("c.mp4", b"no film" * 100)]
    path = write_tar(tmp_path / "shard.tar", [(tarfile.TarInfo(name), data) for name, data in members])
    report = check([str(path)], CheckConfig())
    assert report.num_usable == 1
    assert set(problems(report)) == {"shard.tar:b.mp4", "shard.tar:c.mp4"}


def hostile(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def test_members_that_could_do_harm_are_refused_and_nothing_is_written(tmp_path: Path):
    film = encode(0)
    shards = tmp_path / "shards"
    shards.mkdir()
    members = [
        (hostile("../out.mp4"), film),
        (hostile("/etc/out.mp4"), film),
        (hostile("link.mp4", tarfile.SYMTYPE, "/etc/passwd"), b""),
        (hostile("hard.mp4", tarfile.LNKTYPE, "/etc/passwd"), b""),
        (hostile("device.mp4", tarfile.CHRTYPE), b""),
        (hostile("twice.mp4"), film),
        (hostile("twice.mp4"), film),
    ]
    path = write_tar(shards / "shard.tar", members)
    report = check([str(path)], CheckConfig())
    assert report.num_usable == 1
    assert Counter(problem.reason for problem in report.problems) == {
        "its name leads out of the folder": 2,
        "not a plain file (a link, a device, with holes)": 3,
        "its name stands twice in the file": 1,
    }
    assert list(shards.iterdir()) == [path]


def test_a_member_that_claims_more_than_is_there_is_refused(tmp_path: Path):
    member = tarfile.TarInfo("a.mp4")
    member.size = 10**12
    (tmp_path / "shard.tar").write_bytes(member.tobuf() + b"x" * 10_000)
    report = check([str(tmp_path / "shard.tar")], CheckConfig())
    assert report.num_usable == 0
    assert any(
        "bytes: expected at most" in reason or "beyond the end" in reason for reason in problems(report).values()
    )


def test_a_compressed_tar_and_other_files_are_refused(tmp_path: Path):
    packed = write_tar(tmp_path / "shard.tar", [(tarfile.TarInfo("a.mp4"), encode(0))], "w:gz")
    with pytest.raises(ValueError, match="no tar file, or a compressed one"):
        check([str(packed)], CheckConfig())
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="index films first"):
        check([str(tmp_path / "empty")], CheckConfig())
    with pytest.raises(FileNotFoundError, match="there is no"):
        check([str(tmp_path / "gone.parquet")], CheckConfig())
    with pytest.raises(ValueError, match="--sample is 0"):
        CheckConfig(sample=0)
