"""An exponential average of weights, that follows what is trained."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


@torch.no_grad()
def align(follower: nn.Module, leader: nn.Module) -> None:
    """Give a module the parameters of another one of its kind."""
    for mine, other in _pairs(follower, leader):
        mine.copy_(other)


@torch.no_grad()
def follow(follower: nn.Module, leader: nn.Module, rate: Tensor | float) -> None:
    """Move a module's parameters towards another's by a share of the way; sharded ones each rank its own part."""
    for mine, other in _pairs(follower, leader):
        mine.add_((other - mine) * rate)


def momentum_at(start: float, end: float, done: float) -> float:
    """Give the share of an average that stays in a step, going linearly from `start` to `end` over a run."""
    return start + (end - start) * done


def _pairs(follower: nn.Module, leader: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    for mine, other in zip(follower.parameters(), leader.parameters(), strict=True):
        yield _local(mine), _local(other)


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
