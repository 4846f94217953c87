"""A folder of damaged, odd and hostile films is indexed and read without a crash, a hang or a surprise."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fourd.datasets.video_files import VideoFiles, VideoFilesConfig
from fourd.index.build import build_index
from fourd.index.films import FilmIndex
from fourd.loader import batches
from fourd.media import UnreadableVideo
from fourd.types import Batch
from tests.damaged_films import SPECIMENS, Specimen, write_corpus

LONGEST_INDEX_S = 60.0
"""For all films on a slow machine; it takes about a second."""

MOST_MEMORY_MIB = 512
"""What a process that looks into such films may hold at any time; a sound one needs about 200."""

NUM_FRAMES = 4
NUM_CLIPS = 5
NUM_PASSES, BATCH_SIZE = 3, 6


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damaged") / "films"
    write_corpus(folder)
    return folder


@pytest.fixture(scope="module")
def indexes(corpus: Path) -> list[FilmIndex]:
    """Index the folder twice, from nothing."""
    paths = [corpus.parent / f"index-{number}.parquet" for number in range(2)]
    for path in paths:
        started = time.monotonic()
        build_index([str(corpus)], path, num_workers=2)
        assert time.monotonic() - started < LONGEST_INDEX_S
    return [FilmIndex(path) for path in paths]


def test_there_are_enough_of_them():
    assert len(SPECIMENS) >= 40
    assert len({specimen.name for specimen in SPECIMENS}) == len(SPECIMENS)


@pytest.mark.parametrize("specimen", SPECIMENS, ids=lambda specimen: repr(specimen.name))
def test_each_file_has_the_outcome_and_the_reason_that_it_must_have(specimen: Specimen, indexes: list[FilmIndex]):
    film = next(film for film in indexes[0].films() if film.path == specimen.name)
    found = "unusable" if film.info is None else "damaged" if film.info.damage else "usable"
    reason = (film.reason if film.info is None else film.info.damage) or ""
    assert (found, bool(reason)) == (specimen.outcome, specimen.outcome != "usable")
    assert re.search(specimen.reason, reason), reason


def test_nothing_else_was_found(indexes: list[FilmIndex]):
    assert {film.path for film in indexes[0].films()} == {specimen.name for specimen in SPECIMENS}


def test_two_indexes_are_equal_row_by_row(indexes: list[FilmIndex]):
    first, second = ([film.row() for film in index.films()] for index in indexes)
    assert len(first) == len(second)
    for row, again in zip(first, second, strict=True):
        for name in row:
            np.testing.assert_array_equal(row[name], again[name], err_msg=f"{row['path']}: {name}")


# ----------------------------------------------------------------------------- clips


def digests_of_clips(index: str) -> dict[str, list[str]]:
    """Draw clips from each film under fixed seeds: a hash of each, or why there is none."""
    dataset = open_films(index)
    return {
        film.path: [_digest_of_clip(dataset, number, seed) for seed in range(NUM_CLIPS)]
        for number, film in enumerate(dataset.films)
    }


def open_films(index: str) -> VideoFiles:
    return VideoFiles(VideoFilesConfig(index_path=index, num_frames=NUM_FRAMES, stride=1, size=32))


def _digest_of_clip(dataset: VideoFiles, number: int, seed: int) -> str:
    try:
        batch = dataset.read(number, np.random.default_rng(seed))
    except UnreadableVideo as error:
        return f"unreadable: {error.reason}"
    return _digest(batch)


def _digest(batch: Batch) -> str:
    return hashlib.sha256(batch.video.numpy().tobytes()).hexdigest()


def train(index: str) -> list[list[str | list[str]]]:
    """Read what some passes of a training read: the clips of each step, a hash of them, and what was replaced."""
    films = open_films(index)
    steps = range(NUM_PASSES * len(films) // BATCH_SIZE)
    return [
        [_digest(loaded.batch), *loaded.batch.key, *([q.path, q.reason, q.substitute] for q in loaded.replaced)]
        for loaded in batches(films, BATCH_SIZE, 0, steps)
    ]


@pytest.fixture(scope="module")
def elsewhere(indexes: list[FilmIndex], corpus: Path) -> dict[str, Any]:
    """Do all that in another process."""
    code = (
        "import json, sys; from tests.test_damaged_corpus import digests_of_clips, train;"
        "print(json.dumps({'clips': digests_of_clips(sys.argv[1]), 'training': train(sys.argv[1])}))"
    )
    command = [sys.executable, "-c", code, str(corpus.parent / "index-1.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return json.loads(done.stdout)


def test_each_usable_film_gives_the_same_clip_in_every_process(
    indexes: list[FilmIndex], corpus: Path, elsewhere: dict[str, Any]
):
    clips = digests_of_clips(str(corpus.parent / "index-0.parquet"))
    assert clips == elsewhere["clips"]
    usable = [film for film in indexes[0].films() if film.info is not None]
    assert set(clips) == {film.path for film in usable if film.info.num_frames >= NUM_FRAMES}
    breaking = {specimen.name for specimen in SPECIMENS if specimen.breaks}
    failed = {name for name, digests in clips.items() if any(digest.startswith("unreadable") for digest in digests)}
    assert failed <= breaking, failed


def test_a_training_replaces_the_same_clips_by_the_same_ones_in_every_process(corpus: Path, elsewhere: dict[str, Any]):
    path = str(corpus.parent / "index-0.parquet")
    training = train(path)
    assert training == train(path) == elsewhere["training"]
    replaced = [(*found, step[1 : 1 + BATCH_SIZE]) for step in training for found in step[1 + BATCH_SIZE :]]
    assert replaced, "no clip had to be replaced: the corpus has nothing that breaks while it is read"
    breaking = {specimen.name for specimen in SPECIMENS if specimen.breaks}
    for path, reason, substitute, shown in replaced:
        assert Path(path).name in breaking
        assert reason
        assert substitute in shown


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems count in other units")
def test_no_process_needed_much_memory(indexes: list[FilmIndex], corpus: Path):
    """The index is made by children of a process of its own, so that no other test's children count."""
    code = (
        "import sys, resource; from fourd.index.build import build_index; build_index([sys.argv[1]], sys.argv[2]);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [sys.executable, "-c", code, str(corpus), str(corpus.parent / "measured.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert int(done.stdout) / 1024 < MOST_MEMORY_MIB
