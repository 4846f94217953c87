"""Box tracking: the boxes of the first frame in all others."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fourd.tasks import box_tracking
from fourd.tasks.box_tracking import BoxPrediction
from fourd.types import BoxQuery, BoxTracks, ClipShape, Features, FeatureShape, TaskSample
from tests.tasks.learning import gradients, learn, values

CLIP, SAMPLE = box_tracking.tiny_sample()
CONFIG = box_tracking.tiny()
TASK = CONFIG.build()
TARGET: BoxTracks = SAMPLE.target


def truth() -> BoxPrediction:
    return BoxPrediction(TARGET.xyxy_px / 32, (32, 32))


def test_the_truth_is_perfect():
    assert all(torch.allclose(value, torch.ones(2).double()) for value in values(TASK, truth(), SAMPLE).values())
    assert float(TASK.loss(truth(), TARGET).loss) < 1e-5


def test_shares_become_pixels_of_width_and_height():
    answer = BoxPrediction(torch.tensor([[[[0.25, 0.5, 0.5, 1.0]]]]), (64, 16))
    assert answer.xyxy_px().tolist() == [[[[16.0, 8.0, 32.0, 16.0]]]]


@pytest.mark.parametrize("fill", [0.0, torch.nan])
def test_what_is_not_valid_never_counts(fill):
    spoiled = replace(TARGET, xyxy_px=torch.where(TARGET.valid[..., None], TARGET.xyxy_px, fill))
    assert not TARGET.valid.all()
    loss, (gradient,) = gradients(TASK, BoxPrediction(truth().xyxy + 0.1, (32, 32)), spoiled)
    assert loss.isfinite()
    assert gradient.isfinite().all()
    assert not gradient[~TARGET.valid].any()
    assert gradient[TARGET.valid].any(-1).all()
    for score in TASK.scores(truth(), SAMPLE.query, spoiled):
        assert torch.allclose(score.score, torch.ones(2).double())
    for control in TASK.fit_controls([TaskSample(SAMPLE.query, spoiled)]).values():
        assert control(SAMPLE.query, CLIP, 2).xyxy.isfinite().all()


@pytest.mark.parametrize("fill", [3.0, torch.nan])
def test_nothing_valid_gives_no_gradient(fill):
    nothing = BoxTracks(torch.full_like(TARGET.xyxy_px, fill), torch.zeros_like(TARGET.valid))
    for answer in (truth(), BoxPrediction(torch.zeros_like(truth().xyxy), (32, 32))):
        loss, (gradient,) = gradients(TASK, answer, nothing)
        assert loss == 0
        assert not gradient.any()


def test_a_box_that_is_far_off_still_has_a_gradient():
    loss, (gradient,) = gradients(TASK, BoxPrediction(truth().xyxy + 3, (32, 32)), TARGET)
    assert loss > 1
    assert gradient[TARGET.valid].any(-1).all()


def test_controls_do_what_their_names_say():
    controls = TASK.fit_controls([SAMPLE])
    still = controls["nothing_moves"](SAMPLE.query, CLIP, 2).xyxy_px()
    torch.testing.assert_close(still, SAMPLE.query.xyxy_px[:, :, None].expand(-1, -1, 4, -1))
    # all boxes of the sample move by (1, 1) a frame, of which one frame is not valid
    moved = controls["mean_answer"](SAMPLE.query, CLIP, 2).xyxy_px()
    torch.testing.assert_close(moved, SAMPLE.query.xyxy_px[:, :, None] + torch.arange(4.0)[:, None])


@pytest.mark.parametrize("position", ["absolute", "offset"])
@pytest.mark.parametrize("kind", ["attention", "linear"])
def test_an_answer_of_zeros_is_the_corner_or_the_start(position, kind):
    clip, shape = ClipShape(4, 16, 64), FeatureShape(2, 4, 4, 32)
    readout = replace(CONFIG, position=position).build().build_readout(shape, clip, kind)
    for parameter in readout.parameters():
        torch.nn.init.zeros_(parameter)
    query = BoxQuery(torch.zeros(1, 1, dtype=torch.long), torch.tensor([[[8.0, 4.0, 40.0, 12.0]]]))
    boxes = readout(Features(torch.randn(1, 2, 4, 4, 32)), query).xyxy_px()
    expected = [0.0] * 4 if position == "absolute" else [8.0, 4.0, 40.0, 12.0]
    torch.testing.assert_close(boxes, torch.tensor(expected).expand(1, 1, 4, 4))


def test_corners_are_put_in_order():
    readout = TASK.build_readout(FeatureShape(2, 4, 4, 32), CLIP, "attention")
    found = readout._interpret(torch.tensor([[[[0.8, 0.1, 0.2, 0.9]]]]), torch.zeros(1, 1, 4))
    assert torch.equal(found.xyxy, torch.tensor([[[[0.2, 0.1, 0.8, 0.9]]]]))


@pytest.mark.parametrize(("column", "row"), [(4, 1), (1, 3), (0, 2)])
def test_a_linear_readout_looks_at_the_middle_of_the_box(column, row):
    shape, clip = FeatureShape(2, 4, 6, 8), ClipShape(4, 32, 96)
    readout = TASK.build_readout(shape, clip, "linear")
    readout.init_weights(torch.Generator().manual_seed(0))
    x, y = 16.0 * column + 8, 8.0 * row + 4
    query = BoxQuery(torch.zeros(1, 1, dtype=torch.long), torch.tensor([[[x - 20, y - 3, x + 20, y + 3]]]))
    before = readout(Features(torch.zeros(1, 2, 4, 6, 8)), query).xyxy
    touched = set()
    for other_row in range(4):
        for other_column in range(6):
            grid = torch.zeros(1, 2, 4, 6, 8)
            grid[0, 0, other_row, other_column] = torch.arange(8.0)
            if not torch.equal(readout(Features(grid), query).xyxy, before):
                touched.add((other_column, other_row))
    assert touched == {(column, row)}


@pytest.mark.parametrize("position", ["absolute", "offset"])
def test_two_clips_can_be_learned_by_heart(position):
    task = replace(CONFIG, position=position).build()
    first, last, answer = learn(task, CLIP, SAMPLE)
    assert last < first / 5
    assert values(task, answer, SAMPLE)["mean_iou"].min() > 0.7
