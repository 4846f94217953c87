"""Procedural textures: periodic patterns of high contrast, each with blurred versions for the distance."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from fourd.datasets.toy_world.patterns import blurred, equalised, natural, regular

PLANE_SIDE = 512
PLANE_PER_METRE = 20.0
VOLUME_SIDE = 64
VOLUME_PER_METRE = 28.0
NUM_BLURS = 4

PLAIN, CHECKER, STRIPES, DOTS, WOOD, BRICKS = range(4, 10)
"""The regular styles; the natural ones are 0 to 3. All are kept on a plane and in a volume."""
NUM_STYLES = 10


@dataclass(frozen=True)
class Textures:
    """Hold brightness for each style and blur (each twice as strong as the one before): plane and volume."""

    plane: UInt8[Tensor, "S L P P"]
    volume: UInt8[Tensor, "S L V V V"]


@functools.cache
def textures(device: torch.device) -> Textures:
    """Make the textures of the world; they are always the same.

    One thread does it: the pieces of work are small, and on a busy machine several wait for each other.
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        made = _made()
    finally:
        torch.set_num_threads(num_threads)
    return Textures(made.plane.to(device), made.volume.to(device))


def _made() -> Textures:
    shapes = (PLANE_SIDE,) * 2, (VOLUME_SIDE,) * 3
    first, later = torch.Generator().manual_seed(4), torch.Generator().manual_seed(5)
    planes, volumes = ([equalised(natural(style, shape, first)) for style in range(PLAIN)] for shape in shapes)
    for style in range(PLAIN, NUM_STYLES):
        for known, shape in zip((planes, volumes), shapes, strict=True):
            known.append(regular(style - PLAIN, shape, later))
    plane, volume = (torch.stack([_with_blurs(values) for values in known]) for known in (planes, volumes))
    return Textures(plane, volume)


def _with_blurs(values: Tensor) -> UInt8[Tensor, "L *shape"]:
    levels = [values] + [blurred(values, 0.6 * 2**level) for level in range(1, NUM_BLURS)]
    return (torch.stack(levels) * 255).round().clamp(0, 255).to(torch.uint8)


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
