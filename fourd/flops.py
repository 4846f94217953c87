"""Floating-point operations of a training step, counted by a step without numbers."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from fourd.types import Batch, Config, Objective, map_tensors


def training_flop(config: Config[Objective], batch: Batch) -> float:
    """Count the operations of one forward and backward pass over a batch, of which only the shapes matter.

    A multiplication and an addition are two; only matrix products and attention count; nothing is computed twice.
    Raises what torch raises where the objective decides by numbers, which there are none of.
    """
    with torch.device("meta"):
        objective = config.build().train()
        blank: Batch = map_tensors(lambda tensor: torch.empty_like(tensor, device="meta"), batch)
        with FlopCounterMode(display=False) as counter:
            objective(blank).loss.backward()
    return float(counter.get_total_flops())
