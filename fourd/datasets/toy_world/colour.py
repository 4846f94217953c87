"""The colour that a ray brings: textures, sun, soft shadows, light from the sky, gloss, haze."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fourd.datasets.toy_world.normals import normals
from fourd.datasets.toy_world.rays import FAR, Hits, Rays, pick, sun_left, turned
from fourd.datasets.toy_world.scene import GROUND, LAMP, NUM_OBJECTS, SKY, WALL
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


@dataclass(frozen=True)
class _Surface:
    """Hold what light falls on: its own colour, how much it faces each light and the sky, light besides theirs."""

    albedo: Float[Tensor, "3 *n"]
    facing_sun: Float[Tensor, "*n"]
    facing_fill: Float[Tensor, "*n"]
    facing_up: Float[Tensor, "*n"]
    extra: Float[Tensor, "3 *n"]


def colour_of(stage: Stage, rays: Rays, hits: Hits) -> Float[Tensor, "3 R N"]:
    """Compute the linear colour that each ray brings."""
    depth = hits.depth.clamp(max=FAR)
    surface, sun = _surface(stage, rays, hits, depth), sun_left(stage, rays, depth)
    direct = surface.facing_sun * sun
    ambient = (0.65 + 0.35 * surface.facing_up) * (0.7 + 0.3 * sun)
    haze = torch.where(hits.thing == SKY, 1.0, 1 - torch.exp(-((depth / stage.haze_m[rays.frame]) ** 3)))
    rise = (turned(pick(stage.camera_axes, rays.frame)[2], rays.u, rays.v) * 1.6).clamp(0, 1)
    horizon, zenith = pick(stage.horizon, rays.frame), pick(stage.zenith, rays.frame)
    lights = [pick(colour, rays.frame) for colour in (stage.sun_colour, stage.sky_colour, stage.fill_colour)]
    colour = surface.extra
    for channel in range(3):
        sun_colour, sky_colour, fill_colour = (of_light[channel] for of_light in lights)
        light = sun_colour * direct + sky_colour * ambient
        if stage.is_furnished:
            light = torch.addcmul(light, fill_colour, surface.facing_fill)
        seen = torch.addcmul(surface.extra[channel], surface.albedo[channel], light)
        sky = torch.lerp(horizon[channel], zenith[channel], rise)
        torch.lerp(seen, sky, haze, out=colour[channel])
    return colour


def _surface(stage: Stage, rays: Rays, hits: Hits, depth: Float[Tensor, "R N"]) -> _Surface:
    """Lay the ground under every ray, then put walls and solids where they are met."""
    albedo = _ground_albedo(stage, rays, depth)
    facing_sun, facing_fill = (
        pick(light, rays.frame)[2].expand_as(depth).contiguous() for light in (stage.sun, stage.fill)
    )
    ground = _Surface(albedo, facing_sun, facing_fill, torch.ones_like(depth), torch.zeros_like(albedo))
    solids = (hits.thing < NUM_OBJECTS).flatten().nonzero()[:, 0]
    _cover(ground, solids, _solid_surface(stage, rays, hits, solids))
    if stage.is_furnished:
        walls = (hits.thing >= WALL).flatten().nonzero()[:, 0]
        _cover(ground, walls, _wall_surface(stage, rays, hits, walls))
    return ground


def _cover(ground: _Surface, where: Int[Tensor, " M"], part: _Surface) -> None:
    """Put a part in its places, in place; `where` counts along `R N`."""
    for whole, own in zip(vars(ground).values(), vars(part).values(), strict=True):
        whole.view(*whole.shape[:-2], -1).index_copy_(-1, where, own)


def _ground_albedo(stage: Stage, rays: Rays, depth: Float[Tensor, "R N"]) -> Float[Tensor, "3 R N"]:
    axes, camera = pick(stage.camera_axes, rays.frame), pick(stage.camera_position, rays.frame)
    shift = pick(stage.shift[:, GROUND], rays.frame) * PLANE_SIDE
    x, y = (
        PLANE_PER_METRE * torch.addcmul(camera[i], depth, turned(axes[i], rays.u, rays.v)) + shift[i] for i in range(2)
    )
    # A pixel covers more of the ground the flatter the view; 1 / sqrt is between its long and its short side.
    slope = -turned(axes[2], rays.u, rays.v) * (1 + rays.u**2 + rays.v**2).rsqrt()
    width = depth * _samples_per_pixel(stage, PLANE_PER_METRE)[rays.frame] * slope.clamp(min=0.05).rsqrt()
    style = stage.style[rays.frame, GROUND].int()
    tone = sample_plane(textures(depth.device).plane, style, (x, y), _blur_level(width))
    return _tones(stage, stage.tones[rays.frame, GROUND], tone)


def _samples_per_pixel(stage: Stage, per_metre: float) -> Float[Tensor, " F"]:
    """Count the samples of a texture that a pixel covers at 1 m, straight on."""
    return (per_metre / stage.focal_px.double()).float()


def _blur_level(samples_per_pixel: Tensor) -> Int[Tensor, "..."]:
    return samples_per_pixel.log2().round().clamp(0, NUM_BLURS - 1).int()


def _tones(stage: Stage, start: Int[Tensor, "..."], tone: Float[Tensor, "..."]) -> Float[Tensor, "3 ..."]:
    place = (start.int() + tone.round().int()).flatten()
    return torch.stack([channel.index_select(0, place) for channel in stage.palette]).view(3, *tone.shape)


def _wall_surface(stage: Stage, rays: Rays, hits: Hits, where: Int[Tensor, " M"]) -> _Surface:
    """Compute the surface of walls: textures lie along them and up, like a paper."""
    frame, thing, depth, u, v = _met(rays, hits, where)
    material = thing - WALL + GROUND + 1
    axes, camera = pick(stage.camera_axes, frame), pick(stage.camera_position, frame)
    point = [torch.addcmul(camera[i], depth, turned(axes[i], u, v)) for i in range(3)]
    wall = pick(stage.walls.flatten(0, 1), frame * stage.walls.shape[1] + thing - WALL)
    shift = stage.shift[frame, material].T * PLANE_SIDE
    along = PLANE_PER_METRE * (point[1] * wall[0] - point[0] * wall[1]) + shift[0]
    level = _blur_level(depth * _samples_per_pixel(stage, PLANE_PER_METRE)[frame])
    plane = textures(depth.device).plane
    tone = sample_plane(
        plane, stage.style[frame, material].int(), (along, PLANE_PER_METRE * point[2] + shift[1]), level
    )
    facing_sun, facing_fill = (
        (pick(light, frame)[:2] * wall[:2]).sum(0).clamp(min=0) for light in (stage.sun, stage.fill)
    )
    albedo = _tones(stage, stage.tones[frame, material], tone)
    return _Surface(albedo, facing_sun, facing_fill, torch.zeros_like(depth), torch.zeros_like(albedo))


def _met(rays: Rays, hits: Hits, where: Int[Tensor, " M"]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Take frame, thing, depth, u and v of some of the rays; `where` counts along `R N`."""
    frame = rays.frame.index_select(0, where % rays.u.shape[1])
    thing, depth, u, v = (
        values.flatten().index_select(0, where) for values in (hits.thing, hits.depth, rays.u, rays.v)
    )
    return frame, thing, depth, u, v


