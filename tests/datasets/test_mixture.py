"""A mixture keeps its weights to the clip, shows no clip twice in a pass of its corpus, and leaves none out."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
import torch

from fourd.datasets.mixture import MixtureConfig, Part
from fourd.loader import MIXTURE_PERIOD, BlockShuffle, GlobalShuffle, Order, batches
from fourd.media import UnreadableVideo
from tests.small_runs import ClipsConfig


def mixture(*weights: float, sizes: tuple[int, ...] = (7, 30, 400), **changes) -> MixtureConfig:
    names = ("small", "middle", "large")
    parts = zip(names, sizes, weights, strict=False)
    return MixtureConfig(tuple(Part(name, ClipsConfig(size, **changes), weight) for name, size, weight in parts))


@pytest.mark.parametrize("shuffle", [GlobalShuffle(), BlockShuffle(4, 3)])
def test_every_period_keeps_the_weights_and_every_pass_is_whole(shuffle):
    order = Order(mixture(1.0, 2.0, 5.0).build().corpora, 3, shuffle)
    ends, counts, passes = np.cumsum((7, 30, 400)), Counter(), defaultdict(list)
    for position in range(4 * MIXTURE_PERIOD):
        draw = order.draw(position)
        part = int(np.searchsorted(ends, draw.index, side="right"))
        counts[part, position // MIXTURE_PERIOD] += 1
        passes[part, draw.pass_number].append(draw.index)
    for period in range(4):
        assert [counts[part, period] for part in range(3)] == [125, 250, 625]
    for (part, pass_number), shown in passes.items():
        assert len(set(shown)) == len(shown)
        last_pass = max(number for other, number in passes if other == part)
        if pass_number < last_pass:
            assert len(shown) == (7, 30, 400)[part], "a clip was left out of a pass"


def test_parts_of_a_batch_are_mixed_and_not_in_a_fixed_pattern():
    dataset = mixture(1.0, 1.0, 2.0).build()
    names = [[key.partition("/")[0] for key in loaded.batch.key] for loaded in batches(dataset, 16, 0, range(20))]
    assert sum(len(set(batch)) == 3 for batch in names) > 15
    assert len({tuple(batch) for batch in names}) == 20


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
    monkeypatch.setattr("tests.small_runs.Clips.fingerprint", "other")
    assert mixture(1.0, 1.0).build().fingerprint != plain


def test_a_part_too_light_to_be_seen_is_refused():
    with pytest.raises(ValueError, match="less than 1/1000 of all"):
        list(batches(mixture(1.0, 1e-4).build(), 4, 0, range(1)))


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
