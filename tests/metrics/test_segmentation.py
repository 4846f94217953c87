"""J and F from masks made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from fourd.metrics.segmentation import boundary_f, region_similarity, segmentation


def square(left: int, top: int = 10, side: int = 20, size: int = 64) -> Tensor:
    mask = torch.zeros(1, size, size, dtype=torch.bool)
    mask[:, top : top + side, left : left + side] = True
    return mask


def film(*lefts: int, number: int = 1) -> Tensor:
    return torch.stack([square(left)[0] * number for left in lefts])[None].to(torch.uint8)


def test_overlap_divides_intersection_by_union():
    assert float(region_similarity(square(10), square(20))) == pytest.approx(200 / 600)
    nothing = torch.zeros_like(square(0))
    assert float(region_similarity(nothing, nothing)) == 1.0
    assert float(region_similarity(square(10), nothing)) == 0.0


def test_outlines_may_be_off_by_the_tolerance():
    # 64 x 64 has a diagonal of 90.5 pixels: one pixel is allowed
    assert float(boundary_f(square(10), square(10))) == 1.0
    assert float(boundary_f(square(11), square(10))) == 1.0
    far = float(boundary_f(square(20), square(10)))
    assert 0.3 < far < 0.7  # the upper and lower edges coincide in part
    nothing = torch.zeros_like(square(0))
    assert float(boundary_f(nothing, nothing)) == 1.0
    assert float(boundary_f(square(10), nothing)) == 0.0


def test_the_first_and_the_last_frame_do_not_count():
    true, pred = film(10, 10, 10, 10), film(40, 10, 10, 40)
    assert [float(score.score) for score in segmentation(pred, true)] == [1.0, 1.0, 1.0]


def test_objects_count_alike_however_large_and_weigh_by_their_number():
    true = film(5, 5, 5, 5)
    true[:, :, 50:52, 50:52] = 2
    pred = true.clone()
    pred[:, 1:, 50:52, 50:52] = 0
    joint, region, outline = segmentation(pred, true)
    assert (float(region.score), float(region.weight)) == (0.5, 2.0)
    assert float(joint.score) == pytest.approx((float(region.score) + float(outline.score)) / 2)


def test_exchanging_numbers_changes_what_is_right():
    true, pred = film(10, 10, 10), film(10, 10, 10, number=2)
    assert float(segmentation(pred, true)[1].score) == 0.0


def test_a_film_without_objects_has_no_weight():
    nothing = torch.zeros(1, 4, 64, 64, dtype=torch.uint8)
    assert [float(score.weight) for score in segmentation(nothing, nothing)] == [0.0, 0.0, 0.0]


def outline(mask: np.ndarray) -> np.ndarray:
    """List the pixels that differ from one of those to the right, below, and below to the right, if there is one."""
    height, width = mask.shape
    found = []
    for y, x in np.ndindex(height, width):
        last_row, last_column = y == height - 1, x == width - 1
        near = [(y, x + 1)] * (not last_column) + [(y + 1, x)] * (not last_row)
        near += [(y + 1, x + 1)] * (not last_row and not last_column)
        if any(mask[place] != mask[y, x] for place in near):
            found.append((y, x))
    return np.array(found, dtype=int).reshape(-1, 2)


def f_by_distances(pred: np.ndarray, true: np.ndarray) -> float:
    """Compare outlines by the distances of all their pixels."""
    one, other = outline(pred), outline(true)
    if not len(one) or not len(other):
        return float(len(one) == len(other))
    radius = math.ceil(0.008 * math.hypot(*true.shape))
    near = np.square(one[:, None] - other[None]).sum(-1) <= radius**2
    precision, recall = near.any(1).mean(), near.any(0).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize("size", [(40, 70), (120, 260), (6, 280), (250, 5)])
def test_boundaries_are_those_of_the_definition(size: tuple[int, int]):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: size[0], : size[1]]
    scores = []
    for _ in range(6):
        centre, axes = rng.uniform(0, 1, (2, 2)) * size, rng.uniform(0.1, 0.4, (2, 2)) * size
        blobs = [np.hypot((y - c[0]) / a[0], (x - c[1]) / a[1]) < 1 for c, a in zip(centre, axes, strict=True)]
        pred, true = blobs[0] ^ blobs[1], np.roll(blobs[0], rng.integers(-3, 4, 2), (0, 1))
        scores.append(f_by_distances(pred, true))
        assert float(boundary_f(torch.tensor(pred)[None], torch.tensor(true)[None])) == pytest.approx(scores[-1])
    assert len(set(scores)) > 3


def test_films_of_a_batch_are_scored_by_themselves_and_short_ones_have_no_weight():
    true, pred = film(10, 10, 10), film(10, 14, 10)
    alone = [segmentation(p, t) for p, t in ((pred, true), (true, true))]
    both = segmentation(torch.cat([pred, true]), torch.cat([true, true]))
    for number, scores in enumerate(alone):
        assert [float(score.score[number]) for score in both] == [float(score.score) for score in scores]
    assert [float(score.weight) for score in segmentation(film(10, 10), film(10, 10))] == [0.0, 0.0, 0.0]
