"""Our transformer as an image encoder: each frame by itself, so that nothing it says can tell of motion.

The counterpart of `video_vit` for studies of what time adds (paper, section 4: "image models are not competitive").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jaxtyping import Shaped
from torch import Tensor

from fourd.backbones.video_vit import VideoViT, VideoViTConfig
from fourd.tokens import Triple
from fourd.types import Features, NativeInput


class ImageViT(VideoViT):
    """Encode each frame of a clip by itself; parameters are those of a `VideoViT` of one frame."""

    @property
    def native_input(self) -> NativeInput:
        """Say which clips `forward` takes: frames of any number."""
        return replace(super().native_input, num_frames=None)

    def forward(self, video: Shaped[Tensor, "B T 3 H W"], depths: Sequence[float]) -> tuple[Features, ...]:
        """Encode clips; features are counted as `VideoViT` counts them, one time step for each frame."""
        frames = video.flatten(0, 1).unsqueeze(1)
        found = super().forward(frames, depths)
        return tuple(Features(one.grid.squeeze(1).unflatten(0, video.shape[:2])) for one in found)


@dataclass(frozen=True)
class ImageViTConfig(VideoViTConfig):
    """Describe a transformer of single frames."""

    patch: Triple = (1, 16, 16)
    num_frames: int = 1

    def __post_init__(self) -> None:
        """Refuse patches and clips of more than one frame."""
        if (self.patch[0], self.num_frames) != (1, 1):
            raise ValueError(
                f"ImageViTConfig has patch={self.patch}, num_frames={self.num_frames}: expected one frame of each; "
                "VideoViTConfig is for clips"
            )

    def build(self) -> ImageViT:
        """Build the encoder, its parameters unset."""
        return ImageViT(self)


def of_frames(video: VideoViTConfig) -> ImageViTConfig:
    """Describe the image encoder of the same blocks and patches as a video encoder."""
    sizes = (video.width, video.depth, video.num_heads, video.mlp_width, (1, *video.patch[1:]), 1, video.size)
    return ImageViTConfig(*sizes, position_init=video.position_init)


def tiny() -> ImageViTConfig:
    """Describe an encoder that runs at once, for tests."""
    return ImageViTConfig(32, 4, 2, 64, patch=(1, 8, 8), size=(32, 32))
