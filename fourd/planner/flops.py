"""What recomputation adds to the arithmetic of a step."""

from __future__ import annotations

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from fourd.parallel import ParallelConfig, arrange
from fourd.parallel.settings import Recompute
from fourd.planner.measure import blank_batch, native_input
from fourd.types import ObjectiveConfig


def counted_flop(config: ObjectiveConfig, recompute: Recompute, clips: int) -> float:
    """Count the operations of a forward and backward pass over some clips, those computed twice included.

    A multiplication and an addition are two; matrix products and attention count. Where nothing is computed twice it is
    `fourd.flops.training_flop`.
    """
    native = native_input(config)
    with FakeTensorMode():
        objective = config.build().train()
        arrange(objective, ParallelConfig(recompute=recompute, compile="no"), None, "fp32", torch.device("cpu"))
        with FlopCounterMode(display=False) as counter:
            objective(blank_batch(native, clips)).loss.backward()
    return float(counter.get_total_flops())