def _solid_surface(stage: Stage, rays: Rays, hits: Hits, where: Int[Tensor, " M"]) -> _Surface:
    """Compute the surface of the solids met by some of the rays."""
    frame, solid, depth, u, v = _met(rays, hits, where)
    row = frame * NUM_OBJECTS + solid
    matrix = pick(stage.solid_from_camera.flatten(0, 1), row)
    direction = torch.stack([turned(line, u, v) for line in matrix])
    point = torch.addcmul(pick(stage.camera_in_solid.flatten(0, 1), row), depth, direction)
    normal = normals(stage.kind.flatten()[row], pick(stage.size.flatten(0, 1), row), point)
    sun, fill = pick(stage.sun_in_solid.flatten(0, 1), row), pick(stage.fill_in_solid.flatten(0, 1), row)
    up = pick(stage.rotation[..., 2, :].flatten(0, 1), row)
    tone = _solid_tone(stage, frame, solid, point, depth)
    is_lamp, lamp = solid == LAMP, pick(stage.lamp, frame)
    albedo = torch.where(is_lamp, 0.35 * lamp, _tones(stage, stage.tones[frame, solid], tone))
    facing_sun, facing_fill = (normal * sun).sum(0), (normal * fill).sum(0).clamp(min=0)
    shine = pick(stage.gloss.flatten(), row) * _glint(normal, sun, direction) * (facing_sun > 0)
    glow = is_lamp * (0.26 + 0.5 / 255 * tone) * lamp
    extra = shine + glow
    if stage.is_furnished:
        metal = pick(stage.metal.flatten(), row)
        extra = extra + metal * albedo * _mirrored_sky(stage, frame, normal, direction, up)
        albedo = albedo * (1 - metal)
    return _Surface(albedo, facing_sun.clamp(min=0), facing_fill, (normal * up).sum(0), extra)


def _mirrored_sky(stage: Stage, frame: Tensor, normal: Tensor, direction: Tensor, up: Tensor) -> Float[Tensor, "3 M"]:
    """Give what a perfect mirror would show if there were only sky, and something dark below the horizon."""
    mirrored = direction - 2 * (normal * direction).sum(0) * normal
    rise = 1.6 * (mirrored * up).sum(0) * mirrored.square().sum(0).rsqrt()
    sky = torch.lerp(pick(stage.horizon, frame), pick(stage.zenith, frame), rise.clamp(0, 1))
    return 1.3 * sky * (1 + 2 * rise).clamp(0.15, 1)


def _solid_tone(
    stage: Stage, frame: Int[Tensor, " M"], solid: Int[Tensor, " M"], point: Float[Tensor, "3 M"], depth: Tensor
) -> Float[Tensor, " M"]:
    shift = stage.shift[frame, solid].T * VOLUME_SIDE
    level = _blur_level(depth * _samples_per_pixel(stage, VOLUME_PER_METRE)[frame])
    volume = textures(depth.device).volume
    return sample_volume(volume, stage.style[frame, solid].int(), point * VOLUME_PER_METRE + shift, level)


def _glint(
    normal: Float[Tensor, "3 M"], sun: Float[Tensor, "3 M"], direction: Float[Tensor, "3 M"]
) -> Float[Tensor, " M"]:
    """Mirror the sun as a polished surface does: the 32nd power of the cosine to the half-way direction."""
    half = sun - direction * direction.square().sum(0).rsqrt()
    cosine = (normal * half).sum(0).clamp(min=0) * half.square().sum(0).rsqrt()
    return cosine.square().square().square().square().square()
