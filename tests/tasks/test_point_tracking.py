"""Point tracking: paths and visibility from a point of the first frame."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fourd.tasks import point_tracking
from fourd.tasks.point_tracking import PointPrediction
from fourd.types import ClipShape, Features, FeatureShape, PointQuery, PointTracks, TaskSample
from tests.tasks.learning import gradients, learn, values

CLIP, SAMPLE = point_tracking.tiny_sample()
CONFIG = point_tracking.tiny()
TASK = CONFIG.build()
TARGET: PointTracks = SAMPLE.target


def truth(target: PointTracks = TARGET, shift_px: float = 0.0) -> PointPrediction:
    logit = torch.where(target.visible, 10.0, -10.0)
    return PointPrediction((target.xy_px + shift_px) / 32, logit, torch.full_like(logit, 10.0), (32, 32))


def test_the_truth_is_perfect():
    found = values(TASK, truth(), SAMPLE)
    assert found["point_distance_px"].max() < 1e-5
    others = {name: value for name, value in found.items() if name != "point_distance_px"}
    assert all(torch.equal(value, torch.ones(2).double()) for value in others.values()), others
    assert float(TASK.loss(truth(), TARGET).loss) < 1e-3


def test_pixels_are_the_clips_own_and_not_square():
    """A clip of 64 x 16: an error of one pixel is one pixel along either axis."""
    for axis, name in ((0, "x"), (1, "y")):
        target = PointTracks(torch.full((1, 1, 2, 2), 8.0), *(torch.ones(1, 1, 2, dtype=torch.bool),) * 2)
        xy = target.xy_px.clone()
        xy[..., axis] += 1
        logit = torch.full((1, 1, 2), 10.0)
        answer = PointPrediction(xy / torch.tensor([64.0, 16.0]), logit, logit, (64, 16))
        sample = TaskSample(PointQuery(torch.zeros(1, 1, dtype=torch.long), target.xy_px[:, :, 0]), target)
        assert float(values(TASK, answer, sample)["point_distance_px"]) == pytest.approx(1.0), name


def test_seen_is_what_is_visible_and_certain_together():
    logits = torch.tensor([[[3.0, 3.0, 0.5, -3.0]]]), torch.tensor([[[3.0, -3.0, 0.5, 3.0]]])
    tracks = PointPrediction(torch.zeros(1, 1, 4, 2), *logits, (32, 32)).tracks()
    assert tracks.visible.tolist() == [[[True, False, False, False]]]  # 0.62 x 0.62 is not above a half


def test_what_is_not_valid_never_counts_even_if_it_is_no_number():
    valid = TARGET.valid.clone()
    valid[0, 1, 2:] = False
    spoiled = replace(TARGET, xy_px=torch.where(valid[..., None], TARGET.xy_px, torch.nan), valid=valid)
    sample = TaskSample(SAMPLE.query, spoiled)
    answer = truth()
    loss, found = gradients(TASK, answer, spoiled)
    assert loss < 1e-3
    assert all(gradient.isfinite().all() for gradient in found)
    assert not found[0][0, 1, 2:].any()
    assert not found[1][0, 1, 2:].any()
    for score in TASK.scores(answer, sample.query, spoiled):
        assert score.score.isfinite().all()
        assert score.weight.isfinite().all()
    for control in TASK.fit_controls([sample]).values():
        assert control(sample.query, CLIP, 2).xy.isfinite().all()


@pytest.mark.parametrize("fill", [3.0, torch.nan])
def test_nothing_valid_gives_no_gradient(fill):
    none = torch.zeros_like(TARGET.valid)
    loss, found = gradients(TASK, truth(), PointTracks(torch.full_like(TARGET.xy_px, fill), none, none))
    assert loss == 0
    assert not any(gradient.any() for gradient in found)


def test_a_hidden_point_says_nothing_of_its_place():
    hidden = replace(TARGET, visible=torch.zeros_like(TARGET.visible))
    _, (place, visible, certain) = gradients(TASK, truth(shift_px=5), hidden)
    assert not place.any()
    assert not certain.any()
    assert visible.all()


def test_certain_means_within_six_pixels():
    for shift, sign in ((3.0, -1), (5.0, 1)):  # along both axes: 4.2 and 7.1 pixels
        everywhere = replace(TARGET, visible=torch.ones_like(TARGET.visible))
        answer = replace(truth(everywhere, shift), certain_logit=torch.zeros(2, 3, 4))
        _, (_, _, certain) = gradients(TASK, answer, everywhere)
        assert (certain.sign() == sign).all()


def test_the_loss_of_positions_is_a_huber_of_the_distance():
    everywhere = replace(TARGET, visible=torch.ones_like(TARGET.visible))
    for shift_px in (0.5, 4.0):
        distance, delta = shift_px * 2**0.5 / 32, 1 / 32
        expected = distance**2 / 2 if distance < delta else delta * (distance - delta / 2)
        step = TASK.loss(truth(everywhere, shift_px), everywhere)
        assert float(step.scalars["position"]) == pytest.approx(expected, rel=1e-4)


def test_controls_do_what_their_names_say():
    controls = TASK.fit_controls([SAMPLE])
    still = controls["nothing_moves"](SAMPLE.query, CLIP, 2).tracks()
    torch.testing.assert_close(still.xy_px, SAMPLE.query.xy_px[:, :, None].expand(-1, -1, 4, -1))
    assert still.visible.all()
    start = torch.zeros(1, 2, 2)
    moves = torch.tensor([[[[0.0, 0], [4, 0]], [[0, 0], [0, 8]]]])
    seen = torch.tensor([[[True, True], [True, True]]])
    sample = TaskSample(PointQuery(torch.zeros(1, 2, dtype=torch.long), start), PointTracks(moves, seen, seen))
    hidden = PointTracks(moves * 100, ~seen, seen)
    samples = [sample, TaskSample(sample.query, hidden)]  # a hidden point does not count
    answer = TASK.fit_controls(samples)["mean_answer"](PointQuery(sample.query.frame, start + 1), CLIP, 1).tracks()
    torch.testing.assert_close(answer.xy_px, torch.tensor([[1.0, 1], [3, 5]]).expand(1, 2, 2, 2))


@pytest.mark.parametrize("position", ["absolute", "offset"])
@pytest.mark.parametrize("kind", ["attention", "linear"])
def test_an_answer_of_zeros_is_the_middle_or_the_start(position, kind):
    clip, shape = ClipShape(4, 16, 64), FeatureShape(2, 4, 4, 32)
    readout = replace(CONFIG, position=position).build().build_readout(shape, clip, kind)
    for parameter in readout.parameters():
        torch.nn.init.zeros_(parameter)
    query = PointQuery(torch.zeros(1, 1, dtype=torch.long), torch.tensor([[[48.0, 4.0]]]))
    tracks = readout(Features(torch.randn(1, 2, 4, 4, 32)), query).tracks()
    expected = [32.0, 8.0] if position == "absolute" else [48.0, 4.0]
    torch.testing.assert_close(tracks.xy_px, torch.tensor(expected).expand(1, 1, 4, 2))


@pytest.mark.parametrize(("cell", "other"), [((3, 1), (1, 3)), ((0, 2), (2, 0)), ((5, 0), (0, 3))])
def test_a_linear_readout_looks_where_the_point_is(cell, other):
    """On a grid of 4 rows and 6 columns, a point in (column, row) reads that token of the first time step alone."""
    shape, clip = FeatureShape(2, 4, 6, 8), ClipShape(4, 32, 96)
    readout = TASK.build_readout(shape, clip, "linear")
    readout.init_weights(torch.Generator().manual_seed(0))
    centre = torch.tensor([[[16.0 * cell[0] + 8, 8.0 * cell[1] + 4]]])
    query = PointQuery(torch.zeros(1, 1, dtype=torch.long), centre)
    before = readout(Features(torch.zeros(1, 2, 4, 6, 8)), query).xy

    def answer(time: int, column: int, row: int) -> torch.Tensor:
        grid = torch.zeros(1, 2, 4, 6, 8)
        grid[0, time, row, column] = torch.arange(8.0)
        return readout(Features(grid), query).xy

    assert not torch.equal(answer(0, *cell), before)
    assert torch.equal(answer(0, *other), before)
    assert torch.equal(answer(1, *cell), before)


def test_a_later_query_is_refused():
    query = PointQuery(torch.ones(2, 3, dtype=torch.long), SAMPLE.query.xy_px)
    for kind in ("attention", "linear"):
        readout = TASK.build_readout(FeatureShape(2, 4, 4, 32), CLIP, kind)
        readout.init_weights()
        with pytest.raises(ValueError, match="frame"):
            readout(Features(torch.zeros(2, 2, 4, 4, 32)), query)


@pytest.mark.parametrize("position", ["absolute", "offset"])
def test_two_clips_can_be_learned_by_heart(position):
    task = replace(CONFIG, position=position).build()
    first, last, answer = learn(task, CLIP, SAMPLE)
    assert last < first / 5
    assert values(task, answer, SAMPLE)["point_distance_px"].max() < 2.5
