"""Which readouts a task has: it learns by those beside the paper's, and refuses others in words."""

from __future__ import annotations

from types import ModuleType

import pytest

from fourd.tasks import action, box_tracking, camera_pose, depth, point_tracking
from fourd.types import ReadoutKind
from tests.tasks.learning import SHAPE, learn

TASKS = (action, box_tracking, camera_pose, depth, point_tracking)


def test_every_task_has_the_kinds_that_suites_ask_for_and_dense_answers_are_for_pixels():
    has = {module.tiny().build().kind: module.tiny().build().readouts for module in TASKS}
    assert all({"attention", "linear", "attention_deep"} <= set(kinds) for kinds in has.values())
    assert [kind for kind, kinds in has.items() if "dense" in kinds] == ["depth"]


@pytest.mark.parametrize(("module", "kind"), [(point_tracking, "attention_deep"), (depth, "dense")])
def test_two_clips_can_be_learned_by_heart(module: ModuleType, kind: ReadoutKind):
    task, (clip, sample) = module.tiny().build(), module.tiny_sample()
    first, last, _ = learn(task, clip, sample, kind)
    assert last < first / 3


@pytest.mark.parametrize("module", [module for module in TASKS if module is not depth])
def test_a_kind_that_a_task_does_not_have_is_refused(module: ModuleType):
    task, (clip, _) = module.tiny().build(), module.tiny_sample()
    told = f"task '{task.name}' has no 'dense' readout: ask for one of attention, linear, attention_deep"
    with pytest.raises(ValueError, match=told):
        task.build_readout(SHAPE, clip, "dense")
