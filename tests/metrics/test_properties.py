"""What must not change a score, for every metric of every task: order, padding, other clips, what is not valid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fourd import metrics
from fourd.geometry import project_to_so3, rigid
from fourd.types import Score
from tests.metrics.helpers import assert_same, seeds

Arguments = tuple[Tensor, ...]
RUBBISH = st.sampled_from([torch.nan, torch.inf, -torch.inf, 0.0, -1e30, 1e30])
CLIPS, FRAMES = 3, 5
few = settings(max_examples=6)  # each is of many metrics


@dataclass(frozen=True)
class Family:
    """Name some metrics that take the same arguments, the last of which says what is valid.

    The second axis of the arguments holds slots: points, boxes, pairs, frames. `any_order`: slots may be reordered.
    """

    name: str
    draw: Callable[[torch.Generator, int], Arguments]
    score: Callable[..., tuple[Score, ...]]
    any_order: bool = True

    def __str__(self) -> str:
        return self.name


def draw_depth(generator: torch.Generator, slots: int) -> Arguments:
    true = 0.1 + 12 * torch.rand(CLIPS, slots, 3, 4, generator=generator)
    pred = true * torch.exp(0.3 * torch.randn(true.shape, generator=generator))
    return pred, true, torch.rand(true.shape, generator=generator) < 0.6


def draw_points(generator: torch.Generator, slots: int) -> Arguments:
    true = 256 * torch.rand(CLIPS, slots, FRAMES, 2, generator=generator)
    pred = true + 5 * torch.randn(true.shape, generator=generator)
    visible = torch.rand(3, CLIPS, slots, FRAMES, generator=generator) < 0.7
    query = torch.randint(0, FRAMES, (CLIPS, slots), generator=generator)
    return pred, visible[0], true, visible[1], query, visible[2]


def draw_boxes(generator: torch.Generator, slots: int) -> Arguments:
    corner = 100 * torch.rand(CLIPS, slots, FRAMES, 2, generator=generator)
    true = torch.cat([corner, corner + 5 + 20 * torch.rand(corner.shape, generator=generator)], -1)
    pred = true + 3 * torch.randn(true.shape, generator=generator)
    query = torch.randint(0, FRAMES, (CLIPS, slots), generator=generator)
    return pred, true, query, torch.rand(CLIPS, slots, FRAMES, generator=generator) < 0.6


def draw_poses(generator: torch.Generator, slots: int) -> Arguments:
    noise = torch.randn(2, CLIPS, slots, 3, 3, generator=generator, dtype=torch.float64)
    shift = torch.randn(2, CLIPS, slots, 3, generator=generator, dtype=torch.float64)
    true = rigid(project_to_so3(noise[0]), shift[0])
    pred = rigid(project_to_so3(true[..., :3, :3] + 0.2 * noise[1]), shift[0] + 0.2 * shift[1])
    return pred, true, torch.rand(CLIPS, slots, generator=generator) < 0.7


def score_points(*arguments: Tensor) -> tuple[Score, ...]:
    pred, _, true, visible, query, valid = arguments
    both = (score for mode in metrics.TAP_VID for score in metrics.tap_vid(*arguments, query_mode=mode))
    return (*both, metrics.point_distance(pred, true, visible, query, valid))


def score_boxes(pred: Tensor, true: Tensor, query: Tensor, valid: Tensor) -> tuple[Score, ...]:
    return metrics.box_tracks(pred, true, valid, query)


def score_poses(pred: Tensor, true: Tensor, valid: Tensor) -> tuple[Score, ...]:
    areas = [metrics.pose_auc(pred, true, 30, name, valid) for name in ("vggt", "kauldron", "superglue")]
    return (*metrics.camera_pose(pred, true, valid), *areas)


def score_depth(pred: Tensor, true: Tensor, valid: Tensor) -> tuple[Score, ...]:
    return tuple(
        score for alignment in metrics.DEPTH for score in metrics.depth(pred, true, valid, alignment=alignment)
    )


def score_trajectory(pred: Tensor, true: Tensor, valid: Tensor) -> tuple[Score, ...]:
    return tuple(
        score for alignment in metrics.TRAJECTORY for score in metrics.trajectory(pred, true, alignment, valid)
    )


FAMILIES = [
    Family("depth", draw_depth, score_depth),
    Family("points", draw_points, score_points),
    Family("boxes", draw_boxes, score_boxes),
    Family("poses", draw_poses, score_poses),
    Family("trajectory", draw_poses, score_trajectory, any_order=False),
]
of_all = pytest.mark.parametrize("family", FAMILIES, ids=str)


def drawn(family: Family, seed: int, slots: int = 4) -> Arguments:
    return family.draw(torch.Generator().manual_seed(seed), slots)


def permutation(number: int, seed: int) -> Tensor:
    return torch.randperm(number, generator=torch.Generator().manual_seed(seed))


def filled(like: Tensor, value: float) -> Tensor:
    """Make a tensor of the same shape and kind that holds one value."""
    if like.is_floating_point():
        return torch.full_like(like, value)
    return torch.full_like(like, value > 0) if like.dtype == torch.bool else torch.full_like(like, -7)


def rubbish_like(arguments: Arguments, value: float) -> Arguments:
    *rest, valid = arguments
    return (*(filled(x, value) for x in rest), torch.zeros_like(valid))


def joined(a: Arguments, b: Arguments, axis: int) -> Arguments:
    return tuple(torch.cat(pair, axis) for pair in zip(a, b, strict=True))


def of_clips(scores: tuple[Score, ...], clips: Tensor | slice) -> tuple[Score, ...]:
    return tuple(Score(score.metric, score.score[clips], score.weight[clips]) for score in scores)


@of_all
@few
@given(seed=seeds)
def test_the_order_of_clips_changes_nothing(family: Family, seed: int):
    arguments, order = drawn(family, seed), permutation(CLIPS, seed)
    assert_same(family.score(*(x[order] for x in arguments)), of_clips(family.score(*arguments), order))


@pytest.mark.parametrize("family", [family for family in FAMILIES if family.any_order], ids=str)
@few
@given(seed=seeds)
def test_the_order_of_slots_changes_nothing(family: Family, seed: int):
    arguments, order = drawn(family, seed), permutation(4, seed)
    assert_same(family.score(*(x[:, order] for x in arguments)), family.score(*arguments))


@of_all
@few
@given(seed=seeds, number=st.integers(1, 3), value=RUBBISH)
def test_padding_slots_change_nothing_whatever_they_hold(family: Family, seed: int, number: int, value: float):
    arguments = drawn(family, seed)
    padding = rubbish_like(drawn(family, seed + 1, slots=number), value)
    padded = joined(arguments, padding, 1)
    assert_same(family.score(*padded), family.score(*arguments))
    assert_same(family.score(*joined(padding, arguments, 1)), family.score(*arguments))
    if family.any_order:
        order = permutation(4 + number, seed)
        assert_same(family.score(*(x[:, order] for x in padded)), family.score(*arguments))


@of_all
@few
@given(seed=seeds, value=RUBBISH)
def test_padding_clips_have_no_weight_and_change_nothing(family: Family, seed: int, value: float):
    arguments = drawn(family, seed)
    padded = family.score(*joined(arguments, rubbish_like(arguments, value), 0))
    assert_same(of_clips(padded, slice(CLIPS)), family.score(*arguments))
    for score in of_clips(padded, slice(CLIPS, None)):
        assert not score.score.any(), score.metric.name
        assert not score.weight.any(), score.metric.name


@of_all
@few
@given(seed=seeds, value=RUBBISH)
def test_what_is_not_valid_may_hold_anything(family: Family, seed: int, value: float):
    *rest, valid = drawn(family, seed)
    covered = [_covered(x, valid, value) for x in rest]
    assert_same(family.score(*covered, valid), family.score(*rest, valid))


def _covered(values: Tensor, valid: Tensor, value: float) -> Tensor:
    """Replace what is not valid; what there is once for a whole slot, a query, stays."""
    if values.ndim < valid.ndim:
        return values
    shown = valid[(...,) + (None,) * (values.ndim - valid.ndim)]
    return torch.where(shown, values, filled(values, value))


@of_all
@few
@given(seed=seeds)
def test_a_clip_is_scored_by_itself(family: Family, seed: int):
    arguments = drawn(family, seed)
    together = family.score(*arguments)
    for clip in range(CLIPS):
        one = slice(clip, clip + 1)
        assert_same(family.score(*(x[one] for x in arguments)), of_clips(together, one))


@of_all
@few
@given(seed=seeds, slots=st.integers(0, 2))
def test_scores_of_real_numbers_are_real_numbers(family: Family, seed: int, slots: int):
    for score in family.score(*drawn(family, seed, slots)):
        assert score.score.shape == score.weight.shape == (CLIPS,)
        assert score.score.dtype == score.weight.dtype == torch.float64
        assert score.score.isfinite().all(), score.metric.name
        assert (score.weight >= 0).all()
        assert not score.score[score.weight == 0].any(), score.metric.name


@of_all
def test_no_clips_have_no_scores(family: Family):
    for score in family.score(*(x[:0] for x in drawn(family, 0))):
        assert score.score.shape == score.weight.shape == (0,)


@few
@given(seed=seeds, k=st.sampled_from([1, 2, 5]))
def test_names_of_classes_and_the_order_of_clips_do_not_change_top_k(seed: int, k: int):
    generator = torch.Generator().manual_seed(seed)
    logits, label = torch.randn(8, 7, generator=generator), torch.randint(0, 7, (8,), generator=generator)
    scored = metrics.top_k(logits, label, k)
    renamed = permutation(7, seed)
    assert_same((metrics.top_k(logits[:, renamed], renamed.argsort()[label], k),), (scored,))
    order = permutation(8, seed)
    assert_same((metrics.top_k(logits[order], label[order], k),), of_clips((scored,), order))


def test_every_metric_has_these_properties():
    """A metric that is added to a family or to the package is tested here, or this test says so."""
    tested = {score.metric for family in FAMILIES for score in family.score(*drawn(family, 0))}
    families = [*metrics.DEPTH.values(), *metrics.TAP_VID.values(), *metrics.TRAJECTORY.values()]
    families += [(metrics.POINT_DISTANCE,), metrics.BOX_TRACKS, metrics.CAMERA_POSE]
    assert {metric for family in families for metric in family} <= tested
