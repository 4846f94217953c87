"""Health of features: against what is known of features made on purpose."""

from __future__ import annotations

import math

import pytest
import torch

from fourd.metrics import feature_rank, feature_std, nearest_neighbour_accuracy


def drawn(number: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(number, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("used", [1, 3, 8])
def test_the_rank_counts_directions_of_equal_strength(used):
    basis = torch.linalg.qr(drawn(16, 16))[0]
    corners = torch.cat([basis[:used], -basis[:used]])
    assert feature_rank(corners + 5.0) == pytest.approx(used)


def test_the_rank_is_the_exponential_of_the_entropy():
    features = torch.diag(torch.tensor([3.0, 1.0]))
    features = torch.cat([features, -features])
    shares = (0.75, 0.25)
    assert feature_rank(features) == pytest.approx(math.exp(-sum(share * math.log(share) for share in shares)))


def test_collapsed_features_have_rank_one_and_no_spread():
    same = drawn(1, 8).expand(5, -1)
    assert feature_rank(same) == 1.0
    assert feature_std(same) == pytest.approx(0, abs=1e-6)
    assert feature_std(drawn(2000, 64)) == pytest.approx(1, abs=0.02)


def test_neighbours_are_found_whatever_all_clips_have_in_common():
    centres = 3 * drawn(4, 32)
    labels = torch.arange(4).repeat(10)
    features = centres[labels] + 0.1 * drawn(40, 32, 1) + 100.0
    assert nearest_neighbour_accuracy(features, labels) == 1
    by_chance = nearest_neighbour_accuracy(drawn(4000, 8), torch.randint(4, (4000,)))
    assert by_chance == pytest.approx(0.25, abs=0.03)


def test_a_clip_is_never_its_own_neighbour():
    features = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert nearest_neighbour_accuracy(features, torch.tensor([0, 1])) == 0
