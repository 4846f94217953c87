"""What one rank's memory holds during a step, found by a step of the real code without numbers.

The objective is built, laid over ranks that are not there, and stepped as the trainer does it, on tensors that have
shapes and no content. It takes seconds and next to no memory, whatever the size of the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.device_mesh import DeviceMesh
from torch.testing._internal.distributed.fake_pg import FakeStore

from fourd import layers
from fourd.objectives import _pixel_error
from fourd.optim import OptimConfig, build_optimizer
from fourd.parallel import ParallelConfig, Precision, Ranks, arrange, autocast
from fourd.planner.ledger import Book
from fourd.planner.watching import Watch
from fourd.types import Batch, NativeInput, Objective, ObjectiveConfig

_CPU = torch.device("cpu")
"""The device that fake tensors are on: without a GPU torch cannot go backward on fake ones of a GPU."""


@dataclass(frozen=True)
class Layout:
    """Say how a step is laid over ranks. The parts of a step beyond the second take what the second takes."""

    gpus: int
    per_node: int
    parallel: ParallelConfig
    precision: Precision = "bf16"
    on_gpu: bool = True
    """Whether blocks attend as they do on a GPU, by one fused kernel, or as on a CPU."""


def native_input(config: ObjectiveConfig) -> NativeInput:
    """Say which clips an objective is pretrained on; raise ValueError for one without a backbone."""
    with torch.device("meta"):
        objective = config.build()
    native = getattr(getattr(objective, "backbone", None), "native_input", None)
    if not isinstance(native, NativeInput) or hasattr(config, "tasks"):
        raise ValueError(
            f"{type(config).__qualname__} cannot be planned: expected an objective that pretrains a `backbone` on "
            "clips alone, such as fourd.objectives.simple_mae:SimpleMAEConfig"
        )
    return native


def blank_batch(native: NativeInput, clips: int) -> Batch:
    """Make a batch of pixels that nobody set."""
    frames = native.clip_frames
    names = tuple(map(str, range(clips)))
    return Batch(
        torch.empty(clips, frames, 3, *native.size, dtype=torch.uint8),
        torch.empty(clips, frames),
        names,
        names,
        torch.empty(clips, dtype=torch.int64),
    )


def measure(config: ObjectiveConfig, layout: Layout, clips: Sequence[int]) -> dict[int, Book]:
    """Watch one step of one rank, later than the first, for each number of clips in a part.

    Raises RuntimeError within a process that already speaks to other ranks.
    """
    native = native_input(config)
    mode = FakeTensorMode()
    watch = Watch(mode)
    with _ranks_not_there(layout) as mesh, _kernels(layout.on_gpu), mode, watch, watch.resizing():
        objective = config.build().train()
        arrange(objective, layout.parallel, mesh, layout.precision, _CPU)
        watch.label("weights", [*objective.parameters(), *objective.buffers()], again=True)
        optimizer = _moved_once(objective, watch)
        return {count: _watched_step(objective, optimizer, native, count, layout, watch) for count in clips}


def _moved_once(objective: Objective, watch: Watch) -> torch.optim.Optimizer:
    """Build the optimiser, and let it make its moments."""
    watch.phase = "first step"
    optimizer = build_optimizer(objective, OptimConfig())
    for parameter in objective.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    watch.label("moments", [value for state in optimizer.state.values() for value in state.values()], again=True)
    return optimizer


def _watched_step(
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    native: NativeInput,
    clips: int,
    layout: Layout,
    watch: Watch,
) -> Book:
    """Do what the trainer does in a step."""
    start = watch.place()
    parts = min(layout.parallel.parts, 2)
    for _ in range(parts):
        _forward_backward(objective, native, clips, layout, watch)
    watch.label("gradients", [parameter.grad for parameter in objective.parameters()], again=True)
    watch.phase = "update"
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return watch.book(start)


def _forward_backward(objective: Objective, native: NativeInput, clips: int, layout: Layout, watch: Watch) -> None:
    watch.phase = "forward"
    batch = blank_batch(native, clips)
    with autocast(_CPU, layout.precision):
        loss = objective(batch).loss
    watch.saved("forward")
    watch.phase = "backward"
    loss.backward()
    watch.label("gradients", [parameter.grad for parameter in objective.parameters()], again=True)


@contextmanager
def _ranks_not_there(layout: Layout) -> Iterator[DeviceMesh | None]:
    """Be the first of ranks that do not exist, and give their mesh."""
    if layout.gpus == 1:
        yield None
        return
    if dist.is_initialized():
        raise RuntimeError("a process that is a rank itself cannot plan for others: start it without torchrun")
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=layout.gpus)
    try:
        ranks = Ranks(0, layout.gpus, min(layout.per_node, layout.gpus), _CPU)
        yield ranks.mesh(layout.parallel)
    finally:
        dist.destroy_process_group()


@contextmanager
def _kernels(on_gpu: bool) -> Iterator[None]:
    """Let a step on a fake CPU compute as on a GPU: attend in one kernel, compare pixels of many clips at once."""
    if not on_gpu:
        yield
        return
    with (
        mock.patch.object(layers, "attention", F.scaled_dot_product_attention),
        mock.patch.object(layers, "attention_beside_common", layers._attention_over_all),
        mock.patch.dict(_pixel_error._CLIPS_AT_ONCE, clear=True),
    ):
        yield
