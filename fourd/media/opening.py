"""Open a film, and nothing that it names: a file, or bytes that are kept elsewhere."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from fourd.media import limits
from fourd.media.boxes import BinaryFile, TooManyBoxes, boxes

_T = TypeVar("_T")


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


@contextmanager
def open_film(source: FilmSource) -> Iterator[InputContainer]:
    """Open a film, whatever its name looks like, and no file or address that it names; close it at the end.

    All bytes come through Python, so that what goes wrong with reading them (OSError, which says nothing of the film)
    is raised as it is, wherever it happens, and is never taken for damage.
    Raises: UnreadableVideo where the film is at fault; what opening or reading a file raises; MemoryError.
    """
    with _open(source) as file:
        reader = _Reader(file, name_of(source))
        try:
            with closing(_open_container(source, reader)) as container:
                yield container
        except Exception:
            reader.raise_failure()
            raise
        reader.raise_failure()


def _open_container(source: FilmSource, reader: _Reader) -> InputContainer:
    # FFmpeg decodes while it opens a film; its options for that are those of a decoder.
    picture = {"max_pixels": str(limits.MAX_PIXELS)}
    try:
        return av.open(reader, "r", options=picture, container_options=_CLOSED, metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise_if_no_memory(source, error)
        raise UnreadableVideo(source, _why_not_opened(source, error)) from error


_CLOSED = {"protocol_whitelist": "none", "format_whitelist": ",".join(limits.CONTAINERS)}
"""A film may open nothing at all, by whatever protocol; its own bytes are handed to it."""


class _ReadingFailed(Exception):  # noqa: N818 - it never leaves this file
    """End FFmpeg's work at once."""


class _Reader:
    """Hand bytes to FFmpeg, and keep what is raised, which FFmpeg may turn into something else or forget.

    It has no name, by which FFmpeg would judge what kind of film it is.
    """

    def __init__(self, file: BinaryFile, name: str) -> None:
        self._file, self._name = file, name
        self._failure: BaseException | None = None
        self.tell = file.tell

    def read(self, size: int) -> bytes:
        return self._guarded(lambda: self._file.read(size), b"")

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._guarded(lambda: self._file.seek(offset, whence), 0)

    def _guarded(self, action: Callable[[], _T], after_failure: _T) -> _T:
        if self._failure is not None:
            return after_failure
        try:
            return action()
        except BaseException as error:  # also Ctrl-C, which PyAV would drop
            self._failure = error
            raise _ReadingFailed from error

    def raise_failure(self) -> None:
        """Raise what reading raised, if it did."""
        if self._failure is not None:
            with suppress(_ReadingFailed):
                av.error.err_check(0)  # PyAV may hold it still, and would raise it while it reads another film
            _add_name(self._failure, self._name)
            raise self._failure


def raise_if_no_memory(source: FilmSource, error: Exception) -> None:
    """Raise MemoryError where FFmpeg was refused the memory that a film asks for: how much there is, a machine says."""
    if isinstance(error, MemoryError):
        raise MemoryError(f"{name_of(source)}: more memory is needed than there is") from error


def _add_name(error: BaseException, name: str) -> None:
    """Name the film in what reading it raised: the system names a file only when it opens it."""
    if isinstance(error, OSError) and error.errno and error.filename is None:
        error.filename = name


@contextmanager
def open_bytes(source: FilmSource) -> Iterator[BinaryFile]:
    """Open a film's bytes for what does nothing but read them; errors of reading name the film.

    Raises: UnreadableVideo where it is not there or cannot be a film, as a pipe, which would be waited for, and where
    it holds more boxes than are looked at.
    """
    with _open(source) as file:
        try:
            yield file
        except TooManyBoxes as error:
            raise UnreadableVideo(source, str(error)) from error
        except OSError as error:
            _add_name(error, name_of(source))
            raise


def _open(source: FilmSource) -> AbstractContextManager[BinaryFile]:
    _require_content(source)
    if isinstance(source, StoredFile):
        return source.open()
    with _named_refusals(source):
        return open(source, "rb", buffering=_BUFFER_BYTES)


def _require_content(source: FilmSource) -> None:
    with _named_refusals(source):
        if not isinstance(source, StoredFile) and not stat.S_ISREG(os.stat(source).st_mode):
            raise UnreadableVideo(source, "not a regular file")
        if num_bytes(source) == 0:
            raise UnreadableVideo(source, "empty file (0 bytes)")


_BUFFER_BYTES = 2**16


@contextmanager
def _named_refusals(source: FilmSource) -> Iterator[None]:
    """Say of a local file that it is not there or forbidden; a store's errors are its own."""
    try:
        yield
    except FileNotFoundError as error:
        raise UnreadableVideo(source, "no such file") from error
    except PermissionError as error:
        raise UnreadableVideo(source, "permission denied") from error


def _why_not_opened(path: FilmSource, error: Exception) -> str:
    """Put into plain words why a file was not opened."""
    if isinstance(error, av.error.InvalidDataError):
        return _LACKS_INDEX if lacks_index(path) else _NO_MEDIA
    if isinstance(error, av.error.ArgumentError):
        return f"not a film (a picture, a playlist, sound?): expected one of {', '.join(limits.CONTAINERS)}"
    if isinstance(error, av.error.EOFError):
        return "truncated or damaged: it ends within its header"
    return f"cannot be opened: {getattr(error, 'strerror', error)}"


_NO_MEDIA = "not a media file, or its header is damaged"

_LACKS_INDEX = "truncated: the index (moov) at the end of the file is missing"


def lacks_index(path: FilmSource) -> bool:
    """Tell whether a file is an MP4 that was cut before the index that ends it."""
    with open_bytes(path) as file:
        names = {box.name for box in boxes(file, num_bytes(path))}
    return bool(names & {b"ftyp", b"mdat"}) and b"moov" not in names


def video_stream(path: FilmSource, container: InputContainer) -> VideoStream:
    """Choose the first stream that is a film (not a cover picture), and refuse one that cannot be decoded."""
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams:
        sound = "no video stream (sound only)" if container.streams.audio else "no video stream"
        raise UnreadableVideo(path, _LACKS_INDEX if lacks_index(path) else sound)
    codec = streams[0].codec_context
    if codec is None:
        raise UnreadableVideo(path, "no decoder for its video codec")
    if not 0 < codec.width * codec.height <= limits.MAX_PIXELS:
        raise UnreadableVideo(path, f"{codec.width}x{codec.height} pixels: expected 1 to {limits.MAX_PIXELS} in all")
    return streams[0]
