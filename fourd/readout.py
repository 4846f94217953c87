"""Readouts: small modules that turn frozen features and a query into an answer.

Source: google-deepmind/representations4d (`models/readout.py`) for the attention readout, the MooG
and SciVid notebooks for the tracking queries. What it is compared with: linear readouts; attention with
blocks of self-attention before it, as V-JEPA 2 probes; convolutions that answer for each pixel.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from fourd.layers import MLP, Block, LayerNorm, attention, for_sums, init_lecun_normal
from fourd.tokens import fourier_features, resample_time
from fourd.types import ClipShape, Features, FeatureShape, ReadoutKind


@dataclass(frozen=True)
class ReadoutSize:
    """Size an attention readout. Source: the released readouts (1024 wide, 16 heads for depth)."""

    width: int = 1024
    num_heads: int = 16
    num_frames: int = 0
    """Resample the features to this many time steps first; 0 keeps the backbone's own."""
    dropout: float = 0.0
    query_width: int = 512
    """Of the embedding of queries from outside (points, boxes)."""
    simple: bool = False
    """Leave out norms, time positions, the residual, the MLP, the biases of key and value (an official variant)."""
    num_blocks: int = 3
    """Blocks of self-attention before the cross-attention, for the kind `attention_deep` alone; with it they are the
    four of V-JEPA 2's probe (not from the paper)."""


def in_float32(head: nn.Linear, x: Tensor) -> Tensor:
    """Apply a last layer in its own precision, whatever autocast says: pixels and metres need more than eight bits."""
    kind = x.device.type
    # there is no autocast where operations are only counted, on the meta device
    with torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext():
        return head(x.to(head.weight.dtype))


