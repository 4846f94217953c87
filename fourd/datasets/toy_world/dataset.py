"""The toy world as a dataset: clips of falling, rolling and colliding solids, with exact truth for every task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from fourd.datasets.toy_world.clips import LABELS, World
from fourd.datasets.toy_world.draw import LookName, draw_scene
from fourd.datasets.toy_world.scene import MOVER
from fourd.datasets.toy_world.store import ClipStore
from fourd.datasets.toy_world.truth import QueryFrames
from fourd.types import (
    Batch,
    BoxQuery,
    BoxTracks,
    CameraPoses,
    Dataset,
    DatasetConfig,
    Depth,
    Label,
    NoQuery,
    PointQuery,
    PointTracks,
    TaskSample,
)

Read = Callable[[str], Tensor]
"""Read a field of the clip at hand, with a leading axis of one."""


@dataclass(frozen=True)
class ToyWorldConfig(DatasetConfig):
    """Describe a part of a toy world: clips `first_index` to `first_index + num_clips` of the world `seed`.

    `look` is how the world looks. `studio` has four kinds of solids on an endless ground; `rich`, `night`
    and `clay` show one furnished world of ten kinds, walls and many angles of view, in which the same clip
    has the same truth of every kind under each of the three: only colours and light differ.
    The task `shape` asks what the mover is, in the furnished world the largest solid: `shapes_of(look)` names
    the classes, which are equally likely (chance is 1/4 in the studio, 1/10 elsewhere); one frame can tell.

    `tasks` names what `Batch.tasks` holds, in its order; empty in pretraining. Half of the `num_points`
    or more are on objects; they are queried in the first frame or at random ones. `flip` mirrors a clip
    left to right with probability 1/2, and is allowed only without tasks. Changing `tasks`, `flip`,
    `first_index` or `num_clips` reuses the stored clips. All values are not from the paper.
    """

    seed: int = 0
    first_index: int = 0
    num_clips: int = 4000
    num_frames: int = 8
    height: int = 64
    width: int = 64
    duration_s: float = 0.7
    tasks: tuple[str, ...] = ()
    num_points: int = 64
    query_frames: QueryFrames = "first"
    flip: bool = False
    cache_dir: str = "~/.cache/fourd"
    look: LookName = "studio"

    def __post_init__(self) -> None:
        """Check what can be checked without making a clip."""
        unknown = [name for name in self.tasks if name not in SAMPLES]
        if unknown:
            raise ValueError(f"ToyWorldConfig.tasks: unknown {unknown}; expected names among {sorted(SAMPLES)}")
        if self.flip and self.tasks:
            raise ValueError(
                f"ToyWorldConfig.flip: it would mirror the clips but not the truth of {self.tasks}; "
                "expected flip=False with tasks, or tasks=() in pretraining"
            )
        for name in ("num_clips", "num_frames", "height", "width", "num_points"):
            if getattr(self, name) < 1:
                raise ValueError(f"ToyWorldConfig.{name}: found {getattr(self, name)}, expected 1 or more")
        if not self.duration_s > 0:
            raise ValueError(f"ToyWorldConfig.duration_s: found {self.duration_s}, expected seconds above 0")
        for name, known in (("query_frames", get_args(QueryFrames)), ("look", get_args(LookName))):
            if getattr(self, name) not in known:
                raise ValueError(f"ToyWorldConfig.{name}: found {getattr(self, name)!r}, expected one of {known}")
        for name in ("seed", "first_index"):
            if getattr(self, name) < 0:
                raise ValueError(f"ToyWorldConfig.{name}: found {getattr(self, name)}, expected 0 or more")

    @property
    def world(self) -> World:
        """Give the world that the clips come from."""
        names = [field.name for field in fields(World)]
        return World(**{name: getattr(self, name) for name in names})

    def build(self) -> ToyWorld:
        """Open the clips that are stored; others are made by `prepare`, or when they are read."""
        return ToyWorld(self)


class ToyWorld(Dataset):
    """Give clips of a toy world; each is its own scene."""

    def __init__(self, config: ToyWorldConfig) -> None:
        """Make nothing yet."""
        self.config = config
        self.fingerprint = config.world.name
        self.store = ClipStore(config.world, Path(config.cache_dir))

    def __len__(self) -> int:
        """Count the clips."""
        return self.config.num_clips

    def prepare(self, num_clips: int | None = None) -> None:
        """Make the clips that are not yet stored, with all processors, showing the time left."""
        count = len(self) if num_clips is None else min(num_clips, len(self))
        self.store.fill(self.config.first_index, count)

    def read(self, index: int, rng: np.random.Generator) -> Batch:
        """Read clip `index` as a batch of one, with the samples of the config's tasks."""
        if not 0 <= index < len(self):
            raise IndexError(f"toy_world: clip {index} does not exist; expected 0 to {len(self) - 1}")
        number = self.config.first_index + index

        def read(field: str) -> Tensor:
            if field == "shape":
                return torch.tensor([self._shape(number)])
            return torch.from_numpy(self.store.read(number, field))[None]

        seed = torch.from_numpy(rng.integers(2**63 - 1, size=1))
        video = read("video")
        if self.config.flip and rng.random() < 0.5:
            video = video.flip(-1)
        look = "" if self.config.look == "studio" else f"{self.config.look}/"
        key = (f"toy_world/{look}{self.config.seed}/{number}",)
        time_s = torch.from_numpy(self.config.world.time_s).float()[None]
        return Batch(
            video, time_s, key, key, seed, tuple(replace(SAMPLES[name](read), task=name) for name in self.config.tasks)
        )

    def _shape(self, number: int) -> int:
        """Draw the scene again: what the mover is follows from its numbers, and is not stored."""
        return int(draw_scene(self.config.look, self.config.seed, number).bodies.kind[MOVER])


