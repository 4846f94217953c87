"""Many scenes in motion as tensors: what the ray caster reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from fourd.datasets.toy_world.camera import camera_path, intrinsics
from fourd.datasets.toy_world.outlines import ellipsoid_outline, extreme_parts, outline
from fourd.datasets.toy_world.physics import Motion, simulate
from fourd.datasets.toy_world.room_physics import simulate_in_room
from fourd.datasets.toy_world.scene import Array, Kind, Scene
from fourd.types import ClipShape

EVERYWHERE = (-1e9, -1e9, 1e9, 1e9)
NUM_TONES = 256
LAMP_STEPS_PER_CLIP = 4.0
"""How often the lamp changes its colour in a clip; not from the paper."""


@dataclass(frozen=True)
class Stage:
    """Hold `F` frames (clips times times) of `K` solids, their cameras, light and materials.

    Cameras and the directions of the two lights stand here a second time, as each solid sees them.
    `walls`: see `Scene`. `palette` lists the tones of all materials of all clips, linear RGB; `tones` is
    where a material's 256 begin. Outlines bound solids, and solids with all that they can shade, in
    x/z and y/z of the camera.

    Convention: camera axes are OpenCV's, the columns of `camera_axes` in the world; z is up; metres.
    """

    kind: Int[Tensor, "F K"]
    size: Float[Tensor, "F K 3"]
    position: Float[Tensor, "F K 3"]
    rotation: Float[Tensor, "F K 3 3"]
    camera_position: Float[Tensor, "F 3"]
    camera_axes: Float[Tensor, "F 3 3"]
    intrinsics_px: Float[Tensor, "F 3 3"]
    walls: Float[Tensor, "F W 4"]
    solid_from_camera: Float[Tensor, "F K 3 3"]
    camera_in_solid: Float[Tensor, "F K 3"]
    sun_in_solid: Float[Tensor, "F K 3"]
    fill_in_solid: Float[Tensor, "F K 3"]
    solid_outline: Float[Tensor, "F K 4"]
    shade_outline: Float[Tensor, "F K 4"]
    palette: Float[Tensor, "3 tones"]
    tones: Int[Tensor, "F M"]
    style: Int[Tensor, "F M"]
    shift: Float[Tensor, "F M 3"]
    gloss: Float[Tensor, "F K"]
    metal: Float[Tensor, "F K"]
    lamp: Float[Tensor, "F 3"]
    sun: Float[Tensor, "F 3"]
    sun_colour: Float[Tensor, "F 3"]
    sky_colour: Float[Tensor, "F 3"]
    fill: Float[Tensor, "F 3"]
    fill_colour: Float[Tensor, "F 3"]
    zenith: Float[Tensor, "F 3"]
    horizon: Float[Tensor, "F 3"]
    haze_m: Float[Tensor, " F"]

    @property
    def is_furnished(self) -> bool:
        """Say whether there can be walls, a fill light and metal; the studio has none of them."""
        return self.walls.shape[1] > 0

    @property
    def focal_px(self) -> Float[Tensor, " F"]:
        """Give each frame's focal length, the same along x and y."""
        return self.intrinsics_px[:, 0, 0]

    @property
    def centre_px(self) -> Float[Tensor, "2"]:
        """Give the principal point, the middle of every frame."""
        return self.intrinsics_px[0, :2, 2]

    def frames(self, part: slice) -> Stage:
        """Take some of the frames; what is shared stays whole."""
        return Stage(**{name: value if name == "palette" else value[part] for name, value in vars(self).items()})


def set_stage(scenes: Sequence[Scene], clip: ClipShape, time_s: Float[Array, " T"], device: torch.device) -> Stage:
    """Move cameras and solids, and lay everything out as tensors on a device."""
    progress = time_s / max(time_s[-1], 1e-9)
    cameras = [camera_path(scene.camera, scene.labels.camera_motion, progress) for scene in scenes]
    motions = [motion_of(scene, camera[0], time_s) for scene, camera in zip(scenes, cameras, strict=True)]
    lamps = np.stack([lamp_colours(scene, progress) for scene in scenes]).reshape(-1, 3)
    solids = _solid_fields(scenes, motions, np.stack(cameras).reshape(-1, 4, 4), clip.num_frames)
    pinholes = [intrinsics(clip.height, clip.width, scene.field_of_view_rad) for scene in scenes]
    room = _by_frame({"intrinsics_px": pinholes, "walls": [scene.walls for scene in scenes]}, clip.num_frames)
    fields = {**solids, **room, **_look_fields(scenes, clip.num_frames), "lamp": lamps}
    tensors = {name: torch.as_tensor(value).to(device, _kind_of(value)) for name, value in fields.items()}
    palette = _palette(torch.stack([torch.as_tensor(scene.look.ramp) for scene in scenes]).float().to(device))
    return Stage(**tensors, **_as_solids_see(tensors), **_outlines(tensors), palette=palette)


def motion_of(scene: Scene, first_camera: Float[Array, "4 4"], time_s: Float[Array, " T"]) -> Motion:
    """Let the solids of a scene go. The studio's physics is older than walls, and stays as it was."""
    if len(scene.walls):
        return simulate_in_room(scene.bodies, scene.walls, scene.labels.object_motion, first_camera, time_s)
    return simulate(scene.bodies, scene.labels.object_motion, first_camera, time_s)


