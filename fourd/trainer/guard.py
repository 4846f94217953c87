"""Which steps are not applied: decided on the device, so that the host never waits for it."""

from __future__ import annotations

import torch
from torch import Tensor

_WARM = 100
"""Steps before a gradient can be called wild, and the number of steps that the statistics remember."""
_LEAST_SIGMA = 0.1
"""Smallest deviation of the logarithm that is believed: very even gradients are not wild at once."""
_LEAST_NORM = 1e-12


class StepGuard:
    """Judge each step by its loss and the norm of its gradient.

    A step is skipped where one of them is not finite, or where the logarithm of the norm lies more than `sigmas`
    deviations above its running mean over the steps that were applied. None of the numbers is from the paper.
    """

    def __init__(self, device: torch.device, sigmas: float) -> None:
        """Begin without statistics; `sigmas` of 0 skips only what is not finite."""
        self.sigmas = sigmas
        self.carried = {name: torch.zeros((), device=device) for name in ("mean", "variance", "count", "in_a_row")}
        """What a checkpoint keeps; `in_a_row` counts the steps skipped since one was applied."""

    def judge(self, loss: Tensor, norm: Tensor) -> Tensor:
        """Give 1 where the step is to be skipped, else 0, as a number on the device."""
        mean, variance, count = (self.carried[name] for name in ("mean", "variance", "count"))
        deviation = norm.float().clamp(min=_LEAST_NORM).log() - mean
        sane = torch.isfinite(loss) & torch.isfinite(norm)
        if self.sigmas:
            wild = deviation > self.sigmas * variance.sqrt().clamp(min=_LEAST_SIGMA)
            sane = sane & ~(wild & (count >= _WARM))
        rate = torch.clamp(1 / (count + 1), min=1 / _WARM)
        self._keep("mean", sane, mean + rate * deviation)
        self._keep("variance", sane, (1 - rate) * (variance + rate * deviation.square()))
        self._keep("count", sane, count + 1)
        in_a_row = self.carried["in_a_row"]
        in_a_row.copy_(torch.where(sane, 0.0, in_a_row + 1))
        return (~sane).float()

    def _keep(self, name: str, sane: Tensor, value: Tensor) -> None:
        self.carried[name].copy_(torch.where(sane, value, self.carried[name]))
