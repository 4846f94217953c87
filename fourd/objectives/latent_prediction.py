"""Latent prediction: say what a teacher would say of the places that are hidden.

Two teachers: an exponential average of the student itself, with blocks hidden (V-JEPA, arXiv 2404.08471; V-JEPA 2,
arXiv 2506.09985), and a frozen one that learned from pixels (SALT, arXiv 2509.24317), for which a SimpleMAE encoder is
the natural one. Encoder, data and loop are those of SimpleMAE.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fourd.backbones import video_vit
from fourd.backbones.video_vit import VideoViT, VideoViTConfig
from fourd.layers import LayerNorm
from fourd.masks import Mask, MaskPattern, hidden_tokens
from fourd.objectives._average import align, follow, momentum_at
from fourd.objectives._narrow import NarrowDecoder
from fourd.objectives._native import native_or_bytes, noisy_clips, require_native_size, through_all_blocks
from fourd.objectives._targets import FeatureLoss, feature_error, normalised, on_grid
from fourd.tokens import take_tokens
from fourd.types import Backbone, BackboneConfig, Batch, ClipShape, Objective, ObjectiveConfig, Step

Teacher = Literal["average", "frozen"]


class LatentPrediction(Objective):
    """Train an encoder of visible tokens and a narrow predictor to give a teacher's features at the hidden ones.

    The teacher sees the whole clip. An average of the student is moved after each update, and never by a gradient.
    """

    def __init__(self, config: LatentPredictionConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone: VideoViT = config.backbone.build()
        require_native_size(self.backbone, type(self).__name__)
        self.norm = LayerNorm(config.backbone.width)
        self.mask = Mask(config.mask_pattern, config.mask_ratio, config.num_blocks)
        self.num_visible = self.mask.num_visible(self.backbone.grid)
        if self.num_visible == self.backbone.num_tokens:
            raise ValueError(f"mask_ratio {config.mask_ratio} hides nothing, so there is nothing to predict")
        self.teacher: Backbone = self._teacher_config.build().requires_grad_(False)
        clip = ClipShape(config.backbone.num_frames, *config.backbone.size)
        widths = (config.backbone.width, config.predictor_width, self.teacher.feature_shape(clip).width)
        self.predictor = NarrowDecoder(self.backbone.grid, widths, config.predictor_heads, config.num_predictor_blocks)

    @property
    def _teacher_config(self) -> BackboneConfig:
        if self.config.teacher == "average":
            if self.config.teacher_weights or self.config.teacher_backbone is not None:
                raise ValueError("teacher is average: it has the student's backbone, and no teacher_weights of its own")
            return self.config.backbone
        return self.config.teacher_backbone or self.config.backbone

    def forward(self, batch: Batch) -> Step:
        """Compute the error of the features at hidden places.

        `target_std` is the deviation of the teacher's features from clip to clip, before they are normalised: it goes
        to 0 where student and teacher agree on saying nothing.
        """
        pixels = native_or_bytes(self.backbone, batch.video)
        visible = self.mask.visible(batch.seed, self.backbone.grid)
        hidden = hidden_tokens(visible, self.backbone.num_tokens)
        x = self.backbone.embed(pixels, visible)
        for block in self.backbone.blocks:
            x = block(x)
        prediction = self.predictor(self.norm(x), visible, hidden)
        told = self._told(batch)
        target = take_tokens(normalised(told), hidden)
        spread = told.float().mean(1).std(0, correction=0).mean()
        return Step(feature_error(prediction, target, self.config.loss), {"target_std": spread})

    @torch.no_grad()
    def _told(self, batch: Batch) -> Float[Tensor, "B N D"]:
        if self.config.teacher == "average":
            return through_all_blocks(self.teacher, batch.video)  # type: ignore[arg-type] # of the student's kind
        (features,) = self.teacher(batch.video, (self.config.teacher_depth,))
        return on_grid(features.grid, self.backbone.grid).flatten(1, 3)

    def train(self, mode: bool = True) -> LatentPrediction:
        """Switch the student to training; the teacher stays as it is used."""
        super().train(mode)
        self.teacher.eval()
        return self

    def followers(self) -> Mapping[str, nn.Module]:
        """Name the teacher where it is an average."""
        return {"teacher": self.teacher} if self.config.teacher == "average" else {}

    def begin(self) -> None:
        """Start the average at the student."""
        if self.config.teacher == "average":
            align(self.teacher, self.backbone)

    def after_step(self, done: float, applied: Tensor) -> None:
        """Move the average towards the student."""
        if self.config.teacher == "average":
            kept = momentum_at(self.config.momentum, self.config.end_momentum, done)
            follow(self.teacher, self.backbone, applied * (1 - kept))

    def starting_weights(self) -> Mapping[str, str]:
        """Name a frozen teacher's weights; without any it keeps random ones, a control and no teacher."""
        return {"teacher": self.config.teacher_weights} if self.config.teacher_weights else {}

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Fill every parameter; a teacher that is an average gets the student's in `begin`."""
        self.backbone.init_weights(generator)
        self.norm.reset_parameters()
        self.predictor.init_weights(generator)
        self.teacher.init_weights(generator)

    def export(self) -> Mapping[str, nn.Module]:
        """Name the encoder, which is what one trains for, and what predicts."""
        rest = nn.ModuleDict({"norm": self.norm, "predictor": self.predictor})
        return {"model": self.backbone, "predictor": rest}


@dataclass(frozen=True)
class LatentPredictionConfig(ObjectiveConfig):
    """Describe latent prediction. Values are V-JEPA's where they can be, and none is from the 4DS paper."""

    backbone: VideoViTConfig = field(default_factory=video_vit.base)
    teacher: Teacher = "average"
    teacher_backbone: BackboneConfig | None = None
    """Of a frozen teacher, if it is another one than the student's."""
    teacher_weights: str = ""
    """Of a frozen teacher: whatever `fourd.load` takes; empty leaves it at random weights."""
    teacher_depth: float = 1.0
    """Of a frozen teacher; an average is asked after its last block."""
    mask_pattern: MaskPattern = "block"
    mask_ratio: float = 0.9
    num_blocks: int = 8
    """Rectangles that are hidden; V-JEPA's short-range masks have 8, its long-range ones 2."""
    num_predictor_blocks: int = 6
    """V-JEPA has 12, of width 384."""
    predictor_width: int = 384
    predictor_heads: int = 12
    loss: FeatureLoss = "l1"
    momentum: float = 0.998
    """Share of the average that stays in the first step."""
    end_momentum: float = 1.0

    def build(self) -> LatentPrediction:
        """Build the objective, its parameters unset."""
        return LatentPrediction(self)


def base() -> LatentPredictionConfig:
    """Describe the pretraining of size B with an averaged teacher."""
    return LatentPredictionConfig()


def tiny() -> LatentPredictionConfig:
    """Describe a pretraining that runs at once, for tests."""
    return LatentPredictionConfig(
        video_vit.tiny(), mask_ratio=0.75, num_predictor_blocks=2, predictor_width=24, predictor_heads=2
    )


def tiny_batch() -> Batch:
    """Make two noisy clips that `tiny()` can learn from."""
    return noisy_clips()