# ----------------------------------------------------------------------------- samples


def _depth(read: Read) -> TaskSample[NoQuery, Depth]:
    metres = read("depth").float()
    return TaskSample(NoQuery(), Depth(metres, metres > 0))


def _points(read: Read) -> TaskSample[PointQuery, PointTracks]:
    frame, xy = read("query_frame").long(), read("tracks")
    at_query = xy.gather(2, frame[..., None, None].expand(*frame.shape, 1, 2))[:, :, 0]
    return TaskSample(PointQuery(frame, at_query), PointTracks(xy, read("tracks_visible"), read("tracks_valid")))


def _boxes(read: Read) -> TaskSample[BoxQuery, BoxTracks]:
    """Ask with the boxes of the first frame; an object that is not enough in view there never counts."""
    xyxy, valid = read("boxes"), read("boxes_valid")
    query = BoxQuery(torch.zeros(xyxy.shape[:2], dtype=torch.long), xyxy[:, :, 0])
    return TaskSample(query, BoxTracks(xyxy, valid & valid[:, :, :1]))


def _poses(read: Read) -> TaskSample[NoQuery, CameraPoses]:
    return TaskSample(NoQuery(), CameraPoses(read("world_from_camera"), read("intrinsics")))


def _label(name: str) -> Callable[[Read], TaskSample[NoQuery, Label]]:
    return lambda read: TaskSample(NoQuery(), Label(read("labels")[:, LABELS.index(name)].long()))


SAMPLES: dict[str, Callable[[Read], TaskSample[Any, Any]]] = {
    "depth": _depth,
    "point_tracking": _points,
    "box_tracking": _boxes,
    "camera_pose": _poses,
    **{name: _label(name) for name in LABELS},
    "shape": lambda read: TaskSample(NoQuery(), Label(read("shape"))),
}
"""For each task that a config may name, how its sample is read."""


def base() -> ToyWorldConfig:
    """Describe the world of the demo: 4000 clips of 8 frames, 64 x 64 pixels."""
    return ToyWorldConfig()


def tiny() -> ToyWorldConfig:
    """Describe a world that is made within a second or two."""
    return ToyWorldConfig(num_clips=4, num_frames=4, height=32, width=32, num_points=8)
