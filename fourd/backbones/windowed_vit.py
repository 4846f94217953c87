"""Our transformer on clips longer than its own: window by window, each by itself; of one frame it is an image encoder.

For studies of what more time in one pass adds (paper, section 4: "image models are not competitive").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from einops import rearrange
from jaxtyping import Shaped
from torch import Tensor

from fourd.backbones import video_vit
from fourd.backbones.video_vit import VideoViT, VideoViTConfig
from fourd.types import ClipShape, Features, FeatureShape, NativeInput


class WindowedViT(VideoViT):
    """Encode each window of a clip by itself; parameters are those of the `VideoViT` of one window."""

    @property
    def native_input(self) -> NativeInput:
        """Say which clips `forward` takes: windows of any number."""
        return replace(super().native_input, num_frames=None)

    def forward(self, video: Shaped[Tensor, "B T 3 H W"], depths: Sequence[float]) -> tuple[Features, ...]:
        """Encode clips; features are counted as `VideoViT` counts them, windows one after the other in time."""
        length = self._require_windows(video.shape[1])
        windows = rearrange(video, "b (n t) c h w -> (b n) t c h w", t=length)
        found = super().forward(windows, depths)
        return tuple(
            Features(rearrange(one.grid, "(b n) t h w d -> b (n t) h w d", b=len(video)).contiguous()) for one in found
        )

    def feature_shape(self, clip: ClipShape) -> FeatureShape:
        """Say which grid `forward` gives."""
        self._require_windows(clip.num_frames)
        return super().feature_shape(clip)

    def _require_windows(self, num_frames: int) -> int:
        """Give the length of a window; raise ValueError for clips that are not whole windows."""
        length: int = self.config.num_frames
        if num_frames % length:
            raise ValueError(
                f"clips have {num_frames} frames; this backbone takes windows of {length}: expected whole ones alone"
            )
        return length


@dataclass(frozen=True)
class WindowedViTConfig(VideoViTConfig):
    """Describe a 4DS video transformer that is given windows of `num_frames`."""

    @property
    def parameters_of(self) -> VideoViTConfig:
        """Give the config whose weights it takes: the encoder of one window."""
        return VideoViTConfig(**{one.name: getattr(self, one.name) for one in fields(self)})

    def build(self) -> WindowedViT:
        """Build the encoder, its parameters unset."""
        return WindowedViT(self)


def by_windows(encoder: VideoViTConfig) -> WindowedViTConfig:
    """Describe an encoder that takes longer clips window by window."""
    return WindowedViTConfig(**{one.name: getattr(encoder, one.name) for one in fields(encoder)})


def by_frames(encoder: VideoViTConfig) -> WindowedViTConfig:
    """Describe the image encoder of the same blocks and patches as a video encoder."""
    return by_windows(replace(encoder, patch=(1, *encoder.patch[1:]), num_frames=1))


def base() -> WindowedViTConfig:
    """Describe B, given windows of its own 16 frames."""
    return by_windows(video_vit.base())


def tiny() -> WindowedViTConfig:
    """Describe an encoder that runs at once, for tests."""
    return by_windows(video_vit.tiny())
