"""Show features as a film beside the input: their first three principal components as red, green and blue.

The components are fitted once, on the beginning of a video, and kept to its end, so that the same colour means the
same thing in every frame. How the colours are scaled is not from the paper.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
import torch
import torch.nn.functional as F
from av.container import OutputContainer
from av.video.stream import VideoStream
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from fourd.pictures import BACKGROUND, GUTTER_PX, PANEL_PX, _header

NUM_COMPONENTS = 3
MIN_FIT_TOKENS = 500
"""Stretches wait until together they have this many tokens; fewer tell little about what varies."""
MAX_FIT_TOKENS = 1024
"""Of more tokens so many are fitted, evenly picked: a second of work or less, at any width."""
MAX_WAITING_FRAMES = 64
"""So many frames wait at most, however few tokens they have."""

_CODECS = {"libx264": {"crf": "18", "preset": "veryfast"}, "mpeg4": {"qscale": "3", "flags": "+qscale"}}
_TITLES = ("input", "features, 3 components")
_ROUNDING = 1e-5  # what varies less than this, in units of the features' size, is rounding and no feature

Panel = UInt8[Tensor, "T 3 H W"]


# ----------------------------------------------------------------------------- components


def principal_components(tokens: Float[Tensor, "N D"], num: int = NUM_COMPONENTS) -> Float[Tensor, "num D"]:
    """Find the directions along which tokens vary most, as unit vectors in float64, the strongest first.

    The entry of a direction that is largest in size is positive, so that the same tokens give the same signs; a
    direction along which nothing is left to vary is zero. Source: eigenvectors of the smaller of the two Gram matrices
    of the centred tokens, which have those of the covariance among them.
    """
    centred = tokens.double() - tokens.double().mean(dim=0)
    wide = centred.shape[1] > centred.shape[0]
    variances, vectors = torch.linalg.eigh(centred @ centred.T if wide else centred.T @ centred)
    variances, vectors = variances.flip(0)[:num], vectors.flip(1)[:, :num]
    directions = (centred.T @ vectors if wide else vectors).T
    some_left = variances > 1e-12 * variances[:1].clamp(min=torch.finfo(torch.float64).tiny)
    directions = F.normalize(directions, dim=1) * some_left[:, None]
    found = torch.zeros(num, centred.shape[1], dtype=torch.float64, device=tokens.device)
    found[: len(directions)] = directions * _signs(directions)
    return found


def _signs(directions: Float[Tensor, "n D"]) -> Float[Tensor, "n 1"]:
    """Give -1 for each direction whose largest entry is negative, and 1 for the others."""
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
    return torch.where(largest < 0, -1.0, 1.0).to(directions)


@dataclass(frozen=True)
class FeatureColours:
    """Turn features of one video into colours, always in the same way.

    What is `low` along a component is black in its channel, what is `high` is full; a component without extent is grey.
    """

    mean: Float[Tensor, " D"]
    components: Float[Tensor, "3 D"]
    low: Float[Tensor, " 3"]
    high: Float[Tensor, " 3"]

    @classmethod
    def fit(cls, tokens: Float[Tensor, "N D"]) -> FeatureColours:
        """Choose components, and take the 1st and the 99th percentile along each as its range."""
        picked = torch.linspace(0, len(tokens) - 1, min(len(tokens), MAX_FIT_TOKENS)).round().long()
        fitted = tokens[picked].double()
        mean, components = fitted.mean(dim=0), principal_components(fitted)
        low, high = torch.quantile((fitted - mean) @ components.T, torch.tensor([0.01, 0.99]).double(), dim=0)
        rounding = _ROUNDING * float(fitted.square().sum(dim=1).mean().sqrt())
        high = torch.where(high - low > rounding, high, low)
        return cls(mean.float(), components.float(), low.float(), high.float())

    def paint(self, grid: Float[Tensor, "t h w D"]) -> UInt8[Tensor, "t 3 h w"]:
        """Colour every token; what lies beyond the range is cut off."""
        extent = self.high - self.low
        place = ((grid - self.mean) @ self.components.T - self.low) / torch.where(extent > 0, extent, 1.0)
        colours = torch.where(extent > 0, place.clamp(0, 1), 0.5)
        return rearrange((255 * colours).round().to(torch.uint8), "t h w c -> t c h w")


# ----------------------------------------------------------------------------- the film


class FeatureFilm:
    """Write an MP4 with the input at the left and its features at the right, in memory that does not grow.

    As a context manager it leaves no half-written file behind when something is raised.
    """

    def __init__(self, path: Path, fps: float) -> None:
        """Name the film, which must end in `.mp4`, and its speed in frames per second; nothing is written yet."""
        if path.suffix != ".mp4":
            raise ValueError(f"{path}: found the ending '{path.suffix}', expected '.mp4'; rename the film")
        if not 0 < fps <= 1000:
            raise ValueError(f"{path}: fps is {fps}; expected 0 < fps <= 1000")
        self.path, self.fps = path, fps
        self._waiting: list[tuple[Panel, Float[Tensor, "t h w D"]]] = []
        self._colours: FeatureColours | None = None
        self._writer: _Writer | None = None
        self._like: tuple[int, ...] | None = None
        self._closed = False

    def add(self, frames: UInt8[Tensor, "T 3 H W"], grid: Float[Tensor, "t h w D"]) -> None:
        """Add the next stretch of the video with its features; each token step is shown for T / t frames.

        The first stretches wait until together they have the tokens from which colours are chosen.
        Raises ValueError where the stretch is empty, of another size than those before, or not finite.
        """
        frames, grid = frames.cpu(), grid.float().cpu()
        self._check(frames, grid)
        self._waiting.append((frames, grid))
        num_tokens = sum(part.shape[:3].numel() for _, part in self._waiting)
        num_frames = sum(len(part) for part, _ in self._waiting)
        if self._colours or num_tokens >= MIN_FIT_TOKENS or num_frames >= MAX_WAITING_FRAMES:
            self._write_waiting()

    def close(self) -> None:
        """Write what still waits, and give the film its name; without a single frame nothing is written."""
        if self._closed:
            return
        try:
            self._write_waiting()
            if self._writer is not None:
                self._writer.finish()
                self._writer = None
        except BaseException:
            self.discard()
            raise
        self._closed = True

    def discard(self) -> None:
        """Forget the film, and take away what was written of it."""
        self._closed = True
        self._waiting.clear()
        if self._writer is not None:
            self._writer.discard()
            self._writer = None

    def __enter__(self) -> FeatureFilm:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def _check(self, frames: Panel, grid: Float[Tensor, "t h w D"]) -> None:
        if self._closed:
            raise ValueError(f"{self.path}: the film is closed; open another one")
        if 0 in (*frames.shape, *grid.shape):
            found = f"frames {tuple(frames.shape)} and features {tuple(grid.shape)}"
            raise ValueError(f"{self.path}: {found}; expected at least one of each")
        sizes = (*frames.shape[1:], *grid.shape[1:])
        if self._like not in (None, sizes):
            raise ValueError(f"{self.path}: sizes (3 H W, h w D) are {sizes}, expected {self._like} as before")
        if not bool(grid.isfinite().all()):
            raise ValueError(f"{self.path}: the features are not finite; look at the weights and the precision")
        self._like = sizes

    def _write_waiting(self) -> None:
        """Colour and write the stretches that wait, after choosing the colours if that is still to do."""
        if not self._waiting:
            return
        if self._colours is None:
            self._colours = FeatureColours.fit(torch.cat([grid.flatten(0, 2) for _, grid in self._waiting]))
        for frames, grid in self._waiting:
            pictures = compose(frames, self._colours.paint(grid))
            if self._writer is None:
                self._writer = _Writer(self.path, self.fps, (pictures.shape[1], pictures.shape[2]))
            self._writer.write(pictures)
        self._waiting.clear()


def compose(frames: Panel, colours: UInt8[Tensor, "t 3 h w"]) -> UInt8[Tensor, "T height width 3"]:
    """Put frames and the colours of their tokens beside each other, under a line that says what is what.

    A token keeps hard edges, so that it can be seen how fine the features are. Small frames are enlarged by a whole
    factor; height and width come out even, as H.264 needs it.
    """
    num_frames, _, height, width = frames.shape
    factor = max(1, round(PANEL_PX / max(height, width)))
    size = (height * factor, width * factor)
    steps = torch.arange(num_frames) * len(colours) // num_frames
    panels = [F.interpolate(part, size=size, mode="nearest") for part in (frames, colours[steps])]
    top = rearrange(_header(_TITLES, 2 * size[1] + GUTTER_PX, size[1]), "y x c -> c y x")
    film_height, film_width = (length + length % 2 for length in (top.shape[1] + size[0], 2 * size[1] + GUTTER_PX))
    canvas = torch.tensor(BACKGROUND, dtype=torch.uint8)[:, None, None].repeat(num_frames, 1, film_height, film_width)
    canvas[:, :, : top.shape[1], : top.shape[2]] = top
    for left, panel in zip((0, size[1] + GUTTER_PX), panels, strict=True):
        canvas[:, :, top.shape[1] : top.shape[1] + size[0], left : left + size[1]] = panel
    return rearrange(canvas, "T c y x -> T y x c")


# ----------------------------------------------------------------------------- the file


class _Writer:
    """Encode pictures into a file aside, and rename it once it is whole."""

    def __init__(self, path: Path, fps: float, size: tuple[int, int]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.aside = path, path.with_name(f".{path.name}.part")
        codec = next(name for name in _CODECS if name in av.codecs_available)
        # the prefix keeps a colon in a folder's name from being read as a protocol
        name = f"file:{os.path.abspath(self.aside)}"
        self._container: OutputContainer = av.open(name, "w", format="mp4", options={"movflags": "faststart"})
        try:
            rate = Fraction(fps).limit_denominator(1001)
            self._stream = cast(VideoStream, self._container.add_stream(codec, rate=rate, options=dict(_CODECS[codec])))
            self._stream.height, self._stream.width = size
            self._stream.pix_fmt = "yuv420p"
        except BaseException:
            self.discard()
            raise

    def write(self, pictures: UInt8[Tensor, "T height width 3"]) -> None:
        """Encode pictures."""
        for picture in pictures.numpy():
            self._mux(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24"))

    def finish(self) -> None:
        """Encode what the codec holds back, and give the file its name."""
        self._mux(None)
        self._container.close()
        os.replace(self.aside, self.path)

    def discard(self) -> None:
        """Take the half-written file away."""
        try:
            self._container.close()
        finally:
            self.aside.unlink(missing_ok=True)

    def _mux(self, frame: av.VideoFrame | None) -> None:
        self._container.mux(self._stream.encode(frame))
