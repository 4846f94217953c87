"""Box tracking: given boxes in the first frame, where are they in the others.

Source: the readout's form is the released one (MooG: four numbers per frame, no activation); its loss
is not public, smooth L1 with generalised IoU is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fourd import metrics, pictures
from fourd.geometry import generalised_box_iou
from fourd.readout import (
    LinearReadout,
    ReadoutSize,
    TrackingReadout,
    require_first_frame,
    sample_first_frame,
    zero_answers,
)
from fourd.types import (
    BoxQuery,
    BoxTracks,
    ClipShape,
    Features,
    FeatureShape,
    ReadoutKind,
    Score,
    Step,
    Task,
    TaskConfig,
    TaskSample,
)

Position = Literal["absolute", "offset"]


@dataclass(frozen=True)
class BoxPrediction:
    """Hold predicted boxes, corners in order, as shares of the clip's width and height."""

    xyxy: Float[Tensor, "B Q T 4"]
    size_px: tuple[int, int]
    """Width and height of the clip."""

    def xyxy_px(self) -> Float[Tensor, "B Q T 4"]:
        """Turn the prediction into pixels."""
        return self.xyxy * self.xyxy.new_tensor(self.size_px * 2)


class _BoxReadout(nn.Module):
    def __init__(self, clip: ClipShape, position: Position) -> None:
        super().__init__()
        self.size_px = (clip.width, clip.height)
        self.position = position

    def _start(self, query: BoxQuery) -> Float[Tensor, "B Q 4"]:
        return query.xyxy_px / query.xyxy_px.new_tensor(self.size_px * 2)

    def _interpret(self, answers: Float[Tensor, "B Q T 4"], start: Float[Tensor, "B Q 4"]) -> BoxPrediction:
        corners = answers.float() if self.position == "absolute" else start[:, :, None] + answers.float()
        a, b = corners.split(2, dim=-1)
        return BoxPrediction(torch.cat([torch.minimum(a, b), torch.maximum(a, b)], dim=-1), self.size_px)


class _AttentionBoxes(_BoxReadout):
    def __init__(self, features: FeatureShape, clip: ClipShape, config: BoxTrackingConfig, kind: ReadoutKind) -> None:
        super().__init__(clip, config.position)
        self.readout = TrackingReadout(features, clip, config.size, 4, 4, config.num_tiles, config.num_octaves, kind)

    def forward(self, features: Features, query: BoxQuery) -> BoxPrediction:
        """Follow each box."""
        start = self._start(query)
        return self._interpret(self.readout(features, query.frame, start), start)

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        self.readout.init_weights(generator)
        if self.position == "offset":
            zero_answers(self.readout.attention.head)


class _LinearBoxes(_BoxReadout):
    def __init__(self, features: FeatureShape, clip: ClipShape, config: BoxTrackingConfig) -> None:
        super().__init__(clip, config.position)
        self.num_frames = clip.num_frames
        self.readout = LinearReadout(features.width, clip.num_frames * 4)

    def forward(self, features: Features, query: BoxQuery) -> BoxPrediction:
        """Follow each box from the features at its first centre."""
        require_first_frame(query.frame)
        start = self._start(query)
        centre = start.unflatten(-1, (2, 2)).mean(dim=2)
        answers = self.readout(sample_first_frame(features, centre)).unflatten(-1, (self.num_frames, 4))
        return self._interpret(answers, start)

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        self.readout.init_weights(generator)
        if self.position == "offset":
            zero_answers(self.readout.head)


