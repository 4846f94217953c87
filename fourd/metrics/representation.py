"""Is a representation healthy, or has it collapsed? Numbers of the features of many clips; nothing is learned."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def feature_rank(features: Float[Tensor, "N D"]) -> float:
    """Count the directions that features use: 1 where all lie on a line, at most the smaller of N - 1 and D.

    The exponential of the entropy of the singular values' shares. Source: RankMe (Garrido et al. 2023, arXiv
    2210.02885); here of centred features, so that what all clips have in common counts for nothing.
    """
    values = torch.linalg.svdvals(features.double() - features.double().mean(0))
    total = values.sum()
    if total == 0:
        return 1.0
    shares = values / total
    return float(torch.exp(-torch.xlogy(shares, shares).sum()))


def feature_std(features: Float[Tensor, "N D"]) -> float:
    """Take how far features of unit length are spread: 0 where all are the same, 1 where directions are even.

    The mean deviation of a coordinate, times the root of their number. Source: SimSiam (Chen & He 2021, arXiv
    2011.10566, section 4.1).
    """
    units = F.normalize(features.double(), dim=-1)
    return float(units.std(0, correction=0).mean() * features.shape[-1] ** 0.5)


def nearest_neighbour_accuracy(features: Float[Tensor, "N D"], labels: Int[Tensor, " N"]) -> float:
    """Count how often the most alike other clip, by cosine of centred features, has the same label."""
    units = F.normalize(features.double() - features.double().mean(0), dim=-1)
    likeness = units @ units.T
    likeness.fill_diagonal_(-torch.inf)
    return float((labels[likeness.argmax(1)] == labels).double().mean())
