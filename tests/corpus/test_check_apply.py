"""The command says what is wrong, lists and draws it, and writes a new index without it."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from fourd.cli.data import check as command
from fourd.corpus.contact_sheet import contact_sheet
from fourd.datasets.video_files import VideoFilesConfig
from fourd.datasets.video_shards import VideoShardsConfig
from fourd.index.build import build_index
from fourd.index.films import FilmIndex
from fourd.index.table import RowTable, kind_of
from fourd.loader import batches
from tests.corpus.checking import checked, flip, write_films_and_index, write_prepared
from tests.films import write_film


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """Write an index of four films of which the second was changed since."""
    path = write_films_and_index(tmp_path)
    flip(tmp_path / "films" / "1.mp4", 40)
    return path


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Write a prepared corpus of three pieces of which the second was changed since."""
    folder = write_prepared(tmp_path)
    dataset = VideoShardsConfig(str(folder / "train.parquet"), num_frames=4, size=32).build()
    flip(folder / "shards" / "train-00000.tar", dataset.piece(1).offset + 700)
    return folder


def run(*arguments: object) -> object:
    """Run the command with one worker, and give its exit code."""
    try:
        command.run([*map(str, arguments), "--num-workers", "1"])
    except SystemExit as left:
        return left.code
    return 0


