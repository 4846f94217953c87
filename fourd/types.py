"""The vocabulary of `fourd`: what a batch is, what a model gives back, and what a plug-in promises.

Start reading here. Every noun is a frozen dataclass of tensors; every contract is a small abstract
class. Letters in shapes: `B` clips, `T` frames, `H W` pixels, `t h w` the token grid, `D` width,
`Q` queries.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

ReadoutKind = Literal["attention", "linear", "attention_deep", "dense"]
"""See `fourd.readout`; which of them a task has, its `readouts` say."""
Interpolation = Literal["bilinear", "bicubic"]

# ----------------------------------------------------------------------------- shapes


@dataclass(frozen=True)
class ClipShape:
    """Frames and pixels of a clip."""

    num_frames: int
    height: int
    width: int


@dataclass(frozen=True)
class NativeInput:
    """Say which clips a backbone takes, and how its tokens divide them.

    `num_frames` is None for a backbone that looks at each frame by itself. `patch` counts the frames,
    rows and columns that one token covers; its first number is the temporal stride. While `fixed`, clips
    are resized to `size` (height, width), by `interpolation` with antialiasing, and other lengths are
    refused; otherwise clips keep their own size and length, and the backbone resamples its positions.
    """

    num_frames: int | None
    size: tuple[int, int]
    patch: tuple[int, int, int]
    interpolation: Interpolation = "bilinear"
    fixed: bool = True

    @property
    def clip_frames(self) -> int:
        """Say how many frames to give at once: the backbone's own number, or 16 if any will do (not from the paper)."""
        return self.num_frames or 16

    def grid(self, clip: ClipShape) -> tuple[int, int, int]:
        """Count the tokens along time, height and width; raise ValueError for a clip that cannot be taken."""
        if self.fixed and self.num_frames not in (None, clip.num_frames):
            raise ValueError(
                f"clips have {clip.num_frames} frames; this backbone takes {self.num_frames}. Cut them into windows "
                "(fourd.windows), repeat a still image, or load it with native_size=False"
            )
        extent = (clip.num_frames, *(self.size if self.fixed else (clip.height, clip.width)))
        if any(length < side or length % side for length, side in zip(extent, self.patch, strict=True)):
            raise ValueError(
                f"a clip of {extent} (frames, height, width) cannot be cut into patches of {self.patch}; "
                "expected whole multiples"
            )
        t, h, w = (length // side for length, side in zip(extent, self.patch, strict=True))
        return t, h, w


@dataclass(frozen=True)
class FeatureShape:
    """Token grid of a backbone's output: `t h w` tokens of `width` numbers."""

    t: int
    h: int
    w: int
    width: int

    @property
    def num_tokens(self) -> int:
        """Count the tokens of one clip."""
        return self.t * self.h * self.w


# ----------------------------------------------------------------------------- what a model is asked, and the answer


@dataclass(frozen=True)
class NoQuery:
    """Say that a task is asked of the whole clip."""


@dataclass(frozen=True)
class PointQuery:
    """Ask where points go: their frame, and where they are in it.

    Convention: continuous pixels, origin at the top-left corner, pixel centres at `.5`.
    """

    frame: Int[Tensor, "B Q"]
    xy_px: Float[Tensor, "B Q 2"]


@dataclass(frozen=True)
class BoxQuery:
    """Ask where boxes go: their frame, and their corners in it."""

    frame: Int[Tensor, "B Q"]
    xyxy_px: Float[Tensor, "B Q 4"]


@dataclass(frozen=True)
class Depth:
    """Hold the distance along the camera's z axis, in metres; `valid` where it is known."""

    metres: Float[Tensor, "B T H W"]
    valid: Bool[Tensor, "B T H W"]


@dataclass(frozen=True)
class PointTracks:
    """Hold the paths of points; `visible` where they can be seen, `valid` where they count."""

    xy_px: Float[Tensor, "B Q T 2"]
    visible: Bool[Tensor, "B Q T"]
    valid: Bool[Tensor, "B Q T"]


@dataclass(frozen=True)
class BoxTracks:
    """Hold the paths of boxes; `valid` where a box counts."""

    xyxy_px: Float[Tensor, "B Q T 4"]
    valid: Bool[Tensor, "B Q T"]


@dataclass(frozen=True)
class CameraPoses:
    """Hold camera-to-world transforms (OpenCV axes: x right, y down, z forward) and intrinsics."""

    world_from_camera: Float[Tensor, "B T 4 4"]
    intrinsics_px: Float[Tensor, "B 3 3"]


@dataclass(frozen=True)
class ObjectMasks:
    """Say which object each pixel shows: 0 is the ground, `k` object `k`."""

    index: UInt8[Tensor, "B T H W"]


@dataclass(frozen=True)
class Label:
    """Hold one class per clip."""

    index: Int[Tensor, " B"]


QueryT = TypeVar("QueryT")
TargetT = TypeVar("TargetT")
PredictionT = TypeVar("PredictionT")


@dataclass(frozen=True)
class TaskSample(Generic[QueryT, TargetT]):
    """Keep apart what a model may be asked with and what it must not see.

    `task` is the name that the sample has in its dataset; a probe refuses it for a task of another name.
    """

    query: QueryT
    target: TargetT
    task: str = ""


# ----------------------------------------------------------------------------- what travels


@dataclass(frozen=True)
class Features:
    """Hold a backbone's output on its token grid."""

    grid: Float[Tensor, "B t h w D"]


@dataclass(frozen=True)
class Batch:
    """Hold clips as decoded, with the samples of the tasks that are learned from them.

    `key` names each clip for good; `group` names the scene or film it comes from, the unit that a
    bootstrap draws. `seed` is one counter-based random number per clip, from which an objective
    draws what it needs (a mask), so that it never depends on the batch around the clip.
    `tasks` is aligned with a probe's tasks, and empty in pretraining. `features` holds what a frozen
    backbone said of these clips before, one entry per depth, when that is known.
    """

    video: UInt8[Tensor, "B T 3 H W"]
    time_s: Float[Tensor, "B T"]
    key: tuple[str, ...]
    group: tuple[str, ...]
    seed: Int[Tensor, " B"]
    tasks: tuple[TaskSample[Any, Any], ...] = ()
    features: tuple[Features, ...] = ()

    @property
    def clip_shape(self) -> ClipShape:
        """Say how many frames and pixels each clip has."""
        _, frames, _, height, width = self.video.shape
        return ClipShape(frames, height, width)


@dataclass(frozen=True)
class Unreadable:
    """Name something that a dataset was given and cannot use, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Corpus:
    """Count the clips of a part of a dataset, and say how often they are shown beside those of other parts."""

    num_clips: int
    weight: float = 1.0


@dataclass(frozen=True)
class Step:
    """Hold what one forward pass of an objective says: the loss to descend, numbers to log."""

    loss: Float[Tensor, ""]
    scalars: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Metric:
    """Name a score and say how to read it. The name carries the convention where several exist."""

    name: str
    title: str
    higher_is_better: bool
    unit: str = ""


@dataclass(frozen=True)
class Score:
    """Hold one metric of one task for each clip of a batch.

    A clip's `weight` says how much it counts in a weighted mean (pixels, object-frames, or 1); a
    clip where the metric is not defined has weight 0 and score 0, and is counted, never averaged.
    """

    metric: Metric
    score: Float[Tensor, " B"]
    weight: Float[Tensor, " B"]


def map_tensors(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Apply `change` to every tensor of a nested noun (dataclass, tuple or tensor)."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple):
        return tuple(map_tensors(change, item) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = {f.name: map_tensors(change, getattr(value, f.name)) for f in dataclasses.fields(value)}
        return dataclasses.replace(value, **changed)
    return value


def concatenate(values: Sequence[Any]) -> Any:
    """Join nouns of the same kind along their first axis; names (tuples of str) are chained."""
    first = values[0]
    if isinstance(first, Tensor):
        return torch.cat(list(values))
    if isinstance(first, str):
        if len(set(values)) > 1:
            raise ValueError(f"cannot join samples of different tasks: {sorted(set(values))}")
        return first
    if isinstance(first, tuple):
        if all(isinstance(item, str) for value in values for item in value):
            return tuple(item for value in values for item in value)
        return tuple(concatenate(column) for column in zip(*values, strict=True))
    if dataclasses.is_dataclass(first) and not isinstance(first, type):
        names = [f.name for f in dataclasses.fields(first)]
        joined = {name: concatenate([getattr(value, name) for value in values]) for name in names}
        return dataclasses.replace(first, **joined)
    raise TypeError(f"cannot join values of type {type(first).__name__}: expected tensors, tuples or dataclasses")


# ----------------------------------------------------------------------------- the contracts


class Backbone(nn.Module, ABC):
    """Turn pixels into features. It resizes and normalises by itself, so all are fed the same pixels."""

    blocks: nn.ModuleList
    """The transformer's blocks in order, so that sharding and checkpointing stay outside of the model."""

    @property
    @abstractmethod
    def native_input(self) -> NativeInput:
        """Say which clips `forward` takes."""

    def block_at(self, depth: float) -> int:
        """Turn a fraction of depth into the number of blocks whose output is given: `ceil(depth * L)`.

        Raises ValueError unless 0 < depth <= 1.
        """
        if not 0 < depth <= 1:
            raise ValueError(f"depth is {depth}; expected 0 < depth <= 1")
        return math.ceil(depth * len(self.blocks))

    @abstractmethod
    def forward(self, video: Tensor, depths: Sequence[float]) -> tuple[Features, ...]:
        """Encode clips and return one feature grid per requested fraction of depth, 0 < depth <= 1.

        video: `B T 3 H W`, uint8, or float in [0, 1]; RGB. Which block a depth names: see `block_at`.
        Raises ValueError for a clip that `native_input` does not take.
        """

    @abstractmethod
    def feature_shape(self, clip: ClipShape) -> FeatureShape:
        """Say which grid `forward` gives for a clip; raise ValueError for a clip it cannot take."""

    @abstractmethod
    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Fill every parameter, in place; nothing may keep the value it had before."""


class Objective(nn.Module, ABC):
    """Be what is trained: pretraining, probing, finetuning and distillation are objectives."""

    @abstractmethod
    def forward(self, batch: Batch) -> Step:
        """Compute the loss of a batch."""

    @abstractmethod
    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Fill every parameter that this objective trains from scratch, in place."""

    def learning_rate_scale(self, parameter: str) -> float:
        """Say by what the learning rate of a named parameter is multiplied."""
        return 1.0

    def clip_features(self, batch: Batch) -> Float[Tensor, "B D"] | None:
        """Average what the trained backbone says of each clip, by which its health is told; None where none learns."""
        backbone = getattr(self, "backbone", None)
        if not isinstance(backbone, Backbone) or not any(p.requires_grad for p in backbone.parameters()):
            return None
        frames = backbone.native_input.num_frames or batch.video.shape[1]
        (features,) = backbone(batch.video[:, :frames], (1.0,))
        return features.grid.mean((1, 2, 3))

    def starting_weights(self) -> Mapping[str, str]:
        """Name the parts that start from weights of others, each with a source that `fourd.load` takes."""
        return {}

    def followers(self) -> Mapping[str, nn.Module]:
        """Name the parts without gradient that training moves all the same, such as an average of weights.

        Checkpoints keep their parameters and buffers; other parts without gradient are filled anew by each start.
        """
        return {}

    def begin(self) -> None:
        """Bring the followers in line with what they follow, before the first step of a fresh run."""

    def after_step(self, done: float, applied: Tensor) -> None:
        """Move the followers, after an update.

        done: share of the run's steps that are taken, in (0, 1]. applied: 0 where the update was skipped, else 1, as a
        number on the device: nothing moves then.
        """

    def export(self) -> Mapping[str, nn.Module]:
        """Name the parts that outlive the training; each is written to `final/<name>.safetensors`."""
        return {"model": self}

    def pictures(self, batch: Batch) -> Mapping[str, UInt8[Tensor, "H W 3"]]:
        """Draw what has been learned; each picture is written to `<name>.png` of the run."""
        return {}


class Dataset(ABC):
    """Give clips by number. Everything is converted to our conventions in the dataset's own file."""

    unreadable: tuple[Unreadable, ...] = ()
    """What was found and cannot be used: never dropped without being listed here."""
    damaged: tuple[Unreadable, ...] = ()
    """What can be used only in part, and why."""
    fingerprint: str = ""
    """Changes whenever the same config gives other clips (files that came or went, a new version of a generator)."""
    num_views: int = 1
    """How many clips in a row are views of one thing, whose answers are averaged when it is measured."""

    @property
    def corpora(self) -> tuple[Corpus, ...]:
        """Part the clips, in their order, into corpora that are passed over each by itself; most datasets are one."""
        return (Corpus(len(self)),)

    def prepare(self, num_clips: int | None = None) -> None:  # noqa: B027 - most have nothing to make
        """Make what the first clips of each corpus (all, by default) take before they are read.

        Whoever reads many calls it once, before other processes read. Building a dataset makes nothing, so that it can
        be asked how many clips it has; what was not prepared is made when it is read, which takes longer.
        """

    @abstractmethod
    def __len__(self) -> int:
        """Count the clips."""

    @abstractmethod
    def read(self, index: int, rng: np.random.Generator) -> Batch:
        """Read clip `index` as a batch of one; all that is random comes from `rng`."""


class Task(ABC, Generic[QueryT, TargetT, PredictionT]):
    """Be one thing to measure: how it is read out, learned and scored."""

    name: str
    """What it is called in a suite: two tasks of a suite never share a name."""
    kind: ClassVar[str]
    """What it is: the name of the task's own module."""
    metrics: ClassVar[tuple[Metric, ...]]
    """All the scores it gives; the first is the one a table shows."""
    readouts: ClassVar[tuple[ReadoutKind, ...]] = ("attention", "linear")
    """The kinds of readouts that it has."""

    @abstractmethod
    def build_readout(self, features: FeatureShape, clip: ClipShape, kind: ReadoutKind) -> nn.Module:
        """Build the module whose `forward(features, query)` gives a prediction.

        Raises ValueError for a kind that is not among `readouts`: see `require_readout`.
        """

    def require_readout(self, kind: ReadoutKind) -> None:
        """Refuse a kind of readout that this task does not have; the error says which it has."""
        if kind not in self.readouts:
            raise ValueError(f"task {self.name!r} has no {kind!r} readout: ask for one of {', '.join(self.readouts)}")

    @abstractmethod
    def loss(self, prediction: PredictionT, target: TargetT) -> Step:
        """Compare in training."""

    @abstractmethod
    def scores(self, prediction: PredictionT, query: QueryT, target: TargetT) -> tuple[Score, ...]:
        """Compare in evaluation: for each metric a score and a weight per clip."""

    @abstractmethod
    def fit_controls(self, samples: Sequence[TaskSample[QueryT, TargetT]]) -> Mapping[str, Callable[..., PredictionT]]:
        """Learn the answers that know nothing of the pixels, from training samples alone.

        Each control is called as `control(query, clip: ClipShape, num_clips: int)`.
        """

    def pool_views(self, prediction: PredictionT, num_views: int) -> PredictionT:
        """Average the answers of every `num_views` clips in a row; raise ValueError where answers have no average."""
        raise ValueError(f"task {self.name!r} cannot average its answers over {num_views} views: give it one")

    @abstractmethod
    def draw(self, video: Tensor, query: QueryT, prediction: PredictionT, target: TargetT) -> Tensor:
        """Draw one clip as a film, input, truth and prediction side by side: uint8, `T H W 3`.

        Everything is a batch of one; video: uint8, `1 T 3 H W`.
        """


# ----------------------------------------------------------------------------- configs

BuiltT = TypeVar("BuiltT")


@dataclass(frozen=True)
class Config(ABC, Generic[BuiltT]):
    """Describe a part in full. It stands beside the class that it builds, and is stored with every run."""

    @abstractmethod
    def build(self) -> BuiltT:
        """Build what this config describes."""


@dataclass(frozen=True)
class BackboneConfig(Config[Backbone]):
    """Describe a backbone. A plug-in module exports `tiny()` and its named sizes.

    native_size: resize clips to the backbone's own size and refuse other lengths; False keeps the size and
    length of the clips, and resamples what is tied to them (see `NativeInput.fixed`).
    """

    native_size: bool = field(default=True, kw_only=True)


@dataclass(frozen=True)
class ObjectiveConfig(Config[Objective]):
    """Describe an objective."""


@dataclass(frozen=True)
class DatasetConfig(Config[Dataset]):
    """Describe a dataset."""


@dataclass(frozen=True)
class TaskConfig(Config[Task[Any, Any, Any]]):
    """Describe a task. `name` is what it is called in a suite."""

    name: str
