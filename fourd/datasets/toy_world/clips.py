"""From numbers to clips with all their truth: the border between the world and those who use it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from fourd.datasets.toy_world.draw import LookName, draw_scene
from fourd.datasets.toy_world.render import render
from fourd.datasets.toy_world.scene import Array
from fourd.datasets.toy_world.stage import set_stage
from fourd.datasets.toy_world.truth import QueryFrames, bound_objects, follow_points
from fourd.geometry import rigid
from fourd.types import ClipShape

VERSION = 3
"""Raised whenever the same world of the look `studio` gives other clips than before."""
LOOK_VERSION = 1
"""Raised whenever the same world of another look gives other clips than before."""

LABELS = ("camera_motion", "object_motion", "event_order")
"""The tasks that have one class of motion per clip; `shape` is not stored, for it follows from the clip's number."""


@dataclass(frozen=True)
class World:
    """Hold all that determines the clips of a world; `num_points` are followed from `query_frames` on."""

    seed: int
    num_frames: int
    height: int
    width: int
    duration_s: float
    num_points: int
    query_frames: QueryFrames
    look: LookName = "studio"

    @property
    def clip_shape(self) -> ClipShape:
        """Give the raster of each clip."""
        return ClipShape(self.num_frames, self.height, self.width)

    @property
    def time_s(self) -> Float[Array, " T"]:
        """Give the time of each frame: evenly from 0 to the duration."""
        return np.linspace(0, self.duration_s, self.num_frames)

    @property
    def name(self) -> str:
        """Name the world: readable, and different for different parameters or versions of the code.

        The studio's names say nothing of a look, as they did before there were others.
        """
        fields, is_studio = dataclasses.asdict(self), self.look == "studio"
        look = fields.pop("look")
        said = {"version": VERSION, **fields} if is_studio else {"look": look, "look_version": LOOK_VERSION, **fields}
        digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:10]
        start = f"v{VERSION}" if is_studio else f"{look}{LOOK_VERSION}"
        return f"{start}-{self.num_frames}x{self.height}x{self.width}-seed{self.seed}-{digest}"


@dataclass(frozen=True)
class ToyClips:
    """Hold clips and their truth. Depth is 0 where there is only sky; `labels` are in the order of `LABELS`.

    Convention: points `(x, y)` and boxes `xyxy` in continuous pixels with centres at `.5`; boxes are
    amodal, cut at the border; depth is z in metres; camera axes are OpenCV's.
    """

    video: UInt8[Tensor, "B T 3 H W"]
    depth: Float[Tensor, "B T H W"]
    query_frame: Int[Tensor, "B Q"]
    tracks: Float[Tensor, "B Q T 2"]
    tracks_visible: Bool[Tensor, "B Q T"]
    tracks_valid: Bool[Tensor, "B Q T"]
    boxes: Float[Tensor, "B K T 4"]
    boxes_valid: Bool[Tensor, "B K T"]
    world_from_camera: Float[Tensor, "B T 4 4"]
    intrinsics: Float[Tensor, "B 3 3"]
    labels: Int[Tensor, "B 3"]


def make_clips(world: World, indices: Sequence[int], device: torch.device) -> ToyClips:
    """Make clips with all their truth on a device; a clip depends on the world and its index alone."""
    scenes = [draw_scene(world.look, world.seed, index) for index in indices]
    stage = set_stage(scenes, world.clip_shape, world.time_s, device)
    pictures = render(stage, world.height, world.width)
    keys = [(world.seed, index) for index in indices]
    tracks = follow_points(stage, pictures, world.clip_shape, keys, world.num_points, world.query_frames)
    boxes = bound_objects(stage, pictures, world.clip_shape)
    labels = [dataclasses.astuple(scene.labels) for scene in scenes]
    in_clips = (len(indices), world.num_frames)
    return ToyClips(
        video=pictures.rgb.unflatten(0, in_clips),
        depth=pictures.depth.unflatten(0, in_clips),
        query_frame=tracks.query_frame,
        tracks=tracks.xy_px,
        tracks_visible=tracks.visible,
        tracks_valid=tracks.valid,
        boxes=boxes.xyxy_px,
        boxes_valid=boxes.valid,
        world_from_camera=rigid(stage.camera_axes, stage.camera_position).unflatten(0, in_clips),
        intrinsics=stage.intrinsics_px[:: world.num_frames].clone(),
        labels=torch.tensor(labels, device=device),
    )


def make_video(world: World, indices: Sequence[int], device: torch.device) -> UInt8[Tensor, "B T 3 H W"]:
    """Make clips without their truth, for pretraining without a disk."""
    scenes = [draw_scene(world.look, world.seed, index) for index in indices]
    stage = set_stage(scenes, world.clip_shape, world.time_s, device)
    return render(stage, world.height, world.width).rgb.unflatten(0, (len(indices), world.num_frames))
