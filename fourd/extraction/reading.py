"""From inputs to windows: open, choose frames, fit each right after decoding, and keep decoding ahead of encoding."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from fourd import video
from fourd.extraction.config import ExtractConfig, Framing, framing
from fourd.extraction.inputs import Source
from fourd.types import NativeInput
from fourd.video import MAX_PIXELS, UnreadableVideo
from fourd.windows import SlidingWindows, Window

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, eq=False)
class Chosen:
    """Say what is read of an input: when each chosen frame is shown, how it is fitted, and what is wrong."""

    source: Source
    times_s: Float[np.ndarray, " N"]
    framing: Framing
    damage: str | None = None

    @property
    def fps(self) -> float | None:
        """Say how many of the frames are shown in a second, on average; None where they are shown at once."""
        return average_rate(self.times_s)


def average_rate(times_s: Float[np.ndarray, " N"]) -> float | None:
    """Give the frames per second, on average; None where there is but one moment."""
    lasts_s = float(times_s[-1] - times_s[0])
    return (len(times_s) - 1) / lasts_s if lasts_s > 0 else None


@dataclass(frozen=True, eq=False)
class Piece:
    """Hold one window of an input."""

    chosen: Chosen
    window: Window


@dataclass(frozen=True, eq=False)
class End:
    """Say that an input has given all its windows, how many frames they hold, and what is wrong with it."""

    source: Source
    num_frames: int
    problem: str | None = None


def read_all(
    sources: list[Source], config: ExtractConfig, native: NativeInput, num_threads: int
) -> Generator[Piece | End, None, None]:
    """Give the windows of all inputs, one after the other, each input closed by its `End`."""
    for source in sources:
        yield from _read(source, config, native, num_threads)


def _read(
    source: Source, config: ExtractConfig, native: NativeInput, num_threads: int
) -> Generator[Piece | End, None, None]:
    """Give the windows of an input, up to its end or to what cannot be decoded."""
    assert config.num_frames is not None  # `settle` has put it in
    windows = SlidingWindows(config.num_frames, config.overlap, native.patch[0])
    num_frames, problem = 0, None
    try:
        chosen, frames = _open(source, config, native, num_threads)
        problem = chosen.damage
        with closing(frames):
            for frame in frames:
                num_frames += 1
                for window in windows.push(chosen.framing.apply(frame, native)):
                    yield Piece(chosen, window)
    except UnreadableVideo as error:
        problem = error.reason
    for window in windows.finish():
        yield Piece(chosen, window)
    yield End(source, num_frames, problem)


_Frames = Generator[UInt8[Tensor, "3 H W"], None, None]


def _open(source: Source, config: ExtractConfig, native: NativeInput, num_threads: int) -> tuple[Chosen, _Frames]:
    """Choose the frames of an input, and begin to decode them; raise UnreadableVideo where there is none."""
    if source.is_image:
        image = _read_image(source.path)
        fitted = framing(image.shape[1], image.shape[2], config.fit, native)
        return Chosen(source, np.zeros(1), fitted), (frame for frame in (image,))
    info = video.probe(source.path)
    indices = config.frame_indices(info.frame_times_s)
    if len(indices) == 0:
        length = f"the video lasts {info.duration_s:.3f} s"
        raise UnreadableVideo(
            source.path, f"no frame between start_s {config.start_s} and end_s {config.end_s}: {length}"
        )
    fitted = framing(info.height, info.width, config.fit, native)
    frames = video.stream(source.path, indices, info, num_threads=num_threads)
    return Chosen(source, info.frame_times_s[indices], fitted, info.damage), frames


_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")


def _read_image(path: str) -> UInt8[Tensor, "3 H W"]:
    """Read an 8-bit image, upright and in RGB; what is transparent shows the colour stored below."""
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UnreadableVideo(path, f"{image.width}x{image.height} pixels: expected 1 to {MAX_PIXELS} in all")
            if getattr(image, "n_frames", 1) > 1:
                raise UnreadableVideo(path, "an image of several frames: make a video of it")
            if image.mode not in _MODES:
                raise UnreadableVideo(path, f"pixels of kind {image.mode}: expected 8 bits per colour")
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except UnidentifiedImageError as error:
        raise UnreadableVideo(path, "not an image, or its header is damaged") from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnreadableVideo(path, f"cannot be read: {error}") from error
    return torch.from_numpy(np.array(upright)).permute(2, 0, 1)


# ----------------------------------------------------------------------------- ahead


def ahead(items: Generator[ItemT, None, None], size: int) -> Generator[ItemT, None, None]:
    """Run a generator in a thread of its own, at most `size` items ahead of whoever takes them."""
    end = object()
    with closing(items), ThreadPoolExecutor(1, thread_name_prefix="read") as thread:
        due: deque[Future[ItemT | object]] = deque(thread.submit(next, items, end) for _ in range(size))
        try:
            while (item := due.popleft().result()) is not end:
                due.append(thread.submit(next, items, end))
                yield item  # type: ignore[misc]
        finally:
            for future in due:
                future.cancel()
