"""Small functions over the nouns of `fourd.types`: list their tensors, take some clips, compare."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import jaxtyping
import torch
from torch import Tensor, nn

from fourd.types import Batch, ClipShape, map_tensors


def tensors_in(noun: Any) -> list[Tensor]:
    """List the tensors of a nested noun, in order."""
    assert not isinstance(noun, (list, dict)), "nouns are dataclasses, tuples and tensors; a list would pass unseen"
    found: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tensors(keep, noun)
    return found


def take_clips(noun: Any, clips: Sequence[int]) -> Any:
    """Take clips by number, in the given order, from every tensor of a noun and from a batch's names."""
    taken = map_tensors(lambda tensor: tensor[list(clips)], noun)
    if isinstance(noun, Batch):
        names = {name: tuple(getattr(noun, name)[clip] for clip in clips) for name in ("key", "group")}
        return replace(taken, **names)
    return taken


def assert_close(actual: Any, expected: Any, tolerance: float = 1e-5) -> None:
    """Compare nouns up to rounding; tolerance 0 asks for equal bits."""
    torch.testing.assert_close(tensors_in(actual), tensors_in(expected), rtol=tolerance, atol=tolerance)


def assert_finite(noun: Any) -> None:
    """Refuse NaN and infinity anywhere in a noun, and a noun without tensors."""
    tensors = tensors_in(noun)
    assert tensors, f"{type(noun).__name__} holds no tensor"
    assert all(tensor.isfinite().all() for tensor in tensors), f"NaN or infinity in {type(noun).__name__}"


def random_video(num_clips: int, clip: ClipShape, seed: int = 0) -> Tensor:
    """Make clips of noise, uint8."""
    generator = torch.Generator().manual_seed(seed)
    shape = (num_clips, clip.num_frames, 3, clip.height, clip.width)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


_SPOILED_WHOLE_NUMBER = -77


def fill_with_nan(module: nn.Module, trained_only: bool = False) -> None:
    """Spoil parameters and buffers, whole numbers too, so that whatever is not initialised afterwards shows."""
    buffers = [] if trained_only else list(module.buffers())
    parameters = [p for p in module.parameters() if p.requires_grad or not trained_only]
    with torch.no_grad():
        for tensor in (*parameters, *buffers):
            tensor.fill_(torch.nan if tensor.is_floating_point() else _SPOILED_WHOLE_NUMBER)


def names_with_nan(module: nn.Module) -> list[str]:
    """Name the parameters and buffers that hold a NaN, or a whole number that `fill_with_nan` left."""
    tensors = (*module.named_parameters(), *module.named_buffers())
    return [name for name, tensor in tensors if (tensor.isnan() | (tensor == _SPOILED_WHOLE_NUMBER)).any()]


@contextmanager
def shapes_unchecked() -> Iterator[None]:
    """Switch off the shape checks of the tests, to see the error that a user would see."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)
