"""A backbone with its depth readout: metres out of pixels, in one module.

Source: the released ScanNet depth model of google-deepmind/representations4d (`scaling4d_depth_demo`).
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Shaped
from torch import Tensor, nn

from fourd.tasks.depth import DepthConfig
from fourd.types import Backbone, BackboneConfig, ClipShape, Config, Depth, NoQuery


class DepthModel(nn.Module):
    """Predict the depth of every pixel of a clip, at the backbone's native size."""

    def __init__(self, config: DepthModelConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone: Backbone = config.backbone.build()
        native = self.backbone.native_input
        clip = ClipShape(native.num_frames or config.readout.size.num_frames, *native.size)
        features = self.backbone.feature_shape(clip)
        self.readout: nn.Module = config.readout.build().build_readout(features, clip, "attention")

    def forward(self, video: Shaped[Tensor, "B T 3 H W"]) -> Depth:
        """Predict metres, `B T h w`; `valid` where they are more than zero, which the readout does not force.

        video: uint8, or float in [0, 1], RGB.
        """
        (features,) = self.backbone(video, (self.config.readout_depth,))
        metres = self.readout(features, NoQuery())
        return Depth(metres, metres > 0)


@dataclass(frozen=True)
class DepthModelConfig(Config[DepthModel]):
    """Describe a depth model: what reads what, at which fraction of the backbone's depth (0.95 when released)."""

    backbone: BackboneConfig
    readout: DepthConfig
    readout_depth: float = 0.95

    def build(self) -> DepthModel:
        """Build it, its parameters unset."""
        return DepthModel(self)
