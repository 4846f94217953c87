"""Predict pixels through a few coarse tokens: the decoder that SimpleMAE has, for whichever part of the clip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from fourd.backbones import video_vit
from fourd.backbones.video_vit import VideoViT, VideoViTConfig, init_table
from fourd.layers import LayerNorm, init_lecun_normal
from fourd.objectives._native import require_native_size
from fourd.tokens import Triple, grid_of
from fourd.types import Objective, ObjectiveConfig


class LatentPixels(Objective):
    """Hold an encoder whose last blocks see learned latent tokens as well, each of which gives a coarse patch.

    The first blocks see only the visible patches. The latent tokens join them before the first of the last
    `num_decoder_blocks`, and one linear layer turns each into the pixels of its own patch.
    """

    config: LatentPixelsConfig

    def __init__(self, config: LatentPixelsConfig, num_frames: int) -> None:
        """Build it for a prediction of `num_frames` frames, at the backbone's native size."""
        super().__init__()
        self.backbone: VideoViT = config.backbone.build()
        self.config = config
        require_native_size(self.backbone, type(self).__name__)
        if not 0 < config.num_decoder_blocks <= len(self.backbone.blocks):
            raise ValueError(
                f"num_decoder_blocks is {config.num_decoder_blocks}; expected 1 to {len(self.backbone.blocks)}"
            )
        width, patch = config.backbone.width, config.decoder_patch
        self.latent_grid = grid_of(num_frames, config.backbone.size, patch)
        num_latents = self.latent_grid[0] * self.latent_grid[1] * self.latent_grid[2]
        self.latents = nn.Parameter(torch.empty(num_latents, width))
        self.norm = LayerNorm(width) if config.final_norm else nn.Identity()
        self.decoder = nn.Linear(width, patch[0] * patch[1] * patch[2] * 3)

    def predict_patches(
        self, pixels: Shaped[Tensor, "B T 3 h w"], visible: Int[Tensor, "B n"]
    ) -> Float[Tensor, "B l P"]:
        """Predict the pixels of every latent token's patch from the visible patches."""
        return self.decoder(self.norm(self._latents_after(self.backbone.embed(pixels, visible))))

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
        """Name the encoder, which is what one trains for, and the rest, which draws what is predicted."""
        rest = nn.ModuleDict({"norm": self.norm, "decoder": self.decoder})
        rest.register_parameter("latents", self.latents)
        return {"model": self.backbone, "decoder": rest}


@dataclass(frozen=True)
class LatentPixelsConfig(ObjectiveConfig):
    """Describe an encoder and the latent tokens through which it predicts pixels."""

    backbone: VideoViTConfig = field(default_factory=video_vit.base)
    decoder_patch: Triple = (4, 16, 16)
    """Pixels of one latent token. 784 latents follow from the published counts; the shape is not from the paper."""
    num_decoder_blocks: int = 2
    final_norm: bool = False
    """Normalise before the linear decoder; the released code has no such norm."""
    decoder_bias: float = 0.0
    """Start the decoder at this brightness. How the paper starts it is not public; 0 is flax's default."""
    decoder_gain: float = 1.0
    """Scale the decoder's first weights; 0 starts from an even picture (not from the paper)."""
