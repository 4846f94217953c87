"""How fast a step could be at most: each operation bound by multiplying or by moving its numbers.

Source: Williams, Waterman, Patterson, Roofline, 2009: an operation takes at least its operations by the rate of
multiplication, and its bytes by the rate of memory.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from fourd.objectives.simple_mae import SimpleMAEConfig
from fourd.parallel import Precision
from fourd.telemetry import matrix_rate
from fourd.types import Batch

_COPIED_BYTES = {"cpu": 2**28, "cuda": 2**31}
_ROUNDS = 10
_NUMBER_BYTES = 2
_PASSES: dict[Any, int] = {
    torch.ops.aten.native_layer_norm: 2,
    torch.ops.aten.native_layer_norm_backward: 3,
    torch.ops.aten.gelu: 2,
    torch.ops.aten.gelu_backward: 3,
    torch.ops.aten.add: 3,
}
"""How often an operation that is no product moves numbers at the least: what it reads and what it writes."""
_OPTIMISER_BYTES = 28
"""Bytes that AdamW reads and writes for each parameter: weight, gradient and two moments, in float32."""


@dataclass(frozen=True)
class Limits:
    """Hold what a device reaches: products in FLOP per second, copies in bytes (read and written) per second."""

    flop_per_s: float
    bytes_per_s: float


def measure_limits(device: torch.device, precision: Precision) -> Limits:
    """Measure both rates."""
    source = torch.zeros(_COPIED_BYTES[device.type], dtype=torch.uint8, device=device)
    target, spent = torch.empty_like(source), []
    for _ in range(_ROUNDS):
        _wait(device)
        began = time.perf_counter()
        target.copy_(source)
        _wait(device)
        spent.append(time.perf_counter() - began)
    return Limits(matrix_rate(device, precision), 2 * source.numel() / statistics.median(spent))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def limit_s(config: SimpleMAEConfig, batch_size: int, limits: Limits) -> float:
    """Give the least seconds of a step of SimpleMAE, activations in two bytes.

    Each product takes what multiplying or moving its operands takes, whichever is longer; attention holds its scores on
    the chip. Of all else only what `_PASSES` names moves numbers, everything next to it joined to it. Nothing runs
    beside another.
    """
    frames, size = config.backbone.num_frames, config.backbone.size
    with torch.device("meta"):
        objective = config.build().bfloat16()
        names = ("",) * batch_size
        video = torch.empty(batch_size, frames, 3, *size, dtype=torch.uint8)
        batch = Batch(video, torch.empty(batch_size, frames), names, names, torch.zeros(batch_size, dtype=torch.int64))
        with _Roofline(limits) as roofline:
            objective(batch).loss.backward()
    parameters = sum(parameter.numel() for parameter in objective.parameters())
    return roofline.seconds + parameters * _OPTIMISER_BYTES / limits.bytes_per_s


class _Roofline(TorchDispatchMode):
    """Add up the least time of every operation within a `with` block; numbers are not needed."""

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self.limits, self.seconds = limits, 0.0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation, and add its least time; what is neither a product nor a pass over memory costs nothing."""
        kwargs = dict(kwargs or {})
        result = func(*args, **kwargs)
        packet = func.overloadpacket
        if packet in flop_registry:
            flop = flop_registry[packet](*args, **kwargs, out_val=result)
            self.seconds += max(flop / self.limits.flop_per_s, _moved(packet, args, result) / self.limits.bytes_per_s)
        elif packet in _PASSES:
            self.seconds += _PASSES[packet] * _NUMBER_BYTES * _largest(result) / self.limits.bytes_per_s
        return result


def _moved(packet: Any, args: tuple[Any, ...], result: Any) -> int:
    """Count the bytes of a product's operands; of a batch of them, as attention has, without the scores."""
    sizes = [leaf.numel() for leaf in tree_leaves((args, result)) if isinstance(leaf, Tensor)]
    return _NUMBER_BYTES * (sum(sizes) - (max(sizes) if packet is torch.ops.aten.bmm else 0))


def _largest(result: Any) -> int:
    return max(leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor))
