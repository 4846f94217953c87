"""From a film's decoded frames to the pictures of its pieces: small, upright, in one colour space."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from jaxtyping import UInt8

from fourd.corpus.prepare.looks import SIDE
from fourd.media import FilmSource, UnreadableVideo, VideoInfo


def piece_size(info: VideoInfo, short_side: int) -> tuple[int, int]:
    """Give the width and height of a film's pieces: even, and no more than the film's own."""
    scale = min(Fraction(short_side, min(info.width, info.height)), Fraction(1))
    width, height = (max(2, 2 * min(round(side * scale / 2), side // 2)) for side in (info.width, info.height))
    return width, height


class Shrinker:
    """Bring decoded frames to the size, the colours and the posture that pieces have.

    libswscale resizes, bicubic, with a kernel that grows as pictures shrink, so that nothing aliases. Colours become
    BT.601 of limited range, which is what readers that look at no marks expect.
    """

    def __init__(self, source: FilmSource, info: VideoInfo, short_side: int) -> None:
        """Prepare for one film; one context serves all its frames."""
        self.source, self.info = source, info
        self.size = piece_size(info, short_side)
        self._to_piece, self._to_grey = VideoReformatter(), VideoReformatter()

    def shrink(self, frame: VideoFrame) -> VideoFrame:
        """Give a frame upright and small; raise UnreadableVideo where it is unlike the film's others."""
        turned = self.info.rotation % 180 != 0
        width, height = (frame.height, frame.width) if turned else (frame.width, frame.height)
        if (width, height) != (self.info.width, self.info.height):
            was = f"{self.info.width}x{self.info.height}"
            raise UnreadableVideo(self.source, f"picture changes from {was} to {width}x{height} pixels")
        return upright(self._converted(frame, self.size[::-1] if turned else self.size), self.info.rotation)

    def _converted(self, frame: VideoFrame, size: tuple[int, int]) -> VideoFrame:
        colours = {"dst_colorspace": Colorspace.ITU601, "dst_color_range": ColorRange.MPEG}
        try:
            return self._to_piece.reformat(frame, *size, "yuv420p", interpolation="BICUBIC", threads=1, **colours)
        except av.error.FFmpegError as error:
            raise UnreadableVideo(self.source, f"its pictures cannot be converted: {error.strerror}") from error

    def grey(self, small: VideoFrame) -> UInt8[np.ndarray, "32 32"]:
        """Give a frame that was shrunk as a tiny grey picture."""
        return self._to_grey.reformat(small, SIDE, SIDE, "gray", interpolation="AREA", threads=1).to_ndarray()


def upright(frame: VideoFrame, rotation: int) -> VideoFrame:
    """Turn a picture in planes (yuv420p) by quarter turns, counter-clockwise."""
    if rotation == 0:
        return frame
    height, width, flat = frame.height, frame.width, frame.to_ndarray().reshape(-1)
    sizes = [(height, width), (height // 2, width // 2), (height // 2, width // 2)]
    planes = np.split(flat, np.cumsum([h * w for h, w in sizes])[:-1])
    turned = [np.rot90(plane.reshape(size), rotation // 90) for plane, size in zip(planes, sizes, strict=True)]
    flat = np.concatenate([plane.reshape(-1) for plane in turned])
    return VideoFrame.from_ndarray(flat.reshape(-1, turned[0].shape[1]), "yuv420p")
