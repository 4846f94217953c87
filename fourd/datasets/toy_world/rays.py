"""Casting rays: what each meets first, and what stands between it and the sun. Plain torch, any device.

Rays come in groups that lie close together in one frame (a tile of pixels, the parts of one pixel),
and a solid is tried only against the groups that its outline touches. Groups are the last axis
everywhere: what belongs to a group broadcasts over its rays, and the innermost loops are long.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fourd.datasets.toy_world.scene import GROUND, NUM_OBJECTS, SKY, WALL, Kind
from fourd.datasets.toy_world.solids import Vector, spans
from fourd.datasets.toy_world.stage import Stage

NEAR, FAR = 0.05, 24.0
"""Nothing is seen nearer or farther than this, in metres of depth; beyond is sky."""
SHADOW_PER_METRE = 7.0
"""How fast the sun fades on its way through a solid: the smaller, the softer the shadows."""


@dataclass(frozen=True)
class Rays:
    """Hold `N` groups of `R` rays: each group's frame, each ray as x/z and y/z in the camera."""

    frame: Int[Tensor, " N"]
    u: Float[Tensor, "R N"]
    v: Float[Tensor, "R N"]


@dataclass(frozen=True)
class Hits:
    """Hold what rays meet first: its depth (z), and which object it is, or GROUND, or SKY, or WALL and on.

    `alone` is the depth at which each solid would be met if nothing else were there, infinite for a miss.
    """

    depth: Float[Tensor, "R N"]
    thing: Int[Tensor, "R N"]
    alone: Float[Tensor, "K R N"]


@dataclass(frozen=True)
class Pairs:
    """Hold the `n` pairs of a group and a solid of one kind that may meet; `row` counts (frame, solid)."""

    kind: Kind
    group: Int[Tensor, " n"]
    solid: Int[Tensor, " n"]
    row: Int[Tensor, " n"]


def rays_through(stage: Stage, frame: Int[Tensor, " N"], xy_px: Float[Tensor, "R N 2"]) -> Rays:
    """Send rays through points of the pictures, in continuous pixels."""
    focal = stage.focal_px.index_select(0, frame)
    u, v = ((xy_px[..., i] - stage.centre_px[i]) / focal for i in range(2))
    return Rays(frame, u, v)


def cast(stage: Stage, rays: Rays) -> Hits:
    """Find what each ray meets first."""
    height = pick(stage.camera_position, rays.frame)[2]
    drop = -turned(pick(stage.camera_axes, rays.frame)[2], rays.u, rays.v)
    depth = height / drop.clamp(min=1e-6)
    on_ground = depth < FAR
    depth = torch.where(on_ground, depth, torch.inf)
    thing = torch.where(on_ground, GROUND, SKY)
    for wall in (stage.walls[..., 3] > 0).any(0).nonzero()[:, 0].tolist():
        far = _wall_depth(stage, rays, wall)
        thing = torch.where(far < depth, WALL + wall, thing)
        depth = torch.minimum(far, depth)
    alone = _per_solid(stage, rays, stage.solid_outline, torch.inf, _entry)
    for solid, entry in enumerate(alone):
        thing = torch.where(entry < depth, solid, thing)
        depth = torch.minimum(entry, depth)
    return Hits(depth, thing, alone)


def _wall_depth(stage: Stage, rays: Rays, wall: int) -> Float[Tensor, "R N"]:
    """Find where rays meet the face of a wall, infinite for a miss; from behind nobody sees it."""
    x, y, distance, height = pick(stage.walls[:, wall], rays.frame)
    axes, camera = pick(stage.camera_axes, rays.frame), pick(stage.camera_position, rays.frame)
    toward = turned(axes[0] * x + axes[1] * y, rays.u, rays.v)
    depth = (x * camera[0] + y * camera[1] + distance) / (-toward).clamp(min=1e-6)
    top = torch.addcmul(camera[2], depth, turned(axes[2], rays.u, rays.v))
    return torch.where((depth < FAR) & (depth > NEAR) & (top < height), depth, torch.inf)


