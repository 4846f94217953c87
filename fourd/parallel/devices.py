"""A device, the precision that is computed in, and sums that run in a fixed order."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch

from fourd.types import Batch, map_tensors

Precision = Literal["bf16", "fp32"]

# numbers of glibc's malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


def find_device(name: str) -> torch.device:
    """Turn a device's name into a device; "auto" takes the GPU where there is one.

    Raises ValueError for a device that is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"device {name!r} cannot be used ({reason}); expected auto, cpu, cuda or cuda:N") from error


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Move a batch."""
    moved: Batch = map_tensors(lambda tensor: tensor.to(device, non_blocking=True), batch)
    return moved


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """Be the one precision policy of training, encoding and evaluation."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def uncompiled() -> AbstractContextManager[Any]:
    """Run compiled blocks as they are written: what comes now and then, in other shapes, is not worth compiling."""
    if "torch._dynamo" not in sys.modules:
        return nullcontext()
    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance


@contextmanager
def reproducible(device: torch.device, on_a_gpu: bool = False) -> Iterator[None]:
    """Make every sum run in a fixed order on a CPU, where it costs nothing; on a GPU, where it does, if asked."""
    before = torch.are_deterministic_algorithms_enabled()
    switches: Any = torch.utils.deterministic  # type: ignore[attr-defined]
    filled = switches.fill_uninitialized_memory
    if device.type == "cpu" or on_a_gpu:
        torch.use_deterministic_algorithms(True)
        switches.fill_uninitialized_memory = False
    if device.type == "cpu":
        _keep_freed_memory()
    elif on_a_gpu:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # torch's condition for products in a fixed order
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        switches.fill_uninitialized_memory = filled


def _keep_freed_memory() -> None:
    """Tell glibc to keep freed memory: handing it back each step costs a quarter of a small step."""
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    for option, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1)):
        libc.mallopt(option, value)
