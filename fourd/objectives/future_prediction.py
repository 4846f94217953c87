"""Future prediction: the last frames of a clip from the first ones, in pixels.

Not from the paper, which names future prediction as a rival and has none: encoder, pixels and decoder are those of
SimpleMAE; the mask shows the first frame groups whole, and the latent tokens in the last blocks cover only the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

from fourd.backbones import video_vit
from fourd.masks import Mask
from fourd.objectives._latents import LatentPixels, LatentPixelsConfig
from fourd.objectives._native import native_or_bytes, noisy_clips
from fourd.objectives._pixel_error import pixel_error, squared_difference
from fourd.pictures import reconstruction_picture
from fourd.tokens import as_mask, as_shares, patchify, unpatchify
from fourd.types import Batch, Step

_NUM_DRAWN = 5
"""Frames of a picture, evenly over the clip, so that some are seen and some follow."""


class FuturePrediction(LatentPixels):
    """Train a video transformer to continue clips.

    The first frames reach the encoder whole, which never sees the others; each latent token gives the pixels of a
    coarse patch of what follows.
    """

    config: FuturePredictionConfig

    def __init__(self, config: FuturePredictionConfig) -> None:
        num_seen = num_seen_frames(config)
        super().__init__(config, config.backbone.num_frames - num_seen)
        self.num_seen_frames = num_seen
        """How many frames of a clip the encoder sees."""
        self.mask = Mask("causal", config.mask_ratio)
        self.num_visible = self.mask.num_visible(self.backbone.grid)

    def forward(self, batch: Batch) -> Step:
        """Compute the mean squared error of the frames that follow, against plain pixels in [0, 1].

        The scalar `copy_last` is the error of repeating the last frame that is seen: a model that knows nothing of
        motion reaches it, so a loss below it is what prediction is worth.
        """
        pixels, prediction = self._predict(batch)
        seen, future = pixels[:, : self.num_seen_frames], pixels[:, self.num_seen_frames :]
        loss = pixel_error(prediction, patchify(future, self.config.decoder_patch))
        return Step(loss, {"copy_last": squared_difference(seen[:, -1:], future)})

    @torch.no_grad()
    def reconstruct(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Give what a person wants to see: pixels `B T 3 h w`, visible patches `B t h w`, prediction.

        Where frames are seen the prediction shows them.
        """
        pixels, prediction = self._predict(batch)
        true = as_shares(pixels)
        future = unpatchify(prediction.to(true.dtype), self.latent_grid, self.config.decoder_patch)
        visible = as_mask(self.mask.visible(batch.seed, self.backbone.grid), self.backbone.num_tokens)
        continued = torch.cat([true[:, : self.num_seen_frames], future], dim=1)
        return true, visible.unflatten(1, self.backbone.grid), continued

    def _predict(self, batch: Batch) -> tuple[Shaped[Tensor, "B T 3 h w"], Float[Tensor, "B l P"]]:
        pixels = native_or_bytes(self.backbone, batch.video)
        visible = self.mask.visible(batch.seed, self.backbone.grid)
        return pixels, self.predict_patches(pixels, visible)

    def pictures(self, batch: Batch) -> Mapping[str, UInt8[Tensor, "H W 3"]]:
        """Draw frames that are seen and frames that follow, beside the prediction."""
        return {"continuation": reconstruction_picture(*self.reconstruct(batch), num_frames=_NUM_DRAWN)}


def num_seen_frames(config: FuturePredictionConfig) -> int:
    """Count the frames that the encoder sees; raise ValueError where that is none or all of them."""
    patch_frames = config.backbone.patch[0]
    num_groups = config.backbone.num_frames // patch_frames
    seen = Mask("causal", config.mask_ratio).num_visible_units((num_groups, 1, 1))
    if seen == num_groups:
        raise ValueError(f"mask_ratio {config.mask_ratio} hides none of {num_groups} frame groups, so nothing follows")
    return seen * patch_frames


@dataclass(frozen=True)
class FuturePredictionConfig(LatentPixelsConfig):
    """Describe future prediction in pixels. None of its values is from the paper."""

    mask_ratio: float = 0.5
    """Share of the frame groups that is predicted, rounded up."""

    def build(self) -> FuturePrediction:
        """Build the objective, its parameters unset."""
        return FuturePrediction(self)


def base() -> FuturePredictionConfig:
    """Describe the pretraining of size B: 8 frames from the 8 before them."""
    return FuturePredictionConfig()


def tiny() -> FuturePredictionConfig:
    """Describe a pretraining that runs at once, for tests."""
    return FuturePredictionConfig(video_vit.tiny(), decoder_patch=(2, 8, 8))


def tiny_batch() -> Batch:
    """Make two noisy clips that `tiny()` can learn from."""
    return noisy_clips()
