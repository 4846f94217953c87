"""Point scores against golden numbers, closed forms, and what must not change a score."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fourd import metrics
from fourd.types import ClipShape, Score
from tests.metrics.helpers import (
    EXACT,
    GOLDEN,
    assert_same,
    assert_undefined,
    by_name,
    few,
    seeds,
    tensor,
)


def golden_tracks() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    given = GOLDEN["tapvid"]["inputs"]
    return (
        tensor(given["pred_xy_px256"]),
        ~torch.tensor(given["pred_occluded"], dtype=torch.bool),
        tensor(given["gt_xy_px256"]),
        ~torch.tensor(given["gt_occluded"], dtype=torch.bool),
    )


def queries_first(true_visible: Tensor) -> tuple[Tensor, Tensor]:
    """Ask for each track at the first frame where it is visible."""
    return torch.arange(len(true_visible)), true_visible.int().argmax(1)


def queries_strided(true_visible: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Ask for each track at every stride-th frame where it is visible."""
    frame, track = true_visible[:, ::stride].T.nonzero(as_tuple=True)
    return track, frame * stride


def test_every_golden_number_of_points_is_looked_at():
    assert set(GOLDEN["tapvid"]) == {"inputs", "first", "strided_stride5", "strided_num_queries"}


@pytest.mark.parametrize(("golden", "mode"), [("first", "first"), ("strided_stride5", "strided")])
def test_tap_vid_equals_the_golden_numbers(golden: str, mode: metrics.QueryMode):
    tracks = golden_tracks()
    track, frame = queries_first(tracks[3]) if mode == "first" else queries_strided(tracks[3], 5)
    if mode == "strided":
        assert len(track) == GOLDEN["tapvid"]["strided_num_queries"]
    scores = by_name(metrics.tap_vid(*(x[track][None] for x in tracks), frame[None], query_mode=mode))
    ours = {"average_pts_within_thresh": "delta_avg"}
    expected = GOLDEN["tapvid"][golden]
    assert len(expected) == len(scores)
    for name, value in expected.items():
        name = ours.get(name, name.replace("pts_within", "delta") + ("px" if name[-1].isdigit() else ""))
        assert scores[f"{name}_{mode}"].score.item() == pytest.approx(value, **EXACT), name
        assert scores[f"{name}_{mode}"].weight.item() == 1


Tracks = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def random_tracks(seed: int, queries: int = 6, frames: int = 7) -> Tracks:
    """Draw pred_xy, pred_visible, true_xy, true_visible, query_frame, valid of two clips."""
    generator = torch.Generator().manual_seed(seed)
    true = 256 * torch.rand(2, queries, frames, 2, generator=generator)
    pred = true + 5 * torch.randn(true.shape, generator=generator)
    visible = torch.rand(3, 2, queries, frames, generator=generator) < 0.7
    query = torch.randint(0, frames - 1, (2, queries), generator=generator)
    return pred, visible[0], true, visible[1], query, visible[2]


def point_scores(tracks: Tracks, mode: metrics.QueryMode = "first") -> tuple[Score, ...]:
    pred, pred_visible, true, true_visible, query, valid = tracks
    scores = metrics.tap_vid(pred, pred_visible, true, true_visible, query, valid, mode)
    return (*scores, metrics.point_distance(pred, true, true_visible, query, valid))


