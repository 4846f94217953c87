"""From the slices of many ranks to whole tensors on the first one."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from fourd.parallel.ranks import Ranks


def give_up_gathered(objective: nn.Module) -> None:
    """Free weights that the last forward pass gathered, so that parameters are the slices again."""
    for module in objective.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def whole_state(module: nn.Module, ranks: Ranks) -> Mapping[str, Tensor]:
    """Gather a module's state on the first rank's host, tensor by tensor; other ranks get an empty mapping.

    All ranks call it.
    """
    state = {}
    for name, tensor in module.state_dict().items():
        whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if ranks.is_first:
            state[name] = whole.detach().cpu().contiguous()
    return state
