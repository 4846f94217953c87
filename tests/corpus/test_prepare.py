import dataclasses
import json
import subprocess
import sys
import zlib
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fourd.corpus.backends import Workers
from fourd.corpus.prepare.piece_file import require_encoder
from fourd.corpus.prepare.plan import items_of, num_pieces, piece_key, piece_plan, source_frames
from fourd.corpus.prepare.run import prepare
from fourd.corpus.prepare.selection import is_held_out
from fourd.index.films import Film
from fourd.media import VideoInfo, probe
from tests.corpus.small_corpus import (
    SMALL,
    all_rows,
    counts_of,
    dropped_of,
    index_of,
    members_of,
    mp4_of,
    numbers_of,
    rows_of,
    timing_of,
    write_films,
)
from tests.films import read_number, truncate, write_film, write_sound

ONE = Workers(workers=1)


def changed(**values):
    return dataclasses.replace(SMALL, **values)


def by_film(corpus):
    """Sort a corpus's pieces by film and time."""
    found = {}
    for piece in sorted(all_rows(corpus), key=lambda piece: piece.start_s):
        found.setdefault(piece.group, []).append(piece)
    return found


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    return write_films(tmp_path_factory.mktemp("films") / "films")


@pytest.fixture(scope="module")
def corpus(films, tmp_path_factory):
    out = tmp_path_factory.mktemp("corpus") / "corpus"
    prepare([index_of(films)], out, changed(item_s=5.0), Workers(workers=2))
    return out


# ----------------------------------------------------------------------------- what a corpus holds


def test_each_piece_shows_the_frames_nearest_to_its_times(corpus):
    pieces = by_film(corpus)
    assert len(pieces) == 6
    # 25 frames a second become 12.5: every second one; a piece of 1 s has 13 times from its start on: 0 to 0.96 s
    assert [piece.start_s for piece in pieces["film.0.mp4"]] == [0.0, 1.0, 2.0]
    assert numbers_of(corpus, pieces["film.0.mp4"][0]) == list(range(0, 26, 2))
    assert numbers_of(corpus, pieces["film.0.mp4"][1]) == list(range(25, 51, 2))
    assert numbers_of(corpus, pieces["film.0.mp4"][2]) == list(range(50, 60, 2))


def test_a_remainder_that_is_too_short_is_dropped_and_listed(films, tmp_path):
    prepare([index_of(films)], tmp_path / "out", changed(min_piece_s=0.6), ONE)
    short = [row for row in dropped_of(tmp_path / "out") if row["path"] == "film.0.mp4"]
    assert [(row["start_s"], row["reason"]) for row in short] == [(2.0, "too short")]
    assert counts_of(tmp_path / "out")["dropped"]["too short"] == len(dropped_of(tmp_path / "out"))


def test_the_index_gives_place_size_and_checksum_of_each_mp4(corpus):
    members = members_of(corpus)
    rows = all_rows(corpus)
    assert len(rows) == len({piece.key for piece in rows}) == len(members) // 2
    for piece in rows:
        content = mp4_of(corpus, piece)
        assert content == members[f"{piece.key}.mp4"]
        assert zlib.crc32(content) == piece.crc32
        about = json.loads(members[f"{piece.key}.json"])
        assert about == {
            "source": piece.group, "start_s": piece.start_s, "fps": 12.5, "frames": piece.num_frames,
        }  # fmt: skip


def test_what_the_index_says_of_a_piece_is_what_its_packets_say(corpus, tmp_path):
    timing = timing_of(corpus)
    for piece in all_rows(corpus)[:4]:
        (tmp_path / "piece.mp4").write_bytes(mp4_of(corpus, piece))
        found, said = probe(tmp_path / "piece.mp4"), timing.describe(piece)
        for field in dataclasses.fields(VideoInfo):
            assert np.array_equal(getattr(found, field.name), getattr(said, field.name)), field.name


def test_groups_of_pictures_are_closed_and_even_and_nothing_is_stored_out_of_order(films, tmp_path):
    prepare([index_of(films)], tmp_path / "out", changed(piece_s=None, gop=4, fps=25.0), ONE)
    for piece in all_rows(tmp_path / "out"):
        (tmp_path / "piece.mp4").write_bytes(mp4_of(tmp_path / "out", piece))
        with av.open(str(tmp_path / "piece.mp4")) as film:
            packets = [packet for packet in film.demux() if packet.size]
            assert [len(film.streams), film.streams[0].type] == [1, "video"]
            assert film.streams.video[0].codec_context.pix_fmt == "yuv420p"
        assert [packet.is_keyframe for packet in packets] == [n % 4 == 0 for n in range(piece.num_frames)]
        assert all(packet.pts == packet.dts for packet in packets)
        with av.open(str(tmp_path / "piece.mp4")) as film:  # each group decodes alone, from a fresh decoder
            film.seek(int(packets[8].pts), stream=film.streams.video[0])
            assert read_number(next(film.decode(video=0)).to_ndarray(format="rgb24")) == 8


