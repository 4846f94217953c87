"""Small films, and what it takes to look into a corpus made of them."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq

from fourd.corpus.prepare.config import PrepareConfig
from fourd.index import pieces
from fourd.index.build import sample_sha256
from fourd.index.films import Film
from fourd.index.films import write_films as write_index
from fourd.index.pieces import Piece, Timing
from fourd.index.table import RowTable
from fourd.media import probe
from tests.films import read_number, write_film

SMALL = PrepareConfig(piece_s=1.0, min_piece_s=0.4, shard_mb=0.02, held_out=0.3)

MANY_ITEMS = replace(SMALL, item_s=2.0, piece_s=0.6)


def film_at(path: Path) -> Film:
    """Describe a film, as an index does."""
    num_bytes = path.stat().st_size
    return Film(path.name, num_bytes, "", sample_sha256(str(path), num_bytes), probe(path))


def index_of(folder: Path) -> str:
    """Write an index of a folder's films beside it."""
    path = folder.with_suffix(".parquet")
    write_index(path, [film_at(film) for film in sorted(folder.iterdir())], str(folder))
    return str(path)


def write_films(folder: Path, count: int = 6, num_frames: int = 60) -> Path:
    """Write films of 2.4 s, 25 frames a second, each frame with its number."""
    folder.mkdir()
    for number in range(count):
        write_film(folder / f"film.{number}.mp4", num_frames + 5 * number, fps=25.0)
    return folder


def rows_of(corpus: Path, split: str = "train") -> list[Piece]:
    """Read the index of a split."""
    table = RowTable(corpus / f"{split}.parquet", pieces.KIND)
    return [Piece(**table.row(number)) for number in range(len(table))]


def timing_of(corpus: Path, split: str = "train") -> Timing:
    """Read what the index says of all pieces."""
    return Timing.from_metadata(RowTable(corpus / f"{split}.parquet", pieces.KIND).metadata)


def all_rows(corpus: Path) -> list[Piece]:
    """Read the indexes of both splits."""
    return rows_of(corpus) + rows_of(corpus, "held_out")


def mp4_of(corpus: Path, piece: Piece) -> bytes:
    """Read a piece by its offset."""
    with (corpus / piece.shard).open("rb") as shard:
        shard.seek(piece.offset)
        return shard.read(piece.num_bytes)


def pictures_of(mp4: bytes) -> list[np.ndarray]:
    """Decode a piece, as any reader would, into pictures of H W 3."""
    with av.open(io.BytesIO(mp4)) as film:
        return [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]


def numbers_of(corpus: Path, piece: Piece) -> list[int]:
    """Read the frame numbers that a piece shows."""
    return [read_number(picture) for picture in pictures_of(mp4_of(corpus, piece))]


def dropped_of(corpus: Path) -> list[dict]:
    """Read what was dropped."""
    return pq.read_table(corpus / "dropped.parquet").to_pylist()


def counts_of(corpus: Path) -> dict:
    """Read the counts."""
    return json.loads((corpus / "prepare.json").read_text())["counts"]


def bytes_of(corpus: Path) -> dict[str, str]:
    """Hash every file of a folder."""
    hashes = {}
    for path in sorted(path for path in corpus.rglob("*") if not path.is_dir()):
        hashes[str(path.relative_to(corpus))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return hashes


def members_of(corpus: Path) -> dict[str, bytes]:
    """Read all members of all shards."""
    found = {}
    for path in sorted((corpus / "shards").iterdir()):
        with tarfile.open(path) as tar:
            for member in tar:
                assert member.name not in found
                found[member.name] = tar.extractfile(member).read()
    return found
