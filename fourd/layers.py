"""The parts of a transformer: attention, MLP, block. Definitions as in the official 4DS code."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

LAYER_NORM_EPS = 1e-6
_TRUNCATED_STD = 0.87962566103423978  # standard deviation of a unit normal cut at +-2


class LayerNorm(nn.LayerNorm):
    """Normalise in float32 whatever the input's precision, with the official epsilon of 1e-6."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=LAYER_NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis."""
        weight, bias = self.weight.float(), self.bias.float()
        return F.layer_norm(x.float(), self.normalized_shape, weight, bias, self.eps).to(x.dtype)


def attention(
    query: Float[Tensor, "B heads q d"], key: Float[Tensor, "B heads n d"], value: Float[Tensor, "B heads n d"]
) -> Float[Tensor, "B heads q d"]:
    """Attend with scale 1/sqrt(d) and no mask.

    On a CPU the backward pass of torch's fused kernel costs more than the explicit softmax in
    training (43% of a small step), so each is used where it is the faster one.
    """
    if query.device.type == "cpu" and torch.is_grad_enabled():
        weights = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
        return weights.float().softmax(dim=-1).to(value.dtype) @ value
    return F.scaled_dot_product_attention(query, key, value)


class SelfAttention(nn.Module):
    """Attend within a set of tokens; query, key, value and output projections apart, all with bias."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        if width % num_heads:
            raise ValueError(f"width {width} cannot be split into {num_heads} heads")
        self.num_heads = num_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        """Mix the tokens of each clip."""
        query, key, value = (
            rearrange(project(x), "b n (heads d) -> b heads n d", heads=self.num_heads)
            for project in (self.query, self.key, self.value)
        )
        return self.out(rearrange(attention(query, key, value), "b heads n d -> b n (heads d)"))

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Fill the projections with LeCun-normal numbers, the biases with zero."""
        for projection in (self.query, self.key, self.value, self.out):
            init_lecun_normal(projection, generator)


class MLP(nn.Module):
    """Widen, apply the tanh form of GELU, narrow."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.dense_in = nn.Linear(width, hidden)
        self.dense_out = nn.Linear(hidden, width)

    def forward(self, x: Float[Tensor, "*shape D"]) -> Float[Tensor, "*shape D"]:
        """Transform each token by itself."""
        return self.dense_out(F.gelu(self.dense_in(x), approximate="tanh"))

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Fill with Xavier-uniform numbers, the biases with zero."""
        for linear in (self.dense_in, self.dense_out):
            nn.init.xavier_uniform_(linear.weight, generator=generator)
            nn.init.zeros_(linear.bias)


class Block(nn.Module):
    """Add attention, then an MLP, each after its own norm."""

    def __init__(self, width: int, num_heads: int, mlp_width: int) -> None:
        super().__init__()
        self.attention_norm = LayerNorm(width)
        self.attention = SelfAttention(width, num_heads)
        self.mlp_norm = LayerNorm(width)
        self.mlp = MLP(width, mlp_width)

    def forward(self, x: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        """Transform the tokens."""
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Fill every parameter."""
        self.attention_norm.reset_parameters()
        self.mlp_norm.reset_parameters()
        self.attention.init_weights(generator)
        self.mlp.init_weights(generator)


def init_lecun_normal(linear: nn.Linear, generator: torch.Generator | None = None) -> None:
    """Fill a projection with a normal cut at two deviations, variance 1 / inputs; zero bias.

    Source: flax's default kernel initialiser, which the official code keeps.
    """
    std = math.sqrt(1 / linear.in_features) / _TRUNCATED_STD
    nn.init.trunc_normal_(linear.weight, std=std, a=-2 * std, b=2 * std, generator=generator)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)
