"""A narrow transformer that says something of hidden places: VideoMAE's decoder, V-JEPA's predictor."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from fourd.layers import Block, LayerNorm, init_lecun_normal
from fourd.tokens import Triple, sincos_positions


class NarrowDecoder(nn.Module):
    """Predict what stands at hidden tokens from an encoder's visible ones, with a few blocks of its own."""

    positions: Tensor

    def __init__(
        self, grid: Triple, widths: tuple[int, int, int], num_heads: int, num_blocks: int, bias: bool = True
    ) -> None:
        """Build it for a token grid; widths: of what comes in, of its blocks, and of what it predicts."""
        super().__init__()
        encoded, width, predicted = widths
        self.grid = grid
        self.narrow = nn.Linear(encoded, width, bias=bias)
        self.mask_token = nn.Parameter(torch.empty(width))
        # not kept in checkpoints: `init_weights` makes the same table again
        self.register_buffer("positions", torch.empty(grid[0] * grid[1] * grid[2], width), persistent=False)
        self.blocks = nn.ModuleList(Block(width, num_heads, 4 * width) for _ in range(num_blocks))
        self.norm = LayerNorm(width)
        self.head = nn.Linear(width, predicted)

    def forward(
        self, encoded: Float[Tensor, "B n D"], visible: Int[Tensor, "B n"], hidden: Int[Tensor, "B m"]
    ) -> Float[Tensor, "B m P"]:
        """Predict the tokens numbered `hidden`; `encoded` are those numbered `visible`."""
        seen = self.narrow(encoded) + F.embedding(visible, self.positions)
        asked = self.mask_token + F.embedding(hidden, self.positions)
        x = torch.cat([asked.to(seen.dtype), seen], dim=1)
        *others, last = self.blocks
        for block in others:
            x = block(x)
        return self.head(self.norm(last(x, None, hidden.shape[1])))

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Fill every parameter, and the positions with sine waves along time, height and width."""
        for linear in (self.narrow, self.head):
            init_lecun_normal(linear, generator)
        nn.init.normal_(self.mask_token, std=0.02, generator=generator)
        with torch.no_grad():
            self.positions.copy_(sincos_positions(self.grid, self.positions.shape[1]))
        for block in self.blocks:
            block.init_weights(generator)  # type: ignore[operator]
        self.norm.reset_parameters()
