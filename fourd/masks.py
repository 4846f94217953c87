"""Which tokens of a clip stay visible: five patterns, each a pure function of the clip's seed.

Every draw is a counter-based hash of the seed in whole numbers, so it is the same on every device, in every batch and
on any number of ranks. How many tokens stay visible follows from pattern, ratio and grid alone, never from the draw.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from fourd.tokens import Triple, as_mask, splitmix64

MaskPattern = Literal["random", "tube", "frame", "block", "causal"]

_UNITS = {"random": "tokens", "tube": "tubes", "frame": "frame groups", "block": "tubes", "causal": "frame groups"}
"""What a pattern keeps or hides as a whole. A tube is one place of space in all frames."""


@dataclass(frozen=True)
class Mask:
    """Say which tokens of a clip stay visible.

    pattern: `random` draws tokens one by one. `tube` draws places of space, the same in every frame group (VideoMAE).
    `frame` draws whole frame groups. `block` hides rectangles that span all time (V-JEPA; see `block_visible`).
    `causal` shows the first frame groups and hides the rest.
    ratio: share of the tokens that is hidden, rounded up to whole units of the pattern.
    num_blocks: rectangles that `block` hides; V-JEPA's short-range masks have 8, its long-range ones 2.
    """

    pattern: MaskPattern = "random"
    ratio: float = 0.95
    num_blocks: int = 8

    def num_units(self, grid: Triple) -> int:
        """Count the units that are kept or hidden as a whole: tokens, tubes or frame groups."""
        t, h, w = grid
        return {"tokens": t * h * w, "tubes": h * w, "frame groups": t}[_UNITS[self.pattern]]

    def num_visible_units(self, grid: Triple) -> int:
        """Count the units that stay visible; raise ValueError when none would, with the largest ratio that works."""
        return num_kept(self.num_units(grid), self.ratio, _UNITS[self.pattern])

    def num_visible(self, grid: Triple) -> int:
        """Count the tokens that stay visible in every clip; raise ValueError when none would."""
        return self.num_visible_units(grid) * (math.prod(grid) // self.num_units(grid))

    def told(self, grid: Triple) -> str:
        """Tell people how much stays visible."""
        units, tokens = _UNITS[self.pattern], f"{self.num_visible(grid)} of {math.prod(grid)} tokens visible"
        if units == "tokens":
            return f"{self.pattern} {self.ratio:g}: {tokens}"
        return (
            f"{self.pattern} {self.ratio:g}: {self.num_visible_units(grid)} of {self.num_units(grid)} {units}, {tokens}"
        )

    def visible(self, seed: Int[Tensor, " B"], grid: Triple) -> Int[Tensor, "B n"]:
        """Draw which tokens of each clip stay visible: their numbers, in rising order; `n` is `num_visible(grid)`."""
        kept, (t, h, w) = self.num_visible_units(grid), grid
        match self.pattern:
            case "random":
                return random_visible(seed, math.prod(grid), kept)
            case "tube":
                return _in_all_frames(random_visible(seed, h * w, kept), grid)
            case "block":
                return _in_all_frames(block_visible(seed, (h, w), kept, self.num_blocks), grid)
            case "frame":
                return _whole_frames(random_visible(seed, t, kept), grid)
            case "causal":
                return _whole_frames(torch.arange(kept, device=seed.device).expand(len(seed), -1), grid)


# ----------------------------------------------------------------------------- how many


def num_kept(number: int, mask_ratio: float, units: str = "tokens") -> int:
    """Count the units that stay visible; raise ValueError when none would, with the largest ratio that works.

    Source: `int(N * (1 - ratio))`, 78 of 1568 at 95% (the released masking code of the same team, RVM). For tokens the
    source is followed to the letter, in floating point: 79 of 800 at 0.9. Whole tubes and frame groups are counted
    exactly: 10 of 100.
    """
    if not 0 <= mask_ratio < 1:
        raise ValueError(f"mask_ratio is {mask_ratio}; expected 0 <= mask_ratio < 1")
    kept = _count(number, mask_ratio, units)
    if kept < 1:
        raise ValueError(
            f"mask_ratio {mask_ratio} leaves none of {number} {units} visible; the largest that works is "
            f"{_largest_ratio(number, units)}: lower it, or cut the clip into more patches"
        )
    return kept


def _count(number: int, mask_ratio: float, units: str) -> int:
    """Round down; the slack is for 1 - 0.9, which falls short of a tenth."""
    slack = 0.0 if units == "tokens" else 1e-9
    return int(number * (1 - mask_ratio) + slack)


def _largest_ratio(number: int, units: str) -> float:
    """Give the largest ratio of four digits, or more for large numbers, that leaves one unit visible."""
    steps = 10 ** max(4, len(str(number)))
    ratios = ((steps - below) / steps for below in range(1, steps + 1))
    return next(ratio for ratio in ratios if _count(number, ratio, units) >= 1)


# ----------------------------------------------------------------------------- which ones


_GOLDEN_RATIO = 0x9E3779B97F4A7C15 - (1 << 64)
_BITS = 20
"""Of a hash, for a number between 0 and 1: fine enough for any grid."""
_FLATTEST, _TALLEST = 768, 1536
"""A block's height over its width, in 1/1024: 0.75 to 1.5. Source: V-JEPA."""


