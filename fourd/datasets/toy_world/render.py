"""The renderer: a stage to pictures with exact depth and identity; smooth edges where things meet."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Int8, Shaped, UInt8
from torch import Tensor

from fourd.datasets.toy_world.colour import colour_of
from fourd.datasets.toy_world.rays import Rays, cast, rays_through
from fourd.datasets.toy_world.scene import GROUND, NUM_OBJECTS, SKY
from fourd.datasets.toy_world.stage import Stage

TILE = 8
RAYS_AT_ONCE_ON_CPU, RAYS_AT_ONCE = 2**18, 2**22
"""Enough to hide the cost of calling an operation, few enough for a CPU's cache or a GPU's memory."""
MORE_RAYS = ((0.17, 0.3), (0.83, 0.7))
"""Where a pixel on an edge is looked at besides its centre."""


@dataclass(frozen=True)
class Pictures:
    """Hold rendered frames. `depth` (z, metres) is 0 where there is only sky.

    `thing` is the object's number, GROUND, SKY or a wall's at the pixel's centre; `alone` counts the pixels that
    each object would have if nothing stood before it, `seen` those that it has.
    """

    rgb: UInt8[Tensor, "F 3 H W"]
    depth: Float[Tensor, "F H W"]
    thing: Int8[Tensor, "F H W"]
    alone: Int[Tensor, "F K"]
    seen: Int[Tensor, "F K"]


def render(stage: Stage, height: int, width: int) -> Pictures:
    """Draw every frame of a stage; pixels beside which another thing is seen get three rays."""
    num_rays = RAYS_AT_ONCE_ON_CPU if stage.kind.device.type == "cpu" else RAYS_AT_ONCE
    at_once = max(1, num_rays // (height * width))
    starts = range(0, len(stage.kind), at_once)
    parts = [_render_some(stage.frames(slice(start, start + at_once)), height, width) for start in starts]
    return Pictures(**{name: torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])})


def _render_some(stage: Stage, height: int, width: int) -> Pictures:
    rays = _tiled_rays(stage, height, width)
    hits = cast(stage, rays)
    linear = _untiled(colour_of(stage, rays, hits), height, width)
    thing, depth = (_untiled(values[None], height, width)[:, 0] for values in (hits.thing, hits.depth))
    _smooth_edges(stage, linear, thing)
    solids = torch.arange(NUM_OBJECTS, device=thing.device)[:, None, None]
    return Pictures(
        rgb=(linear.clamp(0, 1).sqrt() * 255).round().to(torch.uint8),
        depth=torch.where(thing == SKY, 0.0, depth),
        thing=thing.to(torch.int8),
        alone=_count_by_frame(hits.alone < torch.inf, height, width),
        seen=_count_by_frame(hits.thing == solids, height, width),
    )


def _tiled_rays(stage: Stage, height: int, width: int) -> Rays:
    """Cover each frame with square tiles; those at the right and bottom edges may reach over."""
    device, num_frames = stage.kind.device, len(stage.kind)
    inside = _grid(TILE, TILE, device) + 0.5
    corners = _grid(-(-height // TILE), -(-width // TILE), device) * TILE
    frame = torch.arange(num_frames, device=device).repeat_interleave(len(corners))
    return rays_through(stage, frame, inside[:, None] + corners.repeat(num_frames, 1))


def _grid(rows: int, columns: int, device: torch.device) -> Int[Tensor, "n 2"]:
    """List (x, y), row by row."""
    y, x = torch.meshgrid(torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij")
    return torch.stack([x, y], -1).view(-1, 2)


def _untiled(values: Shaped[Tensor, "C R N"], height: int, width: int) -> Shaped[Tensor, "F C H W"]:
    """Put tiles together."""
    rows, columns = -(-height // TILE), -(-width // TILE)
    tiles = values.reshape(len(values), TILE, TILE, -1, rows, columns)
    whole = tiles.permute(3, 0, 4, 1, 5, 2).reshape(tiles.shape[3], len(values), rows * TILE, columns * TILE)
    return whole[..., :height, :width]


def _count_by_frame(chosen: Bool[Tensor, "K R N"], height: int, width: int) -> Int[Tensor, "F K"]:
    """Count the chosen pixels of each frame, without those of tiles that reach over the border."""
    rows, columns = -(-height // TILE), -(-width // TILE)
    x, y = (_grid(TILE, TILE, chosen.device)[:, None] + _grid(rows, columns, chosen.device) * TILE).unbind(-1)
    counted = chosen.unflatten(2, (-1, rows * columns)) & ((x < width) & (y < height))[:, None]
    return counted.float().sum((1, 3)).long().T  # summing truth values themselves takes ten times as long


def _smooth_edges(stage: Stage, linear: Float[Tensor, "F 3 H W"], thing: Int[Tensor, "F H W"]) -> None:
    """Send more rays through the pixels beside which another thing is seen, and average, in place."""
    frame, y, x = _edges(torch.where(thing == SKY, GROUND, thing)).nonzero(as_tuple=True)
    if not len(frame):
        return
    offsets = torch.tensor(MORE_RAYS, device=thing.device)
    rays = rays_through(stage, frame, torch.stack([x, y], -1) + offsets[:, None])
    more = colour_of(stage, rays, cast(stage, rays)).clamp(max=1).sum(1).T
    centre = linear[frame, :, y, x].clamp(max=1)
    linear[frame, :, y, x] = (centre + more) / (1 + len(MORE_RAYS))


def _edges(thing: Int[Tensor, "F H W"]) -> Tensor:
    """Mark both sides wherever neighbours differ."""
    edge = torch.zeros_like(thing, dtype=torch.bool)
    across, down = thing[:, :, 1:] != thing[:, :, :-1], thing[:, 1:] != thing[:, :-1]
    edge[:, :, 1:] |= across
    edge[:, :, :-1] |= across
    edge[:, 1:] |= down
    edge[:, :-1] |= down
    return edge
