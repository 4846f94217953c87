"""Between pixels and tokens: patches, position tables, resampling in time. Pure functions; masks: `fourd.masks`."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from fourd.types import ClipShape, Interpolation, NativeInput

Triple = tuple[int, int, int]

_PATTERN = "b (t pt) c (h ph) (w pw) -> b (t h w) (pt ph pw c)"

# ----------------------------------------------------------------------------- pixels


def unit_range(video: Shaped[Tensor, "B T 3 H W"]) -> Float[Tensor, "B T 3 H W"]:
    """Bring uint8 pixels to [0, 1]; floats pass unchanged and are taken to be there already.

    Source: the 4DS models see pixels in [0, 1] without mean and standard deviation.
    """
    if video.dtype == torch.uint8:
        return video.float() / 255
    if video.is_floating_point():
        _require_shares(video)
        return video
    raise ValueError(f"video has dtype {video.dtype}; expected uint8, or float in [0, 1]")


def as_shares(pixels: Shaped[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Bring bytes to [0, 1], and leave floats, which are there already; the host looks at no number."""
    return pixels if pixels.is_floating_point() else pixels.float() / 255


_FAR_OUTSIDE = 1.0
"""How far beyond [0, 1] numbers may lie that some resizing let overshoot, but no other range of pixels stays."""


def _require_shares(video: Float[Tensor, "*shape"]) -> None:
    """Refuse floats that are bytes, or normalised already."""
    if video.numel() and not video.is_meta:
        low, high = (float(value) for value in video.aminmax())
        if low < -_FAR_OUTSIDE or high > 1 + _FAR_OUTSIDE:
            raise ValueError(f"video holds floats from {low:g} to {high:g}; expected [0, 1], or uint8")


def resize_frames(
    video: Float[Tensor, "B T 3 H W"], size: tuple[int, int], how: Interpolation = "bilinear"
) -> Float[Tensor, "B T 3 h w"]:
    """Resize every frame to `size` (height, width), with antialiasing; native input is untouched.

    Bicubic overshoots at edges; what leaves [0, 1] is cut off, as 8-bit pictures would do.
    """
    if tuple(video.shape[-2:]) == tuple(size):
        return video
    frames = F.interpolate(video.flatten(0, 1), size=size, mode=how, antialias=True, align_corners=False)
    return (frames if how == "bilinear" else frames.clamp(0, 1)).unflatten(0, video.shape[:2])


def native_pixels(video: Shaped[Tensor, "B T 3 H W"], native: NativeInput) -> Float[Tensor, "B T 3 h w"]:
    """Bring clips to [0, 1] and, where `native` is fixed, to its size; raise ValueError for what it does not take."""
    if video.ndim != 5 or video.shape[2] != 3:
        raise ValueError(f"video has shape {tuple(video.shape)}; expected B T 3 H W")
    native.grid(ClipShape(video.shape[1], video.shape[3], video.shape[4]))
    pixels = unit_range(video)
    return resize_frames(pixels, native.size, native.interpolation) if native.fixed else pixels


# ----------------------------------------------------------------------------- patches