def test_an_mp4_has_its_index_first_and_tells_no_date(corpus):
    content = mp4_of(corpus, all_rows(corpus)[0])
    assert content.index(b"moov") < content.index(b"mdat")
    header = content[content.index(b"mvhd") + 8 :]
    assert header[:8] == bytes(8)  # when it was made and changed


def test_webdataset_reads_the_shards(corpus):
    webdataset = pytest.importorskip("webdataset")
    urls = sorted(str(path) for path in (corpus / "shards").iterdir())
    samples = list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False))
    rows = {piece.key: piece for piece in all_rows(corpus)}
    assert {sample["__key__"] for sample in samples} == rows.keys()
    assert len(samples) == len(rows)
    for sample in samples:
        assert zlib.crc32(sample["mp4"]) == rows[sample["__key__"]].crc32
        assert json.loads(sample["json"])["source"] == rows[sample["__key__"]].group


def test_neighbours_are_from_different_films_and_shards_are_of_like_size(films, tmp_path):
    prepare([index_of(films)], tmp_path / "out", changed(held_out=0.0, piece_s=0.4), ONE)
    groups = [piece.group for piece in rows_of(tmp_path / "out")]
    alike = sum(a == b for a, b in pairwise(groups))
    assert len(groups) > 30
    assert alike < len(groups) / 2


def test_a_film_is_in_one_split_and_stays_there_when_films_are_added(corpus):
    train, held_out = ({piece.group for piece in rows_of(corpus, split)} for split in ("train", "held_out"))
    assert train
    assert held_out
    assert not train & held_out
    assert held_out == {path for path in train | held_out if is_held_out(path, 0.3)}
    chosen = sum(is_held_out(f"films/{number}.mp4", 0.1) for number in range(5000))
    assert 400 < chosen < 600


def test_a_folder_gives_the_same_pieces_as_its_index_whatever_the_items(films, corpus, tmp_path):
    prepare([str(films)], tmp_path / "out", SMALL, ONE)
    assert (tmp_path / "out" / "films.parquet").exists()
    assert members_of(tmp_path / "out") == members_of(corpus)


def test_the_second_call_does_nothing_and_other_options_are_refused(films, corpus):
    before = {path: path.stat().st_mtime_ns for path in corpus.rglob("*")}
    assert prepare([index_of(films)], corpus, changed(item_s=5.0), ONE).counts == counts_of(corpus)
    assert {path: path.stat().st_mtime_ns for path in corpus.rglob("*")} == before
    with pytest.raises(ValueError, match=r"config.fps was 12.5, now 10.0; config.gop was 16, now 8"):
        prepare([index_of(films)], corpus, changed(item_s=5.0, fps=10.0, gop=8), ONE)


def test_a_folder_that_holds_something_else_is_refused(films, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match=r"thesis.tex.*name a new folder"):
        prepare([str(films)], tmp_path, SMALL, ONE)


# ----------------------------------------------------------------------------- what is left out


def test_what_cannot_be_used_is_listed_with_its_reason_and_the_rest_is_used(tmp_path):
    folder = write_films(tmp_path / "films", count=2)
    truncate(write_film(tmp_path / "whole.mp4", 100, index_first=True), folder / "cut.mp4", 0.6)
    (folder / "text.mp4").write_text("not a film")
    write_sound(folder / "sound.mp4")
    write_film(folder / "short.mp4", 5)
    prepare([str(folder)], tmp_path / "out", SMALL, ONE)
    listed = (tmp_path / "out" / "unusable.csv").read_text().splitlines()
    assert listed[0] == "path,from_s,reason"
    assert [line.split(",")[0] for line in listed[1:]] == ["cut.mp4", "sound.mp4", "text.mp4"]
    assert "truncated or damaged" in listed[1]
    assert [(row["path"], row["reason"]) for row in dropped_of(tmp_path / "out") if row["path"] == "short.mp4"] == [
        ("short.mp4", "too short")
    ]
    pieces = by_film(tmp_path / "out")
    assert pieces.keys() == {"film.0.mp4", "film.1.mp4", "cut.mp4"}
    assert numbers_of(tmp_path / "out", pieces["cut.mp4"][0]) == list(range(0, 26, 2))
    assert counts_of(tmp_path / "out")["films"]["unusable"] == 2


