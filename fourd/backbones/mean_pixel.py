"""The floor: the mean colour of each patch and where it is. What beats this has learned something."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import reduce
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from fourd.tokens import Triple, native_pixels, sincos_positions
from fourd.types import Backbone, BackboneConfig, ClipShape, Features, FeatureShape, NativeInput

_COLOUR_GAIN = 4.0  # colours weigh about as much as positions after a readout's norm


class MeanPixel(Backbone):
    """Describe each patch by its mean colour, beside sines and cosines of its place. Nothing is learned."""

    def __init__(self, config: MeanPixelConfig) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList()
        self.native_input.grid(ClipShape(config.num_frames, *config.size))

    @property
    def native_input(self) -> NativeInput:
        """Say which clips `forward` takes."""
        config = self.config
        return NativeInput(config.num_frames, config.size, config.patch, fixed=config.native_size)

    def forward(self, video: Shaped[Tensor, "B T 3 H W"], depths: Sequence[float]) -> tuple[Features, ...]:
        """Average the colours; every depth gives the same features, for there is but one."""
        for depth in depths:
            self.block_at(depth)
        features = Features(self._describe(native_pixels(video, self.native_input)))
        return tuple(features for _ in depths)

    def _describe(self, pixels: Float[Tensor, "B T 3 H W"]) -> Float[Tensor, "B t h w D"]:
        pt, ph, pw = self.config.patch
        colour = reduce(pixels, "b (t pt) c (h ph) (w pw) -> b t h w c", "mean", pt=pt, ph=ph, pw=pw)
        grid = (colour.shape[1], colour.shape[2], colour.shape[3])
        places = sincos_positions(grid, self.config.width - 3).to(colour).unflatten(0, grid)
        return torch.cat([_COLOUR_GAIN * (colour - 0.5), places.expand(len(colour), -1, -1, -1, -1)], dim=-1)

    def feature_shape(self, clip: ClipShape) -> FeatureShape:
        """Say which grid `forward` gives."""
        return FeatureShape(*self.native_input.grid(clip), self.config.width)

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Do nothing: there is no parameter."""


@dataclass(frozen=True)
class MeanPixelConfig(BackboneConfig):
    """Describe the floor; choose the grid of the backbone that it is compared with."""

    patch: Triple = (2, 16, 16)
    num_frames: int = 16
    size: tuple[int, int] = (224, 224)
    width: int = 96

    def build(self) -> MeanPixel:
        """Build it."""
        return MeanPixel(self)


def base() -> MeanPixelConfig:
    """Describe the floor beside the paper's encoders."""
    return MeanPixelConfig()


def tiny() -> MeanPixelConfig:
    """Describe one for tests."""
    return MeanPixelConfig((2, 8, 8), 4, (32, 32))
