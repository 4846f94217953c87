"""SimpleMAE: hide 95% of the patches at random and predict plain pixels through a few coarse tokens.

Source: the 4DS paper, section 3.1 and its SimpleMAE figure; the decoder path stands in the history of
google-deepmind/representations4d (`models/model.py` of 2025-04-17): learned latent tokens are put in
front of the visible ones right before one of the last blocks of the same stack.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Shaped, UInt8
from torch import Tensor

from fourd.backbones import video_vit
from fourd.masks import Mask, MaskPattern
from fourd.objectives._latents import LatentPixels, LatentPixelsConfig
from fourd.objectives._native import native_or_bytes, noisy_clips
from fourd.objectives._pixel_error import pixel_error
from fourd.pictures import reconstruction_picture
from fourd.tokens import as_mask, as_shares, patchify, unpatchify
from fourd.types import Batch, Step


class SimpleMAE(LatentPixels):
    """Train a video transformer to fill in what it does not see.

    The first L - 2 blocks see only the visible patches. The last two see the latent tokens as well,
    each of which then gives the pixels of its own, coarser patch through one linear layer.
    """

    config: SimpleMAEConfig

    def __init__(self, config: SimpleMAEConfig) -> None:
        super().__init__(config, config.backbone.num_frames)
        self.mask = Mask(config.mask_pattern, config.mask_ratio)
        self.num_visible = self.mask.num_visible(self.backbone.grid)
        if config.masked_only and self.num_visible == self.backbone.num_tokens:
            raise ValueError(
                f"mask_ratio {config.mask_ratio} hides nothing, so a masked_only loss has nothing to count"
            )

    def forward(self, batch: Batch) -> Step:
        """Compute the mean squared error against plain pixels in [0, 1]."""
        pixels, visible, prediction = self._predict(batch)
        target = patchify(pixels, self.config.decoder_patch)
        if not self.config.masked_only:
            return Step(pixel_error(prediction, target))
        hidden = patchify(self._hidden_pixels(visible), self.config.decoder_patch)
        error = (prediction.float() - as_shares(target)).square()
        return Step((error * hidden).sum() / hidden.sum())

    @torch.no_grad()
    def reconstruct(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Give what a person wants to see: pixels `B T 3 h w`, visible patches `B t h w`, prediction."""
        pixels, visible, prediction = self._predict(batch)
        video = unpatchify(prediction.float(), self.latent_grid, self.config.decoder_patch)
        return as_shares(pixels), visible.unflatten(1, self.backbone.grid), video

    def _predict(self, batch: Batch) -> tuple[Shaped[Tensor, "B T 3 h w"], Bool[Tensor, "B N"], Float[Tensor, "B n P"]]:
        pixels = native_or_bytes(self.backbone, batch.video)
        visible = self.mask.visible(batch.seed, self.backbone.grid)
        return pixels, as_mask(visible, self.backbone.num_tokens), self.predict_patches(pixels, visible)

    def _hidden_pixels(self, visible: Bool[Tensor, "B N"]) -> Float[Tensor, "B T 3 h w"]:
        patch = self.config.backbone.patch
        per_pixel = (~visible)[..., None].expand(-1, -1, patch[0] * patch[1] * patch[2] * 3)
        return unpatchify(per_pixel, self.backbone.grid, patch).float()

    def pictures(self, batch: Batch) -> Mapping[str, UInt8[Tensor, "H W 3"]]:
        """Draw input, visible patches and prediction."""
        return {"reconstruction": reconstruction_picture(*self.reconstruct(batch))}


@dataclass(frozen=True)
class SimpleMAEConfig(LatentPixelsConfig):
    """Describe SimpleMAE pretraining."""

    mask_ratio: float = 0.95
    mask_pattern: MaskPattern = "random"
    """Which patches are hidden together; all but `random` are for comparison, not from the paper."""
    masked_only: bool = False
    """Count only hidden pixels in the loss. That all pixels count is not from the paper."""

    def build(self) -> SimpleMAE:
        """Build the objective, its parameters unset."""
        return SimpleMAE(self)


def base() -> SimpleMAEConfig:
    """Describe the paper's pretraining of size B."""
    return SimpleMAEConfig()


def tiny() -> SimpleMAEConfig:
    """Describe a pretraining that runs at once, for tests."""
    return SimpleMAEConfig(video_vit.tiny(), mask_ratio=0.75, decoder_patch=(4, 8, 8))


def tiny_batch() -> Batch:
    """Make two noisy clips that `tiny()` can learn from."""
    return noisy_clips()
