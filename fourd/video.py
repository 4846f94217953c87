"""Read films exactly, choose clips from them, and crop pixels together with what is drawn on them.

PyAV decodes. A frame is found by its own time stamp, looked up in a table that one pass over the file's packets
makes, so variable frame rates, cut films and films without a stated length give the same frames as reading the
film from its start. Nothing but the named local file is ever opened.
"""

from __future__ import annotations

import dataclasses
import os
import stat
import struct
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import repeat
from typing import NamedTuple, cast

import av
import numpy as np
import torch
from av.container import InputContainer
from av.sidedata.sidedata import SideData
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from jaxtyping import Float, Int, Int64, UInt8
from torch import Tensor
from torch.nn import functional

from fourd.types import Interpolation

MAX_PIXELS = 2**25
"""The largest picture that is decoded: 8K television just fits. Not from the paper."""

CONTAINERS = ("mov", "matroska", "avi", "mpegts", "mpeg", "flv", "asf", "ogg")
"""The kinds of file that are opened, by their content; playlists and other files that name files are not."""

_SEEK_GAIN = 8
"""A jump costs about as much as decoding this many frames."""

_MAX_EARLY = 32
"""A frame for which this many later ones have come is taken to be lost; decoders reorder within 16."""

FilePath = str | os.PathLike[str]


class UnreadableVideo(Exception):  # noqa: N818 - it names the thing, which the caller lists
    """Say that a film, or the part of it that was asked for, cannot be read, and why."""

    def __init__(self, path: FilePath, reason: str) -> None:
        """Keep the file and a short reason in plain words."""
        super().__init__(os.fspath(path), reason)
        self.path = os.fspath(path)
        self.reason = reason

    def __str__(self) -> str:
        """Name the file and the reason."""
        return f"{self.path}: {self.reason}"


# ----------------------------------------------------------------------------- what is known of a film


@dataclass(frozen=True, eq=False)
class VideoInfo:
    """Describe a film: its picture, and the time stamp of every frame that can be shown.

    `width` and `height` are pixels as stored, after turning the picture upright by `rotation` degrees
    counter-clockwise; pixels that are not square stay so. `pts` are the frames' time stamps in order of showing, in
    units of `time_base` seconds; `key_pts` those of the frames at which decoding can start. `counted` says that the
    file's own stamps are missing or ambiguous, so that frames are found by counting from the first (slower).
    `damage` says what is wrong with a film of which only the first part is whole; the table then ends there.
    """

    width: int
    height: int
    rotation: int
    codec: str
    time_base: Fraction
    pts: Int64[np.ndarray, " F"]
    key_pts: Int64[np.ndarray, " K"]
    counted: bool = False
    damage: str | None = None

    @property
    def num_frames(self) -> int:
        """Count the frames."""
        return len(self.pts)

    @property
    def frame_times_s(self) -> Float[np.ndarray, " F"]:
        """Say when each frame is shown, in seconds after the first."""
        return (self.pts - self.pts[0]) * float(self.time_base)

    @property
    def duration_s(self) -> float:
        """Say how long the film lasts, in seconds; its last frame as long as the one before."""
        times = self.frame_times_s
        return float(2 * times[-1] - times[-2]) if len(times) > 1 else 0.0

    @property
    def keyframes(self) -> Int64[np.ndarray, " K"]:
        """Number the first frame that can be shown after each start of decoding."""
        return np.unique(np.searchsorted(self.pts, self.key_pts))


class _Packet(NamedTuple):
    """Keep what the frame table needs of a packet."""

    pts: int | None
    dts: int | None
    is_key: bool
    is_shown: bool


def probe(path: FilePath) -> VideoInfo:
    """Describe a film from one pass over its packets and one decoded frame.

    Raises: UnreadableVideo, with the reason, where not one frame can be read.
    """
    with closing(_open(path)) as container:
        stream = _video_stream(path, container)
        assert stream.time_base is not None  # every stream that was opened for reading has one
        codec, time_base, stated = stream.codec_context.codec.canonical_name, stream.time_base, stream.frames
        # AVI stores no stamps of display: where frames are reordered, those that the reader offers are guesses.
        guessed = container.format.name == "avi" and bool(stream.codec_context.has_b_frames)
        cut = max((entry.pos + entry.size for entry in stream.index_entries), default=0) > os.stat(path).st_size
        packets, damaged = _read_packets(path, container, stream)
    damaged |= cut
    pts, counted = _frame_table(path, _intact(packets) if damaged else packets, guessed)
    if len(pts) == 0:
        raise UnreadableVideo(path, "truncated or damaged: no frame intact" if damaged else "no frame in it")
    damage = f"truncated or damaged: {len(pts)} of {stated or 'unknown'} frames intact" if damaged else None
    key_pts = pts[:1] if counted else _key_stamps(packets, pts)
    return _with_picture(path, VideoInfo(0, 0, 0, codec, time_base, pts, key_pts, counted, damage))