def slow_tap_vid(clip: list[Any], mode: metrics.QueryMode) -> dict[str, float | None]:
    """Count, one point and frame after the other, as TAP-Vid defines; None where there is nothing to divide by."""
    pred, pred_visible, true, true_visible, query, valid = clip
    evaluated = [
        (q, t)
        for q in range(len(query))
        for t in range(len(valid[q]))
        if valid[q][t] and (t > query[q] if mode == "first" else t != query[q])
    ]

    def share(hits: int, of: int) -> float | None:
        return hits / of if of else None

    def near(q: int, t: int, px: int) -> bool:
        return (pred[q][t][0] - true[q][t][0]) ** 2 + (pred[q][t][1] - true[q][t][1]) ** 2 < px**2

    num_visible = sum(true_visible[q][t] for q, t in evaluated)
    same = sum(pred_visible[q][t] == true_visible[q][t] for q, t in evaluated)
    found = {"occlusion_accuracy": share(same, len(evaluated))}
    for px in (1, 2, 4, 8, 16):
        position, hits, false = 0, 0, 0
        for q, t in evaluated:
            right = true_visible[q][t] and near(q, t, px)
            position += right
            hits += right and pred_visible[q][t]
            false += pred_visible[q][t] and not right
        found[f"jaccard_{px}px"] = share(hits, num_visible + false)
        found[f"delta_{px}px"] = share(position, num_visible)
    for name, part in (("average_jaccard", "jaccard"), ("delta_avg", "delta")):
        parts = [found[f"{part}_{px}px"] for px in (1, 2, 4, 8, 16)]
        found[name] = None if None in parts else sum(parts) / 5
    return found


@few
@given(seeds, st.sampled_from(list(metrics.TAP_VID)), st.sampled_from([0.0, 0.1, 0.7]), st.integers(2, 4))
def test_tap_vid_equals_a_slow_loop(seed: int, mode: metrics.QueryMode, visible: float, frames: int):
    pred, pred_visible, true, true_visible, query, valid = random_tracks(seed, queries=3, frames=frames)
    true_visible &= torch.rand(true_visible.shape) < visible  # so that there are clips without a visible point
    tracks = (pred.double(), pred_visible, true.double(), true_visible, query, valid)
    found = by_name(metrics.tap_vid(*tracks, query_mode=mode))
    for clip in range(2):
        expected = slow_tap_vid([x[clip].tolist() for x in tracks], mode)
        assert {f"{name}_{mode}" for name in expected} == set(found)
        for name, value in expected.items():
            score = found[f"{name}_{mode}"]
            assert score.weight[clip].item() == (value is not None), name
            assert score.score[clip].item() == pytest.approx(value or 0.0, **EXACT), name


def test_points_are_hidden_and_asked_for_after_the_first_frame_in_what_is_compared():
    """The golden numbers and the slow loop say something of late queries and hidden points."""
    *_, true_visible = golden_tracks()
    track, frame = queries_first(true_visible)
    assert (frame > 0).any()
    assert (~true_visible[track] & (torch.arange(8) > frame[:, None])).any()
    *_, true_visible, query, valid = random_tracks(0, queries=3, frames=4)
    assert (query > 0).any()
    assert (~true_visible & valid & (torch.arange(4) > query[..., None])).any()


@few
@given(seeds, st.sampled_from(list(metrics.TAP_VID)))
def test_perfect_tracks_are_perfect(seed: int, mode: metrics.QueryMode):
    _, _, true, visible, query, valid = random_tracks(seed)
    for score in point_scores((true, visible, true, visible, query, valid), mode):
        best = float(score.metric.higher_is_better)
        assert score.score.tolist() == [best * (weight > 0) for weight in score.weight]


@few
@given(seeds, st.sampled_from(list(metrics.TAP_VID)))
def test_the_order_of_tracks_changes_nothing(seed: int, mode: metrics.QueryMode):
    tracks = random_tracks(seed)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    assert_same(point_scores(tuple(x[:, order] for x in tracks), mode), point_scores(tracks, mode))


@few
@given(seeds, st.integers(1, 4), st.sampled_from(list(metrics.TAP_VID)))
def test_padding_with_invalid_tracks_changes_nothing(seed: int, number: int, mode: metrics.QueryMode):
    tracks = random_tracks(seed)
    *padding, valid = random_tracks(seed + 1, queries=number)
    padding[0] = torch.full_like(padding[0], torch.nan)
    padded = tuple(torch.cat(pair, 1) for pair in zip(tracks, (*padding, torch.zeros_like(valid)), strict=True))
    assert_same(point_scores(padded, mode), point_scores(tracks, mode))


