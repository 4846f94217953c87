"""Find out when each frame of a film is shown, by one pass over its packets."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import closing
from fractions import Fraction
from typing import NamedTuple, cast

import av
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from jaxtyping import Int64

from fourd.media import limits
from fourd.media.boxes import claims, is_cut_matroska
from fourd.media.frames import decode_span, decoded, upright_rgb
from fourd.media.info import VideoInfo
from fourd.media.opening import (
    FilmSource,
    UnreadableVideo,
    num_bytes,
    open_bytes,
    open_film,
    raise_if_no_memory,
    video_stream,
)


class _Packet(NamedTuple):
    """Keep what the frame table needs of a packet."""

    pts: int | None
    dts: int | None
    is_key: bool
    is_shown: bool


def probe(path: FilmSource) -> VideoInfo:
    """Describe a film from one pass over its packets and one decoded frame.

    Raises: UnreadableVideo, with the reason, where not one frame can be read.
    """
    cut = _check_claims(path)
    with open_film(path) as container:
        stream = video_stream(path, container)
        assert stream.time_base is not None  # every stream that was opened for reading has one
        num_pixels = stream.codec_context.width * stream.codec_context.height
        codec, time_base, stated = stream.codec_context.codec.canonical_name, stream.time_base, stream.frames
        # AVI stores no stamps of display: where frames are reordered, those that the reader offers are guesses.
        guessed = container.format.name == "avi" and bool(stream.codec_context.has_b_frames)
        cut |= max((entry.pos + entry.size for entry in stream.index_entries), default=0) > num_bytes(path)
        has_sound = bool(container.streams.audio)
        packets, damaged = _read_packets(path, container, stream)
    damaged |= cut
    _require_sane_times(path, packets, time_base)
    pts, counted = _frame_table(path, _intact(packets) if damaged else packets, guessed, num_pixels)
    if len(pts) == 0:
        raise UnreadableVideo(path, "truncated or damaged: no frame intact" if damaged else "no frame in it")
    damage = f"truncated or damaged: {len(pts)} of {stated or 'unknown'} frames intact" if damaged else None
    key_pts = pts[:1] if counted else _key_stamps(packets, pts)
    info = VideoInfo(0, 0, 0, codec, time_base, pts, key_pts, counted, damage, has_sound)
    return _from_first_picture(path, info, packets)


def _check_claims(path: FilmSource) -> bool:
    """Refuse an MP4 that claims more than a film may have; tell whether a Matroska file lacks its end."""
    with open_bytes(path) as file:
        num_packets, packet_bytes = claims(file, num_bytes(path))
        file.seek(0)
        cut = is_cut_matroska(file, num_bytes(path))
    if num_packets > limits.MAX_SAMPLES:
        reason = f"claims {num_packets} pieces of picture and sound: expected {limits.MAX_SAMPLES} at most"
        raise UnreadableVideo(path, reason)
    if packet_bytes > limits.MAX_PACKET_BYTES:
        raise UnreadableVideo(path, f"a packet of {packet_bytes} bytes: expected at most {limits.MAX_PACKET_BYTES}")
    return cut


def _read_packets(path: FilmSource, container: InputContainer, stream: VideoStream) -> tuple[list[_Packet], bool]:
    """List a film's packets up to its end or to the first damage, and say which of the two it was."""
    packets: list[_Packet] = []
    num_hidden = 0
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt:
                return packets, True
            if packet.size:
                num_hidden += packet.is_discard
                _require_small(path, packet, len(packets), num_hidden)
                hidden = packet.is_discard or (stream.codec_context.name == "vp8" and not bytes(packet)[0] & 0x10)
                packets.append(_Packet(packet.pts, packet.dts, packet.is_keyframe, not hidden))
    except av.error.InvalidDataError:
        return packets, True
    except av.error.FFmpegError as error:
        raise_if_no_memory(path, error)
        raise UnreadableVideo(path, f"damaged: {error.strerror}") from error
    return packets, False


def _require_small(path: FilmSource, packet: av.Packet, num_before: int, num_hidden: int) -> None:
    """Refuse a film that is larger than the limits."""
    if packet.size > limits.MAX_PACKET_BYTES:
        reason = f"a packet of {packet.size} bytes: expected at most {limits.MAX_PACKET_BYTES}"
        raise UnreadableVideo(path, reason)
    if num_before >= limits.MAX_PACKETS:
        raise UnreadableVideo(path, f"more than {limits.MAX_PACKETS} packets: cut it into parts")
    if num_hidden > limits.MAX_HIDDEN_PACKETS:
        reason = f"its edit list hides more than {limits.MAX_HIDDEN_PACKETS} frames: encode it again without them"
        raise UnreadableVideo(path, reason)


