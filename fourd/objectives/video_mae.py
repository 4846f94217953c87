"""VideoMAE: hide tubes of a clip and predict their normalised pixels with a narrow decoder of its own.

Source: Tong et al., VideoMAE, arXiv 2203.12602, as `transformers` computes it (VideoMAEForPreTraining). The encoder is
ours, so that only the objective differs from the others: its positions are learned, and its norm before the decoder
belongs to the objective.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from einops import rearrange
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor, nn

from fourd.backbones import video_vit
from fourd.backbones.video_vit import VideoViT, VideoViTConfig
from fourd.layers import LayerNorm
from fourd.masks import Mask, MaskPattern, hidden_tokens
from fourd.objectives._narrow import NarrowDecoder
from fourd.objectives._native import native_or_bytes, noisy_clips, require_native_size
from fourd.objectives._pixel_error import pixel_error
from fourd.pictures import reconstruction_picture
from fourd.tokens import Triple, as_mask, as_shares, patchify, take_tokens, unpatchify
from fourd.types import Batch, Objective, ObjectiveConfig, Step

_EPS = 1e-6
"""Added to a patch's standard deviation, where it divides."""
_GREY, _CONTRAST = 0.5, 0.2
"""How normalised pixels are drawn: zero as grey, two and a half deviations as black or white."""