def _read_packets(path: FilePath, container: InputContainer, stream: VideoStream) -> tuple[list[_Packet], bool]:
    """List a film's packets up to its end or to the first damage, and say which of the two it was."""
    packets: list[_Packet] = []
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt:
                return packets, True
            if packet.size:
                hidden = packet.is_discard or (stream.codec_context.name == "vp8" and not bytes(packet)[0] & 0x10)
                packets.append(_Packet(packet.pts, packet.dts, packet.is_keyframe, not hidden))
    except av.error.InvalidDataError:
        return packets, True
    except av.error.FFmpegError as error:
        raise UnreadableVideo(path, f"reading failed: {error.strerror}") from error
    return packets, False


def _intact(packets: Sequence[_Packet]) -> list[_Packet]:
    """Drop the packets after which one may be missing: all that is shown by the last stamp of decoding is there."""
    last = max((packet.dts for packet in packets if packet.dts is not None), default=None)
    return [packet for packet in packets if last is not None and packet.pts is not None and packet.pts <= last]


def _frame_table(path: FilePath, packets: Sequence[_Packet], guessed: bool) -> tuple[Int64[np.ndarray, " F"], bool]:
    """List the stamps of all frames in order of showing, and say whether frames must be found by counting."""
    shown = [packet for packet in packets if packet.is_shown]
    stamps = {packet.pts for packet in shown if packet.pts is not None}
    if len(stamps) == len(shown) and not guessed:
        return np.array(sorted(stamps), np.int64), False
    return _counted_stamps(path, shown), True


def _counted_stamps(path: FilePath, shown: Sequence[_Packet]) -> Int64[np.ndarray, " F"]:
    """Give the n-th frame that decodes the n-th stamp, where a frame's own stamp cannot be trusted."""
    decoding = {packet.dts for packet in shown if packet.dts is not None}
    display = [packet.pts for packet in shown if packet.pts is not None]
    stamps = sorted(decoding if len(decoding) == len(shown) else display)
    num_frames = sum(1 for _ in _decoded(path, start_pts=None, num_threads=1))
    if num_frames > len(stamps):
        raise UnreadableVideo(path, f"only {len(stamps)} of {num_frames} frames have a time stamp: encode it again")
    return np.array(stamps[:num_frames], np.int64)


def _key_stamps(packets: Sequence[_Packet], pts: Int64[np.ndarray, " F"]) -> Int64[np.ndarray, " K"]:
    """List the stamps at which decoding can start; the first frame always can, from the start of the file."""
    keys = {packet.pts for packet in packets if packet.is_key and packet.pts is not None and packet.pts <= pts[-1]}
    return np.array(sorted(keys | {int(pts[0])}), np.int64)


def _with_picture(path: FilePath, info: VideoInfo) -> VideoInfo:
    """Add what only a decoded frame tells: its size and how it has to be turned."""
    with closing(_decode_span(path, info, np.array([0]), num_threads=1)) as frames:
        _, frame = next(frames)
    rotation = _rotation(path, frame)
    width, height = (frame.width, frame.height) if rotation % 180 == 0 else (frame.height, frame.width)
    return dataclasses.replace(info, width=width, height=height, rotation=rotation)


def _rotation(path: FilePath, frame: VideoFrame) -> int:
    """Read by how many degrees a frame has to be turned counter-clockwise to be upright."""
    matrix = cast("SideData | None", frame.side_data.get("DISPLAYMATRIX"))
    if matrix is not None:
        a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].astype(float)
        if a * d - b * c < 0:
            raise UnreadableVideo(path, "stored mirrored, which is not supported: encode it again")
    if frame.rotation % 90:
        raise UnreadableVideo(path, f"to be turned by {frame.rotation} degrees: only quarter turns are supported")
    return int(frame.rotation) % 360


# ----------------------------------------------------------------------------- opening


def _open(path: FilePath) -> InputContainer:
    """Open a local film, whatever its name looks like, and no file or address that it names."""
    limits = {"protocol_whitelist": "file", "format_whitelist": ",".join(CONTAINERS)}
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableVideo(path, "not a regular file")
        if status.st_size == 0:
            raise UnreadableVideo(path, "empty file (0 bytes)")
        return av.open(f"file:{os.path.abspath(path)}", container_options=limits, metadata_errors="replace")
    except (OSError, av.error.FFmpegError) as error:
        raise UnreadableVideo(path, _why_not_opened(path, error)) from error


