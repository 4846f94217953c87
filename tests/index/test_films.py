"""A row of the index gives back the film that was written, to the bit, however its frames are spaced."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourd.index import films
from fourd.index.films import SCHEMA, Film, FilmIndex, film_of, film_source, path_hash, write_films
from fourd.index.table import RowTable, RowWriter
from fourd.media import StoredFile, VideoInfo


def info_of(pts, key_pts=None, **values) -> VideoInfo:
    pts = np.array(pts, np.int64)
    known = {"width": 64, "height": 48, "rotation": 90, "codec": "h264", "time_base": Fraction(1, 12800)}
    return VideoInfo(**known | values, pts=pts, key_pts=pts[:1] if key_pts is None else np.array(key_pts, np.int64))


def film_named(path: str, info: VideoInfo | None = None, reason: str | None = None) -> Film:
    return Film(path, 123, "456", "f" * 64, info, reason)


def assert_same(one: Film, other: Film) -> None:
    for name in ("path", "num_bytes", "version", "fingerprint", "reason"):
        assert getattr(one, name) == getattr(other, name)
    assert (one.info is None) == (other.info is None)
    if one.info is not None:
        for name, value in vars(one.info).items():
            np.testing.assert_array_equal(getattr(other.info, name), value, err_msg=name)
        assert other.info.pts.dtype == other.info.key_pts.dtype == np.int64


CASES = [
    film_named("a/even.mp4", info_of(range(0, 512 * 40, 512), [0, 6144])),
    film_named("a/negative.mp4", info_of([-1024, -512, 0, 512])),
    film_named("b/one frame.mp4", info_of([7])),
    film_named("b/two\nlines é 漢.mkv", info_of([0, 33, 67, 100, 133, 167, 1000], time_base=Fraction(1, 1000))),
    film_named("c/damaged.avi", info_of([0, 1, 2], counted=True, damage="truncated: 3 of 9 frames", has_sound=True)),
    film_named("d/far.ogv", info_of([2**61, 2**61 + 1, 2**61 + 2**60], time_base=Fraction(1001, 30000))),
    film_named("e/text.txt", reason="not a video file"),
]


def test_films_come_back_from_a_file_as_they_were(tmp_path: Path):
    write_films(tmp_path / "films.parquet", CASES, "/films")
    index = FilmIndex(tmp_path / "films.parquet")
    assert index.root == "/films"
    assert len(index) == len(CASES)
    for film, again in zip(CASES, index.films(), strict=True):
        assert_same(film, again)
    assert_same(CASES[3], index.film(3))
    with pytest.raises(IndexError):
        index.film(len(CASES))


@given(st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=60, unique=True))
def test_any_stamps_come_back(stamps: list[int]):
    info = info_of(sorted(stamps))
    np.testing.assert_array_equal(film_of(film_named("x", info).row()).info.pts, info.pts)


def test_a_film_of_one_rate_takes_one_run_however_long():
    row = film_named("x", info_of(np.arange(200_000) * 512)).row()
    assert (row["first_pts"], row["step_pts"].tolist(), row["step_counts"].tolist()) == (0, [512], [199_999])


def test_any_tool_can_read_what_the_index_says(tmp_path: Path):
    write_films(tmp_path / "films.parquet", CASES, "/films")
    table = pq.read_table(tmp_path / "films.parquet")
    assert table.schema.names == SCHEMA.names
    row = table.slice(3, 1).to_pylist()[0]
    assert (row["codec"], row["width"], row["height"], row["rotation"], row["num_frames"]) == ("h264", 64, 48, 90, 7)
    assert (row["last_s"], row["duration_s"]) == (1.0, pytest.approx(1.833))
    steps = np.repeat(row["step_pts"], row["step_counts"])
    assert [row["first_pts"], *(row["first_pts"] + np.cumsum(steps))] == [0, 33, 67, 100, 133, 167, 1000]


def test_rows_with_many_stamps_are_read_in_smaller_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(films, "_STAMPS_PER_GROUP", 1000)
    uneven = info_of(np.cumsum(np.arange(1, 301)))  # 2 x 299 numbers, and a key frame
    named = [film_named(f"{number}.mp4", uneven) for number in range(7)]
    write_films(tmp_path / "films.parquet", named, "/films")
    table = RowTable(tmp_path / "films.parquet", films.KIND)
    assert [table.num_rows(group) for group in range(table.num_groups)] == [2, 2, 2, 1]
    for film, again in zip(named, FilmIndex(tmp_path / "films.parquet").films(), strict=True):
        assert_same(film, again)


def test_paths_are_hashed_as_they_were_held_out_before():
    assert path_hash("a/b.mp4") == int.from_bytes(hashlib.sha256(b"a/b.mp4").digest()[:8], "big")


def test_a_film_is_read_below_its_root_only():
    assert film_source("/films", "a/b.mp4", 1) == "/films/a/b.mp4"
    remote = film_source("memory://films", "a/b.mp4", 5)
    assert isinstance(remote, StoredFile)
    assert (str(remote), remote.num_bytes) == ("memory://films/a/b.mp4", 5)
    for root in ("/films", "memory://films"):
        for path in ("../b.mp4", "/etc/passwd", "a/../../b.mp4", ""):
            with pytest.raises(ValueError, match="leaves its root"):
                film_source(root, path, 1)


def test_an_index_that_lacks_a_column_is_refused(tmp_path: Path):
    schema = films.SCHEMA.remove(films.SCHEMA.get_field_index("key_pts"))
    with RowWriter(tmp_path / "films.parquet", schema, films.KIND, root="/films"):
        pass
    with pytest.raises(ValueError, match=r"films\.parquet: column key_pts is missing"):
        FilmIndex(tmp_path / "films.parquet")
