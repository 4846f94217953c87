"""What every dataset of films shares: which clip is drawn from a film, how it is cropped, and with what it is read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from fourd import video
from fourd.media import FilmSource, VideoInfo
from fourd.types import Batch, DatasetConfig
from fourd.video import Decoder


@dataclass(frozen=True, kw_only=True)
class ClipConfig(DatasetConfig):
    """Describe the clip that is drawn from a film.

    stride: frames from one frame of a clip to the next; fps: if given, frames per second of a clip instead, for films
    of different rates. size: of a clip, as (height, width) or one number for both. crop_scale, crop_ratio: see
    `random_resized_crop`. flip: mirror half of the clips. decoder: pyav, or torchcodec where it is installed. None of
    the defaults is from the paper, except for 16 frames of 224.
    """

    num_frames: int = 16
    stride: int = 2
    fps: float | None = None
    size: int | tuple[int, int] = 224
    crop_scale: tuple[float, float] = (0.3, 1.0)
    crop_ratio: tuple[float, float] = (0.75, 1.33)
    flip: bool = True
    decoder: Decoder = "pyav"

    def __post_init__(self) -> None:
        """Refuse values that no clip can have."""
        name = type(self).__name__
        counts = {"num_frames": self.num_frames, "stride": self.stride, "size": min(self.height_width)}
        for field, count in counts.items():
            if count < 1:
                raise ValueError(f"{name}.{field} is {getattr(self, field)}: expected 1 or more")
        if self.fps is not None and not self.fps > 0:
            raise ValueError(f"{name}.fps is {self.fps}: expected more than 0, or None to use the stride")
        if not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError(f"{name}.crop_scale is {self.crop_scale}: expected 0 < least <= largest <= 1")
        if not 0 < self.crop_ratio[0] <= self.crop_ratio[1]:
            raise ValueError(f"{name}.crop_ratio is {self.crop_ratio}: expected 0 < least <= largest")

    @property
    def height_width(self) -> tuple[int, int]:
        """Give a clip's size as (height, width)."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size


@dataclass(frozen=True, eq=False)
class ClipPlan:
    """Say which frames, which part of the picture and which side a clip shows, before anything is decoded."""

    frames: Int64[np.ndarray, " T"]
    times_s: Float[np.ndarray, " T"]
    box: video.CropBox
    flipped: bool
    seed: int


def plan_clip(
    info: VideoInfo, config: ClipConfig, rng: np.random.Generator, starts: Int64[np.ndarray, " S"] | None = None
) -> ClipPlan:
    """Draw a clip, a crop, a flip and a number for the objective, always in this order.

    starts: frames at which the clip may start; any by default.
    """
    times_s = info.frame_times_s
    frames = video.clip_frame_indices(
        times_s, config.num_frames, rng, stride=config.stride, fps=config.fps, starts=starts
    )
    scale, ratio = config.crop_scale, config.crop_ratio
    box = video.random_resized_crop(info.height, info.width, rng, scale=scale, ratio=ratio)
    flipped = bool(rng.random() < 0.5 and config.flip)
    return ClipPlan(frames, times_s[frames], box, flipped, int(rng.integers(np.iinfo(np.int64).max)))


@dataclass(frozen=True, eq=False)
class OpenedClip:
    """Hold all that is known of a clip before it is decoded: where its film is, and what is shown of it."""

    source: FilmSource
    info: VideoInfo
    plan: ClipPlan
    key: str
    group: str


def read_clip(opened: OpenedClip, config: ClipConfig) -> Batch:
    """Decode a clip as a batch of one; raise UnreadableVideo where the film is damaged there."""
    plan = opened.plan
    pixels = fit_clip(video.decode(opened.source, plan.frames, opened.info, decoder=config.decoder), plan, config)
    return Batch(
        video=pixels[None],
        time_s=torch.from_numpy(plan.times_s).float()[None],
        key=(opened.key,),
        group=(opened.group,),
        seed=torch.tensor([plan.seed]),
    )


def fit_clip(pixels: UInt8[Tensor, "T 3 H W"], plan: ClipPlan, config: ClipConfig) -> UInt8[Tensor, "T 3 height width"]:
    """Crop, resize and mirror what was decoded."""
    fitted = video.crop_resize(pixels, plan.box, config.height_width)
    return (video.flip(fitted) if plan.flipped else fitted).contiguous()
