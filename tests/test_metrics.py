"""Metrics against golden numbers of the reference code, closed forms, and what must not change a score."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fourd import metrics
from fourd.types import ClipShape, Score

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden" / "metrics.json").read_text())
F64 = torch.float64
EXACT = {"rel": 1e-12, "abs": 1e-12}

seeds = st.integers(0, 10**6)
few = settings(max_examples=30)


def tensor(values: Any) -> Tensor:
    return torch.tensor(values, dtype=F64)


def by_name(scores: tuple[Score, ...]) -> dict[str, Score]:
    return {score.metric.name: score for score in scores}


def assert_same(a: tuple[Score, ...], b: tuple[Score, ...]) -> None:
    for left, right in zip(a, b, strict=True):
        assert left.metric == right.metric
        torch.testing.assert_close(left.score, right.score, msg=lambda text, s=left: f"{s.metric.name}: {text}")
        torch.testing.assert_close(left.weight, right.weight)


def assert_undefined(scores: tuple[Score, ...]) -> None:
    for score in scores:
        assert score.score.tolist() == [0], score.metric.name
        assert score.weight.tolist() == [0], score.metric.name


# ----------------------------------------------------------------------------- depth


@pytest.mark.parametrize(
    ("golden", "alignment"), [("metric", "none"), ("median_scaled", "median"), ("lstsq_scale_shift", "scale_shift")]
)
def test_depth_equals_the_golden_numbers(golden: str, alignment: metrics.Alignment):
    pred, true = (tensor(GOLDEN["depth"][name])[None, None, None] for name in ("pred_m", "gt_m"))
    scores = by_name(metrics.depth(pred, true, torch.ones_like(true, dtype=torch.bool), alignment=alignment))
    suffix = "" if alignment == "none" else f"_{alignment}_aligned"
    ours = {"d1": "delta_1", "d2": "delta_2", "d3": "delta_3"}
    expected = {name: value for name, value in GOLDEN["depth"][golden].items() if name not in ("scale", "shift")}
    assert len(expected) == len(scores)
    for name, value in expected.items():
        score = scores[ours.get(name, name) + suffix]
        assert score.score.item() == pytest.approx(value, **EXACT), name
        assert score.weight.item() == 21


def random_depth(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    true = 0.1 + 12 * torch.rand(2, 3, 4, 5, generator=generator)
    pred = true * torch.exp(0.3 * torch.randn(true.shape, generator=generator))
    return pred, true, torch.rand(true.shape, generator=generator) < 0.7


@few
@given(seeds, st.sampled_from(list(metrics.DEPTH)))
def test_depth_never_looks_at_invalid_pixels(seed: int, alignment: metrics.Alignment):
    pred, true, valid = random_depth(seed)
    hidden = [torch.where(valid, depth, torch.nan) for depth in (pred, true)]
    assert_same(
        metrics.depth(*hidden, valid, alignment=alignment), metrics.depth(pred, true, valid, alignment=alignment)
    )


@few
@given(seeds, st.sampled_from(list(metrics.DEPTH)))
def test_perfect_depth_is_perfect(seed: int, alignment: metrics.Alignment):
    _, true, valid = random_depth(seed)
    for score in metrics.depth(true, true, valid, alignment=alignment):
        best = 1.0 if score.metric.higher_is_better else 0.0
        assert score.score.tolist() == pytest.approx([best, best], abs=1e-4)


@few
@given(seeds)
def test_alignment_forgives_exactly_what_it_fits(seed: int):
    _, true, valid = random_depth(seed)
    scaled, moved = 0.25 * true, 0.5 * true + 0.3
    assert metrics.depth(scaled, true, valid, alignment="median")[0].score.max() < 1e-5
    assert metrics.depth(moved, true, valid, alignment="scale_shift")[0].score.max() < 1e-5
    assert metrics.depth(moved, true, valid, alignment="median")[0].score.min() > 1e-3
    assert metrics.depth(scaled, true, valid, alignment="none")[0].score.min() > 0.5


def test_depth_clamps_the_prediction_and_excludes_the_truth_out_of_range():
    true, pred = tensor([[[[2.0, 0.0005, 11.0, 8.0]]]]), tensor([[[[-5.0, 1, 1, 99]]]])
    abs_rel = metrics.depth(pred, true, torch.ones_like(true, dtype=torch.bool), near=0.001, far=10.0)[0]
    assert abs_rel.weight.item() == 2
    assert abs_rel.score.item() == pytest.approx(((2 - 0.001) / 2 + (10 - 8) / 8) / 2)


def test_weighted_mean_of_abs_rel_is_the_mean_over_all_pixels():
    pred, true, valid = random_depth(0)
    per_clip = metrics.depth(pred, true, valid)[0]
    as_one = metrics.depth(pred.reshape(1, 6, 4, 5), true.reshape(1, 6, 4, 5), valid.reshape(1, 6, 4, 5))[0]
    weighted = (per_clip.score * per_clip.weight).sum() / per_clip.weight.sum()
    torch.testing.assert_close(weighted, as_one.score[0])


@pytest.mark.parametrize("alignment", list(metrics.DEPTH))
def test_a_clip_without_valid_depth_has_no_weight(alignment: metrics.Alignment):
    depth = torch.full((1, 2, 3, 3), torch.nan)
    assert_undefined(metrics.depth(depth, depth, torch.zeros_like(depth, dtype=torch.bool), alignment=alignment))


def test_a_prediction_of_nan_is_not_swallowed():
    true = torch.ones(1, 1, 2, 2)
    pred = true.clone()
    pred[0, 0, 0, 0] = torch.nan
    assert metrics.depth(pred, true, torch.ones_like(true, dtype=torch.bool))[0].score.isnan().all()


# ----------------------------------------------------------------------------- point tracks


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


# ----------------------------------------------------------------------------- box tracks


def random_boxes(seed: int, queries: int = 4) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw pred_xyxy, true_xyxy, valid, query_frame of two clips."""
    generator = torch.Generator().manual_seed(seed)
    corner = 100 * torch.rand(2, queries, 6, 2, generator=generator)
    true = torch.cat([corner, corner + 5 + 20 * torch.rand(corner.shape, generator=generator)], -1)
    pred = true + 3 * torch.randn(true.shape, generator=generator)
    valid = torch.rand(2, queries, 6, generator=generator) < 0.7
    return pred, true, valid, torch.randint(0, 6, (2, queries), generator=generator)


