"""J and F from masks made by hand."""

from __future__ import annotations

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
