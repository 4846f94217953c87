"""Scores of classes."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fourd.types import Metric, Score


def top_k_metric(k: int) -> Metric:
    """Name the share of clips whose class is among the first k guesses."""
    return Metric(f"top_{k}", f"Top-{k} accuracy", higher_is_better=True)


TOP_1, TOP_5 = top_k_metric(1), top_k_metric(5)


def top_k(logits: Float[Tensor, "B K"], label: Int[Tensor, " B"], k: int) -> Score:
    """Score 1 where the true class is among the k highest; logits or probabilities serve alike.

    Ties count against the prediction, so that answering the same for all classes is never right.
    Not defined, hence weight 0, where there are no more than k classes.
    """
    own = logits.gather(1, label[:, None])
    num_not_lower = (~(logits < own)).sum(1)
    hit = (num_not_lower <= k).double()
    defined = logits.shape[1] > k
    return Score(top_k_metric(k), hit * defined, torch.full_like(hit, float(defined)))