def test_box_tracks_average_object_frames_without_the_query():
    true = tensor([0.0, 0, 4, 2]).expand(1, 1, 4, 4)
    pred = true.clone()
    pred[0, 0, 0] = 0  # the query's frame
    pred[0, 0, 2] = tensor([0, 0, 2.8, 2])  # 0.7
    pred[0, 0, 3] = tensor([0, 0, 2, 2])  # 0.5, which is no success
    scores = metrics.box_tracks(pred, true, torch.ones(1, 1, 4, dtype=torch.bool), torch.zeros(1, 1, dtype=torch.int64))
    assert [score.score.item() for score in scores] == pytest.approx([2.2 / 3, 2 / 3, 1 / 3])
    assert [score.weight.item() for score in scores] == [3, 3, 3]


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


# ----------------------------------------------------------------------------- camera poses


def pose(rotation: Tensor | None = None, translation: tuple[float, float, float] = (0, 0, 0)) -> Tensor:
    matrix = torch.eye(4, dtype=F64)
    matrix[:3, :3] = torch.eye(3, dtype=F64) if rotation is None else rotation
    matrix[:3, 3] = tensor(translation)
    return matrix


def turn(axis: str, degrees: float) -> Tensor:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return tensor({"y": [[c, 0, s], [0, 1, 0], [-s, 0, c]], "z": [[c, -s, 0], [s, c, 0], [0, 0, 1]]}[axis])


@pytest.mark.parametrize(
    ("golden", "true"),
    [
        ("identity_vs_t100", pose(translation=(1, 0, 0))),
        ("identity_vs_ry10deg", pose(turn("y", 10))),
        ("identity_vs_rz90_t_0.1_-0.2_0.3", pose(turn("z", 90), (0.1, -0.2, 0.3))),
    ],
)
def test_end_point_error_equals_the_golden_numbers(golden: str, true: Tensor):
    score = metrics.camera_pose(pose()[None, None], true[None, None])[0]
    assert score.score.item() == pytest.approx(GOLDEN["pose_epe"][golden], **EXACT)


def test_end_point_error_moves_the_golden_points():
    ours = {tuple(point) for point in metrics._epe_corners(torch.zeros(())).tolist()}
    assert ours == set(zip(*GOLDEN["pose_epe"]["points_3x8"], strict=True))


def test_rotation_translation_and_direction_errors():
    pred = torch.stack([pose(turn("y", 30), (0, 0, 2)), pose(turn("z", 4), (0, 3, 0))])[None]
    true = torch.stack([pose(turn("y", 20), (0, 0, 1)), pose(turn("z", 10), (4, 0, 0))])[None]
    scores = by_name(metrics.camera_pose(pred, true))
    assert scores["rotation_error_deg"].score.item() == pytest.approx((10 + 6) / 2)
    assert scores["translation_error"].score.item() == pytest.approx((1 + 5) / 2)
    assert scores["direction_error_deg"].score.item() == pytest.approx((0 + 90) / 2)
    assert {score.weight.item() for score in scores.values()} == {2}


