"""Norms of weights and of their last update, layer by layer, from what the optimiser keeps anyway."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

_ENDINGS = ("weight", "bias")
_Ranks = tuple[dist.ProcessGroup, ...]
_Squares = dict[_Ranks, dict[str, list[Tensor]]]


@dataclass(frozen=True)
class LayerNorms:
    """Hold the norms of layer groups, on the device until somebody reads them."""

    names: tuple[str, ...]
    values: Float[Tensor, "group 2"]
    """Of the weights, and of their last update."""

    def read(self) -> dict[str, float]:
        """Fetch them, once, as `weight_norm/GROUP` and `update_norm/GROUP`; the host waits for the device."""
        rows = self.values.tolist()
        weights = {f"weight_norm/{name}": row[0] for name, row in zip(self.names, rows, strict=True)}
        return weights | {f"update_norm/{name}": row[1] for name, row in zip(self.names, rows, strict=True)}


def layer_group(name: str) -> str:
    """Map the name of a parameter to the layer that it is counted with.

    What stands in a list belongs to its entry (`backbone.blocks.3.mlp.0.bias` to `backbone.blocks.3`); anything else to
    the first two parts of its name, not counting a last `weight` or `bias`.
    """
    parts = name.split(".")
    for place, part in enumerate(parts):
        if part.isdigit():
            return ".".join(parts[: place + 1])
    if len(parts) > 1 and parts[-1] in _ENDINGS:
        parts = parts[:-1]
    return ".".join(parts[:2])


@torch.no_grad()
def layer_norms(module: nn.Module, optimizer: torch.optim.Optimizer) -> LayerNorms:
    """Take the norms of the weights of each layer group and of the update of the last step, decay included.

    To be called after `optimizer.step()`, before anything changes the learning rates or the weights. Updates follow
    from the optimiser's state, without a copy of the weights; they are 0 where it has moved nothing, or has left the
    last step out for its `found_inf`. Of sharded parameters every rank looks at its part, so all ranks that share them
    call this together. The host does not wait for the device. Raises ValueError for an optimiser that is not AdamW with
    decoupled decay and without amsgrad, or one that knows nothing of a parameter that is trained.
    """
    _require_adamw(optimizer)
    groups = {parameter: group for group in optimizer.param_groups for parameter in group["params"]}
    squares: _Squares = defaultdict(lambda: defaultdict(list))
    for name, parameter in module.named_parameters():
        if parameter.requires_grad and parameter not in groups:
            raise ValueError(f"{name} is trained, and not by this optimiser: is it gathered? Give it up first")
        pair = _squares(parameter, groups.get(parameter), optimizer.state.get(parameter))
        squares[_ranks_sharing(parameter)][layer_group(name)].append(pair)
    names = tuple(dict.fromkeys(layer_group(name) for name, _ in module.named_parameters()))
    parts = [_added_up(named, names, ranks) for ranks, named in squares.items()]
    values = torch.stack(parts).sum(0)
    left_out: Tensor | None = getattr(optimizer, "found_inf", None)
    if left_out is not None:
        values[:, 1] *= 1 - left_out.to(values)
    return LayerNorms(names, values.sqrt())


def _require_adamw(optimizer: torch.optim.Optimizer) -> None:
    amsgrad = any(group.get("amsgrad") for group in optimizer.param_groups)
    if not isinstance(optimizer, torch.optim.AdamW) or amsgrad:
        found = type(optimizer).__name__ + (" with amsgrad" if amsgrad else "")
        raise ValueError(f"norms of updates follow from the state of AdamW without amsgrad; found {found}")


def _squares(parameter: Tensor, group: Mapping[str, Any] | None, state: Mapping[str, Any] | None) -> Float[Tensor, "2"]:
    """Take the squared norms of what this rank holds of a parameter, and of its last update."""
    weight = _local(parameter)
    square = _square(weight)
    if not group or not state:
        return torch.stack([square, torch.zeros_like(square)])
    return torch.stack([square, _update_square(weight, group, state)])


def _update_square(weight: Tensor, group: Mapping[str, Any], state: Mapping[str, Any]) -> Float[Tensor, ""]:
    """Take the squared norm of what the last step took from a weight; one tensor of its size is made for it.

    AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) makes w' = (1 - d) w - s with d = rate * decay, so of the new
    weight w' alone: w - w' = (s + d w') / (1 - d). All that is the same for every number is multiplied
    in after the norm is taken: fewer passes over memory.
    """
    rate, decay = group["lr"], group["weight_decay"]
    step = _local(state["step"]).to(weight.device)
    first, second = (_correction(beta, step) for beta in group["betas"])
    taken = _local(state["exp_avg_sq"]).float().sqrt().add_(second.sqrt() * group["eps"])
    torch.div(_local(state["exp_avg"]), taken, out=taken)
    if decay:
        # divided by the factor below, in which the rate stands: it may be 0
        taken.addcmul_(weight.float(), decay * first / second.sqrt())
    factor = rate * second.sqrt() / first / (1 - rate * decay)
    return _square(taken) * factor.square() * (step > 0)


def _correction(beta: float, step: Tensor) -> Tensor:
    """Give 1 - beta^step, exact for small steps too, and 1 before the first."""
    return torch.where(step > 0, -torch.expm1(step * math.log(beta)), 1.0) if beta else torch.ones_like(step)


def _square(tensor: Tensor) -> Float[Tensor, ""]:
    return torch.linalg.vector_norm(tensor, dtype=torch.float32).square()


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _ranks_sharing(parameter: Tensor) -> _Ranks:
    """Name the groups of ranks that a parameter is split over; where it is whole on every rank there is none."""
    if not isinstance(parameter, DTensor):
        return ()
    mesh, placements = parameter.device_mesh, parameter.placements
    if any(placement.is_partial() for placement in placements):
        raise ValueError(f"a parameter is placed as {placements}: expected shards and replicas of it")
    # not is_shard(): shards of shards (FSDP2 over tensor parallelism) say no to it
    return tuple(mesh.get_group(place) for place, placement in enumerate(placements) if not placement.is_replicate())


def _added_up(named: Mapping[str, list[Tensor]], names: tuple[str, ...], ranks: _Ranks) -> Float[Tensor, "group 2"]:
    """Add squares up over the parameters of each layer group, then over ranks."""
    nothing = next(iter(named.values()))[0].new_zeros(2)
    total = torch.stack([torch.stack(named[name]).sum(0) if name in named else nothing for name in names])
    for group in ranks:
        dist.all_reduce(total, group=group)
    return total
