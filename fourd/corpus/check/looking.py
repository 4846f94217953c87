"""Check one film or piece. A process of its own does this, without torch."""

from __future__ import annotations

import io
import os
import tarfile
import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8

from fourd.index.films import Film
from fourd.index.looking import NO_FILE, film_source, sample_sha256, store_of
from fourd.index.pieces import Piece, Timing
from fourd.media import FilmSource, StoredFile, UnreadableVideo, VideoInfo, decode_pictures, probe
from fourd.storage import CutOffError, Store, checked_relative, open_store

_TILE_PIXELS = 160

Picture = UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True)
class Look:
    """Say what was found: `reason` where something is wrong, `unread` where it could not be judged.

    picture: its middle frame, small. seconds: how long it lasts.
    """

    reason: str | None = None
    unread: str | None = None
    picture: Picture | None = None
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class Item(ABC):
    """Name something that is checked by its key, and the bytes that it takes.

    whole: decode all of its frames, not three: a run could not decode some clip of it.
    """

    key: str
    num_bytes: int
    whole: bool = field(default=False, kw_only=True)

    @abstractmethod
    def look(self) -> Look:
        """Verify and decode; raise UnreadableVideo where it is at fault, OSError where it cannot be read."""


def look_at(item: Item) -> Look:
    """Check one item; only what is known to be wrong with the item itself counts as its fault.

    Raises: MemoryError.
    """
    try:
        return item.look()
    except UnreadableVideo as error:
        return Look(reason=error.reason)
    except OSError as error:
        return Look(unread=str(error))
    except MemoryError:
        raise
    except Exception as error:  # nobody foresaw it: it must neither end the check nor take a film out of a corpus
        return Look(unread=f"cannot be judged: {error!r}")


@dataclass(frozen=True, eq=False)
class FilmItem(Item):
    """Be a film of an index."""

    root: str
    film: Film

    def look(self) -> Look:
        """Compare its size and fingerprint, and decode the first, the middle and the last of its frames."""
        assert self.film.info is not None  # only usable films are checked
        _require_below(self.film.path, self.root)
        num_bytes, version = self._found()
        source = film_source(self.root, self.film.path, self.film.num_bytes)
        if num_bytes != self.film.num_bytes or sample_sha256(source, num_bytes) != self.film.fingerprint:
            return Look(reason="changed since it was indexed: its size, beginning or end is another")
        look = _decoded(source, self.film.info, self.whole)
        return look if version == self.film.version else Look(unread=_TOUCHED)

    def _found(self) -> tuple[int, str]:
        """Give its size and version; a film counts as gone only where something else lies in its folder.

        An empty folder may be one on which a disk is to be mounted.
        """
        try:
            return store_of(self.root).about(self.film.path)
        except FileNotFoundError as error:
            folder = os.path.dirname(os.path.join(self.root, self.film.path))
            if "://" in self.root or not os.path.isdir(folder) or not os.listdir(folder):
                raise
            raise UnreadableVideo(self.film.path, NO_FILE) from error


_TOUCHED = (
    "the same bytes, but another time of change than the index says, so that training refuses it: run fourd data index "
    "again"
)


@dataclass(frozen=True, eq=False)
class PieceItem(Item):
    """Be a piece of a shard."""

    root: str
    piece: Piece
    timing: Timing

    def look(self) -> Look:
        """Compare its name in the shard and its checksum, and decode the first, the middle and the last frame."""
        piece = self.piece
        _require_possible(piece)
        _require_below(piece.shard, self.root)
        header, data = _split(self._bytes(store_of(self.root)))
        if (named := _tar_name(header)) != f"{piece.key}.mp4":
            return Look(reason=f"at its place in {piece.shard} stands {named}")
        if zlib.crc32(data) != piece.crc32:
            return Look(reason=f"its bytes in {piece.shard} were changed or damaged since they were indexed")
        return _decoded(stored(piece.key, data), self.timing.describe(piece), self.whole)

    def _bytes(self, store: Store) -> bytes:
        """Read the piece, and what the tar file says of it."""
        piece = self.piece
        try:
            return store.read(piece.shard, piece.offset - tarfile.BLOCKSIZE, piece.offset + piece.num_bytes)
        except CutOffError as error:
            raise UnreadableVideo(piece.key, f"its shard {piece.shard} is shorter than the index says") from error


def _require_possible(piece: Piece) -> None:
    """Refuse numbers that no piece has."""
    counts = (piece.num_bytes, piece.num_frames, piece.width, piece.height)
    if min(counts) < 1 or piece.offset < tarfile.BLOCKSIZE:
        raise UnreadableVideo(piece.key, "its row in the index holds numbers that no piece has")


def _require_below(path: str, root: str) -> None:
    """Refuse a row of the index that leads out of its root."""
    try:
        checked_relative(path, root)
    except ValueError as error:
        raise UnreadableVideo(path, "its path in the index leads out of its root") from error


def _split(data: bytes) -> tuple[bytes, bytes]:
    return data[: tarfile.BLOCKSIZE], data[tarfile.BLOCKSIZE :]


def _tar_name(header: bytes) -> str:
    try:
        return tarfile.TarInfo.frombuf(header, "utf-8", "backslashreplace").name
    except tarfile.HeaderError:
        return "no member of a tar file"


@dataclass(frozen=True, eq=False)
class MemberItem(Item):
    """Be a film in a tar file that has no index."""

    root: str
    shard: str
    offset: int

    def look(self) -> Look:
        """Read its frame table, and decode the first, the middle and the last of its frames."""
        data = open_store(self.root).read(self.shard, self.offset, self.offset + self.num_bytes)
        source = stored(self.key, data)
        info = probe(source)
        look = _decoded(source, info, self.whole)
        return Look(info.damage, None, look.picture, look.seconds) if info.damage else look


def stored(name: str, data: bytes) -> StoredFile:
    """Give bytes in memory as a film."""
    return StoredFile(name, len(data), lambda: io.BytesIO(data))


def _decoded(source: FilmSource, info: VideoInfo, whole: bool) -> Look:
    last = info.num_frames - 1
    wanted = np.arange(info.num_frames) if whole else np.unique(np.array([0, last // 2, last], np.int64))
    middle = None
    for index, picture in decode_pictures(source, wanted, info, num_threads=1):
        middle = _small(picture) if index == last // 2 else middle
    return Look(picture=middle, seconds=info.duration_s)


def _small(picture: Picture) -> Picture:
    """Thin a picture out to a tile's size."""
    step = max(-(-max(picture.shape[:2]) // _TILE_PIXELS), 1)
    return np.ascontiguousarray(picture[::step, ::step])
