"""Order is a function: each pass shows every clip once, and nothing else changes what a step sees."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fourd import loader
from fourd.loader import batches, draw, in_order, once, permute
from fourd.storage import StorageError
from fourd.types import Batch
from tests.contracts.nouns import assert_close
from tests.noise_clips import ClipsConfig

# ----------------------------------------------------------------------------- the permutation


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 255, 256, 257, 1000, 1024, 1025])
def test_permutation_of_chosen_sizes(size):
    assert sorted(permute(index, size, (0, 0)) for index in range(size)) == list(range(size))


@given(size=st.integers(1, 400), seed=st.integers(0, 2**63), number=st.integers(-20, 10**6))
def test_permutation_of_any_size(size, seed, number):
    assert sorted(permute(index, size, (seed, number)) for index in range(size)) == list(range(size))


@pytest.mark.parametrize("size", [170_000_000, 2**30, 2**30 + 1])
def test_large_permutation_sends_no_two_to_one_place(size):
    spots = [*range(500), *range(size // 2, size // 2 + 500), *range(size - 500, size)]
    places = [permute(index, size, (7, 3)) for index in spots]
    assert len(set(places)) == len(spots)
    assert all(0 <= place < size for place in places)
    # they are spread over the whole, not kept near where they came from
    tenths = torch.bincount(torch.tensor(places) * 10 // size, minlength=10)
    assert tenths.min() > 90
    assert tenths.max() < 220


def test_other_passes_and_other_seeds_have_other_orders():
    orders = {tuple(permute(i, 20, key) for i in range(20)) for key in itertools.product(range(10), range(10))}
    assert len(orders) == 100


def test_each_clip_comes_first_about_as_often_as_any_other():
    firsts = torch.bincount(torch.tensor([permute(0, 10, (seed, 0)) for seed in range(3000)]), minlength=10)
    assert firsts.min() > 230  # 300 expected, standard deviation 16
    assert firsts.max() < 370


# ----------------------------------------------------------------------------- the draw


def test_a_draw_repeats_itself_and_differs_from_every_other():
    numbers = {}
    for seed, position in itertools.product((0, 1, 2**40), range(40)):
        first, again = (draw(position, 10, seed).rng().random(4).tolist() for _ in range(2))
        assert first == again
        numbers[seed, position] = tuple(first)
    assert len(set(numbers.values())) == len(numbers)


def test_random_numbers_of_neighbours_do_not_overlap():
    streams = [draw(position, 8, 0).rng().integers(2**63, size=500).tolist() for position in range(16)]
    assert len({number for stream in streams for number in stream}) == 16 * 500


# ----------------------------------------------------------------------------- batches


def keys_of(dataset, batch_size, steps, **options) -> list[tuple[str, ...]]:
    return [loaded.batch.key for loaded in batches(dataset, batch_size, 5, steps, **options)]


@pytest.mark.parametrize("batch_size", [1, 3, 4, 7, 12, 30])
def test_a_pass_shows_every_clip_once_whatever_the_batch_size(batch_size):
    keys = [key for batch in keys_of(ClipsConfig(12).build(), batch_size, range(60 // batch_size)) for key in batch]
    passes = [keys[start : start + 12] for start in range(0, len(keys) - 11, 12)]
    assert len(passes) >= 4
    assert all(len(set(shown)) == 12 for shown in passes)
    assert keys == [key for batch in keys_of(ClipsConfig(12).build(), 1, range(len(keys))) for key in batch]


def test_a_run_that_starts_later_sees_the_same_batches():
    dataset = ClipsConfig(11, unreadable=(2,)).build()
    whole = list(batches(dataset, 4, 5, range(9)))
    for start in (1, 4, 8):
        for expected, found in zip(whole[start:], batches(dataset, 4, 5, range(start, 9)), strict=True):
            assert_same(found, expected)


def test_worker_processes_change_nothing():
    dataset = ClipsConfig(11, unreadable=(2, 6)).build()
    alone = list(batches(dataset, 4, 5, range(2, 9)))
    assert any(loaded.replaced for loaded in alone)
    for expected, found in zip(alone, batches(dataset, 4, 5, range(2, 9), num_workers=2), strict=True):
        assert_same(found, expected)


def assert_same(found: loader.Loaded, expected: loader.Loaded) -> None:
    assert (found.batch.key, found.batch.group) == (expected.batch.key, expected.batch.group)
    assert_close(found.batch, expected.batch, tolerance=0)
    assert found.replaced == expected.replaced


# ----------------------------------------------------------------------------- clips that cannot be read


def test_an_unreadable_clip_is_replaced_and_listed():
    dataset, whole = ClipsConfig(12, unreadable=(4, 9)).build(), ClipsConfig(12).build()
    changed = 0
    for found, expected in zip(batches(dataset, 4, 5, range(3)), batches(whole, 4, 5, range(3)), strict=True):
        bad = [key for key in expected.batch.key if key in ("clip-4", "clip-9")]
        assert not {"clip-4", "clip-9"} & set(found.batch.key)
        for own, other in zip(found.batch.key, expected.batch.key, strict=True):
            assert (own == other) == (other not in bad)
        changed += len(bad)
        assert {item.path for item in found.replaced} >= set(bad)
        assert {item.path for item in found.replaced} <= {"clip-4", "clip-9"}
        assert bool(found.replaced) == bool(bad)
        assert all(item.reason == "damaged in the middle" for item in found.replaced)
    assert changed == 2


def test_where_nothing_can_be_read_the_error_says_what_and_why():
    dataset = ClipsConfig(3, unreadable=(0, 1, 2)).build()
    with pytest.raises(ValueError, match=r"3 clips in a row cannot be decoded \(clip-\d: damaged in the middle"):
        next(batches(dataset, 2, 0, range(1)))


def test_a_clip_is_replaced_by_another_one_and_listed_once_for_its_place():
    dataset = ClipsConfig(3, unreadable=(1,)).build()
    lost = [loaded.replaced for loaded in batches(dataset, 1, 0, range(300))]
    assert sorted({len(items) for items in lost}) == [0, 1]
    assert sum(map(len, lost)) == 100


def test_a_substitute_differs_between_passes():
    dataset = ClipsConfig(50, unreadable=(7,)).build()
    found = [item.substitute for loaded in batches(dataset, 50, 0, range(8)) for item in loaded.replaced]
    assert len(found) == 8
    assert len(set(found)) > 4


def test_where_bytes_cannot_be_had_the_error_says_the_step_and_nothing_is_replaced():
    dataset = ClipsConfig(12, failing=(4,)).build()
    position = next(position for position in range(12) if draw(position, 12, 5).index == 4)
    for num_workers in (0, 1):
        found = batches(dataset, 3, 5, range(4), num_workers)
        assert [next(found).replaced for _ in range(position // 3)] == [()] * (position // 3)
        message = f"^step {position // 3 + 1}: clip 4 cannot be read: the disk is gone$"
        with pytest.raises(StorageError, match=message):
            next(found)


def test_a_run_over_no_clips_is_refused():
    with pytest.raises(ValueError, match="corpus 0 of 1 has no clip"):
        batches(ClipsConfig(0).build(), 2, 0, range(1))


def test_once_gives_the_first_clips_of_a_run_and_the_rest_in_a_shorter_batch():
    dataset = ClipsConfig(12, unreadable=(2,)).build()
    found = list(once(dataset, 5, 12, seed=5))
    assert [len(loaded.batch.key) for loaded in found] == [5, 5, 2]
    whole = next(batches(dataset, 12, 5, range(1)))
    assert sum((loaded.batch.key for loaded in found), ()) == whole.batch.key
    assert sum((loaded.replaced for loaded in found), ()) == whole.replaced


def test_in_order_gives_every_clip_once():
    found: list[Batch] = list(in_order(ClipsConfig(7).build(), 3))
    assert [batch.key for batch in found] == [
        ("clip-0", "clip-1", "clip-2"),
        ("clip-3", "clip-4", "clip-5"),
        ("clip-6",),
    ]
    times = torch.cat([batch.time_s for batch in found])
    assert len({tuple(row) for row in times.tolist()}) == 7
    again = torch.cat([batch.time_s for batch in in_order(ClipsConfig(7).build(), 2)])
    assert torch.equal(times, again)
