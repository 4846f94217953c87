"""Box scores against closed forms, and what must not change a score."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fourd import metrics
from tests.metrics.helpers import assert_same, assert_undefined, by_name, few, seeds, tensor


def random_boxes(seed: int, queries: int = 4) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw pred_xyxy, true_xyxy, valid, query_frame of two clips."""
    generator = torch.Generator().manual_seed(seed)
    corner = 100 * torch.rand(2, queries, 6, 2, generator=generator)
    true = torch.cat([corner, corner + 5 + 20 * torch.rand(corner.shape, generator=generator)], -1)
    pred = true + 3 * torch.randn(true.shape, generator=generator)
    valid = torch.rand(2, queries, 6, generator=generator) < 0.7
    return pred, true, valid, torch.randint(0, 6, (2, queries), generator=generator)


def boxes_of_iou(iou: list[list[float]]) -> tuple[Tensor, Tensor]:
    """Make one clip of boxes that overlap as told: predicted and true ones."""
    true = tensor([0.0, 0, 4, 2]).expand(1, len(iou), len(iou[0]), 4)
    pred = true.clone()
    pred[..., 2] *= tensor(iou)
    return pred, true


def test_box_tracks_average_object_frames_without_the_query():
    pred, true = boxes_of_iou([[0, 1, 0.7, 0.5]])  # the query's frame comes first; 0.5 is no success
    scores = metrics.box_tracks(pred, true, torch.ones(1, 1, 4, dtype=torch.bool), torch.zeros(1, 1, dtype=torch.int64))
    assert [score.score.item() for score in scores] == pytest.approx([2.2 / 3, 2 / 3, 1 / 3, 2.2 / 3])
    assert [score.weight.item() for score in scores] == [3, 3, 3, 1]


def test_the_mean_over_tracks_counts_a_short_track_as_much_as_a_long_one():
    pred, true = boxes_of_iou([[0, 1, 0.6, 0.2], [0, 0.5, 1, 1], [0, 1, 1, 1]])
    valid = torch.tensor([[[True] * 4, [True, True, False, False], [True, False, False, False]]])
    scores = by_name(metrics.box_tracks(pred, true, valid, torch.zeros(1, 3, dtype=torch.int64)))
    assert scores["mean_iou"].score.item() == pytest.approx((1 + 0.6 + 0.2 + 0.5) / 4)
    assert scores["mean_iou_over_tracks"].score.item() == pytest.approx((1.8 / 3 + 0.5) / 2)  # the third has no frame
    assert (scores["mean_iou"].weight.item(), scores["mean_iou_over_tracks"].weight.item()) == (4, 1)


def test_the_mean_over_tracks_looks_at_frames_after_the_query_alone():
    pred, true = boxes_of_iou([[0.2, 1, 0, 0.5]])
    valid, query = torch.ones(1, 1, 4, dtype=torch.bool), torch.full((1, 1), 2)
    scores = by_name(metrics.box_tracks(pred, true, valid, query))
    assert scores["mean_iou"].score.item() == pytest.approx((0.2 + 1 + 0.5) / 3)
    assert scores["mean_iou_over_tracks"].score.item() == pytest.approx(0.5)
    assert_undefined((by_name(metrics.box_tracks(pred, true, valid, query + 1))["mean_iou_over_tracks"],))


@few
@given(seeds)
def test_box_scores_equal_a_slow_loop(seed: int):
    pred, true, valid, query = random_boxes(seed)
    found = by_name(metrics.box_tracks(pred, true, valid, query))
    for clip in range(2):
        tracks = {
            track: {
                frame: iou_of_areas(pred[clip, track, frame].tolist(), true[clip, track, frame].tolist())
                for frame in range(6)
                if valid[clip, track, frame] and frame != query[clip, track]
            }
            for track in range(4)
        }
        pooled = [iou for frames in tracks.values() for iou in frames.values()]
        later = [[iou for frame, iou in frames.items() if frame > query[clip, t]] for t, frames in tracks.items()]
        per_track = [sum(ious) / len(ious) for ious in later if ious]
        expected = {
            "mean_iou": (pooled, len(pooled)),
            "success_50": ([iou > 0.5 for iou in pooled], len(pooled)),
            "success_75": ([iou > 0.75 for iou in pooled], len(pooled)),
            "mean_iou_over_tracks": (per_track, bool(per_track)),
        }
        assert expected.keys() == found.keys()
        for name, (values, weight) in expected.items():
            assert found[name].score[clip].item() == pytest.approx(sum(values) / max(len(values), 1), rel=1e-5), name
            assert found[name].weight[clip].item() == weight


def iou_of_areas(a: list[float], b: list[float]) -> float:
    width, height = (max(0.0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1))
    areas = [max(0.0, x2 - x1) * max(0.0, y2 - y1) for x1, y1, x2, y2 in (a, b)]
    return width * height / (sum(areas) - width * height)


@few
@given(seeds, st.integers(1, 3))
def test_box_scores_do_not_depend_on_order_or_padding(seed: int, number: int):
    boxes = random_boxes(seed)
    order = torch.randperm(4, generator=torch.Generator().manual_seed(seed))
    assert_same(metrics.box_tracks(*(x[:, order] for x in boxes)), metrics.box_tracks(*boxes))
    pred, true, valid, query = random_boxes(seed + 1, queries=number)
    padding = (pred * torch.nan, true * torch.nan, torch.zeros_like(valid), query)
    padded = (torch.cat(pair, 1) for pair in zip(boxes, padding, strict=True))
    assert_same(metrics.box_tracks(*padded), metrics.box_tracks(*boxes))


@few
@given(seeds)
def test_perfect_boxes_are_perfect(seed: int):
    _, true, valid, query = random_boxes(seed)
    for score in metrics.box_tracks(true, true, valid, query):
        torch.testing.assert_close(score.score, (score.weight > 0).double())


def test_a_clip_without_boxes_has_no_weight():
    pred, true, valid, query = (x[:1] for x in random_boxes(0))
    assert_undefined(metrics.box_tracks(pred, true, valid & False, query))
    assert_undefined(metrics.box_tracks(pred, true * 0, valid, query))  # boxes without an area
