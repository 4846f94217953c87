"""The processes of a run: who they are, how they are laid out, what they tell each other."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from fourd.parallel.devices import find_device
from fourd.parallel.settings import ParallelConfig

_BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}


@dataclass(frozen=True)
class Ranks:
    """Say which of how many processes this one is, and on which device it works.

    `local_size` is the number of ranks on one machine. Every method that speaks to the others is called by all ranks,
    in the same order; of one rank alone it gives back what it was given.
    """

    rank: int
    size: int
    local_size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Tell the rank that writes what is written once."""
        return self.rank == 0

    @property
    def many(self) -> bool:
        """Tell whether there are others."""
        return self.size > 1

    def add_up(self, tensor: Tensor) -> Tensor:
        """Add a tensor up over ranks, on the device; the host does not wait."""
        if self.many:
            tensor = tensor.clone()
            dist.all_reduce(tensor)
        return tensor

    def gather(self, value: Any) -> list[Any]:
        """Collect a value that can be pickled from every rank, in their order."""
        if not self.many:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value, group=_host_group())
        return found

    def from_first(self, value: Any) -> Any:
        """Give every rank what the first one has."""
        return self.gather(value)[0]

    def first_does(self, action: Callable[[], None]) -> None:
        """Let the first rank do something that is done once; what it raises is raised by all."""
        error = None
        if self.is_first:
            try:
                action()
            except Exception as raised:
                error = raised
        error = self.from_first(error)
        if error is not None:
            raise error

    def any(self, flag: bool) -> Agreement:
        """Ask whether some rank raises a flag; the answer may be taken later."""
        if not self.many:
            return Agreement(torch.tensor(flag))
        raised = torch.tensor(flag, dtype=torch.int32)
        return Agreement(raised, dist.all_reduce(raised, dist.ReduceOp.MAX, group=_host_group(), async_op=True))

    def shard_of(self, config: ParallelConfig) -> int:
        """Count the ranks that share a copy of the model; raise ValueError where that does not divide all ranks."""
        shard = config.shard or self.local_size
        if self.size % shard:
            found = f"there are {self.size} ranks" if self.many else "there is one process alone"
            raise ValueError(
                f"parallel.shard is {shard} and {found}: expected a divisor of {self.size}, or other ranks "
                "(torchrun --nproc-per-node N -m fourd ...)"
            )
        return shard

    def mesh(self, config: ParallelConfig) -> DeviceMesh | None:
        """Lay ranks out: copies of the model by the ranks that share one; None for one rank alone.

        Raises ValueError where the ranks are no whole number of such groups.
        """
        shard = self.shard_of(config)
        if not self.many:
            return None
        names = ("replicate", "shard")
        mesh = init_device_mesh(self.device.type, (self.size // shard, shard), mesh_dim_names=names)
        return mesh if self.size > shard > 1 else mesh["shard"] if shard > 1 else mesh


@dataclass(frozen=True)
class Agreement:
    """Hold an answer of all ranks that may still be on its way."""

    raised: Tensor
    underway: Any = None

    def __bool__(self) -> bool:
        """Wait for the answer."""
        if self.underway is not None:
            self.underway.wait()
        return bool(self.raised)


ALONE = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}


def join(device: str, timeout_s: float = 1800.0) -> Ranks:
    """Take this process' place among those that `torchrun` started, or stand alone.

    device: as `find_device` takes it; "auto" and "cuda" give each rank of a machine a GPU of its own. timeout_s: how
    long ranks wait for each other. Raises ValueError for a device that cannot be used.
    """
    rank, size, local_rank, local_size = (int(os.environ.get(name, alone)) for name, alone in ALONE.items())
    if size == 1:
        return Ranks(0, 1, 1, find_device(device))
    own = find_device(device)
    if own.type == "cuda":
        own = find_device(f"cuda:{local_rank}")
        torch.cuda.set_device(own)
    if not dist.is_initialized():
        dist.init_process_group(_BACKENDS[own.type], timeout=timedelta(seconds=timeout_s))
        atexit.register(_leave)
    return Ranks(rank, size, local_size, own)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


@cache
def _host_group() -> dist.ProcessGroup:
    """Give the group that hosts speak in, apart from what devices exchange."""
    group: dist.ProcessGroup = dist.new_group(backend="gloo")
    return group
