"""Masks are functions of the clip's seed alone, keep a fixed number of tokens, and have the pattern that they name."""

from __future__ import annotations

import itertools
import math
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fourd.masks import Mask, MaskPattern, block_visible, hidden_tokens, num_kept, random_visible
from fourd.tokens import as_mask

PATTERNS = get_args(MaskPattern)
RATIOS = (0.7, 0.85, 0.95, 0.99)
GRID = (8, 10, 10)
"""Fine enough in space for a tube at 0.99."""
SEEDS = torch.tensor([5, -7, 123456789012345, 5, 0, (1 << 63) - 1])


def drawn(mask: Mask, grid: tuple[int, int, int] = GRID, seeds: Tensor = SEEDS) -> Tensor:
    """Draw which tokens are visible, as marks `B t h w`."""
    return as_mask(mask.visible(seeds, grid), math.prod(grid)).unflatten(1, grid)


# ----------------------------------------------------------------------------- how many


def test_num_kept_is_78_of_1568():
    assert num_kept(1568, 0.95) == 78
    assert num_kept(64, 0.0) == 64


@pytest.mark.parametrize(("ratio", "message"), [(1.0, "expected 0 <="), (-0.1, "expected 0 <="), (0.95, "leaves none")])
def test_a_ratio_that_keeps_nothing_is_an_error(ratio, message):
    with pytest.raises(ValueError, match=message):
        num_kept(16, ratio)


@pytest.mark.parametrize(
    ("pattern", "ratio", "units", "tokens"),
    [
        *[("random", ratio, kept, kept) for ratio, kept in zip(RATIOS, (240, 120, 40, 8), strict=True)],
        *[("tube", ratio, kept, 8 * kept) for ratio, kept in zip(RATIOS, (30, 15, 5, 1), strict=True)],
        *[("block", ratio, kept, 8 * kept) for ratio, kept in zip(RATIOS, (30, 15, 5, 1), strict=True)],
        *[("frame", 0.7, 2, 200), ("frame", 0.85, 1, 100), ("causal", 0.5, 4, 400), ("causal", 0.875, 1, 100)],
        *[("tube", 0.9, 10, 80), ("frame", 0.0, 8, 800)],
    ],
)
def test_the_numbers_of_the_study_are_kept(pattern, ratio, units, tokens):
    mask = Mask(pattern, ratio)
    assert (mask.num_visible_units(GRID), mask.num_visible(GRID)) == (units, tokens)
    assert mask.visible(SEEDS, GRID).shape == (len(SEEDS), tokens)


def test_a_mask_tells_what_it_keeps():
    assert Mask("random", 0.95).told((8, 14, 14)) == "random 0.95: 78 of 1568 tokens visible"
    assert Mask("tube", 0.9).told(GRID) == "tube 0.9: 10 of 100 tubes, 80 of 800 tokens visible"
    assert Mask("causal", 0.5).told(GRID) == "causal 0.5: 4 of 8 frame groups, 400 of 800 tokens visible"


@pytest.mark.parametrize(
    ("pattern", "grid", "message"),
    [
        ("random", (4, 4, 4), "none of 64 tokens visible; the largest that works is 0.9843:"),
        ("tube", (8, 4, 4), "none of 16 tubes visible; the largest that works is 0.9375:"),
        ("block", (8, 4, 4), "none of 16 tubes visible; the largest that works is 0.9375:"),
        ("frame", (10, 14, 14), "none of 10 frame groups visible; the largest that works is 0.9:"),
        ("causal", (8, 14, 14), "none of 8 frame groups visible; the largest that works is 0.875:"),
    ],
)
def test_a_pattern_that_keeps_nothing_says_how_many_units_there_are(pattern, grid, message):
    mask = Mask(pattern, 0.99)
    for ask in (mask.num_visible, mask.told, lambda grid: mask.visible(SEEDS, grid)):
        with pytest.raises(ValueError, match=message):
            ask(grid)


@given(number=st.integers(1, 5000), units=st.sampled_from(["tokens", "tubes"]))
def test_the_largest_ratio_that_an_error_names_works(number, units):
    with pytest.raises(ValueError, match="largest that works is") as caught:
        num_kept(number, 0.999999, units)
    ratio = float(str(caught.value).split("works is ")[1].split(":")[0])
    assert num_kept(number, ratio, units) == 1
    with pytest.raises(ValueError, match="leaves none"):
        num_kept(number, ratio + 1.001e-4, units)


