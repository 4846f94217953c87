"""Procedural textures: periodic patterns of high contrast, each with blurred versions for the distance."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
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
    plane: UInt8[Tensor, "S L P P"], style: Int[Tensor, "..."], xy: tuple[Tensor, Tensor], level: Int[Tensor, "..."]
) -> Float[Tensor, "..."]:
    """Look up the plane's brightness, 0 to 255, between four samples. `xy` in samples; indices are int32."""
    mask, flat = PLANE_SIDE - 1, plane.flatten()
    (left, right, x_part), (top, below, y_part) = (_neighbours(value, mask) for value in xy)
    base = (style * NUM_BLURS + level) * PLANE_SIDE**2
    upper, lower = base + top * PLANE_SIDE, base + below * PLANE_SIDE
    above = _between(flat, upper + left, upper + right, x_part)
    return torch.lerp(above, _between(flat, lower + left, lower + right, x_part), y_part)


def sample_volume(
    volume: UInt8[Tensor, "S L V V V"], style: Int[Tensor, " M"], xyz: Float[Tensor, "3 M"], level: Int[Tensor, " M"]
) -> Float[Tensor, " M"]:
    """Look up the volume's brightness, 0 to 255, between eight samples. `xyz` in samples; indices are int32."""
    mask, flat = VOLUME_SIDE - 1, volume.flatten()
    (left, right, x_part), (*rows, y_part), (*layers, z_part) = (_neighbours(value, mask) for value in xyz)
    base = (style * NUM_BLURS + level) * VOLUME_SIDE**3
    planes = []
    for layer in layers:
        starts = [base + (layer * VOLUME_SIDE + row) * VOLUME_SIDE for row in rows]
        lines = [_between(flat, start + left, start + right, x_part) for start in starts]
        planes.append(torch.lerp(lines[0], lines[1], y_part))
    return torch.lerp(planes[0], planes[1], z_part)


def _neighbours(place: Tensor, mask: int) -> tuple[Tensor, Tensor, Tensor]:
    """Give the samples before and after a place on the periodic axis, and how far it is between them."""
    floor = place.floor()
    before = floor.int() & mask
    return before, (before + 1) & mask, place - floor


def _between(flat: UInt8[Tensor, " n"], first: Tensor, second: Tensor, part: Tensor) -> Tensor:
    """Blend two samples. `index_select` is four times as fast as indexing here."""
    values = [flat.index_select(0, index.flatten()).float().view(part.shape) for index in (first, second)]
    return torch.lerp(values[0], values[1], part)
