"""A study of seconds: a tiny world, a tiny encoder, three tasks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fourd.backbones import mean_pixel, video_vit
from fourd.datasets import toy_world
from fourd.demonstration import Presentation, StudyConfig
from fourd.objectives.simple_mae import SimpleMAEConfig
from fourd.optim import OptimConfig
from fourd.tasks import action, box_tracking, camera_pose
from fourd.tasks.action import ActionConfig
from fourd.trainer import RunConfig
from fourd.types import ClipShape, TaskConfig

TASKS = ("box_tracking", "camera_pose", "camera_motion")


def world(first_index: int, num_clips: int, tasks: tuple[str, ...] = TASKS) -> toy_world.ToyWorldConfig:
    """Describe a few clips; all of them lie in one chunk of the tiny world."""
    return replace(toy_world.tiny(), first_index=first_index, num_clips=num_clips, tasks=tasks)


def tasks() -> tuple[TaskConfig, ...]:
    motions = ActionConfig("camera_motion", toy_world.CAMERA_MOTIONS, action.tiny().size)
    return (box_tracking.tiny(), camera_pose.tiny(), motions)


def study() -> StudyConfig:
    """Describe the study."""
    optim = OptimConfig(learning_rate=1e-3, warmup_steps=1, clip_norm=0.0)
    pretraining = RunConfig(
        SimpleMAEConfig(video_vit.tiny(), mask_ratio=0.75, decoder_patch=(4, 8, 8)),
        world(0, 8, ()),
        optim=optim,
        steps=3,
        batch_size=4,
        device="cpu",
    )
    return StudyConfig(
        suite="small_v1",
        pretraining=pretraining,
        backbone=video_vit.tiny(),
        baseline=mean_pixel.tiny(),
        train=world(0, 6),
        test=world(10, 5),
        tasks=tasks(),
        clip=ClipShape(4, 32, 32),
        readouts=("attention", "linear"),
        depths=(0.5, 1.0),
        probe_optim=optim,
        probe_steps=3,
        probe_batch_size=4,
        presentation=Presentation("Small", "A study.", (), (), (), "fourd demo"),
    )


def rng() -> np.random.Generator:
    """Make random numbers for reading a clip."""
    return np.random.default_rng(0)
