"""Class scores against closed forms."""

from __future__ import annotations

import torch

from fourd import metrics
from tests.metrics.helpers import (
    assert_undefined,
)


def test_top_k_counts_the_classes_before_the_true_one():
    logits = torch.tensor([[0.1, 0.9, 0.5, 0.2, 0.3, 0.0]] * 4)
    label = torch.tensor([1, 2, 0, 5])
    assert metrics.top_k(logits, label, 1).score.tolist() == [1, 0, 0, 0]
    assert metrics.top_k(logits, label, 2).score.tolist() == [1, 1, 0, 0]
    assert metrics.top_k(logits, label, 5).score.tolist() == [1, 1, 1, 0]
    assert metrics.top_k(logits, label, 5).weight.tolist() == [1] * 4


def test_top_k_gives_nothing_for_ties_or_nan():
    label = torch.tensor([0])
    assert metrics.top_k(torch.zeros(1, 10), label, 5).score.item() == 0
    assert metrics.top_k(torch.full((1, 10), torch.nan), label, 5).score.item() == 0


def test_top_k_is_not_defined_where_every_answer_is_right():
    assert_undefined((metrics.top_k(torch.eye(5)[:1], torch.tensor([0]), 5),))