# ----------------------------------------------------------------------------- random


def splitmix64(seed: int, count: int) -> list[int]:
    """Generate as published, in plain integers."""
    numbers, whole = [], (1 << 64) - 1
    for step in range(1, count + 1):
        z = (seed + step * 0x9E3779B97F4A7C15) & whole
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & whole
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & whole
        numbers.append(z ^ (z >> 31))
    return numbers


def test_the_reference_generator_gives_the_published_numbers():
    assert splitmix64(1234567, 3) == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@given(seed=st.integers(-(1 << 63), (1 << 63) - 1))
def test_the_mask_follows_the_published_generator(seed):
    signed = [z - (1 << 64) if z >> 63 else z for z in splitmix64(seed, 40)]
    expected = sorted(sorted(range(40), key=signed.__getitem__)[:7])
    assert random_visible(torch.tensor([seed]), 40, 7)[0].tolist() == expected


def test_a_mask_depends_on_its_seed_alone():
    seeds = torch.tensor([5, -7, 123456789012345, 5, 0])
    together = random_visible(seeds, 1568, 78)
    alone = torch.cat([random_visible(seed[None], 1568, 78) for seed in seeds])
    assert torch.equal(together, alone)
    assert torch.equal(random_visible(seeds.flip(0), 1568, 78), together.flip(0))
    assert torch.equal(together[0], together[3])
    assert not torch.equal(together[0], together[1])


def test_global_random_state_is_neither_read_nor_moved():
    torch.manual_seed(1)
    first, state = random_visible(torch.arange(3), 64, 16), torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(random_visible(torch.arange(3), 64, 16), first)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)


def test_visible_tokens_are_distinct_and_in_order():
    visible = random_visible(torch.arange(200), 1568, 78)
    assert visible.shape == (200, 78)
    assert (visible.diff(dim=1) > 0).all()
    assert visible.min() >= 0
    assert visible.max() < 1568


@pytest.mark.parametrize("stride", [1, 1 << 40], ids=["neighbouring-seeds", "distant-seeds"])
def test_masks_are_uniform(stride):
    num_clips, num_tokens, num_visible = 8000, 64, 16
    visible = random_visible(torch.arange(num_clips) * stride, num_tokens, num_visible)
    mask = as_mask(visible, num_tokens).double()
    share = num_visible / num_tokens
    z = (mask.sum(dim=0) - num_clips * share) / math.sqrt(num_clips * share * (1 - share))
    assert chi_square_deviation(z.square().sum() * (num_tokens - 1) / num_tokens, num_tokens - 1) < 5

    pair_share = share * (num_visible - 1) / (num_tokens - 1)
    together = (mask.T @ mask)[*torch.triu_indices(num_tokens, num_tokens, 1)]
    z = (together - num_clips * pair_share) / math.sqrt(num_clips * pair_share * (1 - pair_share))
    assert chi_square_deviation(z.square().sum(), len(z)) < 5

    overlap = (mask[1:] * mask[:-1]).sum(dim=1).mean()
    assert abs(overlap - num_visible * share) < 0.15


def chi_square_deviation(statistic: Tensor, freedom: int) -> float:
    """Say how many standard deviations a chi-square statistic lies from its mean."""
    return float((statistic - freedom).abs() / math.sqrt(2 * freedom))


# ----------------------------------------------------------------------------- every pattern


@pytest.mark.parametrize("pattern", PATTERNS)
def test_visible_and_hidden_tokens_are_in_order_and_make_the_whole(pattern):
    visible = Mask(pattern, 0.7).visible(SEEDS, GRID)
    hidden = hidden_tokens(visible, 800)
    assert (visible.diff(dim=1) > 0).all()
    assert (hidden.diff(dim=1) > 0).all()
    assert torch.equal(torch.cat([visible, hidden], dim=1).sort(dim=1).values, torch.arange(800).expand(len(SEEDS), -1))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_depends_on_the_seed_alone(pattern):
    mask = Mask(pattern, 0.7)
    together = mask.visible(SEEDS, GRID)
    assert torch.equal(torch.cat([mask.visible(seed[None], GRID) for seed in SEEDS]), together)
    assert torch.equal(mask.visible(SEEDS.flip(0), GRID), together.flip(0))
    assert torch.equal(together[0], together[3])
    assert torch.equal(together[0], together[1]) == (pattern == "causal")


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_is_drawn_without_a_look_at_the_numbers(pattern):
    blank = Mask(pattern, 0.7).visible(SEEDS.to("meta"), GRID)
    assert blank.device.type == "meta"
    assert hidden_tokens(blank, 800).shape[1] + blank.shape[1] == 800


