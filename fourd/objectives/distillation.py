"""Distillation: a small student says of a clip what a frozen large teacher says of it.

Source: 4DS-B was made so from 4DS-e, by a method that is not public; every value here is ours (not from the paper).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fourd.backbones import video_vit
from fourd.backbones.video_vit import VideoViT, VideoViTConfig
from fourd.layers import init_lecun_normal
from fourd.objectives._native import noisy_clips, require_native_size, through_all_blocks
from fourd.objectives._targets import FeatureLoss, feature_error, normalised, on_grid
from fourd.types import Backbone, BackboneConfig, Batch, ClipShape, Objective, ObjectiveConfig, Step


class Distillation(Objective):
    """Train a student to give a teacher's features, token by token, through a small head of its own.

    Both see the whole clip, each resized by itself. The teacher's features are brought to the student's token grid, so
    that each student token answers for its own place.
    """

    def __init__(self, config: DistillationConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone: VideoViT = config.backbone.build()
        require_native_size(self.backbone, type(self).__name__)
        self.teacher: Backbone = config.teacher.build().requires_grad_(False)
        clip = ClipShape(config.backbone.num_frames, *config.backbone.size)
        student, teacher = self.backbone.feature_shape(clip), self.teacher.feature_shape(clip)
        self.grid = (student.t, student.h, student.w)
        self.head = _head(student.width, config.head_width, teacher.width)

    def forward(self, batch: Batch) -> Step:
        """Compute the error of the student's features; `likeness` is their cosine to the teacher's."""
        target = self._target(batch)
        prediction = self.head(self._said(batch))
        likeness = 1 - feature_error(prediction.detach(), target, "cosine")
        return Step(feature_error(prediction, target, self.config.loss), {"likeness": likeness})

    def _said(self, batch: Batch) -> Float[Tensor, "B t h w D"]:
        if self.config.student_depth is None:
            return through_all_blocks(self.backbone, batch.video).unflatten(1, self.grid)
        (features,) = self.backbone(batch.video, (self.config.student_depth,))
        return features.grid

    @torch.no_grad()
    def _target(self, batch: Batch) -> Float[Tensor, "B t h w D"]:
        (features,) = self.teacher(batch.video, (self.config.teacher_depth,))
        grid = on_grid(features.grid, self.grid)
        return normalised(grid) if self.config.normalised_target else grid.float()

    def train(self, mode: bool = True) -> Distillation:
        """Switch the student to training; the teacher stays as it is used."""
        super().train(mode)
        self.teacher.eval()
        return self

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Fill student and head, and the teacher with random weights, which `starting_weights` then replaces."""
        self.backbone.init_weights(generator)
        for layer in self.head.modules():
            if isinstance(layer, nn.Linear):
                init_lecun_normal(layer, generator)
        self.teacher.init_weights(generator)

    def starting_weights(self) -> Mapping[str, str]:
        """Name the teacher's weights; without any it keeps random ones, a control and no teacher."""
        return {"teacher": self.config.teacher_weights} if self.config.teacher_weights else {}

    def export(self) -> Mapping[str, nn.Module]:
        """Name the student, which is what one trains for, and the head, which speaks the teacher's language."""
        return {"model": self.backbone, "head": self.head}


def _head(student: int, hidden: int, teacher: int) -> nn.Module:
    """Build what turns a student's features into a teacher's: a linear layer, or two with a hidden width."""
    if not hidden:
        return nn.Linear(student, teacher)
    return nn.Sequential(nn.Linear(student, hidden), nn.GELU(), nn.Linear(hidden, teacher))


@dataclass(frozen=True)
class DistillationConfig(ObjectiveConfig):
    """Describe a distillation. None of its values is from the paper."""

    backbone: VideoViTConfig = field(default_factory=video_vit.base)
    """The student."""
    teacher: BackboneConfig = field(default_factory=video_vit.size_e)
    """Any backbone, rivals too."""
    teacher_weights: str = ""
    """Whatever `fourd.load` takes; empty leaves the teacher at random weights."""
    teacher_depth: float = 0.95
    student_depth: float | None = None
    """Fraction of the student's depth that is taught, blocks above which learn nothing; None teaches the last one."""
    head_width: int = 0
    """Hidden width of the head that turns a student's features into a teacher's; 0 makes it one linear layer."""
    normalised_target: bool = True
    loss: FeatureLoss = "smooth_l1"

    def __post_init__(self) -> None:
        """Refuse a width that no layer can have."""
        if self.head_width < 0:
            raise ValueError(f"DistillationConfig.head_width is {self.head_width}: expected 0 (linear) or more")

    def build(self) -> Distillation:
        """Build the objective, its parameters unset."""
        return Distillation(self)


def base() -> DistillationConfig:
    """Describe how 4DS-B may have been made from 4DS-e."""
    return DistillationConfig(teacher_weights="4ds-e")


def tiny() -> DistillationConfig:
    """Describe a distillation that runs at once, for tests."""
    return DistillationConfig(video_vit.tiny(), video_vit.tiny())


def tiny_batch() -> Batch:
    """Make two noisy clips that `tiny()` can learn from."""
    return noisy_clips()