def _why_not_opened(path: FilePath, error: Exception) -> str:
    """Put into plain words why a file was not opened."""
    if isinstance(error, PermissionError):
        return "permission denied"
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, av.error.InvalidDataError):
        return _LACKS_INDEX if _lacks_index(path) else "not a media file, or its header is damaged"
    if isinstance(error, av.error.ArgumentError):
        return f"not a film (a picture, a playlist, sound?): expected one of {', '.join(CONTAINERS)}"
    return f"cannot be opened: {error}"


_LACKS_INDEX = "truncated: the index (moov) at the end of the file is missing"


def _lacks_index(path: FilePath) -> bool:
    """Tell whether a file is an MP4 that was cut before the index that ends it."""
    names = set()
    with open(path, "rb") as file:
        while len(header := file.read(8)) == 8:
            size, name = struct.unpack(">I4s", header)
            names.add(name)
            if size == 1:  # the size follows as a 64-bit number
                size = int.from_bytes(file.read(8)) - 8
            if size < 8:  # the box reaches to the end, or this is no MP4
                break
            file.seek(size - 8, os.SEEK_CUR)
    return bool(names & {b"ftyp", b"mdat"}) and b"moov" not in names


def _video_stream(path: FilePath, container: InputContainer) -> VideoStream:
    """Choose the first stream that is a film (not a cover picture), and refuse one that cannot be decoded."""
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams:
        sound = "no video stream (sound only)" if container.streams.audio else "no video stream"
        raise UnreadableVideo(path, _LACKS_INDEX if _lacks_index(path) else sound)
    codec = streams[0].codec_context
    if codec is None:
        raise UnreadableVideo(path, "no decoder for its video codec")
    if not 0 < codec.width * codec.height <= MAX_PIXELS:
        raise UnreadableVideo(path, f"{codec.width}x{codec.height} pixels: expected 1 to {MAX_PIXELS} in all")
    return streams[0]


# ----------------------------------------------------------------------------- decoding


def decode(
    path: FilePath, frame_indices: Sequence[int] | Int[np.ndarray, " T"], info: VideoInfo, *, num_threads: int = 1
) -> UInt8[Tensor, "T 3 H W"]:
    """Decode the named frames of a film, in any order and as often as they are named, upright and in RGB.

    info: what `probe` said of this file. num_threads: 1 is best where many workers decode at once.
    The tensor lies in memory with its colours last, which is what `crop_resize` is fast on.
    Raises: IndexError for a frame that the film does not have, UnreadableVideo for one that is damaged.
    """
    indices = _checked_indices(path, frame_indices, info)
    pictures = dict(_pictures(path, np.unique(indices), info, num_threads))
    return torch.from_numpy(np.stack([pictures[index] for index in indices.tolist()])).permute(0, 3, 1, 2)


def stream(
    path: FilePath, frame_indices: Sequence[int] | Int[np.ndarray, " T"], info: VideoInfo, *, num_threads: int = 1
) -> Generator[UInt8[Tensor, "3 H W"], None, None]:
    """Decode the named frames of a film one after the other, to the bit as `decode` does, in one pass.

    The numbers must not fall; a frame named twice is given twice. Memory does not grow with their count.
    Raises: IndexError and ValueError at once; UnreadableVideo when the first frame is reached that cannot be had.
    """
    indices = _checked_indices(path, frame_indices, info)
    if (np.diff(indices) < 0).any():
        raise ValueError(f"{os.fspath(path)}: the frames to stream go backwards: sort them, or use decode")
    return _stream(path, indices, info, num_threads)


def _stream(
    path: FilePath, indices: Int64[np.ndarray, " T"], info: VideoInfo, num_threads: int
) -> Generator[UInt8[Tensor, "3 H W"], None, None]:
    """Give each picture as often as its number stands in `indices`."""
    wanted, counts = np.unique(indices, return_counts=True)
    with closing(_pictures(path, wanted, info, num_threads)) as pictures:
        for (_, picture), count in zip(pictures, counts.tolist(), strict=True):
            frame = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)
            yield from repeat(frame, count)


def _checked_indices(
    path: FilePath, frame_indices: Sequence[int] | Int[np.ndarray, " T"], info: VideoInfo
) -> Int64[np.ndarray, " T"]:
    """Refuse frames that a film does not have."""
    indices = np.asarray(frame_indices, np.int64)
    if len(indices) == 0 or indices.min() < 0 or indices.max() >= info.num_frames:
        listed = np.array2string(indices, threshold=20, separator=", ")
        raise IndexError(f"{os.fspath(path)}: asked for frames {listed}, expected 0 to {info.num_frames - 1}")
    return indices


