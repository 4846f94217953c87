"""The ray caster: scenes to pictures, exact depth and identity, in plain torch on any device.

Rays come in groups that lie close together in one frame (a tile of pixels, the four parts of one
pixel). A solid is tried only against the groups that its outline touches. Soft shadows: a solid dims
the sun by the length of the sun ray's way through it, as dense smoke would.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Int8, UInt8
from torch import Tensor

from fourd.datasets.toy_world.scene import GROUND, LAMP, NUM_OBJECTS, SKY, Kind
from fourd.datasets.toy_world.solids import Vector, normals, span
from fourd.datasets.toy_world.stage import Stage
from fourd.datasets.toy_world.textures import (
    NUM_BLURS,
    PLANE_PER_METRE,
    VOLUME_PER_METRE,
    sample_plane,
    sample_volume,
    textures,
)

NEAR, FAR = 0.05, 24.0
"""Nothing is seen nearer or farther than this, in metres of depth; beyond is sky."""
TILE = 8
RAYS_AT_ONCE = {"cpu": 2**14, "cuda": 2**22}
SHADOW_PER_METRE = 9.0
SUN_COLOUR, SKY_LIGHT = (0.92, 0.86, 0.76), (0.25, 0.29, 0.36)


@dataclass(frozen=True)
class Rays:
    """Hold `N` groups of `R` rays: each group's frame, each ray as x/z and y/z in the camera."""

    frame: Int[Tensor, " N"]
    u: Float[Tensor, "N R"]
    v: Float[Tensor, "N R"]


@dataclass(frozen=True)
class Hits:
    """Hold what rays meet first: its depth (z), and which object it is, or GROUND, or SKY.

    `layer` is the depth at which each solid would be met if it were alone, infinite for a miss.
    """

    depth: Float[Tensor, "N R"]
    thing: Int[Tensor, "N R"]
    layer: Float[Tensor, "K N R"]


@dataclass(frozen=True)
class Pictures:
    """Hold rendered frames. `depth` (z, metres) is 0 where there is only sky.

    `thing` is the object's number, GROUND or SKY at the pixel's centre; `alone` counts the pixels that
    each object would have if nothing stood before it, `seen` those that it has.
    """

    rgb: UInt8[Tensor, "F 3 H W"]
    depth: Float[Tensor, "F H W"]
    thing: Int8[Tensor, "F H W"]
    alone: Int[Tensor, "F K"]
    seen: Int[Tensor, "F K"]


def render(stage: Stage, height: int, width: int) -> Pictures:
    """Draw every frame of a stage; pixels that see more than one thing are drawn with four rays."""
    num_frames = len(stage.kind)
    at_once = max(1, RAYS_AT_ONCE.get(stage.kind.device.type, 2**20) // (height * width))
    parts = [
        _render_some(stage.frames(slice(start, start + at_once)), height, width)
        for start in range(0, num_frames, at_once)
    ]
    return Pictures(**{name: torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])})


def rays_through(stage: Stage, frame: Int[Tensor, " N"], xy_px: Float[Tensor, "N R 2"]) -> Rays:
    """Send rays through points of the pictures, in continuous pixels."""
    centred = (xy_px - stage.intrinsics_px[:2, 2]) / stage.focal_px
    return Rays(frame, centred[..., 0].contiguous(), centred[..., 1].contiguous())


def cast(stage: Stage, rays: Rays) -> Hits:
    """Find what each ray meets first."""
    axes, height = stage.camera_axes[rays.frame], stage.camera_position[rays.frame, 2, None]
    drop = -_turned(axes, rays, row=2)
    depth = height / drop.clamp(min=1e-6)
    depth = torch.where(depth < FAR, depth, torch.inf)
    thing = torch.where(depth < FAR, GROUND, SKY)
    layer = _per_solid(stage, rays, stage.solid_outline, torch.inf, _entry)
    for k in range(NUM_OBJECTS):
        nearer = layer[k] < depth
        depth = torch.where(nearer, layer[k], depth)
        thing = torch.where(nearer, k, thing)
    return Hits(depth, thing, layer)


# ----------------------------------------------------------------------------- rays against solids

