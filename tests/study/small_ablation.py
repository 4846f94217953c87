"""A study of seconds: two mask ratios and two baselines on tiny clips of the embedded world."""

from __future__ import annotations

import dataclasses

from fourd.backbones import mean_pixel, video_vit
from fourd.benchmark.units import Wanted
from fourd.objectives.simple_mae import SimpleMAEConfig
from fourd.optim import OptimConfig
from fourd.study import Arm, Best, Claim, Plot, Study, Trend
from fourd.trainer import RunConfig
from tests.small_suite import suite, world

STEPS = 4


def pretraining(mask_ratio: float = 0.75, steps: int = STEPS) -> RunConfig:
    """Describe a pretraining of milliseconds."""
    return RunConfig(
        SimpleMAEConfig(video_vit.tiny(), mask_ratio=mask_ratio, decoder_patch=(4, 8, 8)),
        dataclasses.replace(world(0, 8), tasks=()),
        optim=OptimConfig(learning_rate=1e-3, warmup_steps=1),
        steps=steps,
        batch_size=4,
        device="cpu",
        save_every=2,
    )


def arm(mask_ratio: float, steps: int = STEPS) -> Arm:
    """Describe one arm."""
    return Arm(f"mask {mask_ratio:g}", (("mask ratio", mask_ratio),), video_vit.tiny(), pretraining(mask_ratio, steps))


def ablation() -> Study:
    """Ask whether hiding more is better."""
    return Study(
        name="small",
        version=1,
        question="Does it help to hide more?",
        why="Nobody knows.",
        arms=(
            arm(0.5),
            arm(0.75),
            Arm("random weights", (), video_vit.tiny()),
            Arm("mean colour", (), mean_pixel.tiny()),
        ),
        suite=suite(rates=(1.0,)),
        wanted=Wanted(uses=("frozen",), readouts=("attention",), depths=(0.5, 1.0)),
        seeds=(0, 1),
        plots=(Plot("mask ratio"), Plot("block", "arm", title="Over depth")),
        claims=(Claim("mask 0.75", "mask 0.5", expected="better"), Best(), Trend("mask ratio", about="hiding")),
        notes=("Everything here is tiny.",),
    )


def broken() -> Study:
    """Describe the same with an arm that cannot be trained."""
    study = ablation()
    far = dataclasses.replace(pretraining(), optim=OptimConfig(learning_rate=1e30, warmup_steps=1), steps=STEPS)
    lost = Arm("lost", (("mask ratio", 0.6),), video_vit.tiny(), dataclasses.replace(far, init="nowhere.safetensors"))
    return dataclasses.replace(study, arms=(lost, *study.arms))
