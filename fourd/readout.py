"""Readouts: small modules that turn frozen features and a query into an answer.

Source: google-deepmind/representations4d (`models/readout.py`) for the attention readout, the MooG
and SciVid notebooks for the tracking queries. The linear readouts are what it is compared with.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from fourd.layers import MLP, LayerNorm, attention, init_lecun_normal
from fourd.tokens import fourier_features, resample_time
from fourd.types import ClipShape, Features, FeatureShape


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


def in_float32(head: nn.Linear, x: Tensor) -> Tensor:
    """Apply a last layer in its own precision, whatever autocast says: pixels and metres need more than eight bits."""
    with torch.autocast(x.device.type, enabled=False):
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
            else:
                raise TypeError(f"{name} of type {type(module).__name__} has no initial value")
        for table in self.parameters(recurse=False):
            nn.init.normal_(table, std=0.02, generator=generator)


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
        self.attention = AttentionReadout(features, size, per_tile, query_width=size.query_width)

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
