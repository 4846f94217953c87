"""The processes of a run: who they are, how they are laid out, what they tell each other."""

from __future__ import annotations

import atexit
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import distributed_c10d
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
    timeout_s: float = 1800.0
    """How long ranks wait for each other."""

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
        dist.all_gather_object(found, value, group=_host_group(self.timeout_s))
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
        told = self.from_first(_portable(error) if self.many else error)
        if error is not None:
            raise error
        if told is not None:
            raise told

    def new_host_group(self) -> dist.ProcessGroup | None:
        """Open a channel of its own between the hosts of all ranks, as a thread needs it; None for one rank alone."""
        if not self.many:
            return None
        group: dist.ProcessGroup = dist.new_group(backend="gloo", timeout=timedelta(seconds=self.timeout_s))
        return group

    def take_device(self) -> None:
        """Work on this rank's own device in the thread that calls: each begins on the first one."""
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)

    def any(self, flag: bool) -> Agreement:
        """Ask whether some rank raises a flag; the answer may be taken later."""
        if not self.many:
            return Agreement(torch.tensor(flag))
        raised = torch.tensor(flag, dtype=torch.int32)
        group = _host_group(self.timeout_s)
        return Agreement(raised, dist.all_reduce(raised, dist.ReduceOp.MAX, group=group, async_op=True))

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
        if dist.get_backend() != "fake":
            for group in mesh.get_all_groups():  # they do not take over the timeout of the whole
                distributed_c10d._set_pg_timeout(timedelta(seconds=self.timeout_s), group)
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
    own = _own_device(device, local_rank)
    if not dist.is_initialized():
        dist.init_process_group(_BACKENDS[own.type], timeout=timedelta(seconds=timeout_s))
        atexit.register(_leave)
    return Ranks(rank, size, local_size, own, timeout_s)


def _own_device(device: str, local_rank: int) -> torch.device:
    """Find the device of a rank, and touch no other one: that would take memory there."""
    if device.startswith("cuda:"):
        raise ValueError(f"device {device!r} is that of one rank: expected cuda or auto, which give each rank its own")
    if device == "cuda" or (device == "auto" and torch.cuda.is_available()):
        if not local_rank < torch.cuda.device_count():
            raise ValueError(
                f"local rank {local_rank} has no GPU: there are {torch.cuda.device_count()} here; start as many "
                "processes on a machine (torchrun --nproc-per-node)"
            )
        torch.cuda.set_device(local_rank)
        return find_device(f"cuda:{local_rank}")
    return find_device(device)


def _portable(error: Exception | None) -> Exception | None:
    """Give an exception that survives the way to other ranks, with its message."""
    try:
        copy = pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its constructor asks for
        return RuntimeError(f"{type(error).__name__}: {error}")
    same: Exception | None = copy if str(copy) == str(error) else RuntimeError(f"{type(error).__name__}: {error}")
    return same


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
    _host_group.cache_clear()


@cache
def _host_group(timeout_s: float) -> dist.ProcessGroup:
    """Give the group that hosts speak in, apart from what devices exchange."""
    group: dist.ProcessGroup = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout_s))
    return group
