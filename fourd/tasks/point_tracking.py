"""Point tracking: where do points of the first frame go, and when can they be seen.

Source: the readout and its losses are those released with SciVid and MooG by the same team.
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
from fourd.readout import (
    LinearReadout,
    ReadoutSize,
    TrackingReadout,
    require_first_frame,
    sample_first_frame,
    zero_answers,
)
from fourd.types import (
    ClipShape,
    Features,
    FeatureShape,
    PointQuery,
    PointTracks,
    ReadoutKind,
    Score,
    Step,
    Task,
    TaskConfig,
    TaskSample,
)

Position = Literal["absolute", "offset"]
_NUM_OUTPUTS = 4  # x, y, visible, certain


@dataclass(frozen=True)
class PointPrediction:
    """Hold predicted paths, as shares of the clip's width and height, and how sure they are."""

    xy: Float[Tensor, "B Q T 2"]
    visible_logit: Float[Tensor, "B Q T"]
    certain_logit: Float[Tensor, "B Q T"]
    size_px: tuple[int, int]
    """Width and height of the clip."""

    def tracks(self) -> PointTracks:
        """Turn the prediction into pixels; seen is what is both visible and certain, by their product.

        Source: the TAPIR rule, `sigmoid(visible) * sigmoid(certain) > 0.5`.
        """
        visible = self.visible_logit.sigmoid() * self.certain_logit.sigmoid() > 0.5
        return PointTracks(self.xy * self.xy.new_tensor(self.size_px), visible, torch.ones_like(visible))


class _PointReadout(nn.Module):
    """Turn four numbers per frame into a path; the subclass says where they come from."""

    def __init__(self, clip: ClipShape, position: Position) -> None:
        super().__init__()
        self.size_px = (clip.width, clip.height)
        self.position = position

    def _interpret(self, answers: Float[Tensor, "B Q T 4"], start: Float[Tensor, "B Q 2"]) -> PointPrediction:
        offset, visible, certain = answers.float().split([2, 1, 1], dim=-1)
        xy = offset.sigmoid() if self.position == "absolute" else start[:, :, None] + offset
        return PointPrediction(xy, visible.squeeze(-1), certain.squeeze(-1), self.size_px)


class _AttentionPoints(_PointReadout):
    def __init__(self, features: FeatureShape, clip: ClipShape, config: PointTrackingConfig, kind: ReadoutKind) -> None:
        super().__init__(clip, config.position)
        num_tiles, octaves = config.num_tiles, config.num_octaves
        self.readout = TrackingReadout(features, clip, config.size, 2, _NUM_OUTPUTS, num_tiles, octaves, kind)

    def forward(self, features: Features, query: PointQuery) -> PointPrediction:
        """Follow each point."""
        start = query.xy_px / query.xy_px.new_tensor(self.size_px)
        return self._interpret(self.readout(features, query.frame, start), start)

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        self.readout.init_weights(generator)
        if self.position == "offset":
            zero_answers(self.readout.attention.head)


class _LinearPoints(_PointReadout):
    def __init__(self, features: FeatureShape, clip: ClipShape, config: PointTrackingConfig) -> None:
        super().__init__(clip, config.position)
        self.num_frames = clip.num_frames
        self.readout = LinearReadout(features.width, clip.num_frames * _NUM_OUTPUTS)

    def forward(self, features: Features, query: PointQuery) -> PointPrediction:
        """Follow each point from the features where it starts."""
        require_first_frame(query.frame)
        start = query.xy_px / query.xy_px.new_tensor(self.size_px)
        answers = self.readout(sample_first_frame(features, start)).unflatten(-1, (self.num_frames, _NUM_OUTPUTS))
        return self._interpret(answers, start)

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        self.readout.init_weights(generator)
        if self.position == "offset":
            zero_answers(self.readout.head)


