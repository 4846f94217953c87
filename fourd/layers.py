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

    On a CPU the backward pass of torch's fused kernel takes up to three times as long as the explicit softmax in
    training, so each is used where it is the faster one. The softmax itself computes in float32 whatever its input.
    """
    if query.device.type == "cpu" and torch.is_grad_enabled():
        weights = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
        return weights.softmax(dim=-1) @ value
    return F.scaled_dot_product_attention(query, key, value)


def attention_beside_common(
    common: tuple[Float[Tensor, "1 heads M d"], Float[Tensor, "1 heads M d"], Float[Tensor, "1 heads M d"]],
    own: tuple[Float[Tensor, "B heads n d"], Float[Tensor, "B heads n d"], Float[Tensor, "B heads n d"]],
    num_kept: int | None,
) -> Float[Tensor, "B heads K d"]:
    """Attend among tokens that all clips share, in front, and each clip's own: query, key and value of both.

    On a CPU, what the shared tokens say to each other is the same in every clip and computed once; what a clip's own
    tokens say to them is added with the weight that one softmax over both would give it. On a GPU one fused kernel
    over all is expected to be faster than that, since no scores are held. num_kept: how many tokens are given, the
    shared ones or all.
    """
    if own[0].device.type == "cuda":
        return _attention_over_all(common, own, num_kept)
    (query, key, value), (own_query, own_key, own_value) = common, own
    shared, shared_size = _attention_and_size(query, key, value)
    clips, clips_size = _attention_and_size(query.expand(len(own_key), -1, -1, -1), own_key, own_value)
    share = torch.sigmoid(shared_size - clips_size)
    mixed = (share * shared + (1 - share) * clips).to(value.dtype)
    if num_kept == query.shape[2]:
        return mixed
    whole = [torch.cat([c.expand(len(o), -1, -1, -1), o], dim=2) for c, o in ((key, own_key), (value, own_value))]
    return torch.cat([mixed, attention(own_query, whole[0], whole[1])], dim=2)[:, :, :num_kept]


def _attention_over_all(
    common: tuple[Float[Tensor, "1 heads M d"], Float[Tensor, "1 heads M d"], Float[Tensor, "1 heads M d"]],
    own: tuple[Float[Tensor, "B heads n d"], Float[Tensor, "B heads n d"], Float[Tensor, "B heads n d"]],
    num_kept: int | None,
) -> Float[Tensor, "B heads K d"]:
    query, key, value = (torch.cat([c.expand(len(o), -1, -1, -1), o], 2) for c, o in zip(common, own, strict=True))
    return attention(query[:, :, :num_kept], key, value)


def _attention_and_size(
    query: Float[Tensor, "B heads q d"], key: Float[Tensor, "B heads n d"], value: Float[Tensor, "B heads n d"]
) -> tuple[Float[Tensor, "B heads q d"], Float[Tensor, "B heads q 1"]]:
    """Attend, and give the logarithm of the softmax' denominator, by which such answers are weighted."""
    scores = (query @ (key * query.shape[-1] ** -0.5).transpose(-2, -1)).float()  # of the two, keys are fewer
    size = scores.logsumexp(dim=-1, keepdim=True)
    return (scores - size).exp().to(value.dtype) @ value, size


def for_products(x: Tensor) -> Tensor:
    """Round to the precision that autocast multiplies in, once for all the products that follow."""
    kind = x.device.type
    rounds = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return x.to(torch.get_autocast_dtype(kind)) if rounds else x


def for_sums(x: Tensor) -> Tensor:
    """Hold what blocks add to in float32 where autocast rounds products, however parameters are gathered."""
    kind = x.device.type
    rounds = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return x.float() if rounds else x


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

    def forward(
        self, x: Float[Tensor, "B N D"], common: Float[Tensor, "M D"] | None = None, num_kept: int | None = None
    ) -> Float[Tensor, "B K D"]:
        """Mix the tokens of each clip; see `Block.forward` for `common` and `num_kept`."""
        if common is None:
            query = self._heads(self.query, x[:, :num_kept])
            mixed = attention(query, self._heads(self.key, x), self._heads(self.value, x))
        else:
            shared, own = self._asked(common[None]), self._asked(x)
            mixed = attention_beside_common(shared, own, num_kept)
        return self.out(rearrange(mixed, "b heads n d -> b n (heads d)"))

    def _asked(self, x: Float[Tensor, "B N D"]) -> tuple[Tensor, Tensor, Tensor]:
        """Give query, key and value of tokens."""
        return self._heads(self.query, x), self._heads(self.key, x), self._heads(self.value, x)

    def _heads(self, project: nn.Linear, x: Float[Tensor, "B N D"]) -> Float[Tensor, "B heads N d"]:
        return rearrange(project(x), "b n (heads d) -> b heads n d", heads=self.num_heads)

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

    def forward(
        self, x: Float[Tensor, "B N D"], common: Float[Tensor, "M D"] | None = None, num_kept: int | None = None
    ) -> Float[Tensor, "B K D"]:
        """Transform the tokens.

        common: tokens that stand in front of each clip's own and are the same in all clips; what depends on them alone
        is computed once. num_kept: how many tokens, from the front, are given; what only the others need is left out.
        """
        own = for_products(self.attention_norm(x))
        shared = None if common is None else for_products(self.attention_norm(common))
        mixed = self.attention(own, shared, num_kept)
        if common is not None:
            x = torch.cat([common.to(x.dtype).expand(len(x), -1, -1), x], dim=1)
        x = x[:, :num_kept] + mixed
        return x + self.mlp(for_products(self.mlp_norm(x)))

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
