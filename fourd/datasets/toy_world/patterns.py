"""What textures look like: periodic patterns of high contrast, on a plane or in a volume."""

from __future__ import annotations

import torch
from torch import Tensor

_CELL = 8
"""The side of a square, a stripe and the gap after it, a brick's height: samples."""


def natural(style: int, shape: tuple[int, ...], chance: torch.Generator) -> Tensor:
    """Draw one style: speckle, pebbles, veins or mosaic, each with grain on it."""
    fine = _noise(shape, 0.8, chance)
    if style == 0:
        base = _noise(shape, 1.6, chance) + _noise(shape, 4.0, chance)
    elif style == 1:
        base = 2.2 * _pebbles(shape, chance) + 0.4 * _noise(shape, 2.0, chance)
    elif style == 2:
        base = 2.0 * torch.sin(2.2 * (_noise(shape, 3.0, chance) + 1.2 * _noise(shape, 7.0, chance)))
    else:
        base = 1.6 * _mosaic(shape, chance) + 0.4 * _noise(shape, 1.6, chance)
    return base + 0.5 * fine


def regular(style: int, shape: tuple[int, ...], chance: torch.Generator) -> Tensor:
    """Draw one style, 0 to 1, with little grain: plain, a checker, stripes, dots, wood or bricks."""
    place = torch.stack(torch.meshgrid(*[torch.arange(side) for side in shape], indexing="ij"))
    warp = 1.5 * _noise(shape, 5.0, chance)
    base = {
        0: lambda: torch.full(shape, 0.6),
        1: lambda: 0.15 + 0.7 * ((place // _CELL).sum(0) % 2),
        2: lambda: 0.15 + 0.7 * (place[0] // (_CELL // 2) % 2),
        3: lambda: 0.2 + 0.75 * ((place % _CELL - _CELL / 2).square().sum(0) < (0.36 * _CELL) ** 2),
        4: lambda: 0.5 + 0.35 * torch.sin((place[0] + warp) * (2 * torch.pi / _CELL)),
        5: lambda: _bricks(place, chance),
    }[style]()
    return (base + 0.05 * _noise(shape, 0.8, chance)).clamp(0, 1)


def _bricks(place: Tensor, chance: torch.Generator) -> Tensor:
    """Lay courses along the last axis, each shifted by half a brick against the one below, with light joints."""
    course = place[-2] // _CELL
    along = (place[-1] + course % 2 * _CELL) % place.shape[-1]
    tint = 0.25 + 0.4 * torch.rand(place.shape[-2] // _CELL, place.shape[-1] // (2 * _CELL), generator=chance)
    joint = (place[-2] % _CELL == 0) | (along % (2 * _CELL) == 0)
    return torch.where(joint, 0.95, tint[course, along // (2 * _CELL)])


def _noise(shape: tuple[int, ...], blur: float, chance: torch.Generator) -> Tensor:
    noise = blurred(torch.randn(shape, generator=chance), blur)
    return noise / noise.std()


def _pebbles(shape: tuple[int, ...], chance: torch.Generator, cell: int = 8) -> Tensor:
    """Measure the distance to the nearest of scattered seeds, one per cell, around the edges too."""
    cells = tuple(side // cell for side in shape)
    jitter = torch.rand(*cells, len(shape), generator=chance)
    axes = [torch.arange(side) for side in shape]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    nearest = torch.full(shape, torch.inf)
    for step in torch.cartesian_prod(*[torch.tensor([-1, 0, 1])] * len(shape)):
        home = points // cell + step
        wrapped = home % torch.tensor(cells)
        seeds = (home + jitter[tuple(wrapped.unbind(-1))]) * cell
        nearest = torch.minimum(nearest, (seeds - points).square().sum(-1))
    nearest = nearest.sqrt()
    return -(nearest - nearest.mean()) / nearest.std()


def _mosaic(shape: tuple[int, ...], chance: torch.Generator, cell: int = 8) -> Tensor:
    """Lay tiles of random brightness, with dark joints."""
    tiles = torch.randn(tuple(side // cell for side in shape), generator=chance)
    joints = torch.zeros(shape)
    for axis, side in enumerate(shape):
        tiles = tiles.repeat_interleave(cell, dim=axis)
        joint = (torch.arange(side) % cell == 0).view([-1 if i == axis else 1 for i in range(len(shape))])
        joints = torch.maximum(joints, joint.float())
    return torch.where(joints > 0, -2.0, tiles)


def equalised(values: Tensor) -> Tensor:
    """Replace each value by its rank, 0 to 1: all brightnesses are equally frequent."""
    rank = torch.empty(values.numel())
    rank[values.flatten().argsort()] = torch.linspace(0, 1, values.numel())
    return rank.view(values.shape)


def blurred(values: Tensor, sigma: float) -> Tensor:
    """Blur with a periodic Gaussian of `sigma` samples."""
    spectrum = torch.fft.fftn(values)
    for axis, side in enumerate(values.shape):
        gain = torch.exp(-2 * (torch.pi * sigma * torch.fft.fftfreq(side)) ** 2)
        spectrum = spectrum * gain.view([-1 if i == axis else 1 for i in range(values.ndim)])
    return torch.fft.ifftn(spectrum).real