def _intact(packets: Sequence[_Packet]) -> list[_Packet]:
    """Drop the packets after which one may be missing: all that is shown by the last stamp of decoding is there."""
    last = max((packet.dts for packet in packets if packet.dts is not None), default=None)
    return [packet for packet in packets if last is not None and packet.pts is not None and packet.pts <= last]


def _frame_table(
    path: FilmSource, packets: Sequence[_Packet], guessed: bool, num_pixels: int
) -> tuple[Int64[np.ndarray, " F"], bool]:
    """List the stamps of all frames in order of showing, and say whether frames must be found by counting."""
    shown = [packet for packet in packets if packet.is_shown]
    stamps = {packet.pts for packet in shown if packet.pts is not None}
    if len(stamps) == len(shown) and not guessed:
        return np.array(sorted(stamps), np.int64), False
    if len(shown) * num_pixels > limits.MAX_DECODED_PIXELS:
        raise UnreadableVideo(
            path, "its time stamps are ambiguous, and it is too long to count frames: encode it again"
        )
    return _counted_stamps(path, shown), True


def _require_sane_times(path: FilmSource, packets: Sequence[_Packet], time_base: Fraction) -> None:
    """Refuse stamps that no film can have, which would also count for years in the hours of a corpus."""
    stamps = [stamp for packet in packets for stamp in (packet.pts, packet.dts) if stamp is not None]
    days = (max(stamps) - min(stamps)) * time_base / 86400 if stamps else 0
    if days > limits.MAX_DAYS:
        reason = f"its time stamps span {float(days):.0f} days: expected at most {limits.MAX_DAYS}"
        raise UnreadableVideo(path, f"{reason}; write them anew")


def _counted_stamps(path: FilmSource, shown: Sequence[_Packet]) -> Int64[np.ndarray, " F"]:
    """Give the n-th frame that decodes the n-th stamp, where a frame's own stamp cannot be trusted."""
    decoding = {packet.dts for packet in shown if packet.dts is not None}
    display = [packet.pts for packet in shown if packet.pts is not None]
    stamps = sorted(decoding if len(decoding) == len(shown) else display)
    num_frames = sum(1 for _ in decoded(path, start_pts=None, num_threads=1))
    if num_frames > len(stamps):
        raise UnreadableVideo(path, f"only {len(stamps)} of {num_frames} frames have a time stamp: encode it again")
    return np.array(stamps[:num_frames], np.int64)


def _key_stamps(packets: Sequence[_Packet], pts: Int64[np.ndarray, " F"]) -> Int64[np.ndarray, " K"]:
    """List the stamps at which decoding can start; the first frame always can, from the start of the file."""
    keys = {packet.pts for packet in packets if packet.is_key and packet.pts is not None and packet.pts <= pts[-1]}
    return np.array(sorted(keys | {int(pts[0])}), np.int64)


def _from_first_picture(path: FilmSource, info: VideoInfo, packets: Sequence[_Packet]) -> VideoInfo:
    """Complete what is known of a film, without what is shown before its first key frame where that is lost."""
    try:
        return _with_picture(path, info)
    except UnreadableVideo:
        first_key = next((packet.pts for packet in packets if packet.is_key), None)
        kept = 0 if first_key is None else int((info.pts >= first_key).sum())
        if info.counted or not 0 < kept < info.num_frames:
            raise
    start = info.num_frames - kept
    damage = f"its first {start} of {info.num_frames} frames lack a key frame"
    damage = damage if info.damage is None else f"{info.damage}; {damage}"
    pts, key_pts = info.pts[start:], info.key_pts[info.key_pts >= info.pts[start]]
    return _with_picture(path, dataclasses.replace(info, pts=pts, key_pts=key_pts, damage=damage))


def _with_picture(path: FilmSource, info: VideoInfo) -> VideoInfo:
    """Add what only a decoded frame tells: its size and how it has to be turned."""
    with closing(decode_span(path, info, np.array([0]), num_threads=1)) as frames:
        _, frame = next(frames)
    rotation = _rotation(path, frame)
    width, height = (frame.width, frame.height) if rotation % 180 == 0 else (frame.height, frame.width)
    info = dataclasses.replace(info, width=width, height=height, rotation=rotation)
    upright_rgb(path, frame, info)  # what FFmpeg cannot do, or crashes at, shows here and not while training
    return info


def _rotation(path: FilmSource, frame: VideoFrame) -> int:
    """Read by how many degrees a frame has to be turned counter-clockwise to be upright."""
    matrix = cast("SideData | None", frame.side_data.get("DISPLAYMATRIX"))
    if matrix is not None:
        a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].astype(float)
        if a * d - b * c < 0:
            raise UnreadableVideo(path, "stored mirrored, which is not supported: encode it again")
    if frame.rotation % 90:
        raise UnreadableVideo(path, f"to be turned by {frame.rotation} degrees: only quarter turns are supported")
    return int(frame.rotation) % 360
