"""Open a film, and nothing that it names: a file, or bytes that are kept elsewhere."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from fourd.media import limits


@dataclass(frozen=True)
class StoredFile:
    """Name a film that is no file of its own: a part of a shard, bytes in memory, or an object in a store.

    name: what errors call it. open: gives a new binary file at its beginning, which can seek, on each call.
    """

    name: str
    num_bytes: int
    open: Callable[[], BinaryIO]

    def __str__(self) -> str:
        """Give its name."""
        return self.name


FilmSource = str | os.PathLike[str] | StoredFile
"""A local file's path, or a film that is kept elsewhere."""


class UnreadableVideo(Exception):  # noqa: N818 - it names the thing, which the caller lists
    """Say that a film, or the part of it that was asked for, cannot be read, and why."""

    def __init__(self, path: FilmSource, reason: str) -> None:
        """Keep the file and a short reason in plain words."""
        super().__init__(name_of(path), reason)
        self.path = name_of(path)
        self.reason = reason

    def __str__(self) -> str:
        """Name the file and the reason."""
        return f"{self.path}: {self.reason}"


def name_of(source: FilmSource) -> str:
    """Give what errors call a film."""
    return source.name if isinstance(source, StoredFile) else os.fspath(source)


def num_bytes(source: FilmSource) -> int:
    """Say how many bytes a film has; raise OSError where a file is not there."""
    return source.num_bytes if isinstance(source, StoredFile) else os.stat(source).st_size


def open_film(source: FilmSource) -> InputContainer:
    """Open a film, whatever its name looks like, and no file or address that it names.

    Raises: UnreadableVideo where the film is at fault; OSError where reading it fails, which says nothing of the film.
    """
    allowed = {"protocol_whitelist": "file", "format_whitelist": ",".join(limits.CONTAINERS)}
    _require_content(source)
    # PyAV reads from bytes kept elsewhere through `file`, and raises as they are the errors of that
    file = source.open() if isinstance(source, StoredFile) else f"file:{os.path.abspath(source)}"
    try:
        return av.open(file, "r", container_options=allowed, metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise UnreadableVideo(source, _why_not_opened(source, error)) from error


def _require_content(source: FilmSource) -> None:
    """Refuse what is not there or cannot be a film, before a decoder sees it."""
    try:
        if not isinstance(source, StoredFile) and not stat.S_ISREG(os.stat(source).st_mode):
            raise UnreadableVideo(source, "not a regular file")
        if num_bytes(source) == 0:
            raise UnreadableVideo(source, "empty file (0 bytes)")
    except FileNotFoundError as error:
        raise UnreadableVideo(source, "no such file") from error
    except PermissionError as error:
        raise UnreadableVideo(source, "permission denied") from error


def _open_bytes(source: FilmSource) -> BinaryIO:
    return source.open() if isinstance(source, StoredFile) else open(source, "rb")


def _why_not_opened(path: FilmSource, error: Exception) -> str:
    """Put into plain words why a file was not opened."""
    if isinstance(error, PermissionError):
        return "permission denied"
    if isinstance(error, av.error.InvalidDataError):
        return _LACKS_INDEX if _lacks_index(path) else "not a media file, or its header is damaged"
    if isinstance(error, av.error.ArgumentError):
        return f"not a film (a picture, a playlist, sound?): expected one of {', '.join(limits.CONTAINERS)}"
    return f"cannot be opened: {error}"


_LACKS_INDEX = "truncated: the index (moov) at the end of the file is missing"


def _lacks_index(path: FilmSource) -> bool:
    """Tell whether a file is an MP4 that was cut before the index that ends it."""
    names = set()
    with _open_bytes(path) as file:
        while len(header := file.read(8)) == 8:
            size, name = struct.unpack(">I4s", header)
            names.add(name)
            if size == 1:  # the size follows as a 64-bit number
                size = int.from_bytes(file.read(8)) - 8
            if size < 8:  # the box reaches to the end, or this is no MP4
                break
            file.seek(size - 8, os.SEEK_CUR)
    return bool(names & {b"ftyp", b"mdat"}) and b"moov" not in names


def video_stream(path: FilmSource, container: InputContainer) -> VideoStream:
    """Choose the first stream that is a film (not a cover picture), and refuse one that cannot be decoded."""
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams:
        sound = "no video stream (sound only)" if container.streams.audio else "no video stream"
        raise UnreadableVideo(path, _LACKS_INDEX if _lacks_index(path) else sound)
    codec = streams[0].codec_context
    if codec is None:
        raise UnreadableVideo(path, "no decoder for its video codec")
    if not 0 < codec.width * codec.height <= limits.MAX_PIXELS:
        raise UnreadableVideo(path, f"{codec.width}x{codec.height} pixels: expected 1 to {limits.MAX_PIXELS} in all")
    return streams[0]
