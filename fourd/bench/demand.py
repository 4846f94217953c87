"""How many clips a second each size of model asks for."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fourd.backbones.video_vit import SIZES
from fourd.flops import StepFlop, training_flop
from fourd.objectives.simple_mae import SimpleMAEConfig
from fourd.types import Batch


@dataclass(frozen=True)
class Demand:
    """Say what a clip costs a model, and how many a device can train on in a second."""

    size: str
    flop_per_clip: float
    clips_per_s: float


def demands(tflop_per_s: float, utilisation: float) -> list[Demand]:
    """Give the demand of SimpleMAE as published, for each size, on a device of a stated speed.

    tflop_per_s: what its matrix multiplications reach; utilisation: the share of it that a training reaches.
    """
    found = []
    for size, config in SIZES.items():
        flop = flop_per_clip(SimpleMAEConfig(config()))
        found.append(Demand(size, flop, tflop_per_s * 1e12 * utilisation / flop))
    return found


def flop_per_clip(config: SimpleMAEConfig) -> float:
    """Count the floating-point operations of training on one clip of a large batch, forward and backward."""
    return StepFlop.counted(lambda clips: training_flop(config, _blank(config, clips))).each


def _blank(config: SimpleMAEConfig, clips: int) -> Batch:
    frames, size = config.backbone.num_frames, config.backbone.size
    pixels = torch.empty(clips, frames, 3, *size, dtype=torch.uint8, device="meta")
    times, seed = torch.empty(clips, frames, device="meta"), torch.zeros(clips, dtype=torch.int64, device="meta")
    return Batch(pixels, times, ("",) * clips, ("",) * clips, seed)