class VideoMAE(Objective):
    """Train a video transformer to predict each hidden patch, normalised, from the visible ones.

    The encoder sees the visible patches only. A narrow decoder sees what it says of them, and one learned token at the
    place of each hidden patch; only hidden patches count in the loss. With normalised targets a loss of 1 is what an
    even grey patch reaches.
    """

    def __init__(self, config: VideoMAEConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone: VideoViT = config.backbone.build()
        require_native_size(self.backbone, type(self).__name__)
        self.mask = Mask(config.mask_pattern, config.mask_ratio)
        self.num_visible = self.mask.num_visible(self.backbone.grid)
        if self.num_visible == self.backbone.num_tokens:
            raise ValueError(f"mask_ratio {config.mask_ratio} hides nothing, so there is nothing to predict")
        _require_decoder(config)
        self.norm = LayerNorm(config.backbone.width)
        self.decoder = _decoder(config, self.backbone.grid)

    def forward(self, batch: Batch) -> Step:
        """Compute the mean squared error of the hidden patches."""
        pixels, _, hidden, prediction = self._predict(batch)
        return Step(pixel_error(prediction, self._target(take_tokens(patchify(pixels, self._patch), hidden))))

    @torch.no_grad()
    def reconstruct(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Give what a person wants to see: targets `B T 3 h w`, visible patches `B t h w`, prediction.

        Normalised pixels are drawn as such, around grey, since a patch's own mean and deviation are part of the answer
        and never predicted. Where patches are visible the prediction shows the target.
        """
        pixels, visible, hidden, prediction = self._predict(batch)
        target = self._target(patchify(pixels, self._patch))
        place = hidden[..., None].expand_as(prediction)
        drawn = [target, target.scatter(1, place, prediction.to(target.dtype))]
        if self.config.normalised_target:
            drawn = [(_GREY + _CONTRAST * patches).clamp(0, 1) for patches in drawn]
        true, predicted = (unpatchify(patches, self.backbone.grid, self._patch) for patches in drawn)
        return true, as_mask(visible, self.backbone.num_tokens).unflatten(1, self.backbone.grid), predicted

    @property
    def _patch(self) -> Triple:
        return self.config.backbone.patch

    def _target(self, patches: Shaped[Tensor, "B n P"]) -> Float[Tensor, "B n P"]:
        shares = as_shares(patches)
        return normalised_patches(shares) if self.config.normalised_target else shares

    def _predict(
        self, batch: Batch
    ) -> tuple[Shaped[Tensor, "B T 3 h w"], Int[Tensor, "B n"], Int[Tensor, "B m"], Float[Tensor, "B m P"]]:
        """Give the clips' pixels, which patches are visible, which are hidden, and what is predicted of the latter."""
        pixels = native_or_bytes(self.backbone, batch.video)
        visible = self.mask.visible(batch.seed, self.backbone.grid)
        hidden = hidden_tokens(visible, self.backbone.num_tokens)
        x = self.backbone.embed(pixels, visible)
        for block in self.backbone.blocks:
            x = block(x)
        return pixels, visible, hidden, self.decoder(self.norm(x), visible, hidden)

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Fill every parameter, and the decoder's positions."""
        self.backbone.init_weights(generator)
        self.norm.reset_parameters()
        self.decoder.init_weights(generator)

    def export(self) -> Mapping[str, nn.Module]:
        """Name the encoder, which is what one trains for, and the rest, which predicts patches."""
        return {"model": self.backbone, "decoder": nn.ModuleDict({"norm": self.norm, "decoder": self.decoder})}

    def pictures(self, batch: Batch) -> Mapping[str, UInt8[Tensor, "H W 3"]]:
        """Draw targets, visible patches and prediction."""
        return {"reconstruction": reconstruction_picture(*self.reconstruct(batch))}


def _decoder(config: VideoMAEConfig, grid: Triple) -> NarrowDecoder:
    pt, ph, pw = config.backbone.patch
    widths = (config.backbone.width, config.decoder_width, pt * ph * pw * 3)
    return NarrowDecoder(grid, widths, config.decoder_heads, config.num_decoder_blocks, bias=False)


def _require_decoder(config: VideoMAEConfig) -> None:
    if config.num_decoder_blocks < 1:
        raise ValueError(f"num_decoder_blocks is {config.num_decoder_blocks}; expected 1 or more")
    if config.decoder_width < 1:
        least = 1 / config.backbone.width
        raise ValueError(f"decoder_share is {config.decoder_share}; expected more than 0, {least:.4g} at least")


def normalised_patches(patches: Float[Tensor, "B n P"]) -> Float[Tensor, "B n P"]:
    """Bring each colour of each patch to mean 0 and deviation 1, over the pixels of the patch.

    The variance divides by one less than the number of pixels; 1e-6 is added to the deviation.
    Source: the authors' training code, as in `transformers`; patches are numbered as by `fourd.tokens.patchify`.
    """
    colours = rearrange(patches.float(), "b n (pixels c) -> b n pixels c", c=3)
    deviation = colours.var(dim=2, unbiased=True, keepdim=True).sqrt()
    return ((colours - colours.mean(dim=2, keepdim=True)) / (deviation + _EPS)).flatten(2)


@dataclass(frozen=True)
class VideoMAEConfig(ObjectiveConfig):
    """Describe VideoMAE pretraining.

    How weights start and which sine waves the decoder's positions are is ours, not from the paper.
    """

    backbone: VideoViTConfig = field(default_factory=video_vit.base)
    mask_ratio: float = 0.9
    """Share that is hidden, rounded up to whole tubes: 177 of 196, where the authors' code rounds down to 176."""
    mask_pattern: MaskPattern = "tube"
    num_decoder_blocks: int = 4
    decoder_share: float = 0.5
    """The decoder's width over the encoder's; its heads are as wide as the encoder's where that can be."""
    normalised_target: bool = True
    """Normalise each patch of the target; False predicts plain pixels in [0, 1]."""

    @property
    def decoder_heads(self) -> int:
        """Count the decoder's heads: as many as the encoder has for this width, at least one."""
        return max(1, int(self.backbone.num_heads * self.decoder_share))

    @property
    def decoder_width(self) -> int:
        """Give the decoder's width, a whole multiple of its heads."""
        return int(self.backbone.width * self.decoder_share) // self.decoder_heads * self.decoder_heads

    def build(self) -> VideoMAE:
        """Build the objective, its parameters unset."""
        return VideoMAE(self)


def base() -> VideoMAEConfig:
    """Describe the pretraining of size B."""
    return VideoMAEConfig()


def tiny() -> VideoMAEConfig:
    """Describe a pretraining that runs at once, for tests."""
    return VideoMAEConfig(video_vit.tiny(), mask_ratio=0.75, num_decoder_blocks=2)


def tiny_batch() -> Batch:
    """Make two noisy clips that `tiny()` can learn from."""
    return noisy_clips()
