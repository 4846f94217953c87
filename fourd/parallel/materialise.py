"""From a description to a model with every parameter set and nothing left by chance.

The order is fixed: build on the meta device, lay it over the ranks, give each its memory, fill that with NaN,
initialise, check. No rank ever holds more than its own part and one whole tensor.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from fourd.parallel.devices import Precision
from fourd.parallel.filling import sliced_filling
from fourd.parallel.ranks import Ranks
from fourd.parallel.settings import ParallelConfig
from fourd.parallel.sharding import arrange
from fourd.types import Config, Objective


def materialise(
    config: Config[Objective],
    device: torch.device,
    seed: int,
    *,
    ranks: Ranks | None = None,
    parallel: ParallelConfig | None = None,
    precision: Precision = "fp32",
) -> Objective:
    """Build an objective and fill all of its parameters; raise RuntimeError naming those left unset.

    The numbers are the same whatever the number of ranks.
    """
    objective = build_blank(config)
    if ranks is not None and parallel is not None:
        arrange(objective, parallel, ranks.mesh(parallel), precision, device)
    fill(objective, device, seed)
    return objective


def build_blank(config: Config[Objective]) -> Objective:
    """Build an objective that takes no memory."""
    with torch.device("meta"):
        return config.build()


def fill(objective: Objective, device: torch.device, seed: int) -> None:
    """Give a blank objective its memory and its first numbers, in place; raise RuntimeError for those left unset."""
    objective.to_empty(device=device)
    with torch.no_grad(), sliced_filling():
        for tensor in (*objective.parameters(), *objective.buffers()):
            if (unset := _unset_value(tensor)) is not None:
                tensor.fill_(unset)
        objective.init_weights(torch.Generator(device).manual_seed(seed))
    require_finite(objective)


def require_finite(objective: Objective) -> None:
    """Raise RuntimeError when a parameter or a buffer holds a number that is not finite, or was never set."""
    named = (*objective.named_parameters(), *objective.named_buffers())
    unset = [name for name, value in named if _holds_unset(value)]
    if unset:
        raise RuntimeError(
            f"{len(unset)} parameters of {type(objective).__name__} hold numbers that are not finite, or were never "
            f"set: {unset[:5]}; its init_weights must fill every parameter and buffer"
        )


def _unset_value(tensor: Tensor) -> float | int | None:
    """Choose what marks a tensor as never set: NaN, or the least whole number, if no index can be it."""
    if tensor.is_floating_point():
        return torch.nan
    return torch.iinfo(tensor.dtype).min if tensor.dtype.is_signed else None


def _holds_unset(tensor: Tensor) -> bool:
    if isinstance(tensor, DTensor):
        tensor = tensor.to_local()
    if tensor.is_floating_point():
        return not bool(torch.isfinite(tensor).all())
    unset = _unset_value(tensor)
    return unset is not None and bool((tensor == unset).any())
