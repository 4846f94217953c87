"""How many clips a second each size of model asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from fourd.backbones import video_vit
from fourd.backbones.video_vit import VideoViTConfig
from fourd.flops import training_flop
from fourd.objectives.simple_mae import SimpleMAEConfig
from fourd.types import Batch

SIZES: dict[str, Callable[[], VideoViTConfig]] = {
    "S": video_vit.small,
    "B": video_vit.base,
    "L": video_vit.large,
    "H": video_vit.huge,
    "G": video_vit.giant,
    "e": video_vit.size_e,
    "j": video_vit.size_j,
}


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
    """Count the floating-point operations of training on one clip, forward and backward."""
    frames, size = config.backbone.num_frames, config.backbone.size
    pixels = torch.empty(1, frames, 3, *size, dtype=torch.uint8, device="meta")
    times, seed = torch.empty(1, frames, device="meta"), torch.zeros(1, dtype=torch.int64, device="meta")
    return training_flop(config, Batch(pixels, times, ("",), ("",), seed))
