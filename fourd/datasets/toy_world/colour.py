"""The colour that a ray brings: textures, sun, soft shadows, light from the sky, gloss, haze."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fourd.datasets.toy_world.rays import FAR, Hits, Rays, pick, sun_left, turned
from fourd.datasets.toy_world.scene import GROUND, LAMP, NUM_OBJECTS, SKY
from fourd.datasets.toy_world.solids import normals
from fourd.datasets.toy_world.stage import Stage
from fourd.datasets.toy_world.textures import (
    NUM_BLURS,
    PLANE_PER_METRE,
    PLANE_SIDE,
    VOLUME_PER_METRE,
    VOLUME_SIDE,
    sample_plane,
    sample_volume,
    textures,
)

SUN_COLOUR, SKY_COLOUR = (0.9, 0.84, 0.74), (0.29, 0.33, 0.4)
HAZE_METRES = 15.0


@dataclass(frozen=True)
class _Surface:
    """Hold what light falls on: its own colour, how much it faces the sun and the sky, light besides theirs."""

    albedo: Float[Tensor, "3 *n"]
    facing_sun: Float[Tensor, "*n"]
    facing_up: Float[Tensor, "*n"]
    extra: Float[Tensor, "3 *n"]


def colour_of(stage: Stage, rays: Rays, hits: Hits) -> Float[Tensor, "3 R N"]:
    """Compute the linear colour that each ray brings."""
    depth = hits.depth.clamp(max=FAR)
    surface, sun = _surface(stage, rays, hits, depth), sun_left(stage, rays, depth)
    direct = surface.facing_sun * sun
    ambient = (0.65 + 0.35 * surface.facing_up) * (0.7 + 0.3 * sun)
    haze = torch.where(hits.thing == SKY, 1.0, 1 - torch.exp(-((depth / HAZE_METRES) ** 3)))
    rise = (turned(pick(stage.camera_axes, rays.frame)[2], rays.u, rays.v) * 1.6).clamp(0, 1)
    horizon, zenith = pick(stage.horizon, rays.frame), pick(stage.zenith, rays.frame)
    colour = surface.extra
    for channel in range(3):
        light = SUN_COLOUR[channel] * direct + SKY_COLOUR[channel] * ambient
        seen = torch.addcmul(surface.extra[channel], surface.albedo[channel], light)
        sky = torch.lerp(horizon[channel], zenith[channel], rise)
        torch.lerp(seen, sky, haze, out=colour[channel])
    return colour


def _surface(stage: Stage, rays: Rays, hits: Hits, depth: Float[Tensor, "R N"]) -> _Surface:
    """Lay the ground under every ray, then put the solids where they are met."""
    albedo = _ground_albedo(stage, rays, depth)
    facing_sun = pick(stage.sun, rays.frame)[2].expand_as(depth).contiguous()
    facing_up, extra = torch.ones_like(depth), torch.zeros_like(albedo)
    where = (hits.thing < NUM_OBJECTS).flatten().nonzero()[:, 0]
    solid = _solid_surface(stage, rays, hits, where)
    for ground, part in ((albedo, solid.albedo), (extra, solid.extra)):
        ground.view(3, -1).index_copy_(1, where, part)
    facing_sun.view(-1).index_copy_(0, where, solid.facing_sun)
    facing_up.view(-1).index_copy_(0, where, solid.facing_up)
    return _Surface(albedo, facing_sun, facing_up, extra)


def _ground_albedo(stage: Stage, rays: Rays, depth: Float[Tensor, "R N"]) -> Float[Tensor, "3 R N"]:
    axes, camera = pick(stage.camera_axes, rays.frame), pick(stage.camera_position, rays.frame)
    shift = pick(stage.shift[:, GROUND], rays.frame) * PLANE_SIDE
    x, y = (
        PLANE_PER_METRE * torch.addcmul(camera[i], depth, turned(axes[i], rays.u, rays.v)) + shift[i] for i in range(2)
    )
    # A pixel covers more of the ground the flatter the view; 1 / sqrt is between its long and its short side.
    slope = -turned(axes[2], rays.u, rays.v) * (1 + rays.u**2 + rays.v**2).rsqrt()
    width = depth * (PLANE_PER_METRE / stage.focal_px) * slope.clamp(min=0.05).rsqrt()
    style = stage.style[rays.frame, GROUND].int()
    tone = sample_plane(textures(depth.device).plane, style, (x, y), _blur_level(width))
    return _tones(stage, stage.tones[rays.frame, GROUND], tone)


def _blur_level(samples_per_pixel: Tensor) -> Int[Tensor, "..."]:
    return samples_per_pixel.log2().round().clamp(0, NUM_BLURS - 1).int()


def _tones(stage: Stage, start: Int[Tensor, "..."], tone: Float[Tensor, "..."]) -> Float[Tensor, "3 ..."]:
    place = (start.int() + tone.round().int()).flatten()
    return torch.stack([channel.index_select(0, place) for channel in stage.palette]).view(3, *tone.shape)


def _solid_surface(stage: Stage, rays: Rays, hits: Hits, where: Int[Tensor, " M"]) -> _Surface:
    """Compute the surface of the solids met by some of the rays; `where` counts along `R N`."""
    frame = rays.frame.index_select(0, where % rays.u.shape[1])
    solid, depth, u, v = (value.flatten().index_select(0, where) for value in (hits.thing, hits.depth, rays.u, rays.v))
    row = frame * NUM_OBJECTS + solid
    matrix = pick(stage.solid_from_camera.flatten(0, 1), row)
    direction = torch.stack([turned(line, u, v) for line in matrix])
    point = torch.addcmul(pick(stage.camera_in_solid.flatten(0, 1), row), depth, direction)
    normal = normals(stage.kind.flatten()[row], pick(stage.size.flatten(0, 1), row), point)
    sun = pick(stage.sun_in_solid.flatten(0, 1), row)
    up = pick(stage.rotation[..., 2, :].flatten(0, 1), row)
    tone = _solid_tone(stage, frame, solid, point, depth)
    is_lamp, lamp = solid == LAMP, pick(stage.lamp, frame)
    albedo = torch.where(is_lamp, 0.35 * lamp, _tones(stage, stage.tones[frame, solid], tone))
    facing_sun = (normal * sun).sum(0)
    shine = pick(stage.gloss.flatten(), row) * _glint(normal, sun, direction) * (facing_sun > 0)
    glow = is_lamp * (0.26 + 0.5 / 255 * tone) * lamp
    return _Surface(albedo, facing_sun.clamp(min=0), (normal * up).sum(0), shine + glow)


def _solid_tone(
    stage: Stage, frame: Int[Tensor, " M"], solid: Int[Tensor, " M"], point: Float[Tensor, "3 M"], depth: Tensor
) -> Float[Tensor, " M"]:
    shift = stage.shift[frame, solid].T * VOLUME_SIDE
    level = _blur_level(depth * (VOLUME_PER_METRE / stage.focal_px))
    volume = textures(depth.device).volume
    return sample_volume(volume, stage.style[frame, solid].int(), point * VOLUME_PER_METRE + shift, level)


def _glint(
    normal: Float[Tensor, "3 M"], sun: Float[Tensor, "3 M"], direction: Float[Tensor, "3 M"]
) -> Float[Tensor, " M"]:
    """Mirror the sun as a polished surface does: the 32nd power of the cosine to the half-way direction."""
    half = sun - direction * direction.square().sum(0).rsqrt()
    cosine = (normal * half).sum(0).clamp(min=0) * half.square().sum(0).rsqrt()
    return cosine.square().square().square().square().square()
