"""Several views of a clip are answered by the mean of their probabilities, and each clip is scored once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from fourd.backbones.mean_pixel import MeanPixelConfig
from fourd.datasets import Found, FrameNumbers, Labelled, LabelledConfig, LabelledDataset, Recording, Segments
from fourd.evaluate import Reading, Subject, evaluate, evaluate_controls
from fourd.loader import in_order
from fourd.media import UnreadableVideo
from fourd.objectives.probe import Probe, ProbeConfig
from fourd.tasks import action
from fourd.types import ClipShape, Label, NoQuery, Unreadable

CONFIG = replace(action.tiny(), class_names=tuple("abcdefg"))
TASK = CONFIG.build()
SUBJECT = Subject("views_v1", "mean_pixel", "random", 0)


def logits(*probabilities: float) -> list[float]:
    """Give logits, with an offset that a softmax takes away."""
    return (torch.tensor(probabilities, dtype=torch.float64).log() + 3.0).tolist()


# ----------------------------------------------------------------------------- the mean


def test_probabilities_are_averaged_and_given_as_logarithms():
    answers = torch.tensor([logits(0.9, 0.1), logits(0.2, 0.8), logits(0.5, 0.5), logits(0.3, 0.7)])
    pooled = TASK.pool_views(answers, 2)
    torch.testing.assert_close(pooled.exp(), torch.tensor([[0.55, 0.45], [0.4, 0.6]]).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(pooled.softmax(-1), pooled.exp())


def test_the_mean_of_probabilities_is_not_that_of_logits():
    unsure = torch.tensor([logits(0.999, 0.001), logits(0.2, 0.8), logits(0.2, 0.8)])
    assert int(unsure.mean(0).argmax()) == 0
    assert int(TASK.pool_views(unsure, 3).argmax()) == 1


def test_one_view_is_its_own_mean_and_the_order_of_views_does_not_matter():
    answers = torch.randn(6, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(TASK.pool_views(answers, 1), answers.double().log_softmax(-1))
    turned = answers.unflatten(0, (2, 3)).flip(1).flatten(0, 1)
    torch.testing.assert_close(TASK.pool_views(answers, 3), TASK.pool_views(turned, 3))


def test_classes_far_behind_keep_their_order():
    far = torch.tensor([[200.0, 0.3, 0.2, 0.1, 0.0, -0.1, -0.2]]).repeat(2, 1)
    assert TASK.pool_views(far, 2).argsort(descending=True).tolist() == [[0, 1, 2, 3, 4, 5, 6]]
    target = Label(torch.tensor([4]))
    top_5 = {score.metric.name: score for score in TASK.scores(TASK.pool_views(far, 2), NoQuery(), target)}["top_5"]
    assert top_5.score.tolist() == [1]
    assert TASK.pool_views(-far, 2).isfinite().all()


@pytest.mark.parametrize("num_views", [0, 2])
def test_views_that_are_missing_are_refused(num_views: int):
    with pytest.raises(ValueError, match=f"3 answers; expected a multiple of {num_views} views"):
        TASK.pool_views(torch.zeros(3, 7), num_views)


# ----------------------------------------------------------------------------- views of a small labelled dataset

HEIGHT, WIDTH, NUM_FRAMES = 32, 96, 12
LABELS = (2, 0, 6, 2, 3)  # for which the probe below is right of some clips, and another mean would score others
NUM_RECORDINGS = len(LABELS)


@dataclass(frozen=True, kw_only=True)
class StripesConfig(LabelledConfig):
    """Describe films whose colour says when (red) and where (green: left, middle, right third)."""

    kinds: ClassVar[tuple[str, ...]] = ("action",)
    broken: int = -1

    def build(self) -> Stripes:
        return Stripes(self)


class Stripes(LabelledDataset):
    name = "stripes"

    def find(self) -> Found:
        return Found(tuple(Recording(f"r{n}", f"r{n}", NUM_FRAMES, source=n) for n in range(NUM_RECORDINGS)))

    def load(self, recording: Recording, frames: FrameNumbers) -> Labelled:
        if recording.source == self.config.broken and frames[0] > 0:
            raise UnreadableVideo(recording.key, "its end is broken")
        video = torch.zeros(len(frames), 3, HEIGHT, WIDTH, dtype=torch.uint8)
        video[:, 0] = torch.from_numpy(frames)[:, None, None] * 10
        video[:, 1] = torch.arange(WIDTH) // 32 * 100
        video[:, 2] = 40 * recording.source
        label = Label(torch.tensor([LABELS[recording.source]]))
        return Labelled(video=video, time_s=torch.from_numpy(frames / 10.0), label=label)


def stripes(root: Path, **other: object) -> Stripes:
    views = Segments(1, num_segments=2)
    config = StripesConfig(
        root=str(root), tasks=("action",), num_frames=4, size=(32, 32), sampling=views, crop="three", **other
    )
    return config.build()


@pytest.fixture(scope="module")
def probe() -> Probe:
    backbone = MeanPixelConfig((2, 8, 8), 4, (32, 32))
    objective = ProbeConfig(backbone, (CONFIG,), ClipShape(4, 32, 32), ("attention", "linear"), (1.0,)).build()
    objective.init_weights(torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in objective.readouts.parameters():
            parameter += torch.randn(parameter.shape, generator=generator)
    return objective.eval()


def test_views_of_a_clip_are_every_crop_of_every_segment_in_a_row(tmp_path: Path):
    dataset = stripes(tmp_path)
    assert (dataset.num_views, len(dataset)) == (6, 6 * NUM_RECORDINGS)
    for number in range(NUM_RECORDINGS):
        views = [dataset.read(6 * number + view, np.random.default_rng(0)) for view in range(6)]
        assert {view.group for view in views} == {(f"stripes/r{number}",)}
        assert {int(view.video[0, 0, 2, 0, 0]) for view in views} == {40 * number}
        seen = {(int(view.video[0, 0, 0, 0, 0]) // 10, int(view.video[0, 0, 1, 0, 0]) // 100) for view in views}
        assert seen == {(start, third) for start in (0, 8) for third in range(3)}


def expected(probe: Probe, dataset: Stripes, head: int) -> tuple[torch.Tensor, list[float], list[float]]:
    """Answer view by view, and average the probabilities by hand: their mean, and whether it is right."""
    means, top_1, top_5 = [], [], []
    for number in range(NUM_RECORDINGS):
        batches = [dataset.read(6 * number + view, np.random.default_rng(0)) for view in range(6)]
        with torch.no_grad():
            answers = torch.stack([probe.predict(batch)[head].double()[0] for batch in batches])
        mean = answers.softmax(-1).mean(0)
        rank = int((mean > mean[LABELS[number]]).sum())
        means, top_1, top_5 = [*means, mean], [*top_1, float(rank < 1)], [*top_5, float(rank < 5)]
    return torch.stack(means), top_1, top_5


@pytest.mark.parametrize("batch_size", [1, 6, 17, 64])
def test_evaluation_scores_each_clip_once_by_the_mean_of_its_views(probe: Probe, tmp_path: Path, batch_size: int):
    dataset = stripes(tmp_path)
    rows = evaluate(probe, dataset, SUBJECT, "fp32", reading=Reading(batch_size=batch_size)).table.to_pylist()
    for number, head in enumerate(probe.heads):
        _, top_1, top_5 = expected(probe, dataset, number)
        for metric, scores in (("top_1", top_1), ("top_5", top_5)):
            own = [row for row in rows if row["readout"] == head.kind and row["metric"] == metric]
            assert [row["clip"] for row in own] == [f"stripes/r{n}/0/view0" for n in range(NUM_RECORDINGS)]
            assert [row["group"] for row in own] == [f"stripes/r{n}" for n in range(NUM_RECORDINGS)]
            assert [row["score"] for row in own] == scores
    assert len(rows) == 2 * 2 * NUM_RECORDINGS


def test_the_pooled_answer_is_that_of_the_views_in_their_order(probe: Probe, tmp_path: Path):
    dataset = stripes(tmp_path)
    means, top_1, _ = expected(probe, dataset, 0)
    batch = next(in_order(dataset, 64))
    with torch.no_grad():
        pooled = probe.tasks[0].pool_views(probe.predict(batch)[0], dataset.num_views)
    torch.testing.assert_close(pooled.exp(), means, atol=1e-5, rtol=1e-4)
    assert 0 < sum(top_1) < NUM_RECORDINGS, "a probe that is always right or wrong would show nothing"
    assert float((means[0] - means[1]).abs().max()) > 1e-3, "clips must be told apart for this to mean anything"


def test_a_clip_with_one_broken_view_is_left_out_whole(probe: Probe, tmp_path: Path):
    lost: list[Unreadable] = []
    rows = evaluate(probe, stripes(tmp_path, broken=1), SUBJECT, "fp32", reading=Reading(excluded=lost)).table
    assert {row["clip"] for row in rows.to_pylist()} == {f"stripes/r{n}/0/view0" for n in (0, 2, 3, 4)}
    assert [(one.path, one.reason) for one in lost] == [("r1", "its end is broken")]


def test_controls_answer_views_too(tmp_path: Path):
    dataset = stripes(tmp_path)
    rows = evaluate_controls((TASK,), dataset, dataset, "views_v1").table.to_pylist()
    scores = [row["score"] for row in rows if row["metric"] == "top_1"]
    assert scores == [float(label == 2) for label in LABELS], "2 is the most frequent class"
