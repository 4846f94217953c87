"""Write one piece: a small MP4 that is quick to decode from any of its groups of pictures."""

from __future__ import annotations

from pathlib import Path

import av
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange

from fourd.corpus.prepare.config import PrepareConfig

PRESET, TUNE = "veryfast", "fastdecode"
"""x264's own names for choices that were measured: decoding is twice as fast, for a tenth more bytes."""

_BT601 = 6
"""The standard's number for the colours that `pictures` makes."""


def require_encoder() -> None:
    """Raise ImportError, with the way out, where PyAV was built without x264."""
    if "libx264" not in av.codecs_available:
        raise ImportError(
            "this PyAV has no libx264, which encodes the pieces: take the wheel from PyPI, which has it "
            "(pip install --force-reinstall --only-binary av av)"
        )


class PieceFile:
    """Write pictures as an MP4 of closed groups of pictures, one after the other.

    Every `gop`-th frame is a key frame, and no other; no frame is predicted from a later one. The index comes first,
    and nothing in the file tells when or where it was written, so that the same pictures give the same bytes.
    """

    def __init__(self, path: Path, size: tuple[int, int], config: PrepareConfig) -> None:
        """Begin a file. size: width and height in pixels."""
        self.num_frames = 0
        self._tick = 1 / config.rate
        timescale = config.timing.time_base.denominator
        options = {"movflags": "faststart", "fflags": "+bitexact", "video_track_timescale": str(timescale)}
        self._container = av.open(str(path), "w", format="mp4", options=options)
        self._stream = self._container.add_stream("libx264", rate=config.rate, options=_encoder_options(config))
        self._stream.width, self._stream.height = size
        self._stream.pix_fmt = "yuv420p"
        codec = self._stream.codec_context
        codec.thread_count = 1
        codec.colorspace, codec.color_range = _BT601, ColorRange.MPEG

    def add(self, picture: VideoFrame) -> None:
        """Append a picture, which may be given more than once."""
        picture.pts, picture.time_base = self.num_frames, self._tick
        picture.pict_type = 0  # what it was in its film is nothing to the encoder
        self._container.mux(self._stream.encode(picture))
        self.num_frames += 1

    def close(self) -> None:
        """Write what is left, and the index."""
        try:
            self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()


def _encoder_options(config: PrepareConfig) -> dict[str, str]:
    gop = f"keyint={config.gop}:min-keyint={config.gop}:scenecut=0:bframes=0:open-gop=0"
    # MB-tree's assembly reads memory that nobody wrote where pictures are small: one encode in 150 came out otherwise
    the_same_each_time = "threads=1:lookahead-threads=1:sliced-threads=0:mbtree=0:rc-lookahead=0"
    own = {"preset": PRESET, "tune": TUNE, "crf": str(config.crf)}
    return own | {"a53cc": "0", "x264-params": f"{gop}:{the_same_each_time}"}
