"""What is true of a clip, beyond its depth: the paths of points and of boxes, computed and not estimated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fourd.datasets.toy_world.rays import NEAR, cast, rays_through
from fourd.datasets.toy_world.render import Pictures
from fourd.datasets.toy_world.scene import GROUND, NUM_OBJECTS, WALL, Array, Stream, generator
from fourd.datasets.toy_world.stage import Stage
from fourd.types import ClipShape

QueryFrames = Literal["first", "random"]

SAME_SURFACE = 1e-3
"""A point is seen if nothing on its ray is nearer by more than this share of its depth."""
MIN_SEEN, MIN_INSIDE, MIN_AREA = 0.25, 0.25, 0.0015
"""A box counts if these shares are reached: of the solid's pixels not hidden by others, of the box
inside of the frame, of the frame covered by what is seen of the solid. Not from the paper."""


@dataclass(frozen=True)
class Tracks:
    """Hold the paths of points that are seen at their query frames.

    `visible`: inside of the frame, and nothing nearer on the ray. `valid`: in front of the camera.
    """

    query_frame: Int[Tensor, "B Q"]
    xy_px: Float[Tensor, "B Q T 2"]
    visible: Bool[Tensor, "B Q T"]
    valid: Bool[Tensor, "B Q T"]


@dataclass(frozen=True)
class Boxes:
    """Hold the boxes of the objects, by their numbers: amodal (hidden parts count), cut at the frame's border."""

    xyxy_px: Float[Tensor, "B K T 4"]
    valid: Bool[Tensor, "B K T"]