Local = tuple[Kind, Tensor, Tensor, Tensor]
"""Of some (group, solid) pairs of one kind: the kind, the group, the frame, the solid."""


def _per_solid(
    stage: Stage,
    rays: Rays,
    reach: Float[Tensor, "F K 4"],
    nothing: float,
    measure: Callable[[Stage, Local, Vector, Vector], Tensor],
) -> Float[Tensor, "K N R"]:
    """Measure each solid along the rays of the groups that its reach touches; `nothing` elsewhere."""
    low_u, high_u, low_v, high_v = rays.u.amin(1), rays.u.amax(1), rays.v.amin(1), rays.v.amax(1)
    left, top, right, bottom = reach[rays.frame].unbind(-1)
    touched = (left <= high_u[:, None]) & (right >= low_u[:, None])
    touched &= (top <= high_v[:, None]) & (bottom >= low_v[:, None])
    group, solid = touched.nonzero(as_tuple=True)
    kinds = stage.kind[rays.frame[group], solid]
    layer = torch.full((NUM_OBJECTS, *rays.u.shape), nothing, device=rays.u.device)
    for kind in Kind:
        own = (kinds == kind).nonzero()[:, 0]
        if not len(own):
            continue
        pairs = (kind, group[own], rays.frame[group[own]], solid[own])
        layer[pairs[3], pairs[1]] = measure(stage, pairs, *_local_rays(stage, rays, pairs))
    return layer


def _local_rays(stage: Stage, rays: Rays, pairs: Local) -> tuple[Vector, Vector]:
    """Express rays in the frames of solids: origins `n 1`, directions of camera depth 1 `n R`."""
    _, group, frame, solid = pairs
    solid_from_world = stage.rotation[frame, solid].mT
    solid_from_camera = solid_from_world @ stage.camera_axes[frame]
    offset = (stage.camera_position[frame] - stage.position[frame, solid])[..., None]
    x, y, z = (solid_from_world @ offset).unbind(1)
    local = Rays(frame, rays.u[group], rays.v[group])
    return (x, y, z), (_turned(solid_from_camera, local, 0), _turned(solid_from_camera, local, 1),
                       _turned(solid_from_camera, local, 2))


def _turned(rotation: Float[Tensor, "n 3 3"], rays: Rays, row: int) -> Float[Tensor, "n R"]:
    a, b, c = rotation[:, row, :, None].unbind(1)
    return torch.addcmul(c + a * rays.u, b, rays.v)


def _entry(stage: Stage, pairs: Local, origin: Vector, direction: Vector) -> Tensor:
    kind, _, frame, solid = pairs
    enter, leave = span(kind, stage.size[frame, solid], origin, direction)
    return torch.where((enter < leave) & (enter > NEAR), enter, torch.inf)


def _sun_left(stage: Stage, rays: Rays, depth: Float[Tensor, "N R"]) -> Float[Tensor, "N R"]:
    """Measure how much of the sun arrives at the points met by rays, 0 to 1."""

    def way_through(stage: Stage, pairs: Local, origin: Vector, direction: Vector) -> Tensor:
        kind, group, frame, solid = pairs
        far = depth[group]
        x, y, z = (torch.addcmul(o, far, d) for o, d in zip(origin, direction, strict=True))
        a, b, c = (stage.rotation[frame, solid].mT @ stage.sun[frame, :, None]).unbind(1)
        enter, leave = span(kind, stage.size[frame, solid], (x, y, z), (a, b, c))
        return (leave - enter.clamp(min=0)).clamp(min=0)

    return torch.exp(-SHADOW_PER_METRE * _per_solid(stage, rays, stage.shade_outline, 0.0, way_through).sum(0))


# ----------------------------------------------------------------------------- colour


@dataclass(frozen=True)
class _Surface:
    """Hold what light falls on: colour without light, how the sun meets it, how much it looks up, its own light."""

    albedo: Float[Tensor, "3 N R"]
    lambert: Float[Tensor, "N R"]
    up: Float[Tensor, "N R"]
    extra: Float[Tensor, "3 N R"]


