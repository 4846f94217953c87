"""Clips as objectives read them, and the tiny ones of their tests."""

from __future__ import annotations

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from fourd.backbones.video_vit import VideoViT
from fourd.types import Batch, ClipShape


def native_or_bytes(backbone: VideoViT, video: Shaped[Tensor, "B T 3 H W"]) -> Shaped[Tensor, "B T 3 h w"]:
    """Leave clips of the native size as the bytes that they are; others are resized, to floats in [0, 1].

    Raises ValueError for clips of another length than the backbone takes.
    """
    backbone.native_input.grid(ClipShape(video.shape[1], video.shape[3], video.shape[4]))
    is_native = tuple(video.shape[-2:]) == tuple(backbone.config.size)
    return video if is_native and video.dtype == torch.uint8 else backbone.pixels(video)


def through_all_blocks(backbone: VideoViT, video: Shaped[Tensor, "B T 3 H W"]) -> Float[Tensor, "B N D"]:
    """Encode whole clips with every block; what is read of depth 1 leaves the last one out, as official features do."""
    x = backbone.embed(native_or_bytes(backbone, video))
    for block in backbone.blocks:
        x = block(x)
    return x


def require_native_size(backbone: VideoViT, objective: str) -> None:
    """Raise ValueError for a backbone that keeps the size of its clips: a decoder is made for one grid."""
    if not backbone.config.native_size:
        raise ValueError(f"{objective} pretrains at the backbone's native size; expected native_size=True")


def noisy_clips() -> Batch:
    """Make two clips of noise, of the size that `video_vit.tiny()` takes."""
    video = torch.randint(0, 256, (2, 4, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    times = torch.arange(4.0).expand(2, -1) / 25
    return Batch(video, times, ("a", "b"), ("a", "b"), torch.tensor([1, 2]))