@few
@given(seeds)
def test_frames_up_to_the_query_are_ignored(seed: int):
    pred, pred_visible, true, true_visible, query, valid = random_tracks(seed)
    early = torch.arange(7) <= query[..., None]
    pred_changed = torch.where(early[..., None], -999.0, pred)
    changed = (pred_changed, pred_visible ^ early, true, true_visible ^ early, query, valid)
    assert_same(point_scores(changed), point_scores((pred, pred_visible, true, true_visible, query, valid)))


def test_strided_queries_look_back_in_time():
    pred, visible, true, *_ = random_tracks(0)
    last = torch.full((2, 6), 6)
    always = torch.ones_like(visible)
    ours = (pred, always, true, always, last, always)
    assert all(score.weight.sum() == 0 for score in point_scores(ours, "first"))
    assert metrics.tap_vid(*ours, query_mode="strided")[0].weight.tolist() == [1, 1]


def test_a_distance_of_exactly_the_threshold_is_too_far():
    true = torch.zeros(1, 1, 2, 2)
    pred = torch.tensor([4.0, 0.0]).expand(1, 1, 2, 2)
    visible, query = torch.ones(1, 1, 2, dtype=torch.bool), torch.zeros(1, 1, dtype=torch.int64)
    scores = by_name(metrics.tap_vid(pred, visible, true, visible, query))
    assert [scores[f"delta_{px}px_first"].score.item() for px in metrics.THRESHOLDS_PX] == [0, 0, 0, 1, 1]
    assert scores["delta_avg_first"].score.item() == pytest.approx(0.4)


def test_claiming_hidden_points_is_a_false_positive_and_position_accuracy_forgives_it():
    true = torch.zeros(1, 2, 2, 2)
    visible, query = torch.tensor([[[True, True], [True, False]]]), torch.zeros(1, 2, dtype=torch.int64)
    scores = by_name(metrics.tap_vid(true, torch.ones_like(visible), true, visible, query))
    assert scores["average_jaccard_first"].score.item() == pytest.approx(1 / 2)  # 1 hit / (1 visible + 1 false)
    assert scores["occlusion_accuracy_first"].score.item() == pytest.approx(1 / 2)
    assert scores["delta_avg_first"].score.item() == 1


def test_what_is_defined_without_visible_points():
    pred, _, true, true_visible, query, _ = (x[:1] for x in random_tracks(0))
    hidden, always = torch.zeros_like(true_visible), torch.ones_like(true_visible)
    scores = by_name(point_scores((pred, hidden, true, hidden, query, always)))
    defined = {name for name, score in scores.items() if score.weight.item() > 0}
    assert defined == {"occlusion_accuracy_first"}
    claimed = by_name(point_scores((pred, always, true, hidden, query, always)))["average_jaccard_first"]
    assert (claimed.score.item(), claimed.weight.item()) == (0, 1)


@pytest.mark.parametrize("mode", list(metrics.TAP_VID))
def test_a_clip_without_valid_tracks_has_no_weight(mode: metrics.QueryMode):
    pred, pred_visible, true, true_visible, query, valid = (x[:1] for x in random_tracks(0))
    assert_undefined(point_scores((pred * torch.nan, pred_visible, true, true_visible, query, valid & False), mode))
    empty = tuple(x[:, :0] for x in (pred, pred_visible, true, true_visible, query, valid))
    assert_undefined(point_scores(empty, mode))


def test_point_distance_is_the_mean_over_visible_point_frames():
    true = torch.zeros(1, 2, 3, 2)
    pred = torch.tensor([[[[99.0, 99], [3, 4], [0, 0]], [[99, 99], [6, 8], [99, 99]]]])
    visible = torch.tensor([[[True, True, True], [True, True, False]]])
    score = metrics.point_distance(pred, true, visible, torch.zeros(1, 2, dtype=torch.int64))
    assert score.score.item() == pytest.approx(15 / 3)
    assert score.weight.item() == 3


def test_to_raster_scales_each_axis_by_its_own_size():
    xy = metrics.to_raster(torch.tensor([[320.0, 60.0]]), ClipShape(num_frames=4, height=120, width=640))
    assert xy.tolist() == [[128, 128]]
