"""Pretraining on your own videos: `fourd pretrain [RECIPE] --data DATA --out RUN`, where DATA is what `clips_of` takes.

All of them are SimpleMAE as published: 95% of the patches hidden, plain pixels, the last two blocks.
Frames are 2 apart, crops and flips are random, the decoder starts from an even grey; none of that, nor
any number of the optimiser, is from the paper.
"""

from __future__ import annotations

from dataclasses import replace

from fourd.backbones import video_vit
from fourd.backbones.video_vit import VideoViTConfig
from fourd.datasets._corpora import clips_of
from fourd.datasets.toy_world import ToyWorldConfig
from fourd.objectives.simple_mae import SimpleMAEConfig
from fourd.optim import OptimConfig
from fourd.recipes import demo
from fourd.trainer import RunConfig


def laptop(data: str) -> RunConfig:
    """Pretrain 4DS-S on clips of 16 frames of 112 pixels: about 11 clips/s on two CPU cores.

    `fourd pretrain --data DIR --out RUN`. Meant to be seen working, not to give good features.
    """
    backbone = video_vit.small().at(112)
    return _run(data, backbone, learning_rate=1e-3, steps=1000, batch_size=8, warmup_steps=50, num_workers=1)


def small(data: str) -> RunConfig:
    """Pretrain 4DS-S at 224 pixels on one GPU."""
    return _run(data, video_vit.small(), 3e-4, steps=500_000, batch_size=256)


def base(data: str) -> RunConfig:
    """Pretrain 4DS-B at 224 pixels on one GPU."""
    return _run(data, video_vit.base(), 3e-4, steps=500_000, batch_size=256)


def large(data: str) -> RunConfig:
    """Pretrain 4DS-L at 224 pixels on one large GPU."""
    return _run(data, video_vit.large(), 3e-4, steps=500_000, batch_size=256)


def _run(
    data: str,
    backbone: VideoViTConfig,
    learning_rate: float,
    steps: int,
    batch_size: int,
    warmup_steps: int = 10_000,
    num_workers: int = 8,
) -> RunConfig:
    clips, held_out = clips_of(data, backbone.num_frames, backbone.size)
    return RunConfig(
        objective=SimpleMAEConfig(backbone, decoder_bias=0.5, decoder_gain=0.0),
        data=clips,
        held_out=held_out,
        optim=OptimConfig(learning_rate=learning_rate, warmup_steps=warmup_steps),
        steps=steps,
        batch_size=batch_size,
        num_workers=num_workers,
        save_every=100 if steps < 10_000 else 1000,
        held_out_every=100 if steps < 10_000 else 1000,
    )


def toy_world() -> RunConfig:
    """Pretrain 4DS-S on the embedded world at 112 pixels, with nothing to download."""
    backbone = video_vit.small().at(112)
    world = ToyWorldConfig(num_frames=16, height=112, width=112, duration_s=1.4, flip=True)
    return RunConfig(
        objective=SimpleMAEConfig(backbone, decoder_bias=0.5, decoder_gain=0.0),
        data=world,
        optim=OptimConfig(5e-4, warmup_steps=100),
        batch_size=8,
    )


def toy() -> RunConfig:
    """Pretrain the demo's encoder as the demo does, in minutes on two CPU cores, for `toy_four_d`."""
    return demo.pretraining()


def toy_small() -> RunConfig:
    """Pretrain a smaller encoder in the same way."""
    run = demo.pretraining()
    assert isinstance(run.objective, SimpleMAEConfig)
    return replace(run, objective=replace(run.objective, backbone=video_vit.toy_small()))
