"""Pack pieces into a shard: a plain tar file, in which each piece is an MP4 and a JSON of the same name."""

from __future__ import annotations

import json
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from fourd.corpus.prepare.folder import CorpusFolder, commit, scratch, shard_path
from fourd.corpus.prepare.selection import SPLITS
from fourd.index import pieces
from fourd.index.pieces import Piece, Timing
from fourd.index.table import ROWS_PER_GROUP, RowWriter


@dataclass(frozen=True)
class ShardJob:
    """Say which pieces go into a shard, in order: rows of the selection. fps: of all pieces."""

    out: Path
    name: str
    rows: Sequence[Mapping[str, Any]]
    fps: float


def pack_shard(job: ShardJob) -> str:
    """Pack a shard unless that was done, and give its name."""
    folder = CorpusFolder(job.out)
    done = folder.shard_rows(job.name)
    if not done.exists():
        with scratch(folder) as place:
            with (place / "shard.tar").open("wb") as tar:
                rows = [asdict(piece) for piece in _packed(job, folder, tar)]
            commit(place / "shard.tar", folder.shard(job.name))
            pq.write_table(pa.Table.from_pylist(rows, schema=pieces.SCHEMA), place / "rows.parquet")
            commit(place / "rows.parquet", done)
    return job.name


def _packed(job: ShardJob, folder: CorpusFolder, tar: BinaryIO) -> Iterator[Piece]:
    """Write the pieces, and say where each lies."""
    for row in job.rows:
        content = _read(folder.work / row["data"], row)
        offset = _add(tar, f"{row['key']}.mp4", content)
        _add(tar, f"{row['key']}.json", _about(row, job.fps))
        named = {name: row[name] for name in ("key", "num_bytes", "crc32", "width", "height", "num_frames", "start_s")}
        yield Piece(group=row["path"], shard=shard_path(job.name), offset=offset, **named)
    tar.write(bytes(2 * tarfile.BLOCKSIZE))
    tar.write(bytes(-tar.tell() % tarfile.RECORDSIZE))


def _read(path: Path, row: Mapping[str, Any]) -> bytes:
    """Read a piece from its item's file; raise OSError where that is not what was written."""
    with path.open("rb") as file:
        file.seek(row["offset"])
        content = file.read(row["num_bytes"])
    if len(content) != row["num_bytes"] or zlib.crc32(content) != row["crc32"]:
        raise OSError(f"{path}: its bytes are not those that were written. Delete {path.with_suffix('.parquet')}")
    return content


def _about(row: Mapping[str, Any], fps: float) -> bytes:
    about = {"source": row["path"], "start_s": row["start_s"], "fps": fps, "frames": row["num_frames"]}
    return json.dumps(about).encode()


def _add(tar: BinaryIO, name: str, content: bytes) -> int:
    """Append a file that tells of no owner and no time, and give the offset of its bytes."""
    header = tarfile.TarInfo(name)
    header.size, header.mode = len(content), 0o644
    tar.write(header.tobuf(tarfile.PAX_FORMAT))
    offset = tar.tell()
    tar.write(content)
    tar.write(bytes(-len(content) % tarfile.BLOCKSIZE))
    return offset


def write_indexes(folder: CorpusFolder, names: Sequence[str], timing: Timing) -> None:
    """Join the rows of all shards into one index for each split, which may be empty."""
    for split in SPLITS:
        chosen = [name for name in names if name.startswith(f"{split}-")]
        aside = folder.work / "index" / f"{split}.parquet"
        with RowWriter(aside, pieces.SCHEMA, pieces.KIND, **timing.metadata()) as writer:
            for table in _in_groups(pq.read_table(folder.shard_rows(name)) for name in chosen):
                writer.write_table(table)
        commit(aside, folder.out / f"{split}.parquet")


def _in_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Join the rows of shards, and cut them into groups that are read together: one shard has far fewer."""
    held = pieces.SCHEMA.empty_table()
    for table in tables:
        held = pa.concat_tables([held, table])
        while len(held) >= ROWS_PER_GROUP:
            yield held.slice(0, ROWS_PER_GROUP)
            held = held.slice(ROWS_PER_GROUP)
    yield held
