"""Every shuffle shows every clip once, in constant memory, and blocks keep neighbours within their window."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourd.loader import BlockShuffle, GlobalShuffle, mixing, permute, unpermute

KEYS = st.tuples(st.integers(0, 2**63), st.integers(0, 10**6))


@given(size=st.integers(1, 300), key=KEYS)
def test_the_inverse_undoes_the_permutation(size, key):
    assert [unpermute(permute(index, size, key), size, key) for index in range(size)] == list(range(size))


@pytest.mark.parametrize("size", [170_000_000, 2**30 + 1])
def test_the_inverse_undoes_a_large_permutation(size):
    for index in (0, 1, size // 3, size - 1):
        assert unpermute(permute(index, size, (5, 1)), size, (5, 1)) == index


@given(size=st.integers(1, 300), block=st.integers(1, 12), blocks_open=st.integers(1, 9), key=KEYS)
def test_blocks_show_every_clip_once_whatever_the_sizes(size, block, blocks_open, key):
    shuffle = BlockShuffle(block, blocks_open)
    assert sorted(shuffle.clip_at(place, size, key) for place in range(size)) == list(range(size))


@given(size=st.integers(1, 300), block=st.integers(1, 12), blocks_open=st.integers(1, 9), key=KEYS)
def test_a_window_shows_whole_blocks_and_no_more_than_may_be_open(size, block, blocks_open, key):
    shuffle = BlockShuffle(block, blocks_open)
    shown = [shuffle.clip_at(place, size, key) for place in range(size)]
    num_blocks = -(-size // block)
    place = 0
    while place < size:  # a window ends where it has shown all clips of the blocks that it opened
        opened, count = set(), 0
        while place < size and (not opened or count < sum(min(block, size - b * block) for b in opened)):
            opened.add(shown[place] // block)
            place, count = place + 1, count + 1
        assert len(opened) <= min(blocks_open, num_blocks)


def test_blocks_and_clips_stand_in_another_order_in_every_pass_and_every_window():
    shuffle = BlockShuffle(8, 4)
    passes = {tuple(shuffle.clip_at(place, 64, (0, number)) for place in range(64)) for number in range(20)}
    assert len(passes) == 20
    first, second = (
        [shuffle.clip_at(place, 64, (0, 0)) % 8 for place in range(start, start + 32)] for start in (0, 32)
    )
    assert first != second


def test_a_place_in_170_million_is_found_at_once():
    shuffle, size = BlockShuffle(32, 256), 170_000_003
    places = [*range(100), *range(size // 2, size // 2 + 100), *range(size - 100, size)]
    clips = [shuffle.clip_at(place, size, (1, 2)) for place in places]
    assert len(set(clips)) == 300
    assert all(0 <= clip < size for clip in clips)


@pytest.mark.parametrize("values", [{"block": 0}, {"blocks_open": -1}])
def test_empty_windows_are_refused(values):
    with pytest.raises(ValueError, match=f"BlockShuffle.{next(iter(values))} is .*: expected 1 or more"):
        BlockShuffle(**values)


# ----------------------------------------------------------------------------- how well it mixes


def test_a_global_shuffle_mixes_as_well_as_drawing_from_all():
    found = mixing(GlobalShuffle(), 20_000, 64, lambda clip: clip // 20, num_batches=100)
    assert found.same_group == pytest.approx(found.ideal, rel=0.35)
    assert found.groups_per_batch == pytest.approx(found.ideal_groups, rel=0.02)


def test_more_open_blocks_mix_better_and_the_expected_share_is_found():
    shares = []
    for blocks_open in (20, 60, 180):
        found = mixing(BlockShuffle(20, blocks_open), 20_000, 64, lambda clip: clip // 20, num_batches=60)
        # two clips of a window of w blocks of b clips share their block with a chance of (b - 1) / (b w - 1)
        assert found.same_group == pytest.approx(19 / (20 * blocks_open - 1), rel=0.25)
        shares.append(found.same_group)
    assert shares == sorted(shares, reverse=True)


def test_no_shuffle_at_all_is_seen_for_what_it_is():
    class Straight(GlobalShuffle):
        def clip_at(self, place: int, num_clips: int, key: tuple[int, int]) -> int:
            return place

    assert mixing(Straight(), 10_000, 20, lambda clip: clip // 20).same_group > 0.3


def test_a_batch_of_one_says_nothing():
    with pytest.raises(ValueError, match="batch_size is 1: expected 2"):
        mixing(GlobalShuffle(), 10, 1, int)