def test_a_film_that_changed_since_it_was_indexed_is_not_used(tmp_path):
    folder = write_films(tmp_path / "films", count=2)
    index = index_of(folder)
    write_film(folder / "film.1.mp4", 50, gop=5)
    prepare([index], tmp_path / "out", SMALL, ONE)
    listed = (tmp_path / "out" / "unusable.csv").read_text()
    assert "film.1.mp4,0.000,changed since it was indexed" in listed
    assert by_film(tmp_path / "out").keys() == {"film.0.mp4"}


def test_a_film_that_is_not_there_stops_the_run_which_goes_on_once_it_is_back(tmp_path):
    folder = write_films(tmp_path / "films", count=3)
    index = index_of(folder)
    config = changed(item_s=2.0)
    (folder / "film.1.mp4").rename(tmp_path / "away.mp4")
    with pytest.raises(FileNotFoundError, match=r"film.1.mp4 is not there.*fourd data index"):
        prepare([index], tmp_path / "out", config, ONE)
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "work" / "items").rglob("*.parquet")}
    assert done
    (tmp_path / "away.mp4").rename(folder / "film.1.mp4")
    prepare([index], tmp_path / "out", config, ONE)
    assert by_film(tmp_path / "out").keys() == {"film.0.mp4", "film.1.mp4", "film.2.mp4"}


@pytest.mark.parametrize("leaves_mount_point", [False, True])
def test_films_that_are_not_mounted_stop_the_run_and_cost_nothing(tmp_path, leaves_mount_point):
    folder = write_films(tmp_path / "films", count=2)
    index = index_of(folder)
    folder.rename(tmp_path / "elsewhere")
    if leaves_mount_point:
        folder.mkdir()
    with pytest.raises(FileNotFoundError, match=r"film.0.mp4 is not there.*mount"):
        prepare([index], tmp_path / "out", SMALL, ONE)
    if leaves_mount_point:
        folder.rmdir()
    (tmp_path / "elsewhere").rename(folder)
    assert prepare([index], tmp_path / "out", SMALL, ONE).counts["unusable_pieces"] == 0
    assert by_film(tmp_path / "out").keys() == {"film.0.mp4", "film.1.mp4"}


def test_films_that_are_almost_all_gap_are_listed_and_not_used(tmp_path):
    folder = write_films(tmp_path / "films", count=1)
    write_film(folder / "gap.mkv", 5, times_s=[0, 0.04, 0.08, 0.12, 90 * 86400.0])
    prepare([index_of(folder)], tmp_path / "out", SMALL, ONE)
    listed = (tmp_path / "out" / "unusable.csv").read_text()
    assert "gap.mkv,0.000," in listed
    assert "5 frames in 7776000 s" in listed
    films = counts_of(tmp_path / "out")["films"]
    assert (films["used"], films["unusable"]) == (1, 1)
    assert films["hours"] < 0.01


def test_an_index_of_another_kind_is_not_taken_for_a_list(films, tmp_path):
    table = pa.table({"path": ["film.0.mp4"]}).replace_schema_metadata({"kind": "fourd film index 1"})
    pq.write_table(table, films / ".old.parquet")
    with pytest.raises(ValueError, match=r"'fourd film index 1'.*'fourd film index 3'.*fourd data index"):
        prepare([str(films / ".old.parquet")], tmp_path / "out", SMALL, ONE)
    (films / ".old.parquet").unlink()


def test_films_that_were_added_since_are_counted_and_told(tmp_path, capsys):
    folder = write_films(tmp_path / "films", count=2)
    first = prepare([str(folder)], tmp_path / "out", SMALL, ONE)
    assert first.added == 0
    assert prepare([str(folder)], tmp_path / "out", SMALL, ONE).added == 0
    assert "added" not in capsys.readouterr().err
    write_film(folder / "new.mp4", 50)
    (folder / "notes.txt").write_text("not a film")
    again = prepare([str(folder)], tmp_path / "out", SMALL, ONE)
    assert (again.added, again.counts) == (1, first.counts)
    told = capsys.readouterr().err
    assert "1 film was added" in told
    assert "--out" in told
    folder.rename(tmp_path / "away")
    assert prepare([str(folder)], tmp_path / "out", SMALL, ONE).added is None
    assert "cannot be searched" in capsys.readouterr().err


def test_indexes_are_written_in_large_groups_of_rows_whatever_the_shards(films, tmp_path, monkeypatch):
    monkeypatch.setattr("fourd.corpus.prepare.shards.ROWS_PER_GROUP", 7)
    config = changed(shard_mb=0.005, piece_s=0.4, held_out=0.0)
    assert prepare([index_of(films)], tmp_path / "out", config, ONE).counts["train"]["shards"] > 7
    footer = pq.read_metadata(tmp_path / "out" / "train.parquet")
    sizes = [footer.row_group(number).num_rows for number in range(footer.num_row_groups)]
    assert sizes[:-1] == [7] * (len(sizes) - 1)
    assert len(sizes) > 3
    assert sorted(members_of(tmp_path / "out")) == sorted(
        f"{piece.key}.{kind}" for piece in rows_of(tmp_path / "out") for kind in ("mp4", "json")
    )