def grid_of(num_frames: int, size: tuple[int, int], patch: Triple) -> Triple:
    """Count the patches along time, height and width; raise ValueError where they do not fit."""
    extent = (num_frames, *size)
    if any(pixels % side or pixels < side for pixels, side in zip(extent, patch, strict=True)):
        raise ValueError(f"a clip of {extent} (frames, height, width) cannot be cut into patches of {patch}")
    return tuple(pixels // side for pixels, side in zip(extent, patch, strict=True))  # type: ignore[return-value]


def patchify(video: Shaped[Tensor, "B T C H W"], patch: Triple) -> Shaped[Tensor, "B N P"]:
    """Cut clips into patches, tokens in order t h w, numbers of a patch in order (pt ph pw c)."""
    pt, ph, pw = patch
    return rearrange(video, _PATTERN, pt=pt, ph=ph, pw=pw)


def unpatchify(patches: Shaped[Tensor, "B N P"], grid: Triple, patch: Triple) -> Shaped[Tensor, "B T C H W"]:
    """Put patches back together; the inverse of `patchify`."""
    (t, h, w), (pt, ph, pw) = grid, patch
    inverse = " -> ".join(reversed(_PATTERN.split(" -> ")))
    return rearrange(patches, inverse, t=t, h=h, w=w, pt=pt, ph=ph, pw=pw)


# ----------------------------------------------------------------------------- some tokens of all


def splitmix64(x: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """Mix 64-bit integers. Source: Steele, Lea, Flood, Fast splittable pseudorandom number generators, 2014."""
    x = (x ^ _shift_right(x, 30)) * (0xBF58476D1CE4E5B9 - (1 << 64))
    x = (x ^ _shift_right(x, 27)) * (0x94D049BB133111EB - (1 << 64))
    return x ^ _shift_right(x, 31)


def _shift_right(x: Int[Tensor, "*shape"], bits: int) -> Int[Tensor, "*shape"]:
    """Shift without dragging the sign along, which torch's int64 would."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def take_tokens(tokens: Shaped[Tensor, "B N D"], index: Int[Tensor, "B n"]) -> Shaped[Tensor, "B n D"]:
    """Pick tokens by their number, for each clip its own."""
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[-1]))


def as_mask(index: Int[Tensor, "B n"], num_tokens: int) -> Bool[Tensor, "B N"]:
    """Mark the tokens that `index` names."""
    return torch.zeros(len(index), num_tokens, dtype=torch.bool, device=index.device).scatter(1, index, True)


# ----------------------------------------------------------------------------- positions


def sincos_positions(grid: Triple, width: int) -> Float[Tensor, "N D"]:
    """Tabulate sines and cosines of each token's place, a share of the width for each axis.

    Not from the paper: its table is learned from small random numbers; a tiny model that sees few
    steps learns faster from this start.
    """
    share = width // 6 * 2
    shares = (width - 2 * share, share, share)
    axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in grid), indexing="ij")
    waves = [_waves(axis.flatten(), part) for axis, part in zip(axes, shares, strict=True)]
    return torch.cat(waves, dim=1)


def _waves(position: Float[Tensor, " N"], width: int) -> Float[Tensor, "N d"]:
    half = (width + 1) // 2
    frequency = 100.0 ** -(torch.arange(half) / max(half, 1))
    angle = position[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)[:, :width]


def resample_positions(table: Float[Tensor, "N D"], grid: Triple, wanted: Triple) -> Float[Tensor, "M D"]:
    """Resample a table of positions from one token grid to another, cubic along each axis (not from the paper).

    The grid it already has passes unchanged, to the bit.
    """
    if grid == wanted:
        return table
    resampled = table.unflatten(0, grid)
    for axis, (have, want) in enumerate(zip(grid, wanted, strict=True)):
        if have != want:
            matrix = cubic_resampling(have, want).to(table)
            resampled = torch.tensordot(matrix, resampled, dims=([1], [axis])).movedim(0, axis)
    return resampled.flatten(0, 2)


def fourier_features(coordinates: Float[Tensor, "*shape d"], num_octaves: int) -> Float[Tensor, "*shape e"]:
    """Expand coordinates in [0, 1] into sines of doubling frequency: `2 * num_octaves * d` numbers.

    Source: `SampleFourierEmbedding` of the released tracking readouts: x * pi * 2^i, then the sine of
    it and of it plus pi / 2.
    """
    scale = math.pi * 2.0 ** torch.arange(num_octaves, device=coordinates.device)
    angle = (coordinates[..., None, :] * scale[:, None]).flatten(-2)
    return torch.cat([angle, angle + math.pi / 2], dim=-1).sin()


# ----------------------------------------------------------------------------- time


def cubic_resampling(num_in: int, num_out: int) -> Float[Tensor, "out in"]:
    """Tabulate cubic resampling along one axis as a matrix.

    Source: `jax.image.resize(..., "cubic")`, which the released model uses over time: Keys' kernel with
    a = -0.5, half-pixel centres, weights renormalised at the borders, wider when shrinking.
    """
    stretch = max(num_in / num_out, 1.0)
    centre = (torch.arange(num_out, dtype=torch.float64) + 0.5) * num_in / num_out - 0.5
    weights = _keys_kernel((centre[:, None] - torch.arange(num_in)).abs() / stretch)
    return (weights / weights.sum(dim=1, keepdim=True)).float()


def _keys_kernel(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    near = ((1.5 * x - 2.5) * x) * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


def resample_time(grid: Float[Tensor, "B t h w D"], num_frames: int) -> Float[Tensor, "B T h w D"]:
    """Resample a feature grid along time to one entry per frame; the same length passes unchanged."""
    if grid.shape[1] == num_frames:
        return grid
    matrix = cubic_resampling(grid.shape[1], num_frames).to(grid)
    return torch.einsum("Tt,bthwd->bThwd", matrix, grid)