def lamp_colours(scene: Scene, progress: Float[Array, " T"]) -> Float[Array, "T 3"]:
    """Give the lamp's colour at each time; in frame 0 it does not depend on the order."""
    changes = np.floor(scene.lamp_phase + progress * LAMP_STEPS_PER_CLIP).astype(int)
    step = (1, -1)[scene.labels.event_order]
    return scene.look.lamp[(scene.lamp_start + step * changes) % 3]


def _kind_of(value: Array) -> torch.dtype:
    return torch.float32 if value.dtype.kind == "f" else torch.int64


def _by_frame(by_clip: dict[str, Sequence[Array]], num_frames: int) -> dict[str, Array]:
    """Repeat what holds for a whole clip for each of its frames."""
    return {name: np.repeat(np.stack(values), num_frames, axis=0) for name, values in by_clip.items()}


def _solid_fields(
    scenes: Sequence[Scene], motions: Sequence[Motion], world_from_camera: Float[Array, "F 4 4"], num_frames: int
) -> dict[str, Array]:
    bodies = [scene.bodies for scene in scenes]
    return {
        **_by_frame({"kind": [b.kind for b in bodies], "size": [b.size for b in bodies]}, num_frames),
        "position": np.concatenate([motion.position for motion in motions]),
        "rotation": np.concatenate([motion.rotation for motion in motions]),
        "camera_position": world_from_camera[:, :3, 3],
        "camera_axes": world_from_camera[:, :3, :3],
    }


def _look_fields(scenes: Sequence[Scene], num_frames: int) -> dict[str, Array]:
    materials = ("style", "shift", "gloss", "metal")
    light = ("sun", "sun_colour", "sky_colour", "fill", "fill_colour", "zenith", "horizon", "haze_m")
    fields = {name: [np.asarray(getattr(scene.look, name)) for scene in scenes] for name in (*materials, *light)}
    num_materials = len(scenes[0].look.ramp)
    rows = np.arange(len(scenes) * num_materials).reshape(len(scenes), num_materials)
    return _by_frame({**fields, "tones": list(rows * NUM_TONES)}, num_frames)


def _palette(ramp: Float[Tensor, "B M S 3"]) -> Float[Tensor, "3 tones"]:
    """Blend each material's dark, middle and light into 256 tones."""
    place = torch.linspace(0, ramp.shape[2] - 1, NUM_TONES, device=ramp.device)
    before = place.floor().long().clamp(max=ramp.shape[2] - 2)
    part = (place - before)[:, None]
    tones = ramp[:, :, before] * (1 - part) + ramp[:, :, before + 1] * part
    return tones.flatten(0, 2).T.contiguous()


def _as_solids_see(stage: dict[str, Tensor]) -> dict[str, Tensor]:
    solid_from_world = stage["rotation"].mT
    offset = stage["camera_position"][:, None] - stage["position"]
    return {
        "solid_from_camera": solid_from_world @ stage["camera_axes"][:, None],
        "camera_in_solid": (solid_from_world @ offset[..., None])[..., 0],
        "sun_in_solid": (solid_from_world @ stage["sun"][:, None, :, None])[..., 0],
        "fill_in_solid": (solid_from_world @ stage["fill"][:, None, :, None])[..., 0],
    }


def _outlines(stage: dict[str, Tensor]) -> dict[str, Tensor]:
    """Bound each solid, and its hull with its shadow on the ground, as the camera sees them."""
    parts, radius, is_disc = extreme_parts(stage["kind"], stage["size"])
    world = parts @ stage["rotation"].mT + stage["position"][:, :, None]
    disc = is_disc[..., None] * stage["rotation"][..., 2][:, :, None]
    solid, in_front = _seen_outline(stage, world, radius, disc)
    sun = stage["sun"][:, None, None]
    fallen = world - sun * (world[..., 2:] / sun[..., 2:])
    wide = radius / stage["sun"][:, None, 2:]
    shadow, shadow_in_front = _seen_outline(stage, fallen, wide, torch.zeros_like(disc))
    both = torch.cat([torch.minimum(solid, shadow)[..., :2], torch.maximum(solid, shadow)[..., 2:]], -1)
    everywhere = solid.new_tensor(EVERYWHERE)
    solid, in_front = _with_ellipsoids(stage, solid, in_front)
    return {
        "solid_outline": torch.where(in_front[..., None], solid, everywhere),
        "shade_outline": torch.where((in_front & shadow_in_front)[..., None], both, everywhere),
    }


def _seen_outline(stage: dict[str, Tensor], centre: Tensor, radius: Tensor, disc: Tensor) -> tuple[Tensor, Tensor]:
    axes = stage["camera_axes"][:, None]
    seen = (centre - stage["camera_position"][:, None, None]) @ axes
    bounds, in_front = outline(seen, radius, disc @ axes)
    low, high = bounds[..., :2].amin(-2), bounds[..., 2:].amax(-2)
    return torch.cat([low, high], -1), in_front.all(-1)


def _with_ellipsoids(stage: dict[str, Tensor], bounds: Tensor, in_front: Tensor) -> tuple[Tensor, Tensor]:
    """Put the exact bounds of ellipsoids in the place of those of the balls around them."""
    to_camera = stage["camera_axes"].mT
    centre = (to_camera[:, None] @ (stage["position"] - stage["camera_position"][:, None])[..., None])[..., 0]
    half_axes = to_camera[:, None] @ (stage["rotation"] * stage["size"][..., None, :])
    exact, exact_in_front = ellipsoid_outline(centre, half_axes)
    is_own = stage["kind"] == Kind.ELLIPSOID
    return torch.where(is_own[..., None], exact, bounds), torch.where(is_own, exact_in_front, in_front)