class AttentionReadout(nn.Module):
    """Let queries attend once to all features, then pass an MLP: one answer for each query.

    Queries are learned (`num_queries`) or come from outside (`query_width`), never both.
    """

    def __init__(
        self, features: FeatureShape, size: ReadoutSize, num_outputs: int, num_queries: int = 0, query_width: int = 0
    ) -> None:
        super().__init__()
        if bool(num_queries) == bool(query_width):
            raise ValueError(f"give either num_queries or query_width; got {num_queries} and {query_width}")
        self.num_heads, self.simple, self.dropout = size.num_heads, size.simple, size.dropout
        self.num_frames = size.num_frames or features.t
        if query_width:
            self.query_projection = nn.Linear(query_width, size.width)
        else:
            self.query = nn.Parameter(torch.empty(num_queries, size.width))
        self.key = nn.Linear(features.width, size.width, bias=not size.simple)
        self.value = nn.Linear(features.width, size.width, bias=not size.simple)
        self.head = nn.Linear(size.width, num_outputs)
        if not size.simple:
            self.out = nn.Linear(size.width, size.width)
            self.feature_norm = LayerNorm(features.width)
            self.time_positions = nn.Parameter(torch.empty(self.num_frames, features.width))
            self.mlp_norm = LayerNorm(size.width)
            self.mlp = MLP(size.width, 4 * size.width)

    def forward(
        self, features: Features, queries: Float[Tensor, "B Q d"] | None = None
    ) -> Float[Tensor, "B Q outputs"]:
        """Answer each query from the features."""
        tokens = self._tokens(features)
        query = self.query.expand(len(tokens), -1, -1) if queries is None else self.query_projection(queries)
        answer = self._attend(query, tokens)
        if not self.simple:
            answer = query + self.out(answer)
            answer = answer + self.mlp(self.mlp_norm(answer))
        return in_float32(self.head, answer)

    def _tokens(self, features: Features) -> Float[Tensor, "B N D"]:
        grid = resample_time(features.grid, self.num_frames)
        if not self.simple:
            grid = self.feature_norm(grid) + self.time_positions[:, None, None]
        return grid.flatten(1, 3)

    def _attend(self, query: Float[Tensor, "B Q d"], tokens: Float[Tensor, "B N D"]) -> Float[Tensor, "B Q d"]:
        heads = [
            rearrange(x, "b n (heads d) -> b heads n d", heads=self.num_heads)
            for x in (query.to(tokens.dtype), self.key(tokens), self.value(tokens))
        ]
        query_heads, key, value = heads
        mixed = attention(query_heads.to(value.dtype), key, value)
        return F.dropout(rearrange(mixed, "b heads n d -> b n (heads d)"), self.dropout, self.training)

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Fill every parameter as the official code does."""
        for name, module in self.named_children():
            if isinstance(module, nn.Linear):
                init_lecun_normal(module, generator)
            elif isinstance(module, LayerNorm):
                module.reset_parameters()
            elif isinstance(module, MLP):
                module.init_weights(generator)
            elif isinstance(module, nn.ModuleList):
                for block in module:
                    block.init_weights(generator)  # type: ignore[operator]
            else:
                raise TypeError(f"{name} of type {type(module).__name__} has no initial value")
        for table in self.parameters(recurse=False):
            nn.init.normal_(table, std=0.02, generator=generator)


class DeepAttentionReadout(AttentionReadout):
    """Let features attend to each other in blocks, then queries to them as in `AttentionReadout`.

    Source: the attentive probe of V-JEPA 2, whose four blocks are three of self-attention and one of cross-attention.
    Here features are first brought to the readout's width and told their time, so that `ReadoutSize` alone sets the
    size for every encoder (not from the paper).
    """

    def __init__(
        self, features: FeatureShape, size: ReadoutSize, num_outputs: int, num_queries: int = 0, query_width: int = 0
    ) -> None:
        if size.simple or size.num_blocks < 1:
            raise ValueError(
                f"ReadoutSize has simple={size.simple}, num_blocks={size.num_blocks}; an 'attention_deep' readout "
                "needs simple=False and 1 block or more: 'attention' is the one without blocks"
            )
        super().__init__(replace(features, width=size.width), size, num_outputs, num_queries, query_width)
        self.input_norm = LayerNorm(features.width)
        self.input_projection = nn.Linear(features.width, size.width)
        self.blocks = nn.ModuleList(Block(size.width, size.num_heads, 4 * size.width) for _ in range(size.num_blocks))

    def _tokens(self, features: Features) -> Float[Tensor, "B N D"]:
        grid = self.input_projection(self.input_norm(resample_time(features.grid, self.num_frames)))
        tokens = for_sums(grid + self.time_positions[:, None, None]).flatten(1, 3)
        for block in self.blocks:
            tokens = block(tokens)
        return self.feature_norm(tokens)


def build_attention(
    kind: ReadoutKind,
    features: FeatureShape,
    size: ReadoutSize,
    num_outputs: int,
    num_queries: int = 0,
    query_width: int = 0,
) -> AttentionReadout:
    """Build an attention readout, with blocks before it (`attention_deep`) or without (`attention`)."""
    build = {"attention": AttentionReadout, "attention_deep": DeepAttentionReadout}.get(kind)
    if build is None:
        raise ValueError(f"{kind!r} is no readout by attention: expected 'attention' or 'attention_deep'")
    return build(features, size, num_outputs, num_queries, query_width)


class TrackingReadout(nn.Module):
    """Follow what is given in one frame: a query of `num_coordinates` numbers becomes a path.

    Each query is expanded into sines, embedded, and repeated `num_tiles` times; a tile answers for
    its share of the frames. Source: `TrackingReadoutWrapper` of the released notebooks.
    """

    def __init__(
        self,
        features: FeatureShape,
        clip: ClipShape,
        size: ReadoutSize,
        num_coordinates: int,
        num_outputs: int,
        num_tiles: int,
        num_octaves: int,
        kind: ReadoutKind = "attention",
    ) -> None:
        super().__init__()
        if clip.num_frames % num_tiles:
            raise ValueError(f"{clip.num_frames} frames cannot be shared among {num_tiles} tiles")
        self.num_octaves = num_octaves
        self.num_frames = clip.num_frames
        expanded = 2 * num_octaves * num_coordinates
        self.embed_in = nn.Linear(expanded, size.query_width)
        self.embed_out = nn.Linear(size.query_width, size.query_width)
        self.tile_positions = nn.Parameter(torch.empty(num_tiles, size.query_width))
        per_tile = clip.num_frames // num_tiles * num_outputs
        self.attention = build_attention(kind, features, size, per_tile, query_width=size.query_width)

    def forward(
        self, features: Features, frame: Int[Tensor, "B Q"], coordinates: Float[Tensor, "B Q c"]
    ) -> Float[Tensor, "B Q T outputs"]:
        """Follow each query through all frames; coordinates are shares of the clip's width and height."""
        require_first_frame(frame)
        query = fourier_features(coordinates, self.num_octaves)
        query = self.embed_out(F.gelu(self.embed_in(query), approximate="tanh"))
        tiled = query[:, :, None] + self.tile_positions
        answers = self.attention(features, tiled.flatten(1, 2))
        pattern = "b (q tiles) (frames c) -> b q (tiles frames) c"
        return rearrange(answers, pattern, q=frame.shape[1], frames=self.num_frames // len(self.tile_positions)).float()

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Fill every parameter."""
        init_lecun_normal(self.embed_in, generator)
        init_lecun_normal(self.embed_out, generator)
        nn.init.normal_(self.tile_positions, std=0.02, generator=generator)
        self.attention.init_weights(generator)


def require_first_frame(frame: Int[Tensor, "B Q"]) -> None:
    """Refuse queries after the first frame: the paper's tracking readouts have no input for time."""
    if bool((frame != 0).any()):
        raise ValueError(f"queries start at frame {int(frame.max())}; the tracking readouts take queries in frame 0")


class LinearReadout(nn.Module):
    """Read an answer from each feature vector by one linear layer, after a norm."""

    def __init__(self, width: int, num_outputs: int) -> None:
        super().__init__()
        self.norm = LayerNorm(width)
        self.head = nn.Linear(width, num_outputs)

    def forward(self, x: Float[Tensor, "*shape D"]) -> Float[Tensor, "*shape outputs"]:
        """Answer from each vector by itself."""
        return in_float32(self.head, self.norm(x))

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Fill every parameter."""
        self.norm.reset_parameters()
        init_lecun_normal(self.head, generator)


class DenseReadout(nn.Module):
    """Answer for each pixel: convolutions double a feature grid until it is as fine, each time step by itself.

    Source: the form of DPT's decoder, residual units of two convolutions with a finer grid after each; one depth of
    features instead of four, since readouts are measured by depth; widths not from the paper: a quarter of
    `ReadoutSize.width` (DPT's 256 of 1024), halved with each doubling, 16 at least.
    """

    def __init__(self, features: FeatureShape, clip: ClipShape, size: ReadoutSize) -> None:
        super().__init__()
        steps = size.num_frames or features.t
        self.num_steps = clip.num_frames if clip.num_frames % steps else steps
        self.pixels = (clip.height, clip.width)
        scale = min(clip.height / features.h, clip.width / features.w)
        doublings = max(0, math.floor(math.log2(scale)))
        widths = [max(size.width // 4 >> level, 16) for level in range(doublings + 1)]
        self.norm = LayerNorm(features.width)
        self.projection = nn.Linear(features.width, widths[0])
        self.units = nn.ModuleList(_ResidualUnit(width) for width in widths)
        self.doublings = nn.ModuleList(nn.Linear(width, 4 * finer) for width, finer in pairwise(widths))
        self.head = nn.Linear(widths[-1], clip.num_frames // self.num_steps)

    def forward(self, features: Features) -> Float[Tensor, "B T H W"]:
        """Answer with one number for each pixel of each frame; a time step answers for the frames that it covers."""
        grid = self.projection(self.norm(resample_time(features.grid, self.num_steps))).flatten(0, 1)
        x = self.units[0](for_sums(grid).movedim(-1, 1))
        for double, unit in zip(self.doublings, self.units[1:], strict=True):
            x = unit(F.pixel_shuffle(for_sums(double(x.movedim(1, -1))).movedim(-1, 1), 2))
        if x.shape[2:] != self.pixels:
            x = F.interpolate(x, self.pixels, mode="bilinear", align_corners=False)
        answers = in_float32(self.head, F.gelu(x, approximate="tanh").movedim(1, -1))
        return rearrange(answers, "(b t) h w f -> b (t f) h w", t=self.num_steps)

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Fill every parameter."""
        self.norm.reset_parameters()
        for linear in (self.projection, *self.doublings, self.head):
            init_lecun_normal(linear, generator)
        for unit in self.units:
            unit.init_weights(generator)  # type: ignore[operator]


class _ResidualUnit(nn.Module):
    """Add what two convolutions see around each place."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(width, width, 3, padding=1)
        self.conv_out = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Float[Tensor, "N C h w"]) -> Float[Tensor, "N C h w"]:
        seen = self.conv_in(F.gelu(x, approximate="tanh"))
        return x + self.conv_out(F.gelu(seen, approximate="tanh"))

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        for conv in (self.conv_in, self.conv_out):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]


def zero_answers(head: nn.Linear) -> None:
    """Let an answer start at zero: for moves, "nothing moves" (not from the paper)."""
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)


def pool_tokens(features: Features) -> Float[Tensor, "B D"]:
    """Average all tokens of a clip."""
    return features.grid.float().mean(dim=(1, 2, 3))


def sample_first_frame(features: Features, xy: Float[Tensor, "B Q 2"]) -> Float[Tensor, "B Q D"]:
    """Look up features of the first time step at places given as shares of width and height, bilinearly."""
    grid = rearrange(features.grid[:, 0].float(), "b h w d -> b d h w")
    sampled = F.grid_sample(grid, 2 * xy[:, :, None] - 1, padding_mode="border", align_corners=False)
    return rearrange(sampled, "b d q 1 -> b q d")
