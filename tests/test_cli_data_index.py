"""`fourd data index` makes an index, says what is in it, and names what cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from fourd.cli.data import index
from fourd.index.films import FilmIndex
from tests.films import truncate, write_film


@pytest.fixture
def films(tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    folder.mkdir()
    write_film(folder / "a.mp4", 50)
    truncate(write_film(tmp_path / "whole.mp4", 100, index_first=True), folder / "cut.mp4", 0.8)
    for number in range(7):
        (folder / f"text\n{number}.mp4").write_text("no film\n" * 50)
    (folder / "notes.txt").write_text("mine")
    return folder


def test_the_summary_says_what_is_usable_and_what_is_not(
    films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "films.parquet"
    index.run([str(films), "--out", str(out)])
    said = capsys.readouterr().out
    frames = sum(film.info.num_frames for film in FilmIndex(out).films() if film.info)
    size = (films / "a.mp4").stat().st_size + (films / "cut.mp4").stat().st_size
    assert "2 usable, 1 of them up to a damage" in said
    assert f"0.00 hours, {frames} frames, {size / 1e9:.3g} GB" in said
    assert "read:     9 new or changed\n" in said
    assert "not used: 8 files; the index names all" in said
    assert "      7  not a media file, or its header is damaged" in said
    assert "          notes.txt: not a video file" in said
    assert r"'text\n0.mp4': not a media file" in said
    assert "text\n6" not in said  # only the first
    assert f"fourd pretrain --data {out}" in said
    (films / "a.mp4").unlink()
    index.run([str(films), "--out", str(out)])
    assert "read:     0 new or changed, 1 gone" in capsys.readouterr().out


def test_options_reach_the_index(films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "films.parquet"
    limits = ["--num-workers", "1", "--seconds", "60", "--memory-mib", "2000", "--look-again"]
    index.run([str(films), "--out", str(out), *limits, "--extensions", ".TXT", ".mov"])
    assert [film.path for film in FilmIndex(out).films() if film.reason != "not a video file"] == ["notes.txt"]
    assert "films:    0 usable" in capsys.readouterr().out


def test_what_cannot_be_indexed_is_an_error(tmp_path: Path):
    with pytest.raises(ValueError, match="nothing to index"):
        index.run(["--out", str(tmp_path / "films.parquet")])
    with pytest.raises(FileNotFoundError, match="there is no"):
        index.run([str(tmp_path / "nowhere"), "--out", str(tmp_path / "films.parquet")])


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        index.run(["--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    for words in ("fourd data index films/ --out films.parquet", "s3://bucket/films", "--memory-mib", "goes on where"):
        assert words in said
