"""Depth: how far is each pixel, in metres, along the camera's z axis.

Source: the readout is the released ScanNet one (learned queries, a patch of the output each, no
activation); the loss is not public, a masked L1 in metres is ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from fourd import metrics, pictures
from fourd.readout import DenseReadout, LinearReadout, ReadoutSize, build_attention
from fourd.tokens import Triple, grid_of, unpatchify
from fourd.types import (
    ClipShape,
    Depth,
    Features,
    FeatureShape,
    NoQuery,
    ReadoutKind,
    Score,
    Step,
    Task,
    TaskConfig,
    TaskSample,
)

Metres = Float[Tensor, "B T H W"]


class _AttentionDepth(nn.Module):
    """Let one learned query answer for each patch of the output."""

    def __init__(self, features: FeatureShape, clip: ClipShape, config: DepthConfig, kind: ReadoutKind) -> None:
        super().__init__()
        self.patch = patch = config.output_patch
        self.grid = grid_of(clip.num_frames, (clip.height, clip.width), patch)
        num_queries = self.grid[0] * self.grid[1] * self.grid[2]
        self.readout = build_attention(kind, features, config.size, math.prod(patch), num_queries)

    def forward(self, features: Features, query: NoQuery) -> Metres:
        """Predict metres, `B T H W`."""
        return unpatchify(self.readout(features).float(), self.grid, self.patch).squeeze(2)

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        self.readout.init_weights(generator)


class _LinearDepth(nn.Module):
    """Let each token answer for the pixels that it covers."""

    def __init__(self, features: FeatureShape, clip: ClipShape) -> None:
        super().__init__()
        self.grid = (features.t, features.h, features.w)
        self.extent = (clip.num_frames, clip.height, clip.width)
        t, h, w = (-(-length // cells) for length, cells in zip(self.extent, self.grid, strict=True))
        self.patch = (t, h, w)
        self.readout = LinearReadout(features.width, t * h * w)

    def forward(self, features: Features, query: NoQuery) -> Metres:
        """Predict metres, `B T H W`; a grid that does not divide the clip answers for more, which is shrunk."""
        metres = unpatchify(self.readout(features.grid.flatten(1, 3)), self.grid, self.patch).squeeze(2)
        if metres.shape[1:] == self.extent:
            return metres
        return F.interpolate(metres[:, None], self.extent, mode="trilinear", align_corners=False)[:, 0]

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        self.readout.init_weights(generator)


class _DenseDepth(nn.Module):
    """Let convolutions answer for each pixel."""

    def __init__(self, features: FeatureShape, clip: ClipShape, size: ReadoutSize) -> None:
        super().__init__()
        self.readout = DenseReadout(features, clip, size)

    def forward(self, features: Features, query: NoQuery) -> Metres:
        """Predict metres, `B T H W`."""
        return self.readout(features).float()

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        self.readout.init_weights(generator)


class DepthTask(Task[NoQuery, Depth, Metres]):
    """Measure depth without any alignment of scale."""

    kind = "depth"
    metrics = metrics.DEPTH["none"]
    readouts = ("attention", "linear", "attention_deep", "dense")

    def __init__(self, config: DepthConfig) -> None:
        self.config, self.name = config, config.name

    def build_readout(self, features: FeatureShape, clip: ClipShape, kind: ReadoutKind) -> nn.Module:
        """Build a readout that predicts metres for each pixel of a clip."""
        self.require_readout(kind)
        if kind == "linear":
            return _LinearDepth(features, clip)
        if kind == "dense":
            return _DenseDepth(features, clip, self.config.size)
        return _AttentionDepth(features, clip, self.config, kind)

    def loss(self, prediction: Metres, target: Depth) -> Step:
        """Take the mean absolute error in metres over valid pixels."""
        counted = self._counted(target)
        error = torch.where(counted, prediction - target.metres, 0.0).abs()
        return Step(error.sum() / counted.sum().clamp(min=1))

    def _counted(self, target: Depth) -> Bool[Tensor, "B T H W"]:
        return target.valid & (target.metres > self.config.near) & (target.metres < self.config.far)

    def scores(self, prediction: Metres, query: NoQuery, target: Depth) -> tuple[Score, ...]:
        """Score against valid pixels within the range."""
        return metrics.depth(prediction, target.metres, target.valid, self.config.near, self.config.far)

    def fit_controls(
        self, samples: Sequence[TaskSample[NoQuery, Depth]]
    ) -> Mapping[str, Callable[[NoQuery, ClipShape, int], Metres]]:
        """Learn the mean depth of each pixel, and answer with it whatever is asked."""
        counted = [self._counted(s.target) for s in samples]
        metres = (torch.where(c, s.target.metres, 0.0).sum(0) for s, c in zip(samples, counted, strict=True))
        total = sum(metres, torch.zeros(()))
        count = sum((c.sum(0) for c in counted), torch.zeros(()))
        # a pixel that never counted takes the mean of all the others
        mean = torch.where(count > 0, total / count.clamp(min=1), total.sum() / count.sum())
        return {"mean_answer": lambda query, clip, num_clips: mean.expand(num_clips, -1, -1, -1)}

    def draw(self, video: Tensor, query: NoQuery, prediction: Metres, target: Depth) -> Tensor:
        """Draw input, true depth, predicted depth."""
        return pictures.depth_film(video, target, prediction)


@dataclass(frozen=True)
class DepthConfig(TaskConfig):
    """Describe the depth task."""

    name: str = "depth"
    size: ReadoutSize = field(default_factory=ReadoutSize)
    output_patch: Triple = (2, 8, 8)
    near: float = 0.001
    far: float = 10.0
    """Metres between which a pixel counts; ScanNet's usual range (not from the paper)."""

    def build(self) -> DepthTask:
        """Build the task."""
        return DepthTask(self)


def base() -> DepthConfig:
    """Describe the paper's ScanNet readout."""
    return DepthConfig(size=ReadoutSize(num_frames=16))


def tiny() -> DepthConfig:
    """Describe one for tests."""
    return DepthConfig(size=ReadoutSize(16, 2))


def tiny_sample() -> tuple[ClipShape, TaskSample[NoQuery, Depth]]:
    """Make two clips of known depth."""
    metres = torch.linspace(1, 9, 2 * 4 * 32 * 32).reshape(2, 4, 32, 32)
    return ClipShape(4, 32, 32), TaskSample(NoQuery(), Depth(metres, metres < 8.5))
