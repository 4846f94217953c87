"""Clips that were decoded once are those of the films, are decoded once, and are never mixed up."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fourd.datasets import decoded_clips
from fourd.datasets.decoded_clips import DecodedClipsConfig
from tests.small_runs import ClipsConfig


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def config(tmp_path: Path) -> DecodedClipsConfig:
    return DecodedClipsConfig(ClipsConfig(), str(tmp_path / "decoded"), clips_per_item=2)


def test_clips_are_those_of_the_dataset_each_with_random_numbers_of_its_own(config: DecodedClipsConfig):
    source, decoded = config.data.build(), config.build()
    assert len(decoded) == 2 * len(source)
    for item in range(len(source)):
        for number in range(2):
            rng = np.random.Generator(np.random.Philox(key=[0, number], counter=[0, 0, 0, item]))
            expected, found = source.read(item, rng), decoded.read(2 * item + number, generator())
            assert torch.equal(found.video, expected.video)
            assert torch.equal(found.time_s, expected.time_s)
            assert found.key == (f"{expected.key[0]}#{number}",)
            assert found.group == expected.group
    assert len({decoded.read(index, generator()).key for index in range(len(decoded))}) == len(decoded)


def test_the_mask_differs_from_pass_to_pass_and_the_pixels_do_not(config: DecodedClipsConfig):
    decoded = config.build()
    one, other = decoded.read(0, generator(1)), decoded.read(0, generator(2))
    assert torch.equal(one.video, other.video)
    assert not torch.equal(one.seed, other.seed)


def test_nothing_is_decoded_twice(config: DecodedClipsConfig, monkeypatch: pytest.MonkeyPatch):
    first = config.build().read(1, generator())
    monkeypatch.setattr(decoded_clips, "_fill", lambda *_: pytest.fail("decoded again"))
    for decoded in (config.build(), pickle.loads(pickle.dumps(config.build()))):
        assert torch.equal(decoded.read(1, generator()).video, first.video)


def test_a_folder_of_other_clips_is_refused(config: DecodedClipsConfig):
    config.build()
    with pytest.raises(ValueError, match="holds other clips: delete it"):
        replace(config, seed=1).build()


def test_a_filling_that_fails_leaves_nothing_behind(config: DecodedClipsConfig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(decoded_clips.json, "dump", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        config.build()
    assert list(Path(config.folder).parent.iterdir()) == []


def test_an_index_outside_is_refused(config: DecodedClipsConfig):
    decoded = config.build()
    with pytest.raises(IndexError, match=f"expected 0 to {len(decoded) - 1}"):
        decoded.read(len(decoded), generator())


def test_a_clip_that_cannot_be_decoded_is_left_out_and_listed(config: DecodedClipsConfig):
    decoded = replace(config, data=ClipsConfig(num_clips=4, unreadable=(1,), listed=("text.txt",))).build()
    assert [decoded.read(index, generator()).group[0] for index in range(len(decoded))] == [
        config.data.build().read(item, generator()).group[0] for item in (0, 0, 2, 2, 3, 3)
    ]
    assert [lost.path for lost in decoded.unreadable] == ["text.txt", "clip-1", "clip-1"]