def test_a_camera_that_stands_still_has_no_direction():
    pred, true = pose(translation=(1, 0, 0))[None, None], pose(turn("y", 5))[None, None]
    scores = by_name(metrics.camera_pose(pred, true))
    assert scores["rotation_error_deg"].weight.item() == 1
    assert_undefined((scores["direction_error_deg"], metrics.pose_auc(pred, true, 30, "vggt")))


def test_predicting_no_translation_is_not_a_perfect_direction():
    pred, true = pose()[None, None], pose(translation=(0, 0, 1))[None, None]
    assert by_name(metrics.camera_pose(pred, true))["direction_error_deg"].score.item() == pytest.approx(90)
    assert metrics.pose_auc(pred, true, 30, "vggt").score.item() == 0


def test_invalid_pairs_are_never_looked_at():
    true = torch.stack([pose(translation=(1, 0, 0)), pose() * torch.nan])[None]
    valid = torch.tensor([[True, False]])
    scores = (*metrics.camera_pose(true, true, valid), metrics.pose_auc(true, true, 30, "superglue", valid))
    for score in scores:
        assert (score.score.item(), score.weight.item()) == (float(score.metric.higher_is_better), 1)
    assert_undefined(metrics.camera_pose(true, true, valid & False))


@pytest.mark.parametrize(
    ("golden", "convention"),
    [("vggt_posediffusion", "vggt"), ("kauldron", "kauldron"), ("superglue_loftr_trapz", "superglue")],
)
def test_pose_auc_equals_the_golden_numbers(golden: str, convention: metrics.AucConvention):
    given = GOLDEN["pose_auc"]
    error = torch.maximum(tensor(given["r_deg"]), tensor(given["t_deg"]))[None]
    padded = torch.cat([error, torch.full((1, 3), torch.nan, dtype=F64)], 1)
    for threshold, value in given[golden].items():
        area = metrics.area_under_recall(padded, padded.isfinite(), int(threshold), convention)
        assert area.item() == pytest.approx(value, **EXACT), threshold


def test_pose_auc_from_poses_equals_the_golden_number():
    given = GOLDEN["pose_auc"]
    pairs = list(zip(given["r_deg"], given["t_deg"], strict=True))
    shift = [(math.sin(math.radians(t)), 0.0, math.cos(math.radians(t))) for _, t in pairs]
    pred = torch.stack([pose(turn("y", r), t) for (r, _), t in zip(pairs, shift, strict=True)])[None]
    score = metrics.pose_auc(pred, pose(translation=(0, 0, 5)).expand_as(pred), 30, "superglue")
    assert score.score.item() == pytest.approx(given["superglue_loftr_trapz"]["30"], abs=1e-9)
    assert (score.metric.name, score.weight.item()) == ("pose_auc_30deg_superglue", len(pairs))


def test_only_kauldron_tells_a_direction_from_its_opposite():
    pred, true = pose(translation=(0, 0, -1))[None, None], pose(translation=(0, 0, 1))[None, None]
    areas = {name: metrics.pose_auc(pred, true, 30, name).score.item() for name in ("vggt", "kauldron", "superglue")}
    assert areas == {"vggt": 1, "kauldron": 0, "superglue": 1}


@few
@given(st.lists(st.floats(0, 180), min_size=4, max_size=4), st.sampled_from(["vggt", "kauldron"]))
def test_weighted_mean_of_binned_areas_is_the_area_over_all_pairs(errors: list[float], name: metrics.AucConvention):
    together, apart = tensor([errors]), tensor([errors]).reshape(2, 2)
    areas = metrics.area_under_recall(apart, torch.ones(2, 2, dtype=torch.bool), 30, name)
    whole = metrics.area_under_recall(together, torch.ones(1, 4, dtype=torch.bool), 30, name)
    torch.testing.assert_close(areas.mean(), whole[0])


@pytest.mark.parametrize("convention", ["vggt", "kauldron", "superglue"])
def test_area_of_no_error_is_one_and_of_nan_is_zero(convention: metrics.AucConvention):
    error = tensor([[0.0, 0.0], [torch.nan, torch.nan], [30.1, 180]])
    area = metrics.area_under_recall(error, torch.ones(3, 2, dtype=torch.bool), 30, convention)
    assert area.tolist() == [1, 0, 0]