def random_visible(seed: Int[Tensor, " B"], num_tokens: int, num_visible: int) -> Int[Tensor, "B n"]:
    """Draw for each clip which tokens stay visible, uniformly, as a function of the clip's seed alone.

    The draw is a counter-based hash, so it is the same on every device and in every batch.
    """
    order = _hashes(seed, num_tokens).argsort(dim=1)
    return order[:, :num_visible].sort(dim=1).values


def block_visible(
    seed: Int[Tensor, " B"], size: tuple[int, int], num_visible: int, num_blocks: int
) -> Int[Tensor, "B n"]:
    """Draw blocks that are hidden, and give the numbers of the places of a frame that lie outside of them.

    size: places of a frame, (height, width). V-JEPA draws blocks of a fixed size; what they leave differs from clip to
    clip, and a batch is cut to its smallest number. Here a block has a centre and a shape, and all blocks of a clip
    grow together until exactly `num_visible` places are left (not from a paper): what is hidden is a union of
    rectangles, as there, and every clip keeps the same number, alone or in any batch. Places that the growing blocks
    reach at the same moment are told apart by a hash. As there, the border stays visible more often than the middle:
    at 0.90 of 14 x 14 places a corner in 38% of the clips, the centre in 3%.
    """
    if num_blocks < 1:
        raise ValueError(f"num_blocks is {num_blocks}; expected 1 or more")
    num_places = size[0] * size[1]
    shares = (_hashes(seed, 3 * num_blocks + num_places) >> (63 - _BITS)) & ((1 << _BITS) - 1)
    middle_y, middle_x, shape, tie = shares.split([num_blocks, num_blocks, num_blocks, num_places], dim=1)
    height = _FLATTEST + (shape * (_TALLEST - _FLATTEST) >> _BITS)
    away_y = _away(middle_y, size[0])[:, :, :, None] * 1024
    away_x = _away(middle_x, size[1])[:, :, None, :] * height[:, :, None, None]
    reached = torch.maximum(away_y, away_x).amin(dim=1).flatten(1)
    # stable, so that devices agree where even the hashes are the same
    order = ((reached << _BITS) + tie).argsort(dim=1, descending=True, stable=True)
    return order[:, :num_visible].sort(dim=1).values


def _away(share: Int[Tensor, "B blocks"], length: int) -> Int[Tensor, "B blocks L"]:
    """Measure how far the places of one axis are from centres, in 2^-20 of a place."""
    places = (2 * torch.arange(length, device=share.device) + 1) << (_BITS - 1)
    return (places - share[..., None] * length).abs()


def _hashes(seed: Int[Tensor, " B"], number: int) -> Int[Tensor, "B N"]:
    counter = torch.arange(1, number + 1, device=seed.device)
    return splitmix64(seed[:, None] + counter * _GOLDEN_RATIO)


def _in_all_frames(places: Int[Tensor, "B k"], grid: Triple) -> Int[Tensor, "B n"]:
    """Give the numbers of the tokens at some places of space, in every frame group."""
    frames = torch.arange(grid[0], device=places.device) * (grid[1] * grid[2])
    return (frames[:, None] + places[:, None]).flatten(1)


def _whole_frames(frames: Int[Tensor, "B k"], grid: Triple) -> Int[Tensor, "B n"]:
    """Give the numbers of all tokens of some frame groups."""
    places = torch.arange(grid[1] * grid[2], device=frames.device)
    return (frames[:, :, None] * len(places) + places).flatten(1)


def hidden_tokens(visible: Int[Tensor, "B n"], num_tokens: int) -> Int[Tensor, "B m"]:
    """Give the numbers of the tokens that are not visible, in rising order."""
    order = as_mask(visible, num_tokens).to(torch.uint8).argsort(dim=1, stable=True)
    return order[:, : num_tokens - visible.shape[1]]
