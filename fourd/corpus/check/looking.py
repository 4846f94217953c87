"""Check one film or piece. A process of its own does this, without torch."""

from __future__ import annotations

import io
import tarfile
import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from fourd.index.films import Film
from fourd.index.looking import film_source, sample_sha256
from fourd.index.pieces import Piece, Timing
from fourd.media import FilmSource, StoredFile, UnreadableVideo, VideoInfo, decode_pictures, probe
from fourd.storage import open_store

_TILE_PIXELS = 160
_TAR_BLOCK = 512

Picture = UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True)
class Look:
    """Say what was found: `reason` where something is wrong, `unread` where its bytes could not be had to tell.

    picture: its middle frame, small. seconds: how long it lasts.
    """

    reason: str | None = None
    unread: str | None = None
    picture: Picture | None = None
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class Item(ABC):
    """Name something that is checked by its key, and the bytes that it takes."""

    key: str
    num_bytes: int

    @abstractmethod
    def look(self) -> Look:
        """Verify and decode; raise UnreadableVideo where it is at fault, OSError where it cannot be read."""


def look_at(item: Item) -> Look:
    """Check one item; what is wrong with reading it is told apart from what is wrong with it."""
    try:
        return item.look()
    except UnreadableVideo as error:
        return Look(reason=error.reason)
    except FileNotFoundError:
        return Look(reason="no such file")
    except OSError as error:
        return Look(unread=str(error))


@dataclass(frozen=True, eq=False)
class FilmItem(Item):
    """Be a film of an index."""

    root: str
    film: Film

    def look(self) -> Look:
        """Compare its fingerprint, and decode the first, the middle and the last of its frames."""
        assert self.film.info is not None  # only usable films are checked
        source = film_source(self.root, self.film.path, self.film.num_bytes)
        if sample_sha256(source, self.film.num_bytes) != self.film.fingerprint:
            return Look(reason="changed since it was indexed: its size, beginning or end is another")
        return _decoded(source, self.film.info)


@dataclass(frozen=True, eq=False)
class PieceItem(Item):
    """Be a piece of a shard."""

    root: str
    piece: Piece
    timing: Timing

    def look(self) -> Look:
        """Compare its name in the shard and its checksum, and decode the first, the middle and the last frame."""
        piece, store = self.piece, open_store(self.root)
        end = piece.offset + piece.num_bytes
        if store.num_bytes(piece.shard) < end:
            return Look(reason=f"its shard {piece.shard} is shorter than the index says: cut off?")
        data = store.read(piece.shard, piece.offset - _TAR_BLOCK, end)
        if (named := _tar_name(data[:_TAR_BLOCK])) != f"{piece.key}.mp4":
            return Look(reason=f"at its place in {piece.shard} stands {named}")
        if zlib.crc32(data[_TAR_BLOCK:]) != piece.crc32:
            return Look(reason=f"its bytes in {piece.shard} were changed or damaged since they were indexed")
        return _decoded(stored(piece.key, data[_TAR_BLOCK:]), self.timing.describe(piece))


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
        look = _decoded(source, info)
        return Look(info.damage, None, look.picture, look.seconds) if info.damage else look


def stored(name: str, data: bytes) -> StoredFile:
    """Give bytes in memory as a film."""
    return StoredFile(name, len(data), lambda: io.BytesIO(data))


def _decoded(source: FilmSource, info: VideoInfo) -> Look:
    last = info.num_frames - 1
    wanted = np.unique(np.array([0, last // 2, last], np.int64))
    pictures = dict(decode_pictures(source, wanted, info, num_threads=1))
    return Look(picture=_small(pictures[last // 2]), seconds=info.duration_s)


def _small(picture: Picture) -> Picture:
    """Thin a picture out to a tile's size."""
    step = max(-(-max(picture.shape[:2]) // _TILE_PIXELS), 1)
    return np.ascontiguousarray(picture[::step, ::step])