def problems_in(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_apply_writes_a_new_index_of_films_which_trains(
    index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    before, new, sheet = index.read_bytes(), tmp_path / "new.parquet", tmp_path / "pictures" / "sheet.png"
    assert run(index, "--apply", new, "--picture", sheet) == 1
    said, complaint = capsys.readouterr()
    assert "usable:   3 (60.0%)" in said
    assert "1  changed since it was indexed: its size, beginning or end is another (first: 1.mp4)" in said
    assert "without 1 that are at fault" in said
    assert "1 of 5 are at fault, 0 could not be checked" in complaint
    assert index.read_bytes() == before
    dataset = VideoFilesConfig(index_path=str(new), num_frames=4, size=32).build()
    assert [film.path for film in dataset.films] == ["0.mp4", "2.mp4", "3.mp4"]
    assert {item.path: item.reason for item in dataset.unreadable}["1.mp4"].startswith("changed since")
    loaded = next(batches(dataset, 3, 0, range(1)))
    assert (sorted(loaded.batch.key), loaded.replaced) == (["0.mp4", "2.mp4", "3.mp4"], ())
    about = RowTable(new, FilmIndex(new).table.kind).metadata
    assert (about["parent"], about["removed"]) == (FilmIndex(index).table.fingerprint, "1")
    assert checked(new).report.is_well
    (row,) = problems_in(tmp_path / "films.parquet.problems.csv")
    assert (row["key"], row["outcome"]) == ("1.mp4", "at fault")
    with Image.open(sheet) as image:
        assert np.asarray(image).std() > 20
        assert image.width == 4 * 160


def test_a_film_that_was_taken_out_stays_out_when_the_index_is_brought_up_to_date(index: Path, tmp_path: Path):
    new = tmp_path / "new.parquet"
    run(index, "--apply", new)
    summary = build_index([str(tmp_path / "films")], new, num_workers=1)
    assert (summary.num_read, summary.num_usable) == (0, 3)


def test_apply_writes_a_new_index_of_pieces_which_trains(corpus: Path):
    path, new = corpus / "train.parquet", corpus / "train-2.parquet"
    assert run(path, "--apply", new) == 1
    dataset = VideoShardsConfig(str(new), num_frames=4, size=32).build()
    assert [dataset.piece(number).key for number in range(len(dataset))] == ["piece0", "piece2"]
    loaded = next(batches(dataset, 2, 0, range(1)))
    assert (len(loaded.batch.key), loaded.replaced) == (2, ())
    parent = RowTable(path, kind_of(path))
    about = RowTable(new, kind_of(new)).metadata
    assert (about["parent"], about["removed"], about["gop"]) == (parent.fingerprint, "1", parent.metadata["gop"])
    assert run(new) == 0
    assert problems_in(corpus / "train-2.parquet.problems.csv") == []


def test_apply_refuses_before_anything_is_checked(index: Path, corpus: Path, tmp_path: Path):
    link = tmp_path / "link.parquet"
    link.symlink_to(index)
    for arguments, reason in (
        ((index, "--apply", index), "no index is written over"),
        ((index, "--apply", link), "no index is written over"),
        ((index, corpus, "--apply", tmp_path / "new.parquet"), "name one of them"),
        ((corpus, "--apply", tmp_path / "new.parquet"), "shards are found from the folder"),
        ((index, "--problems", index), "is what is checked"),
    ):
        with pytest.raises(ValueError, match=reason):
            run(*arguments)
    assert not list(tmp_path.glob("*.csv"))


def test_no_index_is_written_where_nothing_could_be_read(corpus: Path):
    path, shard = corpus / "train.parquet", corpus / "shards" / "train-00000.tar"
    shutil.move(shard, corpus / "elsewhere.tar")
    with pytest.raises(ValueError, match=r"nothing in .* is usable"):
        run(path, "--apply", corpus / "new.parquet")
    assert not (corpus / "new.parquet").exists()
    assert {row["outcome"] for row in problems_in(corpus / "train.parquet.problems.csv")} == {"not checked"}


def test_what_is_in_quarantine_is_among_a_sample(
    index: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    quarantine = tmp_path / "quarantine.jsonl"
    names = ["films/1.mp4", f"{corpus}/shards/train-00000.tar:piece1.mp4", "other/gone.mp4"]
    lines = [json.dumps({"step": 3, "path": name, "reason": "x", "substitute": "0.mp4"}) for name in names]
    quarantine.write_text("\n".join(lines) + '\n{"step": 4, "pa')  # a run was killed while it wrote
    for seed in range(2):
        result = checked(index, corpus, sample=1, seed=seed, quarantine=quarantine)
        assert 2 <= result.report.num_checked <= 4
        assert set(result.reasons) == {"1.mp4", "piece1"}
        assert (result.report.num_quarantined, result.report.num_found) == (3, 2)
    new = tmp_path / "new.parquet"
    assert run(index, "--sample", 1, "--quarantine", quarantine, "--seed", 3, "--apply", new) == 1
    said = capsys.readouterr().out
    assert "of 5, a sample (seed 3)" in said
    assert "quarantine: 3 clips named; 1 rows of them are checked" in said
    assert "were not in the sample, and stay as they are" in said
    assert FilmIndex(new).table.metadata["judged"].endswith(" of 5 rows")
    quarantine.write_text("no JSON\n")
    with pytest.raises(ValueError, match=r"is no quarantine\.jsonl of a run"):
        checked(index, quarantine=quarantine)


def test_a_page_of_pictures_shows_names_pictures_and_reasons():
    picture = np.full((120, 160, 3), 200, np.uint8)
    sheet = np.asarray(contact_sheet([("a.mp4", picture), ("b.mp4: empty file (0 bytes) \u4f60", None)] * 6))
    assert sheet.shape == (2 * 186, 8 * 160, 3)
    assert (sheet[80, 80] == 200).all()
    assert (sheet[180, 170] == 96).all()
    with pytest.raises(ValueError, match="no picture to draw"):
        contact_sheet([])


def without_packets(path: Path, out: Path, lost: range) -> Path:
    """Copy a film of one key frame without the packets of some frames, but with their place in the index of frames."""
    with av.open(str(path)) as source, av.open(str(out), "w") as target:
        stream = source.streams.video[0]
        copied = target.add_stream_from_template(stream)
        for number, packet in enumerate(packet for packet in source.demux(stream) if packet.size):
            if number in lost:
                packet.update(b"\0" * packet.size)
            packet.stream = copied
            target.mux(packet)
    return out


def test_what_is_in_quarantine_is_decoded_from_end_to_end(tmp_path: Path):
    folder = tmp_path / "films"
    folder.mkdir()
    write_film(folder / "whole.mp4", 60, gop=4, b_frames=0)
    written = write_film(tmp_path / "written.mp4", 60, gop=4, b_frames=0)
    without_packets(written, folder / "spoilt.mp4", range(9, 12))
    path, quarantine = tmp_path / "films.parquet", tmp_path / "quarantine.jsonl"
    build_index([str(folder)], path, num_workers=1)
    quarantine.write_text(
        json.dumps({"step": 3, "path": "spoilt.mp4", "reason": "x", "substitute": "whole.mp4"}) + "\n"
    )
    assert checked(path).reasons == {}, "three frames of it are well"
    assert set(checked(path, quarantine=quarantine).reasons) == {"spoilt.mp4"}


def test_films_are_not_at_fault_where_their_folder_is_empty_as_without_its_disk(tmp_path: Path):
    path = write_films_and_index(tmp_path)
    for film in (tmp_path / "films").iterdir():
        film.unlink()
    result = checked(path)
    assert (len(result.report.at_fault), len(result.report.not_judged)) == (0, 4)
