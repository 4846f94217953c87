"""Camera pose: how did the camera move from the first frame to the last.

Source: twelve numbers, a rotation matrix and a translation, from one learned query (the protocol that
follow-up papers describe); the loss on them is not public, a square is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fourd import metrics, pictures
from fourd.geometry import project_to_so3, relative_pose, rigid
from fourd.readout import AttentionReadout, LinearReadout, ReadoutSize, build_attention, pool_tokens, zero_answers
from fourd.types import (
    CameraPoses,
    ClipShape,
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

PoseNumbers = Float[Tensor, "B 3 4"]
"""A rotation matrix, not yet made one, beside a translation."""


class _PoseReadout(nn.Module):
    """Read twelve numbers from a clip, starting from "the camera does not move" (not from the paper)."""

    def __init__(self, features: FeatureShape, config: CameraPoseConfig, kind: ReadoutKind) -> None:
        super().__init__()
        self.readout: AttentionReadout | LinearReadout
        self.is_linear = kind == "linear"
        if self.is_linear:
            self.readout = LinearReadout(features.width, 12)
        else:
            self.readout = build_attention(kind, features, config.size, 12, num_queries=1)

    def forward(self, features: Features, query: NoQuery) -> PoseNumbers:
        """Predict the last camera in the first one's frame, `B 3 4`."""
        answer = self.readout(pool_tokens(features)) if self.is_linear else self.readout(features).squeeze(1)
        return answer.float().unflatten(-1, (3, 4))

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        self.readout.init_weights(generator)
        zero_answers(self.readout.head)
        with torch.no_grad():
            self.readout.head.bias.copy_(torch.eye(4)[:3].flatten())


class CameraPose(Task[NoQuery, CameraPoses, PoseNumbers]):
    """Measure the relative pose of the last frame's camera in the first one's."""

    kind = "camera_pose"
    metrics = metrics.CAMERA_POSE
    readouts = ("attention", "linear", "attention_deep")

    def __init__(self, config: CameraPoseConfig) -> None:
        self.config, self.name = config, config.name

    def build_readout(self, features: FeatureShape, clip: ClipShape, kind: ReadoutKind) -> nn.Module:
        """Build a readout that predicts twelve numbers per clip."""
        self.require_readout(kind)
        return _PoseReadout(features, self.config, kind)

    def loss(self, prediction: PoseNumbers, target: CameraPoses) -> Step:
        """Take the mean square of the twelve numbers' errors (not from the paper)."""
        return Step((prediction - first_from_last(target)[:, :3]).square().mean())

    def scores(self, prediction: PoseNumbers, query: NoQuery, target: CameraPoses) -> tuple[Score, ...]:
        """Score the nearest rigid motion."""
        return metrics.camera_pose(as_pose(prediction)[:, None], first_from_last(target)[:, None])

    def fit_controls(
        self, samples: Sequence[TaskSample[NoQuery, CameraPoses]]
    ) -> Mapping[str, Callable[[NoQuery, ClipShape, int], PoseNumbers]]:
        """Learn the mean of all true motions; or say that nothing moves."""
        mean = torch.cat([first_from_last(s.target)[:, :3] for s in samples]).mean(0)
        return {
            "nothing_moves": lambda query, clip, num_clips: torch.eye(4)[:3].expand(num_clips, -1, -1),
            "mean_answer": lambda query, clip, num_clips: mean.expand(num_clips, -1, -1),
        }

    def draw(self, video: Tensor, query: NoQuery, prediction: PoseNumbers, target: CameraPoses) -> Tensor:
        """Draw the input beside the true and the predicted camera, from above and from the side."""
        return pictures.camera_film(video, first_from_last(target), as_pose(prediction))


def first_from_last(poses: CameraPoses) -> Float[Tensor, "B 4 4"]:
    """Express the last camera in the first one's frame."""
    return relative_pose(poses.world_from_camera)[:, -1]


def as_pose(numbers: PoseNumbers) -> Float[Tensor, "B 4 4"]:
    """Find the rigid motion nearest to twelve numbers."""
    return rigid(project_to_so3(numbers[..., :3]), numbers[..., 3])


@dataclass(frozen=True)
class CameraPoseConfig(TaskConfig):
    """Describe camera pose."""

    name: str = "camera_pose"
    size: ReadoutSize = field(default_factory=ReadoutSize)

    def build(self) -> CameraPose:
        """Build the task."""
        return CameraPose(self)


def base() -> CameraPoseConfig:
    """Describe the paper's readout as far as it is known."""
    return CameraPoseConfig(size=ReadoutSize(num_frames=16))


def tiny() -> CameraPoseConfig:
    """Describe one for tests."""
    return CameraPoseConfig(size=ReadoutSize(16, 2))


def tiny_sample() -> tuple[ClipShape, TaskSample[NoQuery, CameraPoses]]:
    """Make two clips of cameras that move."""
    angle = torch.linspace(0, 0.6, 4)
    rotation = torch.eye(3).repeat(2, 4, 1, 1)
    rotation[0, :, 0, 0] = rotation[0, :, 2, 2] = angle.cos()
    rotation[0, :, 0, 2], rotation[0, :, 2, 0] = angle.sin(), -angle.sin()
    translation = torch.stack([torch.arange(4.0), torch.zeros(4), torch.ones(4)], dim=-1).expand(2, -1, -1)
    intrinsics = torch.tensor([[30.0, 0, 16], [0, 30, 16], [0, 0, 1]]).expand(2, -1, -1)
    return ClipShape(4, 32, 32), TaskSample(NoQuery(), CameraPoses(rigid(rotation, translation), intrinsics))