def follow_points(
    stage: Stage, pictures: Pictures, clip: ClipShape, keys: list[tuple[int, int]], num_points: int, when: QueryFrames
) -> Tracks:
    """Choose points, half or more of them on solids where one is in view, and follow them.

    keys: (seed, index) of each clip. A point is chosen anywhere inside of a pixel, where its ray meets
    what the pixel's centre meets, and at the centre otherwise.
    """
    frame, pixel, jitter = _choose(pictures, clip, keys, num_points, when)
    device = pictures.thing.device
    frame, pixel, jitter = frame.to(device), pixel.to(device), jitter.to(device)
    first = torch.arange(len(keys), device=device)[:, None] * clip.num_frames
    centre = torch.stack([pixel % clip.width, pixel // clip.width], -1) + 0.5
    thing = pictures.thing.flatten(1)[first + frame, pixel].long()
    depth, met = _look(stage, first + frame, centre + jitter)
    same = met == thing
    depth = torch.where(same, depth, pictures.depth.flatten(1)[first + frame, pixel])
    xy = torch.where(same[..., None], centre + jitter, centre)
    paths = _paths(stage, first + frame, xy, depth, thing, clip.num_frames)
    return _seen_paths(stage, paths, frame, clip)


def _choose(
    pictures: Pictures, clip: ClipShape, keys: list[tuple[int, int]], num_points: int, when: QueryFrames
) -> tuple[Int[Tensor, "B Q"], Int[Tensor, "B Q"], Float[Tensor, "B Q 2"]]:
    """Draw each point's frame, pixel, and offset from the pixel's centre."""
    things = pictures.thing.view(len(keys), clip.num_frames, -1).cpu().numpy()
    frames, pixels, jitters = [], [], []
    for thing, (seed, index) in zip(things, keys, strict=True):
        chance = generator(seed, index, Stream.POINTS)
        late = chance.integers(clip.num_frames, size=num_points)
        frame = late if when == "random" else np.zeros_like(late)
        frames.append(frame)
        pixels.append(_choose_pixels(thing, frame, chance.uniform(size=(num_points, 2))))
        jitters.append(chance.uniform(-0.49, 0.49, size=(num_points, 2)))
    as_float = torch.as_tensor(np.stack(jitters), dtype=torch.float32)
    return torch.as_tensor(np.stack(frames)), torch.as_tensor(np.stack(pixels)), as_float


def _choose_pixels(thing: Array, frame: Int[Array, " Q"], chance: Float[Array, "Q 2"]) -> Int[Array, " Q"]:
    """Choose pixels: on solids, each as often as the others, for the first half; on ground and walls for the rest."""
    kept = np.where(thing >= WALL, GROUND, thing)
    places = {int(t): [np.flatnonzero(kept[t] == k) for k in range(GROUND + 1)] for t in np.unique(frame)}
    chosen = np.empty(len(frame), dtype=np.int64)
    for point, (t, (which, where)) in enumerate(zip(frame, chance, strict=True)):
        solids = [pixels for pixels in places[int(t)][:NUM_OBJECTS] if len(pixels)]
        ground = places[int(t)][GROUND]
        on_solid = bool(solids) and (point < (len(frame) + 1) // 2 or not len(ground))
        pixels = solids[int(which * len(solids))] if on_solid else ground
        if not len(pixels):
            raise ValueError(f"frame {t} shows only sky, so no point can be chosen in it: this is a bug of the camera")
        chosen[point] = pixels[int(where * len(pixels))]
    return chosen


def _look(stage: Stage, frame: Int[Tensor, "*n"], xy: Float[Tensor, "*n 2"]) -> tuple[Tensor, Tensor]:
    """Send single rays; give the depth and the thing that each meets."""
    hits = cast(stage, rays_through(stage, frame.reshape(-1), xy.reshape(1, -1, 2)))
    return hits.depth.view(frame.shape), hits.thing.view(frame.shape)


def _paths(
    stage: Stage, frame: Tensor, xy: Tensor, depth: Tensor, thing: Tensor, num_frames: int
) -> Float[Tensor, "B Q T 3"]:
    """Fix points to what they lie on, and give their places in each frame's camera."""
    centred = (xy - stage.centre_px) / stage.focal_px[frame][..., None]
    seen = torch.cat([centred, torch.ones_like(depth)[..., None]], -1) * depth[..., None]
    world = (stage.camera_axes[frame] @ seen[..., None])[..., 0] + stage.camera_position[frame]
    solid = thing.clamp(max=NUM_OBJECTS - 1)
    local = (stage.rotation[frame, solid].mT @ (world - stage.position[frame, solid])[..., None])[..., 0]
    num_clips = len(frame)
    clips = torch.arange(num_clips, device=frame.device)
    all_frames = clips[:, None, None] * num_frames + torch.arange(num_frames, device=frame.device)
    rotation, position = stage.rotation[all_frames, solid[..., None]], stage.position[all_frames, solid[..., None]]
    moved = (rotation @ local[:, :, None, :, None])[..., 0] + position
    moved = torch.where((thing < NUM_OBJECTS)[..., None, None], moved, world[:, :, None])
    from_camera = moved - stage.camera_position[all_frames]
    return (stage.camera_axes[all_frames].mT @ from_camera[..., None])[..., 0]


def _seen_paths(stage: Stage, paths: Float[Tensor, "B Q T 3"], frame: Tensor, clip: ClipShape) -> Tracks:
    z = paths[..., 2]
    valid = z > NEAR
    focal = stage.focal_px.view(-1, 1, clip.num_frames, 1)
    xy = paths[..., :2] / torch.where(valid, z, 1.0)[..., None] * focal + stage.centre_px
    xy = torch.where(valid[..., None], xy, 0.0)
    inside = (xy >= 0).all(-1) & (xy[..., 0] < clip.width) & (xy[..., 1] < clip.height)
    by_frame = xy.permute(1, 0, 2, 3).flatten(1, 2)
    frames = torch.arange(by_frame.shape[1], device=xy.device)
    met = cast(stage, rays_through(stage, frames, by_frame)).depth
    met = met.view(-1, len(paths), clip.num_frames).transpose(0, 1)
    return Tracks(frame, xy, valid & inside & (met > z * (1 - SAME_SURFACE)), valid)


def bound_objects(stage: Stage, pictures: Pictures, clip: ClipShape) -> Boxes:
    """Bound each object exactly, and say where it is enough in view to count."""
    whole = stage.solid_outline * stage.focal_px[:, None, None] + stage.centre_px.repeat(2)
    size = whole.new_tensor([clip.width, clip.height]).repeat(2)
    box = torch.minimum(whole.clamp(min=0), size)
    area, whole_area = ((b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1]) for b in (box, whole))
    least = max(4.0, MIN_AREA * clip.width * clip.height)
    valid = (pictures.seen >= MIN_SEEN * pictures.alone) & (pictures.seen >= least) & (area >= MIN_INSIDE * whole_area)
    by_object = (-1, clip.num_frames, NUM_OBJECTS)
    return Boxes(box.view(*by_object, 4).transpose(1, 2), valid.view(by_object).transpose(1, 2))
