"""Parts of datasets prepare no more than they give."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fourd import loader
from fourd.datasets.mixture import MixtureConfig, Part
from fourd.datasets.toy_world import ToyWorldConfig
from fourd.types import Corpus


def world(folder: Path, name: str, num_clips: int) -> ToyWorldConfig:
    return ToyWorldConfig(num_clips=num_clips, num_frames=2, height=16, width=16, cache_dir=str(folder / name))


def mixture(folder: Path) -> MixtureConfig:
    return MixtureConfig((Part("a", world(folder, "a", 100), 3.0), Part("b", world(folder, "b", 5))))


def made(folder: Path) -> dict[str, int]:
    return {name: len(list((folder / name).glob("toy_world/*/chunk-*"))) for name in ("a", "b")}


def test_the_first_clips_of_each_corpus_are_given(tmp_path):
    whole = mixture(tmp_path).build()
    part = loader.First(whole, 7)
    assert part.corpora == (Corpus(7, 3.0), Corpus(5, 1.0))
    assert len(part) == 12
    rng = np.random.default_rng(0)
    numbers = [part.read(index, rng).key[0].rpartition("/")[2] for index in range(12)]
    assert numbers == [*map(str, range(7)), *map(str, range(5))]
    assert part.fingerprint != whole.fingerprint


def test_no_more_is_prepared_than_is_given(tmp_path):
    whole = mixture(tmp_path).build()
    assert made(tmp_path) == {"a": 0, "b": 0}, "building a dataset has made clips"
    loader.First(whole, 7).prepare()
    assert made(tmp_path) == {"a": 1, "b": 1}
    loader.First(whole, 40).prepare(33)
    assert made(tmp_path) == {"a": 2, "b": 1}
    whole.prepare()
    assert made(tmp_path) == {"a": 4, "b": 1}


def test_what_is_read_in_order_is_prepared_first(tmp_path):
    dataset = world(tmp_path, "a", 100).build()
    next(iter(loader.in_order(dataset, 4)))
    assert made(tmp_path)["a"] == 4


def test_what_is_trained_on_is_prepared_first(tmp_path):
    dataset = world(tmp_path, "a", 100).build()
    next(iter(loader.batches(dataset, 4, 0, range(1))))
    assert made(tmp_path)["a"] == 4
