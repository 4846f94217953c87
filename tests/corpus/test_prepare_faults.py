import dataclasses
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fourd.corpus.backends import Workers
from fourd.corpus.prepare import folder, items, run, shards
from fourd.corpus.prepare.run import prepare
from fourd.isolation import Limits, isolated_map
from tests.corpus import breaking
from tests.corpus.small_corpus import MANY_ITEMS, SMALL, all_rows, bytes_of, counts_of, index_of, write_films

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    return index_of(write_films(tmp_path_factory.mktemp("films") / "films", count=8))


@pytest.fixture(scope="module")
def undisturbed(films, tmp_path_factory):
    out = tmp_path_factory.mktemp("corpus") / "corpus"
    prepare([films], out, MANY_ITEMS, Workers(workers=2))
    assert counts_of(out)["train"]["shards"] > 1
    return bytes_of(out)


def killed(how, films, out):
    """Run the program that is killed, and say how often it was."""
    command = [sys.executable, "-m", "tests.corpus.killed_runs", how, films, str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_a_run_that_is_killed_ten_times_gives_the_same_bytes(films, undisturbed, tmp_path):
    assert killed("random", films, tmp_path / "out") >= 5  # ten, unless the machine is so fast that it ends before
    assert bytes_of(tmp_path / "out") == undisturbed


def test_a_run_that_is_killed_before_and_after_its_commits_gives_the_same_bytes(tmp_path):
    films = index_of(write_films(tmp_path / "films", count=2))
    prepare([films], tmp_path / "whole", MANY_ITEMS, Workers(workers=1))
    kills = killed("commits", films, tmp_path / "out")
    assert 8 <= kills < 100  # it went forward, and ended
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")


@pytest.mark.parametrize("fault", ["crash", "hang", "greed"])
def test_a_film_that_crashes_hangs_or_eats_memory_costs_itself_alone(tmp_path, monkeypatch, fault):
    films = write_films(tmp_path / "films", count=3)
    (films / "film.1.mp4").rename(films / f"{fault}.mp4")
    monkeypatch.setattr(items, "encode_span", breaking.encode_span)
    monkeypatch.setattr(items, "_TRIES", 1)
    limits = Limits(seconds=4.0 if fault == "hang" else 600.0, memory_bytes=2**28)
    prepare([index_of(films)], tmp_path / "out", SMALL, Workers(workers=1), limits)
    assert {piece.group for piece in all_rows(tmp_path / "out")} == {"film.0.mp4", "film.2.mp4"}
    listed = (tmp_path / "out" / "unusable.csv").read_text()
    expected = {"crash": "the worker crashed (SIGSEGV)", "hang": "hung", "greed": "needs more than 256 MiB"}
    assert f"{fault}.mp4,0.000,{expected[fault]}" in listed
    assert counts_of(tmp_path / "out")["unusable_pieces"] == listed.count(f"{fault}.mp4") == 3


def test_a_second_run_in_the_same_folder_is_refused(films, tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "_PATIENCE_S", 0.1)
    with (
        folder.locked(folder.CorpusFolder(tmp_path)),
        pytest.raises(ValueError, match="another fourd data prepare is at work"),
    ):
        prepare([films], tmp_path, SMALL, Workers(workers=1))


def test_a_second_run_that_waits_for_the_first_finds_what_it_made(films, tmp_path):
    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(prepare, [films], tmp_path / "out", SMALL, Workers(workers=1)) for _ in range(3)]
    assert all(run.result().counts == counts_of(tmp_path / "out") for run in runs)
    assert not (tmp_path / "out" / "work").exists()


@pytest.mark.parametrize("delay_s", [0.05, 0.1, 0.13])
def test_a_lock_can_be_had_again_and_again_while_its_folder_goes(tmp_path, delay_s):
    corpus = folder.CorpusFolder(tmp_path)

    def second():
        with folder.locked(corpus):
            folder.remove_work(corpus)

    with ThreadPoolExecutor(4) as pool:
        with folder.locked(corpus):
            runs = [pool.submit(second) for _ in range(4)]
            time.sleep(delay_s)
            folder.remove_work(corpus)
        assert [run.result() for run in runs] == [None] * 4
    assert not corpus.work.exists()


@pytest.mark.parametrize(("item_s", "times"), [(600.0, 1), (1.0, 3), (0.01, items._MOST_TIMES)])
def test_a_long_span_may_take_longer_but_not_for_ever(films, tmp_path, monkeypatch, item_s, times):
    seen = []

    def recorded(function, jobs, num_workers, limits):
        seen.append(limits.seconds)
        return isolated_map(function, jobs, num_workers, limits)

    monkeypatch.setattr(items, "isolated_map", recorded)
    config = dataclasses.replace(SMALL, piece_s=None, item_s=item_s)
    prepare([films], tmp_path / "out", config, Workers(workers=1), Limits(seconds=100.0))
    assert max(seen) // 100 == times


def test_bytes_that_are_lost_on_the_way_stop_the_run(films, tmp_path, monkeypatch):
    def rot(job):
        data = next((tmp_path / "out" / "work" / "items").rglob("*.mp4s"))
        data.write_bytes(data.read_bytes()[:-1])
        return shards.pack_shard(job)

    monkeypatch.setattr(run, "pack_shard", rot)
    with pytest.raises(OSError, match=r"its bytes are not those that were written"):
        prepare([films], tmp_path / "out", SMALL, Workers(workers=1))
