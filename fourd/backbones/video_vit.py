"""The 4DS video transformer: a plain ViT over 2x16x16 patches with a learned position for each token.

Source: google-deepmind/representations4d (`models/model.py`, `models/transformer.py`) for the
definition, kauldron's ViT table and the published parameter counts for the sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from fourd.layers import Block, for_sums, init_lecun_normal
from fourd.tokens import (
    Triple,
    as_shares,
    grid_of,
    native_pixels,
    patchify,
    resample_positions,
    sincos_positions,
    take_tokens,
)
from fourd.types import Backbone, BackboneConfig, ClipShape, Features, FeatureShape, NativeInput

TableInit = Literal["normal", "sincos"]


def init_table(table: Tensor, grid: Triple, how: TableInit, generator: torch.Generator | None = None) -> None:
    """Fill a table of positions: normal numbers of deviation 0.02 (official), or half a sine wave (ours)."""
    if how == "normal":
        nn.init.normal_(table, std=0.02, generator=generator)
    else:
        with torch.no_grad():
            table.copy_(0.5 * sincos_positions(grid, table.shape[-1]))


def feature_index(depth: float, num_blocks: int) -> int:
    """Turn a fraction of depth into an entry of the official list of features.

    The list holds the tokens, the tokens again, then the output of block 1, 2, ..., L - 1; the last
    block's output is never in it. Entry i > 0 is the output of i - 1 blocks.
    Source: `EncoderToReadout`, `int((L + 1) * depth) - 1`.
    """
    if not 0 < depth <= 1:
        raise ValueError(f"depth is {depth}; expected 0 < depth <= 1")
    index = int((num_blocks + 1) * depth) - 1
    if index < 0:
        raise ValueError(
            f"depth {depth} lies below the first of {num_blocks} blocks; use {1 / (num_blocks + 1):.3f} up"
        )
    return index


class VideoViT(Backbone):
    """Encode a clip; one of other than its native length and size by resampling the positions, if so configured."""

    def __init__(self, config: VideoViTConfig) -> None:
        super().__init__()
        self.config = config
        self.grid = grid_of(config.num_frames, config.size, config.patch)
        num_tokens = self.grid[0] * self.grid[1] * self.grid[2]
        num_pixels = config.patch[0] * config.patch[1] * config.patch[2] * 3
        self.patch_embedding = nn.Linear(num_pixels, config.width)
        self.positions = nn.Parameter(torch.empty(num_tokens, config.width))
        self.blocks = nn.ModuleList(
            Block(config.width, config.num_heads, config.mlp_width) for _ in range(config.depth)
        )

    @property
    def num_tokens(self) -> int:
        """Count the tokens of a whole clip."""
        return len(self.positions)

    @property
    def native_input(self) -> NativeInput:
        """Say which clips `forward` takes."""
        config = self.config
        return NativeInput(config.num_frames, config.size, config.patch, fixed=config.native_size)

    def block_at(self, depth: float) -> int:
        """Turn a fraction of depth into a number of blocks, as the official code counts (see `feature_index`)."""
        return max(feature_index(depth, len(self.blocks)) - 1, 0)

    def pixels(self, video: Shaped[Tensor, "B T 3 H W"]) -> Float[Tensor, "B T 3 h w"]:
        """Bring clips to [0, 1] and to the native size; raise ValueError for what this backbone does not take."""
        return native_pixels(video, self.native_input)

    def embed(
        self, pixels: Shaped[Tensor, "B T 3 h w"], visible: Int[Tensor, "B n"] | None = None
    ) -> Float[Tensor, "B n D"]:
        """Embed patches with their positions; only the `visible` ones when given.

        pixels: in [0, 1], or bytes; of bytes only the visible ones ever become floats.
        """
        positions = for_sums(resample_positions(self.positions, self.grid, self._grid_of(pixels)))
        patches = patchify(pixels, self.config.patch)
        if visible is not None:
            patches = take_tokens(patches, visible)
        embedded = self.patch_embedding(as_shares(patches).to(self.patch_embedding.weight.dtype))
        # an embedding look-up, because its gradient is summed in a fixed order and indexing's is not
        return embedded + (positions if visible is None else F.embedding(visible, positions))

    def forward(self, video: Shaped[Tensor, "B T 3 H W"], depths: Sequence[float]) -> tuple[Features, ...]:
        """Encode clips; features are counted as the official code counts (see `feature_index`)."""
        wanted = [self.block_at(depth) for depth in depths]
        pixels = self.pixels(video)
        grid = self._grid_of(pixels)
        x = self.embed(pixels)
        kept = {0: x}
        for number, block in enumerate(self.blocks[: max(wanted, default=0)], start=1):
            x = block(x)
            if number in wanted:
                kept[number] = x
        return tuple(Features(kept[number].unflatten(1, grid)) for number in wanted)

    def _grid_of(self, pixels: Shaped[Tensor, "B T 3 h w"]) -> Triple:
        return grid_of(pixels.shape[1], (pixels.shape[3], pixels.shape[4]), self.config.patch)

    def feature_shape(self, clip: ClipShape) -> FeatureShape:
        """Say which grid `forward` gives."""
        return FeatureShape(*self.native_input.grid(clip), self.config.width)

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Fill every parameter as the official code does (positions: see `init_table`)."""
        init_lecun_normal(self.patch_embedding, generator)
        init_table(self.positions, self.grid, self.config.position_init, generator)
        for block in self.blocks:
            cast(Block, block).init_weights(generator)


