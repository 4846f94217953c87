"""A run's state as a checkpoint holds it: weights, moments, and whatever else the loop carries on."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.optim import Optimizer

from fourd.parallel import Ranks
from fourd.types import Objective

_OPTIONS = StateDictOptions(ignore_frozen_params=True, strict=False)


def state_of(objective: nn.Module, optimizer: Optimizer, carried: Mapping[str, Tensor] | None = None) -> dict[str, Any]:
    """Name every tensor of a run's state; they are the run's own, not copies.

    carried: what the loop holds beside weights and moments; the same on every rank.
    """
    model, optim = get_state_dict(objective, optimizer, options=_OPTIONS)
    state = {"model": model, "optimizer": optim, "carried": dict(carried or {})}
    followers = _followers_of(objective)
    return state | ({"followers": followers} if followers else {})


def _followers_of(objective: nn.Module) -> dict[str, Tensor]:
    """Name what moves without a gradient; buffers are among a model's own numbers already."""
    followers = objective.followers() if isinstance(objective, Objective) else {}
    named = (
        (f"{part}.{name}", value) for part, module in followers.items() for name, value in module.named_parameters()
    )
    return {name: value.detach() for name, value in named}


def restore(
    path: Path, objective: nn.Module, optimizer: Optimizer, ranks: Ranks, carried: Mapping[str, Tensor] | None = None
) -> None:
    """Put a checkpoint's numbers back, in place, whatever the number of ranks that wrote them."""
    state = state_of(objective, optimizer, carried)
    stored = dcp.FileSystemReader(path).read_metadata().state_dict_metadata
    moments = state["optimizer"]["state"]
    for name in [name for name in moments if f"optimizer.state.{name}.step" not in stored]:
        del moments[name]  # a parameter that never had a gradient has no moments yet
    with quiet_alone(), _interruptible():
        dcp.load(state, checkpoint_id=path, no_dist=not ranks.many)
    set_state_dict(
        objective, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"], options=_OPTIONS
    )


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C through, which torch takes for one of the failures of reading."""
    try:
        yield
    except CheckpointException as error:
        if any(isinstance(failure, KeyboardInterrupt) for failure, _ in error.failures.values()):
            raise KeyboardInterrupt from None
        raise


@contextmanager
def quiet_alone() -> Iterator[None]:
    """Keep torch from warning that a single process is a single process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def copied(state: Any) -> Any:
    """Copy a state to the host's memory, so that training may go on while it is written."""
    if isinstance(state, Tensor):  # of a DTensor too: from_local would take it back to the mesh's devices
        return state.detach().to("cpu", copy=True)
    if isinstance(state, Mapping):
        return {name: copied(value) for name, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(copied(value) for value in state)
    return state