# ----------------------------------------------------------------------------- camera trajectories


def golden_trajectory() -> tuple[Tensor, Tensor]:
    return tensor(GOLDEN["traj"]["est_c2w"])[None], tensor(GOLDEN["traj"]["ref_c2w"])[None]


def test_trajectory_equals_the_golden_numbers():
    golden = GOLDEN["traj"]["evo_1.38.1"]
    scores = by_name(metrics.trajectory(*golden_trajectory(), "sim3") + metrics.trajectory(*golden_trajectory(), "se3"))
    close = {"rel": 1e-7}  # the poses are stored with nine digits
    assert scores["ate_rmse_sim3"].score.item() == pytest.approx(golden["ate_rmse_sim3"], **close)
    assert scores["ate_rmse_se3"].score.item() == pytest.approx(golden["ate_rmse_se3"], **close)
    assert scores["rpe_translation_rmse_sim3"].score.item() == pytest.approx(golden["rpe_trans_rmse_sim3_d1"], **close)
    assert scores["rpe_rotation_rmse_deg_sim3"].score.item() == pytest.approx(golden["rpe_rot_deg_rmse_d1"], **close)


@pytest.mark.parametrize("alignment", list(metrics.TRAJECTORY))
def test_a_moved_world_is_a_perfect_trajectory(alignment: metrics.TrajectoryAlignment):
    _, true = golden_trajectory()
    moved = pose(turn("y", 70), (5, -3, 2)) @ true
    if alignment == "sim3":
        moved[..., :3, 3] *= 0.2
    for score in metrics.trajectory(moved, true, alignment):
        assert score.score.item() == pytest.approx(0, abs=1e-6), score.metric.name
        assert score.weight.item() == 1


@pytest.mark.parametrize(("hidden", "kept"), [(slice(-2, None), slice(-2)), (slice(2), slice(2, None))])
def test_trajectory_never_looks_at_invalid_frames(hidden: slice, kept: slice):
    pred, true = golden_trajectory()
    valid = torch.ones(true.shape[:2], dtype=torch.bool)
    valid[:, hidden] = False
    cut = metrics.trajectory(pred[:, kept], true[:, kept], "sim3")
    pred[:, hidden], true[:, hidden] = torch.nan, torch.nan
    assert_same(metrics.trajectory(pred, true, "sim3", valid), cut)


def test_a_trajectory_that_stands_still_has_no_scale():
    pred, true = golden_trajectory()
    still = true[:, :1].expand_as(true)
    assert_undefined(metrics.trajectory(pred, still, "sim3"))
    assert metrics.trajectory(pred, still, "se3")[0].weight.item() == 1
    assert metrics.trajectory(still, true, "sim3")[0].score.item() > 0.1  # a prediction may not hide in it
    assert_undefined(metrics.trajectory(pred, true, "se3", torch.zeros(true.shape[:2], dtype=torch.bool)))


# ----------------------------------------------------------------------------- classes


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


# ----------------------------------------------------------------------------- names


@pytest.fixture
def no_type_checks() -> Iterator[None]:
    """Switch the checks of signatures off, as they are outside of tests."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("no_type_checks")
def test_an_unknown_convention_is_an_error_that_names_the_known_ones():
    image, flags = torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, dtype=torch.bool)
    poses = torch.eye(4).expand(1, 2, 4, 4)
    with pytest.raises(ValueError, match=r"alignment is 'affine'; expected one of .*scale_shift"):
        metrics.depth(image, image, image > 0, alignment="affine")
    with pytest.raises(ValueError, match=r"query_mode is 'last'; expected one of .*strided"):
        metrics.tap_vid(image, flags, image, flags, torch.zeros(1, 1), query_mode="last")
    with pytest.raises(ValueError, match=r"convention is 'evo'; expected one of .*kauldron"):
        metrics.pose_auc(poses, poses, 30, "evo")
    with pytest.raises(ValueError, match=r"alignment is 'sim2'; expected one of .*sim3"):
        metrics.trajectory(poses, poses, "sim2")


def test_no_two_metrics_share_a_name():
    families = [*metrics.DEPTH.values(), *metrics.TAP_VID.values(), *metrics.TRAJECTORY.values()]
    families += [(metrics.POINT_DISTANCE,), metrics.BOX_TRACKS, metrics.CAMERA_POSE, (metrics.TOP_1, metrics.TOP_5)]
    conventions = ("vggt", "kauldron", "superglue")
    families += [tuple(metrics.pose_auc_metric(k, name) for k in (5, 30) for name in conventions)]
    names = [metric.name for family in families for metric in family]
    assert len(names) == len(set(names)) > 60
