"""An index says of each file what there is to know, costs only what is new, and survives whatever stops it."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fourd.index import build, journal, looking, scan
from fourd.index import films as film_rows
from fourd.index.build import build_index
from fourd.index.films import KIND, Film, FilmIndex, write_films
from fourd.index.journal import Journal
from fourd.index.table import RowWriter
from fourd.isolation import Limits
from fourd.media import probe
from fourd.storage import open_store
from tests.films import truncate, write_film, write_sound
from tests.index import looks
from tests.storage.faulty_store import Faults, faulty_store


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """Make a folder of five films."""
    folder = tmp_path / "films"
    folder.mkdir()
    for number in range(1, 6):
        write_film(folder / f"{number}.mp4", 10 + number)
    return folder


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """List the paths that are looked into."""
    paths: list[str] = []
    probe_all = build.probe_all

    def listed(root, files, *options):
        files = list(files)
        paths.extend(file.path for file in files)
        return probe_all(root, files, *options)

    monkeypatch.setattr(build, "probe_all", listed)
    return paths


def reasons_of(path: Path) -> dict[str, str | None]:
    return {film.path: film.reason for film in FilmIndex(path).films()}


# ----------------------------------------------------------------------------- what it says


def test_an_index_says_what_probing_says(films: Path, tmp_path: Path):
    write_film(films / "turned.mp4", rotation=90)
    write_film(films / "odd.webm", times_s=[0, 0.04, 0.3, 0.31, 2.0], codec="libvpx-vp9", b_frames=0)
    truncate(write_film(tmp_path / "whole.mp4", index_first=True), films / "cut.mp4", 0.8)
    write_sound(films / "sound.mp4")
    (films / "text.txt").write_text("no film")
    summary = build_index([str(films)], tmp_path / "films.parquet", num_workers=2)
    index = FilmIndex(tmp_path / "films.parquet")
    assert index.root == str(films)
    reasons = reasons_of(tmp_path / "films.parquet")
    assert list(reasons) == sorted(path.name for path in films.iterdir())
    assert {path: reason for path, reason in reasons.items() if reason} == {
        "sound.mp4": "no video stream (sound only)",
        "text.txt": "not a video file",
    }
    for film in index.films():
        assert film.num_bytes == (films / film.path).stat().st_size
        if film.info is not None:
            assert len(film.fingerprint) == 64
            for name, value in vars(probe(films / film.path)).items():
                np.testing.assert_array_equal(getattr(film.info, name), value, err_msg=f"{film.path} {name}")
    usable = [film for film in index.films() if film.info is not None]
    assert summary.num_usable == len(usable) == 8
    assert (summary.num_damaged, summary.num_read, summary.num_gone) == (1, 9, 0)
    assert summary.reasons == {"no video stream (sound only)": 1, "not a video file": 1}
    assert summary.num_frames == sum(film.info.num_frames for film in usable)
    assert summary.seconds == pytest.approx(sum(film.info.duration_s for film in usable))
    assert summary.num_bytes == sum(film.num_bytes for film in usable)


def test_films_with_the_same_bytes_have_the_same_fingerprint(films: Path, tmp_path: Path):
    shutil.copy(films / "1.mp4", films / "6.mp4")
    build_index([str(films)], tmp_path / "films.parquet")
    prints = {film.path: film.fingerprint for film in FilmIndex(tmp_path / "films.parquet").films()}
    assert prints["1.mp4"] == prints["6.mp4"]
    assert len(set(prints.values())) == 5


def test_a_folder_without_films_gives_an_empty_index(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    summary = build_index([str(tmp_path / "empty")], tmp_path / "films.parquet")
    assert (summary.num_usable, len(FilmIndex(tmp_path / "films.parquet"))) == (0, 0)


# ----------------------------------------------------------------------------- a second time


def test_a_second_time_nothing_is_read_and_no_byte_changes(films: Path, tmp_path: Path, looked: list[str]):
    (films / "text.txt").write_text("no film")
    (films / "bad.mp4").write_text("no film\n" * 50)
    out = tmp_path / "out" / "films.parquet"
    build_index([str(films)], out)
    content, changed = out.read_bytes(), out.stat().st_mtime_ns
    looked.clear()
    summary = build_index([str(films)], out)
    assert looked == []
    assert summary.num_read == 0
    assert (out.read_bytes(), out.stat().st_mtime_ns) == (content, changed)
    out.unlink()
    build_index([str(films)], out, num_workers=1)
    assert out.read_bytes() == content
    assert [path.name for path in out.parent.iterdir()] == ["films.parquet"]


def test_only_what_is_new_or_changed_is_read(films: Path, tmp_path: Path, looked: list[str]):
    out = tmp_path / "films.parquet"
    build_index([str(films)], out)
    write_film(films / "2.mp4", 30)
    os.utime(films / "3.mp4", ns=(0, 0))
    write_film(films / "0.mp4")
    (films / "4.mp4").unlink()
    looked.clear()
    summary = build_index([str(films)], out)
    assert looked == ["0.mp4", "2.mp4", "3.mp4"]
    assert (summary.num_read, summary.num_gone) == (3, 1)
    frames = {film.path: film.info.num_frames for film in FilmIndex(out).films()}
    assert frames == {"0.mp4": 40, "1.mp4": 11, "2.mp4": 30, "3.mp4": 13, "5.mp4": 15}
    (films / "5.mp4").unlink()
    assert build_index([str(films)], out).num_gone == 1
    assert len(FilmIndex(out)) == 4


def test_what_is_known_stays_known_under_another_root(films: Path, tmp_path: Path, looked: list[str]):
    out = tmp_path / "films.parquet"
    build_index([str(films)], out)
    write_film(tmp_path / "more" / "x.mp4") if (tmp_path / "more").mkdir() is None else None
    looked.clear()
    build_index([str(films), str(tmp_path / "more")], out)
    assert looked == ["more/x.mp4"]
    assert FilmIndex(out).root == str(tmp_path)
    looked.clear()
    summary = build_index([str(films)], out)
    assert looked == []
    once = tmp_path / "once.parquet"
    build_index([str(films)], once)
    assert out.read_bytes() == once.read_bytes()
    assert summary.num_usable == 5


def test_other_endings_bring_in_what_was_passed_over(films: Path, tmp_path: Path, looked: list[str]):
    out = tmp_path / "films.parquet"
    (films / "5.mp4").rename(films / "5.film")
    build_index([str(films)], out)
    assert reasons_of(out)["5.film"] == "not a video file"
    looked.clear()
    build_index([str(films)], out, extensions=(".film", ".mp4"))
    assert looked == ["5.film"]
    build_index([str(films)], out)
    assert reasons_of(out)["5.film"] == "not a video file"


def test_what_the_folder_refused_is_looked_at_again(
    films: Path, tmp_path: Path, looked: list[str], monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "films.parquet"
    with monkeypatch.context() as patch:
        patch.setattr(build, "look_into", looks.forbidden)
        build_index([str(films)], out)
    assert set(reasons_of(out).values()) == {"permission denied"}
    looked.clear()
    build_index([str(films)], out)
    assert len(looked) == 5
    assert set(reasons_of(out).values()) == {None}


def test_an_index_of_an_older_form_is_made_again_and_another_file_is_not_touched(films: Path, tmp_path: Path):
    out = tmp_path / "films.parquet"
    with RowWriter(out, pa.schema([("path", pa.string())]), KIND[:-1] + "1", root=str(films)) as writer:
        writer.write({"path": "1.mp4"})
    assert build_index([str(films)], out).num_read == 5
    pq.write_table(pa.table({"mine": [1]}), out)
    with pytest.raises(ValueError, match="delete it, or name another place"):
        build_index([str(films)], out)
    assert pq.read_table(out).column_names == ["mine"]


def test_films_without_a_version_are_read_again_and_what_is_found_then_counts(
    films: Path, tmp_path: Path, looked: list[str], monkeypatch: pytest.MonkeyPatch
):
    describe = scan._describe
    monkeypatch.setattr(scan, "_describe", lambda *about: describe(*about)._replace(version=""))
    out = tmp_path / "films.parquet"
    build_index([str(films)], out)
    before = {film.path: film.fingerprint for film in FilmIndex(out).films()}
    content = (films / "3.mp4").read_bytes()
    (films / "3.mp4").write_bytes(content[:-1] + bytes([content[-1] ^ 255]))
    looked.clear()
    assert build_index([str(films)], out).num_read == len(looked) == 5
    after = {film.path: film.fingerprint for film in FilmIndex(out).films()}
    assert [path for path in after if after[path] != before[path]] == ["3.mp4"]


# ----------------------------------------------------------------------------- films that do harm


def test_films_that_crash_hang_or_eat_memory_become_rows(
    films: Path, tmp_path: Path, looked: list[str], monkeypatch: pytest.MonkeyPatch
):
    for name in ("crash.mp4", "hang.mp4", "eat.mp4"):
        shutil.copy(films / "1.mp4", films / name)
    out = tmp_path / "films.parquet"
    limits = Limits(seconds=2.0, memory_bytes=2**30)
    with monkeypatch.context() as patch:
        patch.setattr(build, "look_into", looks.harmed)
        build_index([str(films)], out, num_workers=2, limits=limits)
    reasons = {path: reason for path, reason in reasons_of(out).items() if reason}
    assert reasons == {
        "crash.mp4": "the worker crashed (SIGABRT)",
        "eat.mp4": "needs more than 1024 MiB of memory",
        "hang.mp4": "hung: no end after 2 s",
    }
    looked.clear()
    build_index([str(films)], out)
    assert looked == []  # it is known, and would only cost the same again
    build_index([str(films)], out, looks_again=True)
    assert looked == ["crash.mp4", "eat.mp4", "hang.mp4"]
    assert set(reasons_of(out).values()) == {None}


# ----------------------------------------------------------------------------- what stops it


def test_a_disk_that_fails_stops_it_and_what_is_done_is_kept(
    films: Path, tmp_path: Path, looked: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    out = tmp_path / "films.parquet"
    with monkeypatch.context() as patch:
        patch.setattr(build, "look_into", looks.failing)
        with pytest.raises(OSError, match="Input/output error"):
            build_index([str(films)], out, num_workers=1)
    assert "Stopped: 2 of 5 films are kept" in capfd.readouterr().err
    assert not out.exists()
    looked.clear()
    build_index([str(films)], out)
    assert looked == ["3.mp4", "4.mp4", "5.mp4"]
    assert_same_as_at_once(films, out)


def test_a_film_that_a_disk_fails_on_is_named(films: Path, monkeypatch: pytest.MonkeyPatch):
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(looking, "open", lambda *_: Failing(), raising=False)
    with pytest.raises(OSError, match=r"Input/output error: '.*films/1\.mp4'"):
        looking.look_into(looking.FilmAddress(str(films), "1.mp4", 1000, "v"))


def assert_same_as_at_once(films: Path, out: Path) -> None:
    once = out.with_name("once.parquet")
    build_index([str(films)], once)
    assert out.read_bytes() == once.read_bytes()
    assert not list(out.parent.glob(".*"))


_KILLED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell in the background keeps from its children
from fourd.index import build, journal
from fourd.index import films as film_rows
from tests.index import looks
journal._FILMS_AT_ONCE = 1
build.look_into = looks.slow
build.build_index([sys.argv[1]], sys.argv[2], num_workers=1)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_it_goes_on_after_a_kill(how: signal.Signals, films: Path, tmp_path: Path, looked: list[str]):
    out = tmp_path / "films.parquet"
    process = subprocess.Popen([sys.executable, "-c", _KILLED, str(films), str(out)], stderr=subprocess.DEVNULL)
    wait_for(lambda: num_kept(out) >= 2)
    process.send_signal(how)
    assert process.wait(60) != 0
    assert not out.exists()
    build_index([str(films)], out)
    assert 1 <= len(looked) <= 3
    assert looked[-1] == "5.mp4"
    assert_same_as_at_once(films, out)


def num_kept(out: Path) -> int:
    parts = Journal(out.with_name(f".{out.name}.parts")).parts()
    return sum(len(batch) for part in parts for batch in part.batches())


def wait_for(condition) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to that within 30 s")


def test_a_journal_that_was_cut_off_gives_what_is_whole(films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(journal, "_FILMS_AT_ONCE", 2)
    known = [Film(f"{number}.mp4", number, "v", "f", probe(films / "1.mp4")) for number in range(6)]
    kept = Journal(tmp_path / "parts")
    with kept.begin("/root") as writer:
        for film in known:
            writer.write(film)
    (path,) = (tmp_path / "parts").iterdir()
    content = path.read_bytes()
    counts = set()
    for end in (*range(0, len(content), 37), len(content)):
        path.write_bytes(content[:end])
        (part,) = kept.parts()
        counts.add(sum(len(batch) for batch in part.batches()))
    assert counts == {0, 2, 4, 6}


def test_two_processes_make_one_index_and_look_into_each_film_once(films: Path, tmp_path: Path):
    out = tmp_path / "films.parquet"
    script = (
        "import sys; from fourd.index.build import build_index; print(build_index([sys.argv[1]], sys.argv[2]).num_read)"
    )
    command = [sys.executable, "-c", script, str(films), str(out)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in range(2)]
    assert sorted(int(process.communicate()[0]) for process in both) == [0, 5]
    assert_same_as_at_once(films, out)


# ----------------------------------------------------------------------------- an object store


def test_films_of_an_object_store_that_fails_now_and_then(films: Path, tmp_path: Path, looked: list[str]):
    write_sound(films / "sound.mp4")
    out = tmp_path / "films.parquet"
    with faulty_store(Faults(errors=0.04, cut=0.04, short=0.04)) as store:
        store.put_folder("bucket", films)
        build_index(["s3://bucket"], out, num_workers=2)
        index = FilmIndex(out)
        assert index.root == "s3://bucket"
        assert reasons_of(out) == {f"{n}.mp4": None for n in range(1, 6)} | {
            "sound.mp4": "no video stream (sound only)"
        }
        build_index([str(films)], tmp_path / "local.parquet")
        for film, local in zip(index.films(), FilmIndex(tmp_path / "local.parquet").films(), strict=True):
            assert (film.path, film.num_bytes, film.fingerprint) == (local.path, local.num_bytes, local.fingerprint)
            assert open_store("s3://bucket").about(film.path) == (film.num_bytes, film.version)
            if film.info is not None:
                np.testing.assert_array_equal(film.info.pts, local.info.pts)
        looked.clear()
        store.put("bucket", "deep/6.mp4", (films / "1.mp4").read_bytes())
        build_index(["s3://bucket"], out, num_workers=2)
    assert looked == ["deep/6.mp4"]


# ----------------------------------------------------------------------------- many


def test_an_index_of_many_is_brought_up_to_date_without_losing_any(
    films: Path, tmp_path: Path, looked: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(film_rows, "_ROWS_PER_GROUP", 64)
    info = probe(films / "1.mp4")
    many = tmp_path / "many"
    many.mkdir()
    for number in range(600):
        (many / f"{number:05d}.mp4").touch()
    stats = {path.name: path.stat() for path in many.iterdir()}
    rows = (Film(name, 0, str(stats[name].st_mtime_ns), "f" * 64, info) for name in sorted(stats))
    out = tmp_path / "films.parquet"
    write_films(out, rows, str(many))
    assert FilmIndex(out).table.num_groups == 10
    shutil.copy(films / "2.mp4", many / "00242-b.mp4")
    (many / "00500.mp4").unlink()
    summary = build_index([str(many)], out)
    assert looked == ["00242-b.mp4"]
    assert (summary.num_usable, summary.num_gone) == (600, 1)
    paths = pq.read_table(out, columns=["path"])["path"].to_pylist()
    assert paths == sorted(path.name for path in many.iterdir())
    assert FilmIndex(out).film(paths.index("00242-b.mp4")).info.num_frames == 12