@dataclass(frozen=True)
class VideoViTConfig(BackboneConfig):
    """Describe a 4DS video transformer."""

    width: int
    depth: int
    num_heads: int
    mlp_width: int
    patch: Triple = (2, 16, 16)
    num_frames: int = 16
    size: tuple[int, int] = (224, 224)
    position_init: TableInit = "normal"

    def build(self) -> VideoViT:
        """Build the encoder, its parameters unset."""
        return VideoViT(self)

    def at(self, size: int, num_frames: int = 16) -> VideoViTConfig:
        """Change the native input, for example to 256 pixels."""
        return replace(self, size=(size, size), num_frames=num_frames)


def small() -> VideoViTConfig:
    """Describe 4DS-S, 22.5M parameters."""
    return VideoViTConfig(width=384, depth=12, num_heads=6, mlp_width=1536)


def base() -> VideoViTConfig:
    """Describe 4DS-B, 87.4M parameters."""
    return VideoViTConfig(width=768, depth=12, num_heads=12, mlp_width=3072)


def large() -> VideoViTConfig:
    """Describe 4DS-L, 305.5M parameters."""
    return VideoViTConfig(width=1024, depth=24, num_heads=16, mlp_width=4096)


def huge() -> VideoViTConfig:
    """Describe 4DS-H, 633.7M parameters."""
    return VideoViTConfig(width=1280, depth=32, num_heads=16, mlp_width=5120)


def giant() -> VideoViTConfig:
    """Describe 4DS-G, 1,846.5M parameters."""
    return VideoViTConfig(width=1664, depth=48, num_heads=16, mlp_width=8192)


def size_e() -> VideoViTConfig:
    """Describe 4DS-e, 3,809.5M parameters."""
    return VideoViTConfig(width=1792, depth=56, num_heads=16, mlp_width=15360)


def size_j() -> VideoViTConfig:
    """Describe 4DS-j, 21,492.0M parameters.

    Width, depth and MLP follow from the published count; the number of heads is not public: 32 is not
    from the paper.
    """
    return VideoViTConfig(width=4096, depth=64, num_heads=32, mlp_width=32768)


def toy() -> VideoViTConfig:
    """Describe the demo's encoder: 2.8M parameters on clips of 8 frames of 32 pixels (not from the paper)."""
    return VideoViTConfig(192, 6, 3, 768, patch=(2, 8, 8), num_frames=8, size=(32, 32), position_init="sincos")


def toy_small() -> VideoViTConfig:
    """Describe a smaller encoder of the demo's clips: 0.6M parameters (not from the paper)."""
    return VideoViTConfig(96, 5, 3, 384, patch=(2, 8, 8), num_frames=8, size=(32, 32), position_init="sincos")


def tiny() -> VideoViTConfig:
    """Describe an encoder that runs at once, for tests."""
    return VideoViTConfig(32, 4, 2, 64, patch=(2, 8, 8), num_frames=4, size=(32, 32))


SIZES = {"S": small, "B": base, "L": large, "H": huge, "G": giant, "e": size_e, "j": size_j}