def _pictures(
    path: FilePath, wanted: Int64[np.ndarray, " U"], info: VideoInfo, num_threads: int
) -> Generator[tuple[int, UInt8[np.ndarray, "H W 3"]], None, None]:
    """Give the pictures of sorted frame numbers, in order."""
    for span in _spans(wanted, info):
        with closing(_decode_span(path, info, span, num_threads)) as frames:
            for index, frame in frames:
                yield index, _picture(path, frame, info)


def _spans(wanted: Int64[np.ndarray, " U"], info: VideoInfo) -> list[Int64[np.ndarray, " S"]]:
    """Split sorted frame numbers where jumping ahead to a key frame is cheaper than decoding on."""
    start_pts = info.key_pts[np.searchsorted(info.key_pts, info.pts[wanted], side="right") - 1]
    start_frame = np.searchsorted(info.pts, start_pts)
    return np.split(wanted, np.flatnonzero(start_frame[1:] > wanted[:-1] + _SEEK_GAIN) + 1)


def _decode_span(
    path: FilePath, info: VideoInfo, span: Int64[np.ndarray, " S"], num_threads: int
) -> Generator[tuple[int, VideoFrame], None, None]:
    """Decode frames from the key frame before the first of them, or from further back if the file seeks badly."""
    given = 0
    while given < len(span):
        before = given
        for start_pts in _starts(info, int(span[given])):
            with closing(_find_frames(_decoded(path, start_pts, num_threads), info, span[given:])) as found:
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
    keys = info.key_pts[info.key_pts <= info.pts[index]][-2:][::-1]
    return [None] if info.counted else [*keys.tolist(), None]


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


def _decoded(path: FilePath, start_pts: int | None, num_threads: int) -> Generator[VideoFrame, None, None]:
    """Decode a film from the key frame at `start_pts`, or from its start, to its end or to the first damage."""
    with closing(_open(path)) as container:
        stream = _video_stream(path, container)
        codec = stream.codec_context
        codec.options = {"max_pixels": str(MAX_PIXELS)}  # a later frame may be larger than the header says
        codec.thread_count = num_threads
        codec.thread_type = "NONE" if num_threads == 1 else "AUTO"
        try:
            for packet in _packets_from(container, stream, start_pts):
                yield from codec.decode(packet)
            yield from codec.decode(None)
        except av.error.InvalidDataError:
            return  # the damage that ends this film: whoever misses a frame says so
        except av.error.FFmpegError as error:
            raise UnreadableVideo(path, f"decoding failed: {error.strerror}") from error


def _packets_from(container: InputContainer, stream: VideoStream, start_pts: int | None) -> Iterator[av.Packet]:
    """Give packets from the key frame at or before `start_pts` on; none where seeking lands behind it."""
    if start_pts is not None:
        try:
            container.seek(start_pts, stream=stream)
        except av.error.FFmpegError:
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


