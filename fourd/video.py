"""Films as tensors: decode frames, choose clips, and crop pixels together with what is drawn on them.

How a film is opened and its frames are found stands in `fourd.media`.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import repeat
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int, Int64, UInt8
from torch import Tensor
from torch.nn import functional

from fourd.media import MAX_PIXELS, FilmSource, UnreadableVideo, VideoInfo, decode_pictures, probe
from fourd.media.torchcodec import decode_with_torchcodec
from fourd.types import Interpolation

__all__ = [
    "MAX_PIXELS",
    "CropBox",
    "Decoder",
    "UnreadableVideo",
    "VideoInfo",
    "center_crop",
    "clip_frame_indices",
    "crop_resize",
    "crop_resize_boxes",
    "crop_resize_points",
    "decode",
    "flip",
    "flip_boxes",
    "flip_points",
    "latest_clip_start",
    "probe",
    "random_resized_crop",
    "stream",
]

# ----------------------------------------------------------------------------- decoding


Decoder = Literal["pyav", "torchcodec"]
"""PyAV needs no system package; torchcodec is used only where a config names it (see `decode_with_torchcodec`)."""


def decode(
    path: FilmSource,
    frame_indices: Sequence[int] | Int[np.ndarray, " T"],
    info: VideoInfo,
    *,
    num_threads: int = 1,
    decoder: Decoder = "pyav",
) -> UInt8[Tensor, "T 3 H W"]:
    """Decode the named frames of a film, in any order and as often as they are named, upright and in RGB.

    info: what `probe` said of this file. num_threads: 1 is best where many workers decode at once. decoder: both give
    the same frames; their colours differ by rounding.
    The tensor lies in memory with its colours last, which is what `crop_resize` is fast on.
    Raises: IndexError for a frame that the film does not have, UnreadableVideo for one that is damaged.
    """
    indices = _checked_indices(path, frame_indices, info)
    if decoder == "torchcodec":
        wanted, places = np.unique(indices, return_inverse=True)
        return torch.from_numpy(decode_with_torchcodec(path, wanted, info, num_threads)[places]).permute(0, 3, 1, 2)
    pictures = dict(decode_pictures(path, np.unique(indices), info, num_threads))
    return torch.from_numpy(np.stack([pictures[index] for index in indices.tolist()])).permute(0, 3, 1, 2)


def stream(
    path: FilmSource, frame_indices: Sequence[int] | Int[np.ndarray, " T"], info: VideoInfo, *, num_threads: int = 1
) -> Generator[UInt8[Tensor, "3 H W"], None, None]:
    """Decode the named frames of a film one after the other, to the bit as `decode` does, in one pass.

    The numbers must not fall; a frame named twice is given twice. Memory does not grow with their count.
    Raises: IndexError and ValueError at once; UnreadableVideo when the first frame is reached that cannot be had.
    """
    indices = _checked_indices(path, frame_indices, info)
    if (np.diff(indices) < 0).any():
        raise ValueError(f"{path}: the frames to stream go backwards: sort them, or use decode")
    return _stream(path, indices, info, num_threads)


def _stream(
    path: FilmSource, indices: Int64[np.ndarray, " T"], info: VideoInfo, num_threads: int
) -> Generator[UInt8[Tensor, "3 H W"], None, None]:
    """Give each picture as often as its number stands in `indices`."""
    wanted, counts = np.unique(indices, return_counts=True)
    with closing(decode_pictures(path, wanted, info, num_threads)) as pictures:
        for (_, picture), count in zip(pictures, counts.tolist(), strict=True):
            frame = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)
            yield from repeat(frame, count)


def _checked_indices(
    path: FilmSource, frame_indices: Sequence[int] | Int[np.ndarray, " T"], info: VideoInfo
) -> Int64[np.ndarray, " T"]:
    """Refuse frames that a film does not have."""
    indices = np.asarray(frame_indices, np.int64)
    if len(indices) == 0 or indices.min() < 0 or indices.max() >= info.num_frames:
        listed = np.array2string(indices, threshold=20, separator=", ")
        raise IndexError(f"{path}: asked for frames {listed}, expected 0 to {info.num_frames - 1}")
    return indices


# ----------------------------------------------------------------------------- choosing a clip


def latest_clip_start(
    times_s: Float[np.ndarray, " F"], num_frames: int, *, stride: int = 2, fps: float | None = None
) -> int:
    """Find the last frame at which a clip can start; -1 where the film is too short for one.

    stride: frames from one frame of the clip to the next (not from the paper). fps: if given, frames per second of
    the clip instead, whatever the film's own rate; a film that is slower than this repeats frames.
    """
    if fps is None:
        return max(len(times_s) - (num_frames - 1) * stride, 0) - 1
    rounding_s = 1e-6
    return int(np.searchsorted(times_s, times_s[-1] - (num_frames - 1) / fps + rounding_s, side="right")) - 1


def clip_frame_indices(
    times_s: Float[np.ndarray, " F"],
    num_frames: int,
    rng: np.random.Generator,
    *,
    stride: int = 2,
    fps: float | None = None,
    starts: Int64[np.ndarray, " S"] | None = None,
) -> Int64[np.ndarray, " T"]:
    """Draw a clip: every `stride`-th frame, or those nearest to a rate of `fps`, from a start that fits.

    starts: frames at which a clip may start, 0 and others in rising order; any by default.
    Raises: ValueError where the film is too short.
    """
    latest = latest_clip_start(times_s, num_frames, stride=stride, fps=fps)
    if latest < 0:
        rate = f"stride {stride}" if fps is None else f"{fps} frames per second"
        raise ValueError(f"a film of {len(times_s)} frames is too short for {num_frames} frames at {rate}")
    allowed = np.arange(latest + 1) if starts is None else starts[starts <= latest]
    start = int(allowed[rng.integers(len(allowed))])
    if fps is None:
        return start + stride * np.arange(num_frames)
    midpoints = (times_s[1:] + times_s[:-1]) / 2
    return np.searchsorted(midpoints, times_s[start] + np.arange(num_frames) / fps)


# ----------------------------------------------------------------------------- cropping


@dataclass(frozen=True)
class CropBox:
    """Name a part of a picture in whole pixels."""

    left: int
    top: int
    width: int
    height: int


def random_resized_crop(
    height: int,
    width: int,
    rng: np.random.Generator,
    *,
    scale: tuple[float, float] = (0.3, 1.0),
    ratio: tuple[float, float] = (0.75, 1.33),
) -> CropBox:
    """Draw a box of random area and shape.

    scale: least and largest share of the picture's area. ratio: least and largest width over height, uniform in its
    logarithm. Not from the paper: V-JEPA's values. Where ten draws do not fit, the largest centred box is taken.
    """
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = float(np.exp(rng.uniform(*np.log(ratio))))
        box_width, box_height = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if 0 < box_width <= width and 0 < box_height <= height:
            left, top = rng.integers((width - box_width + 1, height - box_height + 1)).tolist()
            return CropBox(left, top, box_width, box_height)
    return center_crop(height, width, min(max(width / height, ratio[0]), ratio[1]))


def center_crop(height: int, width: int, aspect: float) -> CropBox:
    """Give the largest centred box whose width over height is `aspect`, to the pixel."""
    box_width = max(min(width, round(height * aspect)), 1)
    box_height = max(min(height, round(width / aspect)), 1)
    return CropBox((width - box_width) // 2, (height - box_height) // 2, box_width, box_height)


def crop_resize(
    video: UInt8[Tensor, "T 3 H W"], box: CropBox, size: tuple[int, int], interpolation: Interpolation = "bilinear"
) -> UInt8[Tensor, "T 3 height width"]:
    """Cut a box out of a clip and resize it to `size` (height, width), with antialiasing.

    Computed in integers, which is several times faster and at most one grey level off; where bicubic overshoots, it
    is cut off along each axis, as Pillow does.
    """
    cropped = video[..., box.top : box.top + box.height, box.left : box.left + box.width]
    return functional.interpolate(cropped, size, mode=interpolation, antialias=True, align_corners=False)


def crop_resize_points(
    xy_px: Float[Tensor, "*shape 2"], box: CropBox, size: tuple[int, int]
) -> Float[Tensor, "*shape 2"]:
    """Move points as `crop_resize` moves the pixels under them.

    Convention: continuous pixels, origin at the top-left corner, pixel centres at `.5`. Points may fall outside.
    """
    height, width = size
    scale = xy_px.new_tensor((width / box.width, height / box.height))
    return (xy_px - xy_px.new_tensor((box.left, box.top))) * scale


def crop_resize_boxes(
    xyxy_px: Float[Tensor, "*shape 4"], box: CropBox, size: tuple[int, int]
) -> Float[Tensor, "*shape 4"]:
    """Move boxes as `crop_resize` moves the pixels under them; boxes may reach outside.

    Convention: as `crop_resize_points`, for the corners.
    """
    return crop_resize_points(xyxy_px.unflatten(-1, (2, 2)), box, size).flatten(-2)


def flip(video: UInt8[Tensor, "T 3 H W"]) -> UInt8[Tensor, "T 3 H W"]:
    """Mirror a clip left to right."""
    return video.flip(-1)


def flip_points(xy_px: Float[Tensor, "*shape 2"], width: int) -> Float[Tensor, "*shape 2"]:
    """Move points as `flip` moves the pixels under them, in a picture of `width` pixels.

    Convention: continuous pixels, origin at the top-left corner, pixel centres at `.5`.
    """
    return torch.stack((width - xy_px[..., 0], xy_px[..., 1]), dim=-1)


def flip_boxes(xyxy_px: Float[Tensor, "*shape 4"], width: int) -> Float[Tensor, "*shape 4"]:
    """Move boxes as `flip` moves the pixels under them; left stays left of right.

    Convention: as `flip_points`, for the corners.
    """
    left, top, right, bottom = xyxy_px.unbind(-1)
    return torch.stack((width - right, top, width - left, bottom), dim=-1)
