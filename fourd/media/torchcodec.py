"""Decode with torchcodec, the same frames as PyAV does, where it is installed."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from fourd.media.frames import decode_pictures, require_within_limit
from fourd.media.info import VideoInfo
from fourd.media.opening import FilmSource, UnreadableVideo, name_of, open_bytes, open_film

log = logging.getLogger(__name__)


def decode_with_torchcodec(
    source: FilmSource, wanted: Int64[np.ndarray, " U"], info: VideoInfo, num_threads: int
) -> UInt8[np.ndarray, "U H W 3"]:
    """Decode sorted frame numbers.

    Which frame a number means is said by our own table, which torchcodec is given in place of its own scan; what
    comes is checked by its time stamps. PyAV decodes films of which frames can only be counted, and, with a warning,
    those in which torchcodec fails or gives other frames (MPEG transport and program streams were such), so that the
    frames are the same for all films. Colours differ by rounding: on the forms of film in the tests by at most 3 grey
    levels, and by 0.4 on average.
    Raises: ImportError where torchcodec is not there; UnreadableVideo, as PyAV would, where the film is at fault;
    what reading its bytes raises.
    """
    decoder_of = _decoder_class()
    if not info.counted:
        require_within_limit(source, info, wanted)
        with open_film(source):  # what PyAV refuses to open, torchcodec does not see
            pass
        found = _decode(decoder_of, source, wanted, info, num_threads)
        if not isinstance(found, str):
            return found
        _warn(name_of(source), found)
    return np.stack([picture for _, picture in decode_pictures(source, wanted, info, num_threads)])


@lru_cache(maxsize=10_000)
def _warn(name: str, problem: str) -> None:
    """Say once of a film, in each process, that it is not torchcodec that decodes it."""
    log.warning("torchcodec: %s: %s; PyAV decodes it", name, problem)


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
) -> UInt8[np.ndarray, "U H W 3"] | str:
    """Decode by our table, or say why torchcodec cannot."""
    with open_bytes(source) as file:
        reader = _Bytes(file)
        try:
            decoder = decoder_of(
                reader,
                dimension_order="NHWC",
                num_ffmpeg_threads=num_threads,
                custom_frame_mappings=_frame_mappings(info),
            )
            frames = decoder.get_frames_at(wanted.tolist())
        except (RuntimeError, ValueError, IndexError) as error:
            frames, problem = None, str(error).strip().partition("\n")[0]
        reader.raise_failure()
    if frames is None:
        return problem
    stamps = np.rint(frames.pts_seconds.numpy() / float(info.time_base)).astype(np.int64)
    if not np.array_equal(stamps, info.pts[wanted]):
        return "it gives other frames than were asked for"
    pictures: UInt8[np.ndarray, "U H W 3"] = frames.data.numpy()
    if pictures.shape[1:3] != (info.height, info.width):
        height, width = pictures.shape[1:3]
        raise UnreadableVideo(source, f"picture changes from {info.width}x{info.height} to {width}x{height} pixels")
    return pictures


class _Bytes:
    """Hand bytes to torchcodec, without a name by which it would judge them, and keep what reading raises."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._failure: BaseException | None = None

    def read(self, size: int) -> bytes:
        return self._guarded(self._file.read, size)

    def seek(self, offset: int, whence: int) -> int:
        return self._guarded(self._file.seek, offset, whence)

    def _guarded(self, action: Callable[..., Any], *arguments: int) -> Any:
        try:
            return action(*arguments)
        except BaseException as error:
            self._failure = error
            raise

    def raise_failure(self) -> None:
        """Raise what reading raised, whatever torchcodec made of it."""
        if self._failure is not None:
            raise self._failure


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
