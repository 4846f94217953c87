"""A mixture keeps its weights to the clip, shows no clip twice in a pass of its corpus, and leaves none out."""

from __future__ import annotations

import pickle
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch
import tyro
from hypothesis import given
from hypothesis import strategies as st

from fourd.datasets.mixture import MixtureConfig, Part
from fourd.loader import MIXTURE_PERIOD, BlockShuffle, GlobalShuffle, Order, batches
from fourd.loader.order import _shares, _turns
from fourd.media import UnreadableVideo
from fourd.trainer import RunConfig
from tests.noise_clips import ClipsConfig
from tests.small_runs import run


def mixture(*weights: float, sizes: tuple[int, ...] = (7, 30, 400), **changes) -> MixtureConfig:
    names = ("small", "middle", "large")
    parts = zip(names, sizes, weights, strict=False)
    return MixtureConfig(tuple(Part(name, ClipsConfig(size, **changes), weight) for name, size, weight in parts))


@pytest.mark.parametrize("shuffle", [GlobalShuffle(), BlockShuffle(4, 3)])
def test_every_period_keeps_the_weights_and_every_pass_is_whole(shuffle):
    order = Order(mixture(1.0, 2.0, 5.0).build().corpora, 3, shuffle)
    ends, counts, passes = np.cumsum((7, 30, 400)), Counter(), defaultdict(list)
    for position in range(MIXTURE_PERIOD + 2000):
        draw = order.draw(position)
        part = int(np.searchsorted(ends, draw.index, side="right"))
        counts[part] += position < MIXTURE_PERIOD
        passes[part].append((draw.pass_number, draw.index))
    assert counts == {0: 1250, 1: 2500, 2: 6250}
    for part, size in enumerate((7, 30, 400)):
        for pass_number in range(len(passes[part]) // size):
            shown = passes[part][pass_number * size : (pass_number + 1) * size]
            assert {number for number, _ in shown} == {pass_number}, "a pass began before the last one ended"
            assert len({index for _, index in shown}) == size, "a clip was left out of a pass, or came twice"


@given(st.lists(st.integers(20, 1000), min_size=2, max_size=12))
def test_no_corpus_is_ever_a_whole_clip_before_or_behind_its_weight(weights):
    shares, counts = np.array(_shares(list(map(float, weights)), 997)), np.zeros(len(weights), int)
    for slot, (number, place) in enumerate(_turns(shares.tolist())):
        assert place == counts[number]
        counts[number] += 1
        assert (abs(counts - (slot + 1) * shares / 997) < 1).all()
    assert counts.tolist() == shares.tolist()


def test_every_batch_holds_the_mixture_to_a_clip():
    dataset = mixture(1.0, 1.0, 2.0).build()
    for loaded in batches(dataset, 16, 0, range(20)):
        assert Counter(key.partition("/")[0] for key in loaded.batch.key) == {"small": 4, "middle": 4, "large": 8}


def test_a_mixture_goes_to_other_processes():
    dataset = mixture(1.0, 3.0).build()
    sent = pickle.loads(pickle.dumps(dataset))
    for index in (0, 6, 7, 36):
        assert sent.read(index, np.random.default_rng(0)).key == dataset.read(index, np.random.default_rng(0)).key


def test_the_command_line_shows_a_mixture_and_changes_a_part():
    config = run(data=mixture(1.0, 3.0))
    changed = tyro.cli(
        RunConfig, default=config, args=["--data.parts.1.weight", "5", "--data.parts.0.data.num-clips", "9"]
    )
    assert (changed.data.parts[1].weight, changed.data.parts[0].data.num_clips) == (5.0, 9)
    assert replace(changed, data=config.data) == config


def test_clips_are_those_of_the_part_under_its_name():
    dataset, alone = mixture(1.0, 1.0).build(), ClipsConfig(30).build()
    batch, expected = (found.read(place, np.random.default_rng(0)) for found, place in ((dataset, 7 + 4), (alone, 4)))
    assert torch.equal(batch.video, expected.video)
    assert (batch.key, batch.group) == (("middle/clip-4",), ("middle/clip-4",))


def test_a_substitute_comes_from_the_same_corpus():
    dataset = mixture(1.0, 1.0, unreadable=(2, 5)).build()
    lost = [item for loaded in batches(dataset, 10, 0, range(20)) for item in loaded.replaced]
    assert len(lost) > 10
    assert all(item.path.partition("/")[0] == item.substitute.partition("/")[0] for item in lost)


def test_what_a_part_cannot_read_is_named_with_the_part():
    dataset = mixture(1.0, unreadable=(2,), listed=("notes.txt",)).build()
    assert [item.path for item in dataset.unreadable] == ["small/notes.txt"]
    with pytest.raises(UnreadableVideo, match="small/clip-2"):
        dataset.read(2, np.random.default_rng(0))


def test_the_fingerprint_changes_with_a_part(monkeypatch):
    plain = mixture(1.0, 1.0).build().fingerprint
    monkeypatch.setattr("tests.noise_clips.Clips.fingerprint", "other")
    assert mixture(1.0, 1.0).build().fingerprint != plain


def test_a_part_too_light_to_be_seen_is_refused():
    with pytest.raises(ValueError, match="less than 1/10000 of all"):
        list(batches(mixture(1.0, 1e-5).build(), 4, 0, range(1)))


def test_a_part_without_clips_is_refused():
    with pytest.raises(ValueError, match="middle without any clip"):
        mixture(1.0, 1.0, sizes=(7, 0)).build()


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((), "expected one or more names"),
        ((Part("a", ClipsConfig()), Part("a", ClipsConfig())), "each once"),
        ((Part("a", ClipsConfig(), 0.0),), "a weighs 0.0: expected more than 0"),
        ((Part("a", ClipsConfig(), float("nan")),), "expected more than 0"),
    ],
)
def test_parts_that_make_no_mixture_are_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        MixtureConfig(parts)
