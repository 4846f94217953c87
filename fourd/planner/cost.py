"""Time and traffic of a step, and what a run of many costs. Simple arithmetic, every assumption by name."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fourd.flops import StepFlop
from fourd.parallel import ParallelConfig, Precision
from fourd.planner.gpus import Gpu

BYTES = {"bf16": 2, "fp32": 4}
_GATHERS = 2
"""Times that a part of a step gathers all weights: for the forward and again for the backward pass."""
STATE_BYTES = 12
"""Of a parameter in a checkpoint: itself and two moments, in float32."""
STEP_STATE_BYTES = STATE_BYTES + 4
"""Of a parameter while it is moved: its gradient as well."""


@dataclass(frozen=True)
class Assumptions:
    """Hold what no measurement of memory can say. None of it is from the paper."""

    utilisation: float = 0.5
    """Share of the dense rate that matrix products of a step reach."""
    network_gb_s: float = 50.0
    """What each GPU sends to other machines, 1e9 bytes per second; by default 400 Gbit/s for each, as in a DGX H100."""


@dataclass(frozen=True)
class StepTime:
    """Hold the seconds of a step: its arithmetic, and its traffic, which is taken to run beside it."""

    compute_s: float
    traffic_s: float

    @property
    def seconds(self) -> float:
        """Give the longer of the two."""
        return max(self.compute_s, self.traffic_s)


@dataclass(frozen=True)
class Load:
    """Hold what a step has to do; flop: with what is computed twice."""

    parameters: int
    flop: StepFlop
    batch: int
    precision: Precision


def step_time(load: Load, gpus: int, parallel: ParallelConfig, gpu: Gpu, how: Assumptions) -> StepTime:
    """Estimate a step: all wait for the rank that has most clips."""
    rate = gpu.tflops * 1e12 * how.utilisation
    share = math.ceil(load.batch / gpus)
    flop = parallel.parts * load.flop.once + share * load.flop.each
    return StepTime(flop / rate, traffic_s(load, gpus, parallel, gpu, how))


def traffic_s(load: Load, gpus: int, parallel: ParallelConfig, gpu: Gpu, how: Assumptions) -> float:
    """Estimate the seconds in which weights and gradients travel, by rings: each rank sends all but its own part."""
    shard = parallel.shard or min(gpu.per_node, gpus)
    copies = gpus // shard
    gathered = parallel.parts * (_GATHERS * BYTES[load.precision] + BYTES[parallel.reduce])
    within = load.parameters * gathered * (shard - 1) / shard
    between = parallel.parts * 2 * load.parameters / shard * BYTES[parallel.reduce] * (copies - 1) / copies
    return (within / _speed(shard, gpu, how) + between / _speed(gpus, gpu, how)) if gpus > 1 else 0.0


def _speed(ranks: int, gpu: Gpu, how: Assumptions) -> float:
    """Give the bytes per second at which each of some ranks sends to the others."""
    return (gpu.link_gb_s if ranks <= gpu.per_node else min(how.network_gb_s, gpu.link_gb_s)) * 1e9
