"""How fast a run is, and how much of what its devices can multiply it makes use of."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import torch
from torch import Tensor

ItemT = TypeVar("ItemT")

_Precision = Literal["bf16", "fp32"]
_DTYPES: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp32": torch.float32}
_BUDGET_S = {"cpu": 0.8, "cuda": 0.3}
"""Time to multiply in; finding the size and the first call, which loads the kernels, come on top."""
_SIDES = {"cpu": (256, 512, 1024, 2048, 4096), "cuda": (1024, 2048, 4096, 8192)}
"""Sides of matrices to choose from. A GPU nears its best rate at a few thousand."""
_LEAST_PRODUCTS = 6


def matrix_rate(device: torch.device, precision: _Precision) -> float:
    """Measure the floating point operations per second that a device reaches in large matrix products.

    The median over products of two square matrices of normal numbers, 2 n^3 operations each, as large as the time
    allows: under 2 s on a CPU, under 1 s on a GPU in use. "fp32" is what torch makes of float32, with or without TF32.
    Raises ValueError for another precision, or a device that is neither.
    """
    if precision not in _DTYPES or device.type not in _SIDES:
        raise ValueError(
            f"matrix rate of {device} in {precision}: expected a device of {tuple(_SIDES)} and one of {tuple(_DTYPES)}"
        )
    budget_s = _BUDGET_S[device.type]
    best: tuple[float, int] = (0.0, 0)
    for side in _SIDES[device.type]:
        if best[1] and _LEAST_PRODUCTS * 2 * side**3 / best[0] > budget_s:
            break
        best = (_rate(_product(side, device, _DTYPES[precision]), device, side, 0.0), side)
    return _rate(_product(best[1], device, _DTYPES[precision]), device, best[1], budget_s)


def _product(side: int, device: torch.device, dtype: torch.dtype) -> Callable[[], Tensor]:
    """Make two matrices, without touching the random numbers of the run, and give what multiplies them."""
    generator = torch.Generator(device).manual_seed(0)
    left, right = (torch.randn(side, side, device=device, generator=generator).to(dtype) for _ in range(2))
    out = torch.empty_like(left)
    return lambda: torch.mm(left, right, out=out)


def _rate(product: Callable[[], Tensor], device: torch.device, side: int, budget_s: float) -> float:
    """Take the median rate over what fits into a time, three products at least, after one that is not counted."""
    _seconds(product, device)
    spent: list[float] = []
    while len(spent) < 3 or sum(spent) < budget_s:
        spent.append(_seconds(product, device))
    return 2 * side**3 / statistics.median(spent)


def _seconds(product: Callable[[], Tensor], device: torch.device) -> float:
    """Time one product; on a GPU by its own clock, with another one queued before so that it does not wait."""
    if device.type != "cuda":
        began = time.perf_counter()
        product()
        return time.perf_counter() - began
    before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    product()
    before.record()
    product()
    after.record()
    after.synchronize()
    return before.elapsed_time(after) / 1e3


@dataclass
class StepClock:
    """Turn the time that steps take into the speed of a run, over all ranks, one window of steps after the other.

    All of a window counts, reading and saving too.
    """

    samples_per_step: int
    """Samples of a step, of all ranks together: masked views, of which each passes through the model."""
    clips_per_step: int
    """Clips that are decoded for them."""
    flop_per_sample: float = 0.0
    """Operations of a forward and backward pass without recomputation; 0 where they are not known."""
    flop_per_s: float = 0.0
    """What all ranks could multiply: `matrix_rate` times their number; 0 where it is not known."""
    _since: float = field(init=False, default_factory=lambda: time.perf_counter())
    _waited_s: float = field(init=False, default=0.0)

    def waiting_for(self, items: Iterable[ItemT]) -> Iterator[ItemT]:
        """Give items, and note how long they were waited for.

        A GPU works on meanwhile: the share of time that it stands still is at most this.
        """
        iterator = iter(items)
        while True:
            with self.waiting():
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Note time that is spent on waiting for data."""
        before = time.perf_counter()
        try:
            yield
        finally:
            self._waited_s += time.perf_counter() - before

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out the time that is spent on something else than training."""
        before = time.perf_counter()
        try:
            yield
        finally:
            self._since += time.perf_counter() - before

    def read(self, num_steps: int) -> dict[str, float]:
        """Give the speed over the window that ends here with its `num_steps`, and begin the next one.

        `clips_per_s` (samples), `unique_clips_per_s`, `data_wait` (share of the time), and where both its terms are
        known `model_flop_utilisation` (share of the matrix rate; Chowdhery et al. 2022, arXiv 2204.02311, appendix B,
        but against what products reach in the place of the maker's peak).
        """
        now = time.perf_counter()
        seconds = now - self._since
        steps_per_s = num_steps / seconds
        speed = {
            "clips_per_s": steps_per_s * self.samples_per_step,
            "unique_clips_per_s": steps_per_s * self.clips_per_step,
            "data_wait": self._waited_s / seconds,
        }
        if self.flop_per_sample and self.flop_per_s:
            speed["model_flop_utilisation"] = self.flop_per_sample * speed["clips_per_s"] / self.flop_per_s
        self._since, self._waited_s = now, 0.0
        return speed
