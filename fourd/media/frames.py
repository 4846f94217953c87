"""Decode frames by their numbers, each found by its own time stamp."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from jaxtyping import Int64, UInt8

from fourd.media import limits
from fourd.media.info import VideoInfo
from fourd.media.opening import FilmSource, UnreadableVideo, open_film, raise_if_no_memory, video_stream

_SEEK_GAIN = 8
"""A jump costs about as much as decoding this many frames."""

_MAX_EARLY = 32
"""A frame for which this many later ones have come is taken to be lost; decoders reorder within 16."""


def decode_pictures(
    path: FilmSource, wanted: Int64[np.ndarray, " U"], info: VideoInfo, num_threads: int
) -> Generator[tuple[int, UInt8[np.ndarray, "H W 3"]], None, None]:
    """Give the pictures of sorted frame numbers, in order."""
    for span in _spans(wanted, info):
        with closing(decode_span(path, info, span, num_threads)) as frames:
            for index, frame in frames:
                yield index, upright_rgb(path, frame, info)


def _spans(wanted: Int64[np.ndarray, " U"], info: VideoInfo) -> list[Int64[np.ndarray, " S"]]:
    """Split sorted frame numbers where jumping ahead to a key frame is cheaper than decoding on."""
    start_pts = info.key_pts[np.searchsorted(info.key_pts, info.pts[wanted], side="right") - 1]
    start_frame = np.searchsorted(info.pts, start_pts)
    return np.split(wanted, np.flatnonzero(start_frame[1:] > wanted[:-1] + _SEEK_GAIN) + 1)


def decode_span(
    path: FilmSource, info: VideoInfo, span: Int64[np.ndarray, " S"], num_threads: int
) -> Generator[tuple[int, VideoFrame], None, None]:
    """Decode frames from the key frame before the first of them, or from further back if the file seeks badly."""
    given = 0
    while given < len(span):
        before = given
        for start_pts in _starts_within_limit(path, info, int(span[given])):
            with closing(_find_frames(decoded(path, start_pts, num_threads), info, span[given:])) as found:
                for frame in found:
                    yield int(span[given]), frame
                    given += 1
            if given > before:
                break
        else:
            raise UnreadableVideo(
                path, f"frame {span[given]} of {info.num_frames} cannot be decoded: damaged, or changed since"
            )


def _starts(info: VideoInfo, index: int) -> list[int | None]:
    """List where decoding can start for a frame, the nearest first; the start of the file (None) comes last."""
    keys = info.key_pts[(info.key_pts <= info.pts[index]) & (info.key_pts > info.pts[0])][-2:][::-1]
    return [None] if info.counted else [*keys.tolist(), None]


def require_within_limit(path: FilmSource, info: VideoInfo, wanted: Int64[np.ndarray, " U"]) -> None:
    """Raise UnreadableVideo where too many pixels are decoded on the way to one of the frames."""
    for span in _spans(wanted, info):
        _starts_within_limit(path, info, int(span[0]))


def _starts_within_limit(path: FilmSource, info: VideoInfo, index: int) -> list[int | None]:
    """List the starts of decoding from which few enough pixels are decoded on the way to a frame."""
    starts = _starts(info, index)
    pixels = [_num_on_the_way(info, start, index) * info.width * info.height for start in starts]
    if pixels[0] > limits.MAX_DECODED_PIXELS:
        raise UnreadableVideo(
            path,
            f"frame {index} of {info.num_frames} is {_num_on_the_way(info, starts[0], index)} frames of "
            f"{info.width}x{info.height} behind its key frame, more than {limits.MAX_DECODED_PIXELS} pixels in all: "
            "encode it again with more key frames",
        )
    return [start for start, num in zip(starts, pixels, strict=True) if num <= limits.MAX_DECODED_PIXELS]


def _num_on_the_way(info: VideoInfo, start_pts: int | None, index: int) -> int:
    """Count the frames that are decoded to get from a start to a frame."""
    return index if start_pts is None else index - int(np.searchsorted(info.pts, start_pts))


def _find_frames(
    decoded: Generator[VideoFrame, None, None], info: VideoInfo, span: Int64[np.ndarray, " S"]
) -> Generator[VideoFrame, None, None]:
    """Pick frames by their time stamps, or by counting, and give them in order, up to the first that is missing."""
    marks = (span if info.counted else info.pts[span]).tolist()
    wanted, early = set(marks), dict[int, VideoFrame]()
    given = 0
    with closing(decoded):
        for position, frame in enumerate(decoded):
            mark = position if info.counted else frame.pts
            if mark is not None and mark in wanted and not frame.is_corrupt:
                early[mark] = frame
            while given < len(marks) and marks[given] in early:
                yield early.pop(marks[given])
                given += 1
            if (mark is not None and mark >= marks[-1]) or len(early) > _MAX_EARLY:
                return


def decoded(path: FilmSource, start_pts: int | None, num_threads: int) -> Generator[VideoFrame, None, None]:
    """Decode a film from the key frame at `start_pts`, or from its start, to its end or to the first damage."""
    with open_film(path) as container:
        stream = video_stream(path, container)
        codec = stream.codec_context
        codec.options = {"max_pixels": str(limits.MAX_PIXELS)}  # a later frame may be larger than the header says
        codec.thread_count = num_threads
        codec.thread_type = "NONE" if num_threads == 1 else "AUTO"
        try:
            for packet in _packets_from(container, stream, start_pts):
                yield from codec.decode(packet)
            yield from codec.decode(None)
        except av.error.InvalidDataError:
            return  # the damage that ends this film: whoever misses a frame says so
        except av.error.FFmpegError as error:
            raise_if_no_memory(path, error)
            raise UnreadableVideo(path, f"decoding failed: {error.strerror}") from error


def _packets_from(container: InputContainer, stream: VideoStream, start_pts: int | None) -> Iterator[av.Packet]:
    """Give packets from the key frame at or before `start_pts` on; none where seeking lands behind it."""
    if start_pts is not None:
        try:
            container.seek(start_pts, stream=stream)
        except av.error.FFmpegError as error:
            if isinstance(error, MemoryError):
                raise
            return  # this file cannot jump: whoever misses a frame starts from the beginning
    for packet in _whole_packets(container, stream):
        if start_pts is not None:  # not yet at a key frame
            if not packet.is_keyframe:
                continue
            if packet.pts is None or packet.pts > start_pts:
                return
            start_pts = None
        yield packet


def _whole_packets(container: InputContainer, stream: VideoStream) -> Iterator[av.Packet]:
    """Give packets up to the end or the first damaged one; the decoder then still holds whole frames to hand out."""
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt or not packet.size:
                return
            yield packet
    except av.error.InvalidDataError:
        return  # this, too, is how a damaged film ends


def upright_rgb(path: FilmSource, frame: VideoFrame, info: VideoInfo) -> UInt8[np.ndarray, "H W 3"]:
    """Turn a decoded frame into upright RGB."""
    try:
        picture = np.rot90(frame.to_ndarray(format="rgb24"), info.rotation // 90)
    except (av.error.FFmpegError, ValueError) as error:
        raise_if_no_memory(path, error)
        raise UnreadableVideo(path, f"its pictures ({frame.format.name}) cannot be turned into RGB: {error}") from error
    if picture.shape[:2] != (info.height, info.width):
        height, width = picture.shape[:2]
        raise UnreadableVideo(path, f"picture changes from {info.width}x{info.height} to {width}x{height} pixels")
    return picture
