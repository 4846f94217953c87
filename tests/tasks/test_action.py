"""Action: one class per clip."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from fourd.tasks import action
from fourd.types import Label, NoQuery, TaskSample
from tests.tasks.learning import gradients, learn, values

CLIP, SAMPLE = action.tiny_sample()
CONFIG = action.tiny()
TASK = CONFIG.build()


def test_the_truth_is_perfect_and_its_opposite_is_not():
    right = 5.0 * torch.nn.functional.one_hot(SAMPLE.target.index, 3)
    assert values(TASK, right, SAMPLE)["top_1"].tolist() == [1, 1]
    assert values(TASK, -right, SAMPLE)["top_1"].tolist() == [0, 0]
    assert values(TASK, torch.zeros(2, 3), SAMPLE)["top_1"].tolist() == [0, 0], "no preference is no guess"


def test_the_loss_is_a_smoothed_cross_entropy():
    assert float(TASK.loss(torch.zeros(2, 3), SAMPLE.target).loss) == pytest.approx(math.log(3), rel=1e-5)
    plain = replace(CONFIG, label_smoothing=0.0).build()
    confident = 50.0 * torch.nn.functional.one_hot(SAMPLE.target.index, 3)
    assert float(plain.loss(confident, SAMPLE.target).loss) == pytest.approx(0, abs=1e-6)
    assert float(TASK.loss(confident, SAMPLE.target).loss) == pytest.approx(0.1 * 2 / 3 * 50, rel=1e-4)
    _, (gradient,) = gradients(TASK, confident, SAMPLE.target)
    assert gradient.isfinite().all()


@pytest.mark.parametrize(("labels", "guess"), [([2, 2, 0], 2), ([1, 0, 0], 0), ([1, 2], 1)])
def test_the_control_guesses_the_most_frequent_class(labels, guess):
    samples = [TaskSample(NoQuery(), Label(torch.tensor([label]))) for label in labels]
    answer = TASK.fit_controls(samples)["mean_answer"](NoQuery(), CLIP, 3)
    asked = TaskSample(NoQuery(), Label(torch.arange(3)))
    assert values(TASK, answer, asked)["top_1"].tolist() == [float(guess == number) for number in range(3)]


@pytest.mark.parametrize("kind", ["attention", "linear"])
def test_two_clips_can_be_learned_by_heart(kind):
    first, last, answer = learn(replace(CONFIG, label_smoothing=0.0).build(), CLIP, SAMPLE, kind)
    assert last < first / 20
    assert values(TASK, answer, SAMPLE)["top_1"].tolist() == [1, 1]
