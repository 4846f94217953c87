"""Floating-point operations of a training step, counted by steps without numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from fourd.types import Batch, Config, Objective, map_tensors


@dataclass(frozen=True)
class StepFlop:
    """Hold the operations of a forward and backward pass: those done once, and those of each clip."""

    once: float
    each: float

    @classmethod
    def counted(cls, of_clips: Callable[[int], float]) -> StepFlop:
        """Learn both from the operations of one clip and of two."""
        one, two = of_clips(1), of_clips(2)
        return cls(2 * one - two, two - one)

    def of(self, clips: int) -> float:
        """Give the operations of a pass over so many clips."""
        return self.once + clips * self.each

    def per_clip(self, clips: int) -> float:
        """Give the operations of one of so many clips that pass together."""
        return self.of(clips) / clips


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
