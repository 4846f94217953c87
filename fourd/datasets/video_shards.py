"""Read clips from prepared shards: tar files of short films, on a disk or in an object store.

The index says where in a shard each piece lies and how its frames are spaced, so that a clip costs one ranged read and
the decoding of its own frames. See `fourd data prepare`.
"""

from __future__ import annotations

import getpass
import io
import tarfile
import tempfile
import uuid
import zlib
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from fourd.datasets._clips import ClipConfig, OpenedClip, plan_clip, read_clip
from fourd.index.pieces import KIND, SCHEMA, Piece, Timing
from fourd.index.table import RowTable, RowWriter, Selection
from fourd.media import StoredFile
from fourd.storage import CacheConfig, StorageError, open_store
from fourd.types import Batch, Dataset, Unreadable


@dataclass(frozen=True)
class VideoShardsConfig(ClipConfig):
    """Describe pieces of films in shards, and the clip that is drawn from each.

    index: the Parquet file that `fourd data prepare` wrote, or its URL (s3://bucket/corpus/train.parquet), from which
    it is copied once. root: the folder or URL from which the shards' paths start; None takes the one that the index
    is in. cache: keep what is read from an object store on a local disk. aligned: start clips at key frames alone, so
    that no frame is decoded in vain; where a piece has a few dozen of them, little is lost. Not from the paper.
    stride: 1 here, since the pieces have the rate of the clips. The rest: see `ClipConfig`.
    """

    index: str
    root: str | None = None
    cache: CacheConfig | None = None
    aligned: bool = True
    stride: int = field(default=1, kw_only=True)

    def build(self) -> VideoShards:
        """Open the index; raise ValueError where it is none, or no piece is long enough for a clip."""
        return VideoShards(self)


def index(path: str) -> VideoShardsConfig:
    """Describe the pieces of an index, with every other value at its default."""
    return VideoShardsConfig(path)


class VideoShards(Dataset):
    """Give one random clip from each piece. Only rows of the index that are asked for are in memory."""

    def __init__(self, config: VideoShardsConfig) -> None:
        """Open the index and the root."""
        self.config = config
        self._table = RowTable(config.index, KIND, SCHEMA)
        self._timing = Timing.from_metadata(self._table.metadata, config.index)
        self._store = open_store(config.root or self._table.folder, config.cache)
        needed = _frames_needed(config, self._timing)
        self._pieces = Selection.at_least(self._table, {"num_frames": needed})
        if not len(self._pieces):
            raise ValueError(f"{config.index}: none of {len(self._table)} pieces has the {needed} frames of a clip")
        num_short = len(self._table) - len(self._pieces)
        reason = f"{num_short} of {len(self._table)} pieces are too short: {needed} frames needed"
        self.unreadable = (Unreadable(config.index, reason),) if num_short else ()
        self.fingerprint = self._table.fingerprint

    def __len__(self) -> int:
        """Count the pieces that hold a clip."""
        return len(self._pieces)

    def piece(self, index: int) -> Piece:
        """Look up where piece `index` lies and what it holds."""
        return Piece(**self._table.row(self._pieces.row_number(index)))

    def read(self, index: int, rng: np.random.Generator) -> Batch:
        """Draw a clip, a crop and a flip from piece `index`.

        Times are seconds after the piece's first frame. The key is the piece's, the group the film that it was cut
        from.
        Raises: UnreadableVideo where the piece cannot be decoded; StorageError where its bytes cannot be had, or are
        not those that were indexed.
        """
        return read_clip(self.open(index, rng), self.config)

    def open(self, index: int, rng: np.random.Generator) -> OpenedClip:
        """Read the bytes of a piece, and draw what `read` decodes of it."""
        piece = self.piece(index)
        data = self._bytes(piece)
        source = StoredFile(f"{self._store.address(piece.shard)}:{piece.key}.mp4", len(data), lambda: io.BytesIO(data))
        info = self._timing.describe(piece)
        plan = plan_clip(info, self.config, rng, info.keyframes if self.config.aligned else None)
        return OpenedClip(source, info, plan, piece.key, piece.group)

    def _bytes(self, piece: Piece) -> bytes:
        """Read a piece, and make sure that it is the one that was indexed."""
        data = self._store.read(piece.shard, piece.offset, piece.offset + piece.num_bytes)
        if zlib.crc32(data) != piece.crc32:
            raise StorageError(
                f"{self._store.address(piece.shard)}: {piece.key} at byte {piece.offset} is not what "
                f"{self._table.path} says: the shard was changed or damaged since. Copy it again, or prepare it again"
            )
        return data


def _frames_needed(config: VideoShardsConfig, timing: Timing) -> int:
    """Count the frames that a piece must have for a clip."""
    steps = config.num_frames - 1
    if config.fps is None:
        return steps * config.stride + 1
    return int(np.ceil(steps / config.fps / float(timing.time_base * timing.frame_ticks) - 1e-6)) + 1


# ----------------------------------------------------------------------------- shards for tests

_TINY = Timing("h264", Fraction(1, 12800), 1024, 4)


def tiny() -> VideoShardsConfig:
    """Describe a shard of three small pieces, which is made on the first call, for tests."""
    folder = Path(tempfile.gettempdir()) / f"fourd-{getpass.getuser()}" / f"tiny {KIND}"
    if not (folder / "train.parquet").exists():
        write_pieces(folder, [_moving_square(12, 3 * number) for number in range(3)])
    return VideoShardsConfig(str(folder / "train.parquet"), num_frames=4, size=32)


def write_pieces(folder: Path, films: list[bytes], num_frames: int = 12, size: tuple[int, int] = (64, 48)) -> None:
    """Put MP4 files of `_TINY` timing into one shard, and index them; each is a film of its own."""
    shard = folder / "shards" / "train-00000.tar"
    shard.parent.mkdir(parents=True, exist_ok=True)
    aside = shard.with_name(f".{uuid.uuid4().hex}.tar")
    with tarfile.open(aside, "w") as tar:
        for number, film in enumerate(films):
            member = tarfile.TarInfo(f"piece{number}.mp4")
            member.size = len(film)
            tar.addfile(member, io.BytesIO(film))
    with tarfile.open(aside) as tar:
        offsets = [member.offset_data for member in tar]
    aside.replace(shard)
    with RowWriter(folder / "train.parquet", SCHEMA, KIND, **_TINY.metadata()) as writer:
        for number, (film, offset) in enumerate(zip(films, offsets, strict=True)):
            place = (f"shards/{shard.name}", offset, len(film), zlib.crc32(film))
            writer.write(vars(Piece(f"piece{number}", f"film{number}", *place, *size, num_frames, 0.0)))


def _moving_square(num_frames: int, start: int) -> bytes:
    """Encode a film in which a square crosses a grey ground, as prepared pieces are encoded."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(25, 2), options={"x264-params": "scenecut=0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.max_b_frames = _TINY.gop, 0
        for number in range(num_frames):
            picture = np.full((48, 64, 3), 96, np.uint8)
            place = (start + 4 * number) % 48
            picture[16:32, place : place + 16] = (240, 200, 16)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode(None))
    return file.getvalue()
