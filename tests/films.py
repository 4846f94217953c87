"""Write small films in every form that a user's folder may hold; each frame carries its own number."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

_TICK = Fraction(1, 12000)
_BITS = 8


def numbered_picture(index: int, size: tuple[int, int]) -> np.ndarray:
    """Draw a frame number (0 to 255) as black and white stripes, most significant bit at the left: uint8, H W 3."""
    width, height = size
    stripe = np.arange(width) * _BITS // width
    bits = (index >> (_BITS - 1 - stripe)) & 1
    return np.broadcast_to((bits * 200 + 28).astype(np.uint8)[None, :, None], (height, width, 3)).copy()


def read_number(picture: np.ndarray) -> int:
    """Read the number of an upright picture (H W 3) back."""
    width = picture.shape[1]
    centers = (np.arange(_BITS) * width + width // 2) // _BITS
    bits = picture[picture.shape[0] // 2, centers].astype(float).mean(axis=-1) > 128
    return int((bits << np.arange(_BITS)[::-1]).sum())


def write_film(
    path: Path,
    num_frames: int = 40,
    *,
    size: tuple[int, int] = (64, 48),
    fps: float = 25,
    codec: str = "libx264",
    times_s: Sequence[float] | None = None,
    rotation: int = 0,
    mirrored: bool = False,
    gop: int = 12,
    b_frames: int = 2,
    pix_fmt: str = "yuv420p",
    index_first: bool = False,
    first_s: float = 0.0,
    options: Mapping[str, str] | None = None,
    picture: Callable[[int, tuple[int, int]], np.ndarray] = numbered_picture,
) -> Path:
    """Write a film of `num_frames` pictures of `size` (width, height); the suffix of `path` picks the container.

    times_s: when each frame is shown, for a variable rate (kept to 1/12000 s where the container can).
    rotation: counter-clockwise degrees for display. index_first: put an MP4's index (moov) before its data.
    first_s: the first frame's stamp; a negative one makes an MP4 whose edit list hides its first frames.
    """
    container_options = {"movflags": "faststart"} if index_first else {}
    if first_s < 0:
        container_options |= {"avoid_negative_ts": "disabled", "use_editlist": "1"}
    rate = Fraction(fps).limit_denominator(1001)
    tick = _TICK if times_s is not None else 1 / rate
    ticks = range(num_frames) if times_s is None else [round(time / tick) for time in times_s]
    with av.open(str(path), "w", options=container_options) as container:
        stream = container.add_stream(codec, rate=rate, options=dict(options or {}))
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        stream.codec_context.gop_size, stream.codec_context.max_b_frames = gop, b_frames
        stream.codec_context.time_base = tick
        if rotation or mirrored:
            stream.set_display_rotation(rotation, hflip=mirrored)
        for packet in _packets(stream, ticks, tick, size, picture):
            shift = round(Fraction(first_s).limit_denominator(1000) / packet.time_base)
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            container.mux(packet)
    return path


def _packets(stream, ticks, tick, size, picture):
    for index, pts in enumerate(ticks):
        frame = av.VideoFrame.from_ndarray(picture(index, size), format="rgb24")
        frame.pts, frame.time_base = pts, tick
        yield from stream.encode(frame)
    yield from stream.encode(None)


def write_sound(path: Path, seconds: float = 0.5) -> Path:
    """Write a file that holds sound and no picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, int(16000 * seconds)), np.float32), "fltp", "mono")
        frame.sample_rate = 16000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return path


def truncate(source: Path, path: Path, share: float = 0.5) -> Path:
    """Keep the first `share` of a film's picture data, as an interrupted download does."""
    with av.open(str(source)) as container:
        ends = [packet.pos + packet.size for packet in container.demux(video=0) if packet.size]
    start = min(ends)
    path.write_bytes(source.read_bytes()[: int(start + share * (max(ends) - start))])
    return path


def hide_vp8_frame(path: Path, index: int) -> Path:
    """Clear the `show_frame` bit of a VP8 frame, which makes it what encoders use as a hidden reference."""
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][index]
        data = bytes(packet)
    film = bytearray(path.read_bytes())
    film[film.index(data)] &= ~0x10 & 0xFF
    path.write_bytes(film)
    return path
