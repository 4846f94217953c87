"""Procedural textures: periodic patterns of high contrast, each with blurred versions for the distance."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from fourd.datasets.toy_world.scene import NUM_STYLES

PLANE_SIDE = 512
PLANE_PER_METRE = 20.0
VOLUME_SIDE = 64
VOLUME_PER_METRE = 28.0
NUM_BLURS = 4


@dataclass(frozen=True)
class Textures:
    """Hold brightness for each style and blur (each twice as strong as the one before): plane and volume."""

    plane: UInt8[Tensor, "S L P P"]
    volume: UInt8[Tensor, "S L V V V"]


@functools.cache
def textures(device: torch.device) -> Textures:
    """Make the textures of the world; they are always the same."""
    chance = torch.Generator().manual_seed(4)
    planes = [_with_blurs(_pattern(style, (PLANE_SIDE,) * 2, chance)) for style in range(NUM_STYLES)]
    volumes = [_with_blurs(_pattern(style, (VOLUME_SIDE,) * 3, chance)) for style in range(NUM_STYLES)]
    return Textures(torch.stack(planes).to(device), torch.stack(volumes).to(device))


def _pattern(style: int, shape: tuple[int, ...], chance: torch.Generator) -> Tensor:
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
    return _equalised(base + 0.5 * fine)


def _noise(shape: tuple[int, ...], blur: float, chance: torch.Generator) -> Tensor:
    noise = _blurred(torch.randn(shape, generator=chance), blur)
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


def _equalised(values: Tensor) -> Tensor:
    """Replace each value by its rank, 0 to 1: all brightnesses are equally frequent."""
    rank = torch.empty(values.numel())
    rank[values.flatten().argsort()] = torch.linspace(0, 1, values.numel())
    return rank.view(values.shape)


def _with_blurs(values: Tensor) -> UInt8[Tensor, "L *shape"]:
    levels = [values] + [_blurred(values, 0.6 * 2**level) for level in range(1, NUM_BLURS)]
    return (torch.stack(levels) * 255).round().clamp(0, 255).to(torch.uint8)


def _blurred(values: Tensor, sigma: float) -> Tensor:
    """Blur with a periodic Gaussian of `sigma` samples."""
    spectrum = torch.fft.fftn(values)
    for axis, side in enumerate(values.shape):
        gain = torch.exp(-2 * (torch.pi * sigma * torch.fft.fftfreq(side)) ** 2)
        spectrum = spectrum * gain.view([-1 if i == axis else 1 for i in range(values.ndim)])
    return torch.fft.ifftn(spectrum).real


def sample_plane(
    plane: UInt8[Tensor, "S L P P"], style: Tensor, x: Tensor, y: Tensor, level: Tensor
) -> Float[Tensor, "..."]:
    """Look up the plane's brightness, 0 to 255, between four samples. `x`, `y` in samples."""
    x_floor, y_floor = x.floor(), y.floor()
    x_part, y_part = x - x_floor, y - y_floor
    mask, flat = PLANE_SIDE - 1, plane.reshape(-1)
    base = (style * NUM_BLURS + level) * PLANE_SIDE**2
    left = x_floor.int() & mask
    right = (left + 1) & mask
    top = y_floor.int() & mask
    below = base + ((top + 1) & mask) * PLANE_SIDE
    top = base + top * PLANE_SIDE
    upper = _mix(flat[top + left], flat[top + right], x_part)
    return _mix(upper, _mix(flat[below + left], flat[below + right], x_part), y_part)


def sample_volume(
    volume: UInt8[Tensor, "S L V V V"], style: Tensor, xyz: Float[Tensor, "3 M"], level: Tensor
) -> Float[Tensor, " M"]:
    """Look up the volume's brightness, 0 to 255, between eight samples. `xyz` in samples."""
    mask, flat = VOLUME_SIDE - 1, volume.reshape(-1)
    floor = xyz.floor()
    x_part, y_part, z_part = xyz - floor
    corner = floor.int() & mask
    after = (corner + 1) & mask
    base = (style * NUM_BLURS + level) * VOLUME_SIDE**3
    layers = []
    for z in (corner[2], after[2]):
        rows = []
        for y in (corner[1], after[1]):
            row = base + (z * VOLUME_SIDE + y) * VOLUME_SIDE
            rows.append(_mix(flat[row + corner[0]], flat[row + after[0]], x_part))
        layers.append(_mix(rows[0], rows[1], y_part))
    return _mix(layers[0], layers[1], z_part)


def _mix(a: Tensor, b: Tensor, part: Tensor) -> Tensor:
    a = a.float()
    return a + (b.float() - a) * part