class PointTracking(Task[PointQuery, PointTracks, PointPrediction]):
    """Measure point tracks, queried in the first frame."""

    kind = "point_tracking"
    metrics = (*metrics.TAP_VID["first"], metrics.POINT_DISTANCE)
    readouts = ("attention", "linear", "attention_deep")

    def __init__(self, config: PointTrackingConfig) -> None:
        self.config, self.name = config, config.name

    def build_readout(self, features: FeatureShape, clip: ClipShape, kind: ReadoutKind) -> nn.Module:
        """Build a readout that follows each queried point through all frames."""
        self.require_readout(kind)
        if kind == "linear":
            return _LinearPoints(features, clip, self.config)
        return _AttentionPoints(features, clip, self.config, kind)

    def loss(self, prediction: PointPrediction, target: PointTracks) -> Step:
        """Add a Huber loss on visible positions and two cross-entropies, visible and certain.

        Certain means: within six pixels of the truth. Source: SciVid's STIR task, weights and all.
        """
        height = prediction.size_px[1]
        true_xy = target.xy_px / target.xy_px.new_tensor(prediction.size_px)
        seen = target.visible & target.valid
        squared = torch.where(seen[..., None], prediction.xy - true_xy, 0.0).square().sum(-1)
        position = _mean(_huber(squared, 1 / height), seen)
        visible = _mean(_cross_entropy(prediction.visible_logit, target.visible), target.valid)
        certain = _mean(_cross_entropy(prediction.certain_logit, squared.detach() <= (6 / height) ** 2), seen)
        return Step(100 * position + 0.1 * visible + 0.1 * certain, {"position": position.detach()})

    def scores(self, prediction: PointPrediction, query: PointQuery, target: PointTracks) -> tuple[Score, ...]:
        """Score as TAP-Vid does, and by the mean distance in the clip's own pixels."""
        tracks = prediction.tracks()
        clip = ClipShape(tracks.visible.shape[2], prediction.size_px[1], prediction.size_px[0])
        raster = [metrics.to_raster(xy, clip) for xy in (tracks.xy_px, target.xy_px)]
        tap_vid = metrics.tap_vid(
            raster[0], tracks.visible, raster[1], target.visible, query.frame, target.valid, "first"
        )
        distance = metrics.point_distance(tracks.xy_px, target.xy_px, target.visible, query.frame, target.valid)
        return (*tap_vid, distance)

    def fit_controls(
        self, samples: Sequence[TaskSample[PointQuery, PointTracks]]
    ) -> Mapping[str, Callable[[PointQuery, ClipShape, int], PointPrediction]]:
        """Learn the mean move of a point at each frame; or say that nothing moves."""
        moves = torch.cat([s.target.xy_px - s.query.xy_px[:, :, None] for s in samples])
        seen = torch.cat([s.target.visible & s.target.valid for s in samples])
        total = torch.where(seen[..., None], moves, 0.0).sum((0, 1))
        mean_move = total / seen.sum((0, 1)).clamp(min=1)[:, None]
        return {
            "nothing_moves": lambda query, clip, num_clips: _shifted(query, clip, torch.zeros_like(mean_move)),
            "mean_answer": lambda query, clip, num_clips: _shifted(query, clip, mean_move),
        }

    def draw(self, video: Tensor, query: PointQuery, prediction: PointPrediction, target: PointTracks) -> Tensor:
        """Draw input, true tracks, predicted tracks."""
        return pictures.point_film(video, query, target, prediction.tracks())


def _huber(squared: Tensor, delta: float) -> Tensor:
    """Grow with the square of a distance up to `delta`, then with the distance."""
    distance = squared.clamp(min=1e-12).sqrt()
    return torch.where(distance < delta, squared / 2, delta * (distance - delta / 2))


def _cross_entropy(logit: Tensor, label: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logit, label.to(logit.dtype), reduction="none")


def _mean(values: Tensor, where: Tensor) -> Tensor:
    return (values * where).sum() / where.sum().clamp(min=1)


def _shifted(query: PointQuery, clip: ClipShape, move_px: Float[Tensor, "T 2"]) -> PointPrediction:
    size_px = (clip.width, clip.height)
    xy = (query.xy_px[:, :, None] + move_px.to(query.xy_px)) / query.xy_px.new_tensor(size_px)
    sure = torch.full_like(xy[..., 0], 10.0)
    return PointPrediction(xy, sure, sure, size_px)


@dataclass(frozen=True)
class PointTrackingConfig(TaskConfig):
    """Describe point tracking."""

    name: str = "point_tracking"
    size: ReadoutSize = field(default_factory=lambda: ReadoutSize(num_heads=8))
    num_tiles: int = 8
    """Queries per point; each answers for its share of the frames."""
    num_octaves: int = 16
    position: Position = "absolute"
    """Predict places (sigmoid, as released) or moves from the query (ours)."""

    def build(self) -> PointTracking:
        """Build the task."""
        return PointTracking(self)


def base() -> PointTrackingConfig:
    """Describe the released readout."""
    return PointTrackingConfig(size=ReadoutSize(num_heads=8, num_frames=16))


def tiny() -> PointTrackingConfig:
    """Describe one for tests."""
    return PointTrackingConfig(size=ReadoutSize(16, 2), num_tiles=2, num_octaves=4)


def tiny_sample() -> tuple[ClipShape, TaskSample[PointQuery, PointTracks]]:
    """Make two clips of three points that move."""
    generator = torch.Generator().manual_seed(0)
    start = 32 * torch.rand(2, 3, 2, generator=generator)
    xy = start[:, :, None] + torch.arange(4.0)[:, None] * torch.randn(2, 3, 1, 2, generator=generator)
    visible = ((xy > 0) & (xy < 32)).all(-1)
    query = PointQuery(torch.zeros(2, 3, dtype=torch.long), start)
    return ClipShape(4, 32, 32), TaskSample(query, PointTracks(xy, visible, torch.ones_like(visible)))