# ----------------------------------------------------------------------------- the plan


def info_of(seconds, fps=25.0, key_every=25, counted=False):
    pts = np.arange(round(seconds * fps), dtype=np.int64)
    from fractions import Fraction

    keys = pts[:1] if counted else pts[::key_every]
    return VideoInfo(64, 48, 0, "h264", 1 / Fraction(fps), pts, keys, counted)


def film_of(name, **kind):
    return Film(name, 1, "1", "", info_of(**kind))


@pytest.mark.parametrize("seconds", [0.04, 29.96, 30.0, 30.04, 60.0, 95.2])
def test_pieces_cover_a_film_once_and_name_no_frame_that_it_lacks(seconds):
    config = changed(piece_s=30.0)
    info = info_of(seconds)
    plans = [piece_plan(info, number, config) for number in range(num_pieces(info, config))]
    frames = np.concatenate([source_frames(info, plan, config) for plan in plans])
    assert np.array_equal(frames, np.arange(0, info.num_frames, 2))


def test_items_hold_about_their_length_and_every_piece_once():
    config = changed(piece_s=30.0, item_s=600.0)
    films = [film_of("long", seconds=3650), *(film_of(f"short {n}", seconds=20) for n in range(100))]
    items = list(items_of(films, config))
    assert [item.number for item in items] == list(range(len(items)))
    pieces = [(s.film.path, n) for item in items for s in item.spans for n in range(s.first, s.stop)]
    expected = [("long", n) for n in range(122)] + [(f"short {n}", 0) for n in range(100)]
    assert pieces == expected
    assert len(items[0].spans) == 1
    assert len(items) == 6 + 4  # 6 times 600 s of the long film; 50 s of it and 2000 s of short ones


def test_a_film_in_which_no_decoder_can_jump_is_one_span():
    config = changed(piece_s=30.0, item_s=600.0)
    (item,) = items_of([film_of("avi", seconds=3600, counted=True)], config)
    assert [(span.first, span.stop) for span in item.spans] == [(0, 120)]


def test_keys_have_no_dot_and_tell_films_apart():
    keys = {piece_key(path, number) for path in ("a.mp4", "b.mp4", "ä/π.mp4") for number in range(3)}
    assert len(keys) == 9
    assert not any("." in key or "/" in key for key in keys)


# ----------------------------------------------------------------------------- what is asked for


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"short_side": 255}, r"--short-side is 255: expected an even number"),
        ({"fps": 0.0}, r"--fps is 0.0: expected more than 0"),
        ({"piece_s": 2.0, "min_piece_s": 3.0}, r"--min-piece-s is 3.0: expected at most piece_s, 2.0"),
        ({"held_out": 1.0}, r"--held-out is 1.0"),
        ({"duplicate_bits": 32}, r"--duplicate-bits is 32"),
    ],
)
def test_options_that_no_corpus_can_have_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        changed(**values)


def test_rates_of_television_are_kept_as_fractions():
    timing = changed(fps=29.97).timing
    assert (timing.time_base.denominator, timing.frame_ticks) == (30000, 1001)
    assert changed(fps=12.5).rate == Fraction(25, 2)
    assert changed(fps=30.0).rate == 30


def test_a_pyav_without_the_encoder_is_told_with_the_way_out(monkeypatch):
    monkeypatch.setattr(av, "codecs_available", {"h264"})
    with pytest.raises(ImportError, match=r"libx264.*pip install"):
        require_encoder()


# ----------------------------------------------------------------------------- the command


def test_the_command_says_what_went_in_and_what_came_out(films, tmp_path, capsys):
    from fourd.cli.data.prepare import run

    words = [index_of(films), "--out", tmp_path / "out", "--workers", 1, "--piece-s", 1.0, "--min-piece-s", 0.5]
    run([*map(str, words), "--held-out", "0.3", "--crf", "30"])
    told = capsys.readouterr().out
    assert "films:    6 used, 0.00 hours" in told
    assert f"dropped:  {len(dropped_of(tmp_path / 'out'))} too short" in told
    assert "core-seconds for an hour of film" in told
    assert f"fourd pretrain --data {tmp_path / 'out'}" in told
    with pytest.raises(ValueError, match="name an index of films, or where the films are"):
        run(["--out", str(tmp_path / "other")])


def test_what_workers_import_has_no_torch():
    code = "import sys, fourd.corpus.prepare.items, fourd.corpus.prepare.shards; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