def sun_left(stage: Stage, rays: Rays, depth: Float[Tensor, "R N"]) -> Float[Tensor, "R N"]:
    """Measure how much of the sun arrives at points along rays, 0 to 1."""

    def way_through(stage: Stage, pairs: Pairs, origin: Vector, direction: Vector) -> Tensor:
        far = depth.index_select(1, pairs.group)
        x, y, z = (torch.addcmul(o, far, d) for o, d in zip(origin, direction, strict=True))
        a, b, c = pick(stage.sun_in_solid.flatten(0, 1), pairs.row)
        parts = spans(pairs.kind, pick(stage.size.flatten(0, 1), pairs.row), (x, y, z), (a, b, c))
        ways = [(leave - enter.clamp(min=0)).clamp(min=0) for enter, leave in parts]
        return functools.reduce(torch.add, ways)

    return torch.exp(-SHADOW_PER_METRE * _per_solid(stage, rays, stage.shade_outline, 0.0, way_through).sum(0))


def pick(values: Float[Tensor, "P *rest"], row: Int[Tensor, " n"]) -> Float[Tensor, "*rest n"]:
    """Take rows of a table, and put them on the last axis."""
    return values.movedim(0, -1).contiguous().index_select(-1, row)


def turned(row: Float[Tensor, "3 n"], u: Float[Tensor, "*R n"], v: Float[Tensor, "*R n"]) -> Float[Tensor, "*R n"]:
    """Multiply one row of a rotation with the directions (u, v, 1)."""
    return torch.addcmul(torch.addcmul(row[2], row[0], u), row[1], v)


def _entry(stage: Stage, pairs: Pairs, origin: Vector, direction: Vector) -> Float[Tensor, "R n"]:
    parts = spans(pairs.kind, pick(stage.size.flatten(0, 1), pairs.row), origin, direction)
    entries = [torch.where((enter < leave) & (enter > NEAR), enter, torch.inf) for enter, leave in parts]
    return functools.reduce(torch.minimum, entries)


def _per_solid(
    stage: Stage,
    rays: Rays,
    reach: Float[Tensor, "F K 4"],
    nothing: float,
    measure: Callable[[Stage, Pairs, Vector, Vector], Tensor],
) -> Float[Tensor, "K R N"]:
    """Measure each solid along the rays of the groups that its reach touches; `nothing` elsewhere."""
    num_rays, num_groups = rays.u.shape
    found = torch.full((num_rays, NUM_OBJECTS * num_groups), nothing, device=rays.u.device)
    for pairs in _touching(stage, rays, reach):
        matrix = pick(stage.solid_from_camera.flatten(0, 1), pairs.row)
        u, v = rays.u.index_select(1, pairs.group), rays.v.index_select(1, pairs.group)
        x, y, z = pick(stage.camera_in_solid.flatten(0, 1), pairs.row)
        direction = (turned(matrix[0], u, v), turned(matrix[1], u, v), turned(matrix[2], u, v))
        found.index_copy_(1, pairs.solid * num_groups + pairs.group, measure(stage, pairs, (x, y, z), direction))
    return found.view(num_rays, NUM_OBJECTS, num_groups).transpose(0, 1)


def _touching(stage: Stage, rays: Rays, reach: Float[Tensor, "F K 4"]) -> list[Pairs]:
    """List, kind by kind, the solids whose reach touches the bounds of a group."""
    left, top, right, bottom = pick(reach, rays.frame).unbind(1)
    touched = (left <= rays.u.amax(0)) & (right >= rays.u.amin(0))
    touched &= (top <= rays.v.amax(0)) & (bottom >= rays.v.amin(0))
    solid, group = touched.nonzero(as_tuple=True)
    row = rays.frame[group] * NUM_OBJECTS + solid
    kinds = stage.kind.flatten()[row]
    chosen = [(kind, (kinds == kind).nonzero()[:, 0]) for kind in Kind]
    return [Pairs(kind, group[own], solid[own], row[own]) for kind, own in chosen if len(own)]
