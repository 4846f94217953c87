"""How a run is laid over devices. None of it changes what is learned, beyond rounding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Recompute = Literal["none", "selective", "full"]
Compile = Literal["auto", "yes", "no"]


@dataclass(frozen=True)
class ParallelConfig:
    """Describe the layout of a run. None of the values is from the paper."""

    shard: int = 0
    """Ranks that a model's weights, gradients and moments are split over; whole copies of such groups work side by
    side. 0 takes the ranks of one machine; 1 keeps everything whole on every rank."""
    recompute: Recompute = "none"
    """What the backward pass computes again instead of keeping it: nothing, all but matrix products and attention of
    each block, or whole blocks."""
    parts: int = 1
    """Parts that a rank's share of a batch is worked off in, one after the other, their gradients added up."""
    compile: Compile = "auto"
    """Compile each block: on a GPU (auto), always or never."""
    reduce: Literal["fp32", "bf16"] = "fp32"
    """Precision in which gradients are added up over ranks."""
    reshard: bool = True
    """Give up a block's gathered weights between its forward and its backward pass."""

    def __post_init__(self) -> None:
        """Refuse counts that no run can have."""
        for name, least in (("shard", 0), ("parts", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"ParallelConfig.{name} is {getattr(self, name)}: expected {least} or more")