def shade(stage: Stage, rays: Rays, hits: Hits) -> Float[Tensor, "3 N R"]:
    """Compute the linear colour that each ray brings."""
    depth = hits.depth.clamp(max=FAR)
    surface = _surface(stage, rays, hits, depth)
    sun_left = _sun_left(stage, rays, depth)
    direct = surface.lambert * sun_left
    ambient = (0.65 + 0.35 * surface.up) * (0.7 + 0.3 * sun_left)
    haze = 1 - torch.exp(-((depth / 15) ** 3))
    sky = _sky(stage, rays)
    colour = torch.empty_like(surface.albedo)
    for channel in range(3):
        light = SUN_COLOUR[channel] * direct + SKY_LIGHT[channel] * ambient
        seen = torch.addcmul(surface.extra[channel] * sun_left, surface.albedo[channel], light)
        seen = torch.lerp(seen, stage.horizon[rays.frame, channel, None], haze)
        colour[channel] = torch.where(hits.thing == SKY, sky[channel], seen)
    return colour


def _sky(stage: Stage, rays: Rays) -> list[Tensor]:
    rise = (_turned(stage.camera_axes[rays.frame], rays, row=2) * 1.6).clamp(0, 1)
    return [torch.lerp(stage.horizon[rays.frame, c, None], stage.zenith[rays.frame, c, None], rise) for c in range(3)]


def _surface(stage: Stage, rays: Rays, hits: Hits, depth: Tensor) -> _Surface:
    """Colour the ground under every ray, then the solids where they are met."""
    albedo = _ground_albedo(stage, rays, depth)
    lambert = stage.sun[rays.frame, 2, None].expand_as(depth).contiguous()
    up, extra = torch.ones_like(depth), torch.zeros_like(albedo)
    on_solid = (hits.thing < NUM_OBJECTS).flatten().nonzero()[:, 0]
    solid = _solid_surface(stage, rays, hits, on_solid)
    for whole, part in ((albedo, solid.albedo), (extra, solid.extra)):
        whole.view(3, -1)[:, on_solid] = part
    lambert.view(-1)[on_solid] = solid.lambert
    up.view(-1)[on_solid] = solid.up
    return _Surface(albedo, lambert, up, extra)


def _ground_albedo(stage: Stage, rays: Rays, depth: Tensor) -> Float[Tensor, "3 N R"]:
    axes, frame = stage.camera_axes[rays.frame], rays.frame
    shift = stage.shift[frame, GROUND] * 512
    x, y = (
        PLANE_PER_METRE * torch.addcmul(stage.camera_position[frame, i, None], depth, _turned(axes, rays, row=i))
        + shift[:, i, None]
        for i in range(2)
    )
    slope = -_turned(axes, rays, row=2) / (1 + rays.u**2 + rays.v**2).sqrt()
    width = depth * (PLANE_PER_METRE / stage.focal_px) * slope.clamp(min=0.05).rsqrt()
    plane = textures(depth.device).plane
    tone = sample_plane(plane, stage.style[frame, GROUND, None].int(), x, y, _blur_level(width))
    return _tones(stage, stage.tones[frame, GROUND, None], tone)


def _blur_level(samples_per_pixel: Tensor) -> Tensor:
    return samples_per_pixel.log2().round().clamp(0, NUM_BLURS - 1).int()


def _tones(stage: Stage, start: Tensor, tone: Tensor) -> Float[Tensor, "3 ..."]:
    row = start + tone.round().int()
    return torch.stack([channel[row] for channel in stage.palette])