class BoxTracking(Task[BoxQuery, BoxTracks, BoxPrediction]):
    """Measure box tracks, queried in the first frame."""

    kind = "box_tracking"
    metrics = metrics.BOX_TRACKS
    readouts = ("attention", "linear", "attention_deep")

    def __init__(self, config: BoxTrackingConfig) -> None:
        self.config, self.name = config, config.name

    def build_readout(self, features: FeatureShape, clip: ClipShape, kind: ReadoutKind) -> nn.Module:
        """Build a readout that follows each queried box through all frames."""
        self.require_readout(kind)
        if kind == "linear":
            return _LinearBoxes(features, clip, self.config)
        return _AttentionBoxes(features, clip, self.config, kind)

    def loss(self, prediction: BoxPrediction, target: BoxTracks) -> Step:
        """Add a smooth L1 of the corners and a generalised IoU, over valid boxes (not from the paper)."""
        true = target.xyxy_px / target.xyxy_px.new_tensor(prediction.size_px * 2)
        true = torch.where(target.valid[..., None], true, prediction.xyxy.detach())
        corners = F.smooth_l1_loss(prediction.xyxy, true, reduction="none", beta=self.config.beta).sum(-1)
        overlap = 1 - generalised_box_iou(prediction.xyxy, true)
        count = target.valid.sum().clamp(min=1)
        loss = ((corners + self.config.giou_weight * overlap) * target.valid).sum() / count
        return Step(loss)

    def scores(self, prediction: BoxPrediction, query: BoxQuery, target: BoxTracks) -> tuple[Score, ...]:
        """Score the overlap on all frames but the query's."""
        return metrics.box_tracks(prediction.xyxy_px(), target.xyxy_px, target.valid, query.frame)

    def fit_controls(
        self, samples: Sequence[TaskSample[BoxQuery, BoxTracks]]
    ) -> Mapping[str, Callable[[BoxQuery, ClipShape, int], BoxPrediction]]:
        """Learn the mean move of a box at each frame; or say that nothing moves."""
        moves = torch.cat([s.target.xyxy_px - s.query.xyxy_px[:, :, None] for s in samples])
        valid = torch.cat([s.target.valid for s in samples])
        total = torch.where(valid[..., None], moves, 0.0).sum((0, 1))
        mean_move = total / valid.sum((0, 1)).clamp(min=1)[:, None]
        return {
            "nothing_moves": lambda query, clip, num_clips: _shifted(query, clip, torch.zeros_like(mean_move)),
            "mean_answer": lambda query, clip, num_clips: _shifted(query, clip, mean_move),
        }

    def draw(self, video: Tensor, query: BoxQuery, prediction: BoxPrediction, target: BoxTracks) -> Tensor:
        """Draw input, true boxes, predicted boxes."""
        predicted = BoxTracks(prediction.xyxy_px(), torch.ones_like(target.valid))
        return pictures.box_film(video, query, target, predicted)


def _shifted(query: BoxQuery, clip: ClipShape, move_px: Float[Tensor, "T 4"]) -> BoxPrediction:
    size_px = (clip.width, clip.height)
    xyxy = (query.xyxy_px[:, :, None] + move_px.to(query.xyxy_px)) / query.xyxy_px.new_tensor(size_px * 2)
    return BoxPrediction(xyxy, size_px)


@dataclass(frozen=True)
class BoxTrackingConfig(TaskConfig):
    """Describe box tracking."""

    name: str = "box_tracking"
    size: ReadoutSize = field(default_factory=lambda: ReadoutSize(num_heads=4))
    num_tiles: int = 1
    num_octaves: int = 16
    position: Position = "absolute"
    """Predict places (as released) or moves from the query (ours)."""
    beta: float = 0.1
    """Share of the clip's size up to which the corner loss is a square (not from the paper)."""
    giou_weight: float = 0.5
    """Not from the paper."""

    def build(self) -> BoxTracking:
        """Build the task."""
        return BoxTracking(self)


def base() -> BoxTrackingConfig:
    """Describe the released readout."""
    return BoxTrackingConfig(size=ReadoutSize(num_heads=4, num_frames=16))


def tiny() -> BoxTrackingConfig:
    """Describe one for tests."""
    return BoxTrackingConfig(size=ReadoutSize(16, 2), num_octaves=4)


def tiny_sample() -> tuple[ClipShape, TaskSample[BoxQuery, BoxTracks]]:
    """Make two clips of two boxes that move."""
    first = torch.tensor([[[4.0, 4, 12, 10], [16, 20, 30, 28]], [[1, 2, 9, 12], [10, 10, 20, 14]]])
    xyxy = first[:, :, None] + torch.arange(4.0)[:, None]
    valid = torch.ones(2, 2, 4, dtype=torch.bool)
    valid[1, 1, 3] = False
    query = BoxQuery(torch.zeros(2, 2, dtype=torch.long), first)
    return ClipShape(4, 32, 32), TaskSample(query, BoxTracks(xyxy, valid))
