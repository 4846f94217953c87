"""What arms cost is counted, and equal operations are equal."""

from __future__ import annotations

import pytest

from fourd.flops import training_flop
from fourd.objectives.simple_mae import SimpleMAEConfig
from fourd.planner.measure import blank_batch, native_input
from fourd.study import flop_of_run, flop_of_step, steps_for
from fourd.types import ClipShape
from tests.study.small_ablation import pretraining


def objective(mask_ratio: float) -> SimpleMAEConfig:
    config = pretraining(mask_ratio).objective
    assert isinstance(config, SimpleMAEConfig)
    return config


def test_arms_get_equal_operations_within_half_a_step():
    budget = 100 * flop_of_step(objective(0.5), 4)
    steps = steps_for(budget, objective(0.75), 4)
    assert steps > 100  # hiding more costs less, so that more steps are paid for
    assert abs(steps * flop_of_step(objective(0.75), 4) - budget) <= flop_of_step(objective(0.75), 4) / 2
    assert steps_for(budget, objective(0.5), 4) == 100


def test_operations_are_those_of_a_batch_of_that_many_clips():
    config = objective(0.75)
    assert flop_of_step(config, 4) == training_flop(config, blank_batch(native_input(config), 4))
    assert flop_of_step(config, 8) > 1.9 * flop_of_step(config, 4)


def test_a_clip_that_is_resized_costs_what_the_resized_one_does():
    native = native_input(objective(0.75))
    larger = ClipShape(native.clip_frames, 2 * native.size[0], 2 * native.size[1])
    assert flop_of_step(objective(0.75), 2, larger) == flop_of_step(objective(0.75), 2)


def test_a_run_costs_its_steps():
    run = pretraining(0.75, steps=7)
    assert flop_of_run(run) == 7 * flop_of_step(run.objective, run.batch_size)


def test_a_budget_below_a_step_is_refused():
    with pytest.raises(ValueError, match=r"operations: a step of 4 samples takes .*, which is more"):
        steps_for(1000.0, objective(0.75), 4)
    with pytest.raises(ValueError, match="batch_size is 0"):
        flop_of_step(objective(0.75), 0)
