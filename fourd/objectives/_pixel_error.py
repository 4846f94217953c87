"""The mean squared error of predicted pixels, without a copy of prediction or target in full size and precision."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from fourd.tokens import as_shares

_CLIPS_AT_ONCE = {"cpu": 1}
_CLIPS_AT_ONCE_ELSEWHERE = 8
"""Clips whose differences are held in float32: on a CPU as many as its caches hold, on a GPU enough to fill it."""


def pixel_error(prediction: Float[Tensor, "B n P"], target: Shaped[Tensor, "B n P"]) -> Float[Tensor, ""]:
    """Take the mean squared error in float32; the gradient has the prediction's precision.

    target: in [0, 1], or bytes.
    """
    error: Tensor = _PixelError.apply(prediction, target)
    return error


@torch.no_grad()
def squared_difference(one: Shaped[Tensor, "B #T C H W"], other: Shaped[Tensor, "B #T C H W"]) -> Float[Tensor, ""]:
    """Take the mean squared difference of two pictures or films in float32, without a gradient; bytes or in [0, 1]."""
    at_once = _at_once(one.device)
    total = torch.zeros((), device=one.device, dtype=torch.float32)
    for some, others in zip(one.split(at_once), other.split(at_once), strict=True):
        total = total + (as_shares(some).float() - as_shares(others).float()).square_().sum()
    return total / max(one.numel(), other.numel())


def _at_once(device: torch.device) -> int:
    return _CLIPS_AT_ONCE.get(device.type, _CLIPS_AT_ONCE_ELSEWHERE)


class _PixelError(torch.autograd.Function):
    """Keep the differences in the prediction's precision, in its place, and nothing else for the backward pass."""

    @staticmethod
    def forward(ctx: Any, prediction: Tensor, target: Tensor) -> Tensor:
        at_once = _at_once(prediction.device)
        kept = torch.empty_like(prediction)
        total = torch.zeros((), device=prediction.device, dtype=torch.float32)
        parts = zip(*(tensor.split(at_once) for tensor in (prediction, target, kept)), strict=True)
        for predicted, true, place in parts:
            difference = predicted.float() - as_shares(true)
            place.copy_(difference)
            total = total + difference.square_().sum()
        ctx.save_for_backward(kept)
        return total / prediction.numel()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        factor = gradients[0].float() * (2 / kept.numel())
        at_once = _at_once(kept.device)
        gradient = torch.empty_like(kept)
        for part, place in zip(kept.split(at_once), gradient.split(at_once), strict=True):
            place.copy_(part.float() * factor)
        return gradient, None