def _picture(path: FilePath, frame: VideoFrame, info: VideoInfo) -> UInt8[np.ndarray, "H W 3"]:
    """Turn a decoded frame into upright RGB."""
    picture = np.rot90(frame.to_ndarray(format="rgb24"), info.rotation // 90)
    if picture.shape[:2] != (info.height, info.width):
        height, width = picture.shape[:2]
        raise UnreadableVideo(path, f"picture changes from {info.width}x{info.height} to {width}x{height} pixels")
    return picture


# ----------------------------------------------------------------------------- choosing a clip


def latest_clip_start(
    times_s: Float[np.ndarray, " F"], num_frames: int, *, stride: int = 2, fps: float | None = None
) -> int:
    """Find the last frame at which a clip can start; -1 where the film is too short for one.

    stride: frames from one frame of the clip to the next (not from the paper). fps: if given, frames per second of
    the clip instead, whatever the film's own rate; a film that is slower than this repeats frames.
    """
    if fps is None:
        return max(len(times_s) - (num_frames - 1) * stride, 0) - 1
    rounding_s = 1e-6
    return int(np.searchsorted(times_s, times_s[-1] - (num_frames - 1) / fps + rounding_s, side="right")) - 1


def clip_frame_indices(
    times_s: Float[np.ndarray, " F"],
    num_frames: int,
    rng: np.random.Generator,
    *,
    stride: int = 2,
    fps: float | None = None,
) -> Int64[np.ndarray, " T"]:
    """Draw a clip: every `stride`-th frame, or those nearest to a rate of `fps`, from a start that fits.

    Raises: ValueError where the film is too short.
    """
    latest = latest_clip_start(times_s, num_frames, stride=stride, fps=fps)
    if latest < 0:
        rate = f"stride {stride}" if fps is None else f"{fps} frames per second"
        raise ValueError(f"a film of {len(times_s)} frames is too short for {num_frames} frames at {rate}")
    start = int(rng.integers(latest + 1))
    if fps is None:
        return start + stride * np.arange(num_frames)
    midpoints = (times_s[1:] + times_s[:-1]) / 2
    return np.searchsorted(midpoints, times_s[start] + np.arange(num_frames) / fps)


# ----------------------------------------------------------------------------- cropping


@dataclass(frozen=True)
class CropBox:
    """Name a part of a picture in whole pixels."""

    left: int
    top: int
    width: int
    height: int


def random_resized_crop(
    height: int,
    width: int,
    rng: np.random.Generator,
    *,
    scale: tuple[float, float] = (0.3, 1.0),
    ratio: tuple[float, float] = (0.75, 1.33),
) -> CropBox:
    """Draw a box of random area and shape.

    scale: least and largest share of the picture's area. ratio: least and largest width over height, uniform in its
    logarithm. Not from the paper: V-JEPA's values. Where ten draws do not fit, the largest centred box is taken.
    """
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = float(np.exp(rng.uniform(*np.log(ratio))))
        box_width, box_height = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if 0 < box_width <= width and 0 < box_height <= height:
            left, top = rng.integers((width - box_width + 1, height - box_height + 1)).tolist()
            return CropBox(left, top, box_width, box_height)
    return center_crop(height, width, min(max(width / height, ratio[0]), ratio[1]))


def center_crop(height: int, width: int, aspect: float) -> CropBox:
    """Give the largest centred box whose width over height is `aspect`, to the pixel."""
    box_width = max(min(width, round(height * aspect)), 1)
    box_height = max(min(height, round(width / aspect)), 1)
    return CropBox((width - box_width) // 2, (height - box_height) // 2, box_width, box_height)


def crop_resize(
    video: UInt8[Tensor, "T 3 H W"], box: CropBox, size: tuple[int, int], interpolation: Interpolation = "bilinear"
) -> UInt8[Tensor, "T 3 height width"]:
    """Cut a box out of a clip and resize it to `size` (height, width), with antialiasing.

    Computed in integers, which is several times faster and at most one grey level off; where bicubic overshoots, it
    is cut off along each axis, as Pillow does.
    """
    cropped = video[..., box.top : box.top + box.height, box.left : box.left + box.width]
    return functional.interpolate(cropped, size, mode=interpolation, antialias=True, align_corners=False)


def crop_resize_points(
    xy_px: Float[Tensor, "*shape 2"], box: CropBox, size: tuple[int, int]
) -> Float[Tensor, "*shape 2"]:
    """Move points as `crop_resize` moves the pixels under them.

    Convention: continuous pixels, origin at the top-left corner, pixel centres at `.5`. Points may fall outside.
    """
    height, width = size
    scale = xy_px.new_tensor((width / box.width, height / box.height))
    return (xy_px - xy_px.new_tensor((box.left, box.top))) * scale


def crop_resize_boxes(
    xyxy_px: Float[Tensor, "*shape 4"], box: CropBox, size: tuple[int, int]
) -> Float[Tensor, "*shape 4"]:
    """Move boxes as `crop_resize` moves the pixels under them; boxes may reach outside.

    Convention: as `crop_resize_points`, for the corners.
    """
    return crop_resize_points(xyxy_px.unflatten(-1, (2, 2)), box, size).flatten(-2)


def flip(video: UInt8[Tensor, "T 3 H W"]) -> UInt8[Tensor, "T 3 H W"]:
    """Mirror a clip left to right."""
    return video.flip(-1)


def flip_points(xy_px: Float[Tensor, "*shape 2"], width: int) -> Float[Tensor, "*shape 2"]:
    """Move points as `flip` moves the pixels under them, in a picture of `width` pixels.

    Convention: continuous pixels, origin at the top-left corner, pixel centres at `.5`.
    """
    return torch.stack((width - xy_px[..., 0], xy_px[..., 1]), dim=-1)


def flip_boxes(xyxy_px: Float[Tensor, "*shape 4"], width: int) -> Float[Tensor, "*shape 4"]:
    """Move boxes as `flip` moves the pixels under them; left stays left of right.

    Convention: as `flip_points`, for the corners.
    """
    left, top, right, bottom = xyxy_px.unbind(-1)
    return torch.stack((width - right, top, width - left, bottom), dim=-1)
