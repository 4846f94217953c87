"""How many clips a second each size of model asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from fourd.backbones import video_vit
from fourd.backbones.video_vit import VideoViTConfig
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

_BACKWARD = 2
"""The backward pass takes twice the multiplications of the forward pass."""


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
        flop = training_flop(SimpleMAEConfig(config()))
        found.append(Demand(size, flop, tflop_per_s * 1e12 * utilisation / flop))
    return found


def training_flop(config: SimpleMAEConfig) -> float:
    """Count the floating-point operations of training on one clip, forward and backward, by a run without numbers."""
    frames, size = config.backbone.num_frames, config.backbone.size
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        pixels = torch.empty(1, frames, 3, *size, dtype=torch.uint8)
        config.build()(Batch(pixels, torch.empty(1, frames), ("",), ("",), torch.zeros(1, dtype=torch.int64)))
    return float((1 + _BACKWARD) * counter.get_total_flops())
