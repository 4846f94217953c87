"""What is extracted: the options that features depend on, and what follows from them for one backbone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from fourd import video
from fourd.parallel import Precision
from fourd.types import Backbone, NativeInput
from fourd.video import CropBox
from fourd.windows import SlidingWindows

Fit = Literal["squash", "crop", "keep"]
Pooling = Literal["none", "space", "clip"]
StoredType = Literal["float16", "bfloat16", "float32"]

_FASTEST = 10_000.0


@dataclass(frozen=True)
class ExtractConfig:
    """Say what features depend on, beside the backbone.

    Only the depth is from the paper. `fit="crop"` takes the largest centred box; `fit="keep"` brings the short side to
    the backbone's, both sides rounded to whole patches, and needs a backbone with `native_size=False`.
    """

    depths: tuple[float, ...] = (0.95,)
    """Which depths of the backbone to keep, as fractions above 0 and up to 1."""
    fps: float | None = None
    """Take the frames nearest to this rate, by their true time stamps; frames repeat where a video is slower."""
    stride: int = 1
    """Or take every n-th frame."""
    start_s: float = 0.0
    """Leave out what is shown earlier, in seconds after the first frame."""
    end_s: float | None = None
    """Leave out what is shown from here on."""
    num_frames: int | None = None
    """Frames of a window. None: as many as the backbone is made for, 16 for one that looks at single images."""
    overlap: int = 0
    """Frames that windows share. A token step is taken from the window in whose middle it lies nearest."""
    fit: Fit = "squash"
    """squash the whole frame to the backbone's size, crop it to that aspect first, or keep its aspect (which needs
    --no-native-size; the other two bring frames to that size in any case)."""
    pooling: Pooling = "none"
    """none: the whole grid (t h w D); space: a vector for each time step (t D); clip: one vector (D)."""
    dtype: StoredType = "float16"
    """How features are stored."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """How features are computed. auto: bf16 on a GPU, fp32 elsewhere."""

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if not self.depths or len(set(self.depths)) < len(self.depths):
            raise ValueError(f"depths are {self.depths}; expected one or more, each once")
        if self.fps is not None and (self.fps <= 0 or self.stride != 1):
            raise ValueError(f"fps is {self.fps} and stride {self.stride}; expected a rate above 0, or a stride alone")
        if self.fps is not None and not self.fps <= _FASTEST:
            raise ValueError(f"fps is {self.fps}; expected at most {_FASTEST:g}")
        if self.num_frames is not None and self.num_frames < 1:
            raise ValueError(f"num_frames is {self.num_frames}; expected 1 or more")
        if self.stride < 1:
            raise ValueError(f"stride is {self.stride}; expected 1 or more")
        if not 0 <= self.start_s < (float("inf") if self.end_s is None else self.end_s):
            raise ValueError(f"start_s is {self.start_s} and end_s {self.end_s}; expected 0 <= start_s < end_s")

    @property
    def tensor_names(self) -> tuple[str, ...]:
        """Name the tensor of each depth: `features`, or `features@0.5` and so on where there are several."""
        if len(self.depths) == 1:
            return ("features",)
        return tuple(f"features@{depth!r}" for depth in self.depths)

    def frame_indices(self, times_s: Float[np.ndarray, " F"]) -> Int64[np.ndarray, " N"]:
        """Choose frames of a video by their time stamps; there may be none."""
        end_s = float("inf") if self.end_s is None else self.end_s
        inside = np.flatnonzero((times_s >= self.start_s) & (times_s < end_s))
        if self.fps is None or len(inside) == 0:
            return inside[:: self.stride]
        first_s, last_s = times_s[inside[0]], times_s[inside[-1]]
        num_frames = int((last_s - first_s) * self.fps + 1e-6) + 1
        midpoints = (times_s[inside][1:] + times_s[inside][:-1]) / 2
        return inside[np.searchsorted(midpoints, first_s + np.arange(num_frames) / self.fps)]


def settle(config: ExtractConfig, backbone: Backbone, device: torch.device) -> ExtractConfig:
    """Put in what the config leaves to the backbone and the device; raise ValueError where they do not fit."""
    native = backbone.native_input
    for depth in config.depths:
        backbone.block_at(depth)
    if config.fit == "keep" and native.fixed:
        raise ValueError('fit "keep" needs a backbone that keeps the size of clips: load it with native_size=False')
    num_frames = config.num_frames or native.clip_frames
    if native.fixed and native.num_frames not in (None, num_frames):
        raise ValueError(
            f"num_frames is {num_frames}; this backbone takes {native.num_frames}, and other lengths only if loaded "
            "with native_size=False"
        )
    SlidingWindows(num_frames, config.overlap, native.patch[0])
    return replace(config, num_frames=num_frames, precision=precision_on(device, config.precision))


def precision_on(device: torch.device, asked: Literal["auto", "bf16", "fp32"]) -> Precision:
    """Choose bf16 on a GPU, where it is fast and made for it, and fp32 elsewhere, unless asked for one of them."""
    if asked == "auto":
        return "bf16" if device.type == "cuda" else "fp32"
    return asked


# ----------------------------------------------------------------------------- frames


@dataclass(frozen=True)
class Framing:
    """Say which part of a frame is taken, and to which size (height, width) it is brought."""

    box: CropBox
    size: tuple[int, int]

    def apply(self, frame: UInt8[Tensor, "3 H W"], native: NativeInput) -> UInt8[Tensor, "3 h w"]:
        """Cut and resize a frame, as the backbone would but in integers (see `fourd.video.crop_resize`)."""
        return video.crop_resize(frame[None], self.box, self.size, native.interpolation)[0]


def framing(height: int, width: int, fit: Fit, native: NativeInput) -> Framing:
    """Fit a picture of (height, width) to what a backbone takes."""
    whole = CropBox(0, 0, width, height)
    if fit == "squash":
        return Framing(whole, native.size)
    if fit == "crop":
        return Framing(video.center_crop(height, width, native.size[1] / native.size[0]), native.size)
    scale = min(native.size) / min(height, width)
    _, patch_height, patch_width = native.patch
    return Framing(whole, (_multiple(height * scale, patch_height), _multiple(width * scale, patch_width)))


def _multiple(length: float, of: int) -> int:
    """Round a length to a whole multiple, of at least one."""
    return max(round(length / of), 1) * of
