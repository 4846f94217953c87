"""Two clips of one video: windows in time, crops, flips and colours, drawn from the clip's seed, on the device."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from fourd.tokens import as_shares, splitmix64

_GOLDEN_RATIO = 0x9E3779B97F4A7C15 - (1 << 64)
_SHAPES = (3 / 4, 4 / 3)
"""Width by height of a crop. Source: the usual range of random resized crops (Szegedy et al. 2015)."""
_GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in brightness. Source: ITU-R BT.601."""


def draws(seed: Int[Tensor, " B"], stream: int, number: int) -> Float[Tensor, "B n"]:
    """Draw numbers from 0 to 1 (exclusive) for each clip, a function of its seed and of the stream alone."""
    counter = torch.arange(1, number + 1, device=seed.device)
    own = splitmix64(seed + torch.full_like(seed, stream) * _GOLDEN_RATIO)  # in 64 bits, as a tensor counts
    hashes = splitmix64(own[:, None] + counter * _GOLDEN_RATIO)
    return ((hashes >> 40) & ((1 << 24) - 1)).float() / (1 << 24)


def view(
    video: Shaped[Tensor, "B T 3 H W"],
    seed: Int[Tensor, " B"],
    stream: int,
    num_frames: int,
    size: tuple[int, int],
    crop_scale: tuple[float, float],
    jitter: float,
) -> Float[Tensor, "B t 3 h w"]:
    """Cut one clip out of each longer one; two streams give two views of it.

    num_frames: of the view, a window anywhere in the clip; raises ValueError for clips that are shorter. size: height
    and width in pixels. crop_scale: least and largest share of a frame's area that is cut out. jitter: by how much
    brightness, contrast and saturation may change, as a share. All frames of a view share crop, flip and colours.
    """
    if video.shape[1] < num_frames:
        raise ValueError(
            f"clips have {video.shape[1]} frames; a view needs {num_frames}: load longer clips, of which views are cut"
        )
    drawn = draws(seed, stream, 9)
    start = (drawn[:, 0] * (video.shape[1] - num_frames + 1)).long()
    frames = start[:, None] + torch.arange(num_frames, device=video.device)
    window = video.gather(1, frames[:, :, None, None, None].expand(-1, -1, *video.shape[2:]))
    return _recoloured(_cropped(as_shares(window), drawn[:, 1:6], size, crop_scale), drawn[:, 6:], jitter)


def _cropped(
    video: Float[Tensor, "B T 3 H W"],
    drawn: Float[Tensor, "B 5"],
    size: tuple[int, int],
    crop_scale: tuple[float, float],
) -> Float[Tensor, "B T 3 h w"]:
    """Cut out and resize, bilinearly; a crop larger than a frame along one axis is cut to it."""
    area = crop_scale[0] + drawn[:, 0] * (crop_scale[1] - crop_scale[0])
    low, high = (math.log(shape) for shape in _SHAPES)
    shape = torch.exp(low + drawn[:, 1] * (high - low))
    width, height = (area * shape).sqrt().clamp(max=1), (area / shape).sqrt().clamp(max=1)
    x, y = (2 * drawn[:, 2] - 1) * (1 - width), (2 * drawn[:, 3] - 1) * (1 - height)
    flip = torch.where(drawn[:, 4] < 0.5, -1.0, 1.0)
    zero = torch.zeros_like(x)
    theta = torch.stack([torch.stack([width * flip, zero, x], 1), torch.stack([zero, height, y], 1)], 1)
    grid = F.affine_grid(theta, [len(video), 3, *size], align_corners=False)
    frames = video.flatten(1, 2)
    return F.grid_sample(frames, grid, padding_mode="border", align_corners=False).unflatten(1, video.shape[1:3])


def _recoloured(
    video: Float[Tensor, "B T 3 h w"], drawn: Float[Tensor, "B 3"], jitter: float
) -> Float[Tensor, "B T 3 h w"]:
    brightness, contrast, saturation = (1 + jitter * (2 * drawn - 1))[:, :, None, None, None, None].unbind(1)
    video = video * brightness
    mean = _grey(video).mean((1, 2, 3, 4), keepdim=True)
    video = mean + (video - mean) * contrast
    grey = _grey(video)
    return (grey + (video - grey) * saturation).clamp(0, 1)


def _grey(video: Float[Tensor, "B T 3 h w"]) -> Float[Tensor, "B T 1 h w"]:
    red, green, blue = video.split(1, dim=2)  # by numbers of the host: a table of them would have to be sent
    return _GREY[0] * red + _GREY[1] * green + _GREY[2] * blue