def test_random_is_the_draw_of_single_tokens():
    assert torch.equal(Mask("random", 0.95).visible(SEEDS, (8, 14, 14)), random_visible(SEEDS, 1568, 78))


@pytest.mark.parametrize("pattern", ["tube", "block"])
def test_the_same_places_are_visible_in_every_frame(pattern):
    marks = drawn(Mask(pattern, 0.85))
    assert torch.equal(marks, marks[:, :1].expand_as(marks))
    assert (marks.sum(dim=(2, 3)) == 15).all()


def test_tubes_are_drawn_uniformly():
    share = drawn(Mask("tube", 0.9), seeds=torch.arange(4000))[:, 0].float().mean(dim=0)
    assert (share - 0.1).abs().max() < 5 * math.sqrt(0.1 * 0.9 / 4000)


def test_frames_are_hidden_whole_and_drawn_uniformly():
    marks = drawn(Mask("frame", 0.7), seeds=torch.arange(4000)).flatten(2)
    assert torch.equal(marks.any(dim=2), marks.all(dim=2))
    assert (marks[:, :, 0].float().mean(dim=0) - 0.25).abs().max() < 5 * math.sqrt(0.25 * 0.75 / 4000)


def test_causal_shows_the_first_frames():
    marks = drawn(Mask("causal", 0.7))
    assert marks[:, :2].all()
    assert not marks[:, 2:].any()


# ----------------------------------------------------------------------------- blocks


def neighbours_alike(marks: Tensor) -> float:
    """Give the share of places of a frame `B h w` whose right neighbour is visible or hidden as they are."""
    return float((marks[..., 1:] == marks[..., :-1]).float().mean())


def test_blocks_hide_connected_places():
    seeds = torch.arange(200)
    block, tube = (drawn(Mask(pattern, 0.7), (2, 14, 14), seeds)[:, 0] for pattern in ("block", "tube"))
    assert neighbours_alike(block) > 0.85
    assert neighbours_alike(tube) < 0.65


def test_one_block_is_a_rectangle_of_the_stated_shape():
    num_places, num_visible = 40 * 40, 40 * 40 * 15 // 16
    visible = block_visible(torch.arange(300), (40, 40), num_visible, 1)
    hidden = ~as_mask(visible, num_places).unflatten(1, (40, 40))
    rows, columns = hidden.any(dim=2), hidden.any(dim=1)
    inside = ~(rows[:, [0, -1]].any(dim=1) | columns[:, [0, -1]].any(dim=1))  # the frame's border does not cut it
    assert inside.sum() > 50
    height, width = rows.sum(dim=1)[inside], columns.sum(dim=1)[inside]
    filled = hidden.sum(dim=(1, 2))[inside] / (height * width)
    assert filled.min() > 0.85  # the last row or column that it grew into may be there in part
    shape = height / width
    assert shape.min() > 0.65
    assert shape.max() < 1.75
    assert shape.min() < 0.9
    assert shape.max() > 1.3


def test_no_blocks_are_an_error():
    with pytest.raises(ValueError, match="num_blocks is 0; expected 1 or more"):
        Mask("block", 0.9, 0).visible(SEEDS, GRID)


def test_more_blocks_leave_other_places():
    few, many = (Mask("block", 0.9, num_blocks).visible(SEEDS, GRID) for num_blocks in (2, 8))
    assert few.shape == many.shape
    assert not torch.equal(few, many)


def test_blocks_grow_with_the_ratio():
    seen = [drawn(Mask("block", ratio), seeds=torch.arange(50)) for ratio in RATIOS]
    for more, less in itertools.pairwise(seen):
        assert not (less & ~more).any(), "a place that a smaller block hides must stay hidden by a larger one"


def test_the_border_is_seen_more_often_than_the_middle_as_stated():
    share = drawn(Mask("block", 0.9), (1, 14, 14), torch.arange(4000) * 7919)[:, 0].float().mean(dim=0)
    assert share[0, 0] == pytest.approx(0.38, abs=0.03)
    assert share[7, 7] == pytest.approx(0.03, abs=0.015)
    assert float(share.mean()) == pytest.approx(19 / 196)
