"""Probing a pretrained backbone on the embedded world: `fourd probe [RECIPE] --init WEIGHTS --out RUN`.

The weights are a run's `final/model.safetensors`. Scores are taken on the clips that the demo is tested on,
which no recipe trains on; whoever chooses by them should report on others.
None of the numbers is from the paper.
"""

from __future__ import annotations

from dataclasses import replace

from fourd.backbones import video_vit
from fourd.datasets.toy_world import ToyWorldConfig
from fourd.objectives.probe import ProbeConfig
from fourd.recipes import demo
from fourd.trainer import RunConfig


def toy_frozen() -> RunConfig:
    """Learn readouts of all five tasks on the demo's encoder, which stays as it is."""
    study = demo.demo()
    objective = ProbeConfig(video_vit.toy(), study.tasks, study.clip, study.readouts, study.depths)
    return RunConfig(
        objective=objective,
        data=study.train,
        held_out=study.test,
        optim=study.probe_optim,
        steps=study.probe_steps,
        batch_size=study.probe_batch_size,
    )


def toy_finetuned() -> RunConfig:
    """Learn the same readouts, one kind at one depth, while the encoder learns along at a tenth of the rate."""
    frozen = toy_frozen()
    assert isinstance(frozen.objective, ProbeConfig)
    objective = replace(frozen.objective, readouts=("attention",), depths=(1.0,), use="finetuned")
    return replace(frozen, objective=objective, optim=replace(frozen.optim, backbone_multiplier=0.1))


def tiny() -> RunConfig:
    """Probe the demo's encoder for a moment, to see that everything runs."""
    names = ("camera_pose", "camera_motion")
    frozen = toy_finetuned()
    assert isinstance(frozen.objective, ProbeConfig)
    tasks = tuple(task for task in frozen.objective.tasks if task.name in names)
    world = ToyWorldConfig(num_clips=32, tasks=names)
    unseen = replace(world, first_index=32)
    return replace(
        frozen, objective=replace(frozen.objective, tasks=tasks), data=world, held_out=unseen, steps=4, batch_size=8
    )
