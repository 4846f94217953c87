"""Decode with torchcodec, the same frames as PyAV does, where it is installed."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from fourd.media.frames import decode_pictures
from fourd.media.info import VideoInfo
from fourd.media.opening import FilmSource, UnreadableVideo, open_bytes, open_film


def decode_with_torchcodec(
    source: FilmSource, wanted: Int64[np.ndarray, " U"], info: VideoInfo, num_threads: int
) -> UInt8[np.ndarray, "U H W 3"]:
    """Decode sorted frame numbers.

    Which frame a number means is said by our own table, which torchcodec is given in place of its own scan; what
    comes is checked by its time stamps. Films of which frames can only be counted, and those in which torchcodec does
    not find a frame by its stamp, are decoded by PyAV, so that the frames are the same for all films. Colours differ
    by rounding: on the forms of film in the tests by at most 3 grey levels, and by 0.4 on average.
    Raises: ImportError where torchcodec is not there; UnreadableVideo, as PyAV would, where the film is at fault.
    """
    decoder_of = _decoder_class()
    if not info.counted:
        with open_film(source):  # what PyAV refuses to open, torchcodec does not see
            pass
        try:
            found = _decode(decoder_of, source, wanted, info, num_threads)
        except (RuntimeError, ValueError, IndexError):  # damage, on whose extent the two must agree: PyAV says
            found = None
        if found is not None:
            return found
    return np.stack([picture for _, picture in decode_pictures(source, wanted, info, num_threads)])


def _decoder_class() -> Any:
    """Import torchcodec; raise ImportError that says what it takes."""
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, RuntimeError, OSError) as error:
        raise ImportError(
            "torchcodec cannot be imported: install one that suits this torch (0.13.0 for the CPU build of torch "
            f"2.13) and FFmpeg's libraries, or choose decoder pyav. It says: {str(error).strip().splitlines()[0]}"
        ) from error
    return VideoDecoder


def _decode(
    decoder_of: Any, source: FilmSource, wanted: Int64[np.ndarray, " U"], info: VideoInfo, num_threads: int
) -> UInt8[np.ndarray, "U H W 3"] | None:
    """Decode by our table; None where other frames come than were asked for."""
    with open_bytes(source) as file:
        decoder = decoder_of(
            _Bytes(file),
            dimension_order="NHWC",
            num_ffmpeg_threads=num_threads,
            custom_frame_mappings=_frame_mappings(info),
        )
        frames = decoder.get_frames_at(wanted.tolist())
        stamps = np.rint(frames.pts_seconds.numpy() / float(info.time_base)).astype(np.int64)
        pictures = frames.data.numpy()
    if not np.array_equal(stamps, info.pts[wanted]):
        return None
    if pictures.shape[1:3] != (info.height, info.width):
        height, width = pictures.shape[1:3]
        raise UnreadableVideo(source, f"picture changes from {info.width}x{info.height} to {width}x{height} pixels")
    return pictures


class _Bytes:
    """Hand bytes to torchcodec, and no name by which it would judge what kind of film it is."""

    def __init__(self, file: Any) -> None:
        self.read, self.seek = file.read, file.seek


def _frame_mappings(info: VideoInfo) -> str:
    """Write our table as torchcodec reads it: stamps, how long each frame is shown, where decoding can start."""
    pts = info.pts
    lasts = np.diff(pts, append=pts[-1] + (pts[-1] - pts[-2] if len(pts) > 1 else 1))
    keys = set(info.key_pts.tolist())
    frames = [
        {"pts": stamp, "duration": duration, "key_frame": int(stamp in keys)}
        for stamp, duration in zip(pts.tolist(), lasts.tolist(), strict=True)
    ]
    return json.dumps({"frames": frames})