def _solid_surface(stage: Stage, rays: Rays, hits: Hits, chosen: Int[Tensor, " M"]) -> _Surface:
    """Compute the surface of solids at some rays, listed one by one."""
    group = chosen // rays.u.shape[1]
    frame, solid = rays.frame[group], hits.thing.flatten()[chosen]
    depth = hits.depth.flatten()[chosen]
    seen = torch.stack([rays.u.flatten()[chosen], rays.v.flatten()[chosen], torch.ones_like(depth)], -1)
    direction = (stage.camera_axes[frame] @ seen[..., None])[..., 0]
    world = stage.camera_position[frame] + depth[:, None] * direction
    rotation = stage.rotation[frame, solid]
    local = ((world - stage.position[frame, solid])[:, None] @ rotation)[:, 0]
    normal = (rotation @ normals(stage.kind[frame, solid], stage.size[frame, solid], local)[..., None])[..., 0]
    samples = (local * VOLUME_PER_METRE).T + stage.shift[frame, solid].T * 64
    level = _blur_level(depth * (VOLUME_PER_METRE / stage.focal_px))
    tone = sample_volume(textures(depth.device).volume, stage.style[frame, solid].int(), samples, level)
    albedo = _tones(stage, stage.tones[frame, solid], tone)
    sun = stage.sun[frame]
    glint = torch.nn.functional.normalize(sun - torch.nn.functional.normalize(direction, dim=-1), dim=-1)
    shine = stage.gloss[frame, solid] * (normal * glint).sum(-1).clamp(min=0) ** 24
    glow = (solid == LAMP) * (0.35 + 0.65 * tone / 255)
    albedo = torch.where(solid == LAMP, 0.35 * stage.lamp[frame].T, albedo)
    return _Surface(
        albedo, (normal * sun).sum(-1).clamp(min=0), normal[:, 2], shine + 0.75 * glow * stage.lamp[frame].T
    )


# ----------------------------------------------------------------------------- pictures


def _render_some(stage: Stage, height: int, width: int) -> Pictures:
    rays = _tiled_rays(stage, height, width)
    hits = cast(stage, rays)
    linear = _untiled(shade(stage, rays, hits), height, width)
    thing = _untiled(hits.thing[None], height, width)[:, 0]
    depth = _untiled(hits.depth[None], height, width)[:, 0]
    _smooth_edges(stage, linear, thing)
    alone = _untiled((hits.layer < torch.inf), height, width)
    solids = torch.arange(NUM_OBJECTS, device=thing.device)
    return Pictures(
        rgb=(linear.clamp(0, 1).sqrt() * 255).round().to(torch.uint8),
        depth=torch.where(thing == SKY, 0.0, depth),
        thing=thing.to(torch.int8),
        alone=alone.sum((2, 3)),
        seen=(thing[:, None] == solids[:, None, None]).sum((2, 3)),
    )


def _tiled_rays(stage: Stage, height: int, width: int) -> Rays:
    """Cover each frame with square tiles; those at the right and bottom edges may reach over."""
    device = stage.kind.device
    rows, columns = -(-height // TILE), -(-width // TILE)
    inside = torch.cartesian_prod(*[torch.arange(TILE, device=device)] * 2).flip(-1) + 0.5
    y, x = torch.meshgrid(torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij")
    xy = torch.stack([x, y], -1).view(-1, 1, 2) * TILE + inside
    num_frames = len(stage.kind)
    frame = torch.arange(num_frames, device=device).repeat_interleave(len(xy))
    return rays_through(stage, frame, xy.repeat(num_frames, 1, 1))


def _untiled(values: Tensor, height: int, width: int) -> Tensor:
    """Put `C (F tiles) pixels` together to `F C H W`."""
    rows, columns = -(-height // TILE), -(-width // TILE)
    tiles = values.view(len(values), -1, rows, columns, TILE, TILE)
    whole = tiles.permute(1, 0, 2, 4, 3, 5).reshape(tiles.shape[1], len(values), rows * TILE, columns * TILE)
    return whole[..., :height, :width].contiguous()


def _smooth_edges(stage: Stage, linear: Float[Tensor, "F 3 H W"], thing: Int[Tensor, "F H W"]) -> None:
    """Draw again, in place and with four rays, the pixels beside which another thing is seen."""
    edge = torch.zeros_like(thing, dtype=torch.bool)
    across, down = thing[:, :, 1:] != thing[:, :, :-1], thing[:, 1:] != thing[:, :-1]
    edge[:, :, 1:] |= across
    edge[:, :, :-1] |= across
    edge[:, 1:] |= down
    edge[:, :-1] |= down
    frame, y, x = edge.nonzero(as_tuple=True)
    quarter = torch.tensor([[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]], device=thing.device)
    rays = rays_through(stage, frame, torch.stack([x, y], -1)[:, None] + quarter)
    linear[frame, :, y, x] = shade(stage, rays, cast(stage, rays)).clamp(max=1).mean(-1).T
