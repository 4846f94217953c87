"""SimpleMAE: hide 95% of the patches at random and predict plain pixels through a few coarse tokens.

Source: the 4DS paper, section 3.1 and its SimpleMAE figure; the decoder path stands in the history of
google-deepmind/representations4d (`models/model.py` of 2025-04-17): learned latent tokens are put in
front of the visible ones right before one of the last blocks of the same stack.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Shaped, UInt8
from torch import Tensor, nn

from fourd.backbones import video_vit
from fourd.backbones.video_vit import VideoViT, VideoViTConfig, init_table
from fourd.layers import LayerNorm, init_lecun_normal
from fourd.objectives._pixel_error import pixel_error
from fourd.pictures import reconstruction_picture
from fourd.tokens import Triple, as_mask, as_shares, grid_of, num_kept, patchify, random_visible, unpatchify
from fourd.types import Batch, Objective, ObjectiveConfig, Step


class SimpleMAE(Objective):
    """Train a video transformer to fill in what it does not see.

    The first L - 2 blocks see only the visible patches. The last two see the latent tokens as well,
    each of which then gives the pixels of its own, coarser patch through one linear layer.
    """

    def __init__(self, config: SimpleMAEConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone: VideoViT = config.backbone.build()
        if not config.backbone.native_size:
            raise ValueError("SimpleMAE pretrains at the backbone's native size; expected native_size=True")
        if not 0 < config.num_decoder_blocks <= len(self.backbone.blocks):
            raise ValueError(
                f"num_decoder_blocks is {config.num_decoder_blocks}; expected 1 to {len(self.backbone.blocks)}"
            )
        width, patch = config.backbone.width, config.decoder_patch
        self.latent_grid = grid_of(config.backbone.num_frames, config.backbone.size, patch)
        num_latents = self.latent_grid[0] * self.latent_grid[1] * self.latent_grid[2]
        self.num_visible = num_kept(self.backbone.num_tokens, config.mask_ratio)
        if config.masked_only and self.num_visible == self.backbone.num_tokens:
            raise ValueError(
                f"mask_ratio {config.mask_ratio} hides nothing, so a masked_only loss has nothing to count"
            )
        self.latents = nn.Parameter(torch.empty(num_latents, width))
        self.norm = LayerNorm(width) if config.final_norm else nn.Identity()
        self.decoder = nn.Linear(width, patch[0] * patch[1] * patch[2] * 3)

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
        pixels = self._pixels(batch.video)
        visible = random_visible(batch.seed, self.backbone.num_tokens, self.num_visible)
        prediction = self.decoder(self.norm(self._latents_after(self.backbone.embed(pixels, visible))))
        return pixels, as_mask(visible, self.backbone.num_tokens), prediction

    def _pixels(self, video: UInt8[Tensor, "B T 3 H W"]) -> Shaped[Tensor, "B T 3 h w"]:
        """Leave clips of the native size as the bytes that they are; others are resized, to floats."""
        is_native = tuple(video.shape[-2:]) == tuple(self.config.backbone.size)
        return video if is_native and video.dtype == torch.uint8 else self.backbone.pixels(video)

    def _latents_after(self, x: Float[Tensor, "B n D"]) -> Float[Tensor, "B l D"]:
        """Run all blocks over the visible patches, the last ones over the latent tokens too; give the latter."""
        num_encoder_blocks = len(self.backbone.blocks) - self.config.num_decoder_blocks
        for block in self.backbone.blocks[:num_encoder_blocks]:
            x = block(x)
        for number, block in enumerate(self.backbone.blocks[num_encoder_blocks:], start=1):
            common = self.latents if number == 1 else None
            num_kept = len(self.latents) if number == self.config.num_decoder_blocks else None
            x = block(x, common, num_kept)
        return x

    def _hidden_pixels(self, visible: Bool[Tensor, "B N"]) -> Float[Tensor, "B T 3 h w"]:
        patch = self.config.backbone.patch
        per_pixel = (~visible)[..., None].expand(-1, -1, patch[0] * patch[1] * patch[2] * 3)
        return unpatchify(per_pixel, self.backbone.grid, patch).float()

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Fill every parameter."""
        self.backbone.init_weights(generator)
        init_table(self.latents, self.latent_grid, self.config.backbone.position_init, generator)
        if isinstance(self.norm, LayerNorm):
            self.norm.reset_parameters()
        init_lecun_normal(self.decoder, generator)
        with torch.no_grad():
            self.decoder.weight.mul_(self.config.decoder_gain)
        nn.init.constant_(self.decoder.bias, self.config.decoder_bias)

    def export(self) -> Mapping[str, nn.Module]:
        """Name the encoder, which is what one trains for, and the rest, which draws reconstructions."""
        rest = nn.ModuleDict({"norm": self.norm, "decoder": self.decoder})
        rest.register_parameter("latents", self.latents)
        return {"model": self.backbone, "decoder": rest}

    def pictures(self, batch: Batch) -> Mapping[str, UInt8[Tensor, "H W 3"]]:
        """Draw input, visible patches and prediction."""
        return {"reconstruction": reconstruction_picture(*self.reconstruct(batch))}


@dataclass(frozen=True)
class SimpleMAEConfig(ObjectiveConfig):
    """Describe SimpleMAE pretraining."""

    backbone: VideoViTConfig = field(default_factory=video_vit.base)
    mask_ratio: float = 0.95
    decoder_patch: Triple = (4, 16, 16)
    """Pixels of one latent token. 784 latents follow from the published counts; the shape is not from the paper."""
    num_decoder_blocks: int = 2
    masked_only: bool = False
    """Count only hidden pixels in the loss. That all pixels count is not from the paper."""
    final_norm: bool = False
    """Normalise before the linear decoder; the released code has no such norm."""
    decoder_bias: float = 0.0
    """Start the decoder at this brightness. How the paper starts it is not public; 0 is flax's default."""
    decoder_gain: float = 1.0
    """Scale the decoder's first weights; 0 starts from an even picture (not from the paper)."""

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
    video = torch.randint(0, 256, (2, 4, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    times = torch.arange(4.0).expand(2, -1) / 25
    return Batch(video, times, ("a", "b"), ("a", "b"), torch.tensor([1, 2]))
