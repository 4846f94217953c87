"""Measure what opening an index of 170 million pieces costs, and check that rows drawn from it are the right ones.

    python benchmarks/large_index.py --folder FOLDER [--rows 170_000_000]

writes a real index, with what `fourd data prepare` writes in each column, unless it is there; then a fresh process
opens it as `VideoShards` and draws the first clip of a run, and looks up rows drawn at random. What an index says of
row `n` is a function of `n`, so that each looked-up row is compared with what was written. Exits with 1 where one
differs, or where opening takes longer or more memory than stated. Delete FOLDER afterwards (6 GB at full size).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64, UInt64
from rich.progress import track

from fourd.index.pieces import KIND, SCHEMA, Piece, Timing
from fourd.index.table import RowTable, RowWriter

PIECES_PER_SHARD = 8192
PIECES_PER_FILM = 12
SHARDS_AT_ONCE = 64
LONGEST_S, MOST_MB = 5.0, 200.0
TIMING = Timing("h264", Fraction(1, 12800), 1024, 16)


def mixed(numbers: Int64[np.ndarray, " n"], salt: int) -> UInt64[np.ndarray, " n"]:
    """Turn numbers into ones that look random (the finaliser of splitmix64)."""
    mixed = numbers.astype(np.uint64) + np.uint64(salt * 0x9E3779B97F4A7C15 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))


def shards(first: int, stop: int, num_rows: int) -> pa.Table:
    """Make up the rows of shards `first` to `stop`; neighbours are from different films, as after preparing."""
    rows = np.arange(first * PIECES_PER_SHARD, min(stop * PIECES_PER_SHARD, num_rows))
    film = (mixed(rows, 1) % np.uint64(max(num_rows // PIECES_PER_FILM, 1))).astype(np.int64)
    name = mixed(film, 2)
    num_bytes = (150_000 + mixed(rows, 3) % np.uint64(1_200_000)).astype(np.int64)
    is_wide = mixed(film, 4) % np.uint64(5) > 0
    number = mixed(rows, 5) % np.uint64(1000)
    columns = {
        "key": _text("", name, "-", rows),
        "group": _text("films/", name, ".mp4"),
        "shard": _shard_names(rows),
        "offset": _offsets(num_bytes, len(rows)),
        "num_bytes": num_bytes,
        "crc32": (mixed(rows, 6) >> np.uint64(32)).astype(np.uint32),
        "width": np.where(is_wide, 456, 256),
        "height": np.where(is_wide, 256, 456),
        "num_frames": 375 - (mixed(rows, 7) % np.uint64(20) == 0) * (mixed(rows, 8) % np.uint64(300)).astype(np.int64),
        "start_s": number * 30.0,
    }
    arrays = [pa.array(column) if isinstance(column, np.ndarray) else column for column in columns.values()]
    return pa.table(arrays, names=list(columns)).cast(SCHEMA)


def _text(*parts: str | np.ndarray) -> pa.Array:
    columns = [part if isinstance(part, str) else pc.cast(pa.array(part), pa.string()) for part in parts]
    return pc.binary_join_element_wise(*columns, "")


def _shard_names(rows: Int64[np.ndarray, " n"]) -> pa.Array:
    numbers, places = np.unique(rows // PIECES_PER_SHARD, return_inverse=True)
    names = [f"shards/train-{number:06d}.tar" for number in numbers]
    return pa.DictionaryArray.from_arrays(pa.array(places, pa.int32()), pa.array(names, pa.string()))


def _offsets(num_bytes: Int64[np.ndarray, " n"], num_rows: int) -> Int64[np.ndarray, " n"]:
    """Say where pieces begin in their shards: each stands behind a header, and before its padding and a JSON file."""
    taken = 512 + -(-num_bytes // 512) * 512 + 1024
    padded = np.zeros(-(-num_rows // PIECES_PER_SHARD) * PIECES_PER_SHARD, np.int64)
    padded[:num_rows] = taken
    by_shard = padded.reshape(-1, PIECES_PER_SHARD)
    return (np.cumsum(by_shard, axis=1) - by_shard).reshape(-1)[:num_rows] + 512


def write_index(path: Path, num_rows: int) -> None:
    """Write an index, some shards at once."""
    num_shards = -(-num_rows // PIECES_PER_SHARD)
    with RowWriter(path, SCHEMA, KIND, **TIMING.metadata()) as writer:
        for first in track(range(0, num_shards, SHARDS_AT_ONCE), description="writing"):
            writer.write_table(shards(first, min(first + SHARDS_AT_ONCE, num_shards), num_rows))


def expected(row: int, num_rows: int) -> Piece:
    """Make up one row again."""
    shard, place = divmod(row, PIECES_PER_SHARD)
    return Piece(**shards(shard, shard + 1, num_rows).slice(place, 1).to_pylist()[0])


def measure(path: Path, num_draws: int) -> dict[str, Any]:
    """Open the index, draw the first clip of a run, and look up rows drawn at random, in this process."""
    from fourd.datasets.video_shards import index
    from fourd.loader import draw
    from fourd.telemetry import StepProgress  # noqa: F401  imported, as by a run, before memory is looked at

    process = psutil.Process()  # every piece is long enough for the default clip: pieces and rows have the same numbers
    before, begin = process.memory_info().rss, time.perf_counter()
    dataset = index(str(path)).build()
    first = dataset.piece(draw(0, len(dataset), 0).index)
    opened_s, opened = time.perf_counter() - begin, process.memory_info().rss
    numbers = [draw(position, len(dataset), 0).index for position in range(num_draws)]
    begin = time.perf_counter()
    found = [dataset.piece(number) for number in numbers]
    row_s = (time.perf_counter() - begin) / num_draws
    assert found[0] == first
    after = {"start_s": opened_s, "start_mb": (opened - before) / 1e6, "row_ms": row_s * 1e3, "pieces": len(dataset)}
    after["drawn_mb"] = (process.memory_info().rss - before) / 1e6
    return after | {"rows": numbers, "found": [vars(piece) for piece in found]}


def main() -> None:
    """Write the index unless it is there, measure in a fresh process, compare, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=170_000_000)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--measure-only", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    path = options.folder / f"{options.rows}.parquet"
    if options.measure_only:
        print(json.dumps(measure(path, options.draws)))
        return
    if not path.exists():
        begin = time.perf_counter()
        write_index(path, options.rows)
        print(f"written in {time.perf_counter() - begin:.0f} s: {path.stat().st_size / 1e9:.2f} GB", flush=True)
    command = [sys.executable, __file__, "--measure-only", *sys.argv[1:]]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    sys.exit(report(found, RowTable(path, KIND), path))


def report(found: dict[str, Any], table: RowTable, path: Path) -> int:
    """Print the measurements, compare the rows with what was written, and give the exit status."""
    pairs = zip(found["rows"], found["found"], strict=True)
    wrong = [row for row, piece in pairs if Piece(**piece) != expected(row, len(table))]
    print(f"{len(table)} rows in {table.num_groups} groups, {path.stat().st_size / 1e9:.2f} GB")
    print(f"{found['pieces']} pieces long enough; open and first draw: {found['start_s']:.2f} s")
    print(f"added resident memory: {found['start_mb']:.0f} MB, after the draws {found['drawn_mb']:.0f} MB")
    print(
        f"a random row: {found['row_ms']:.2f} ms; {len(found['rows']) - len(wrong)} of {len(found['rows'])} as written"
    )
    if wrong:
        print(f"rows that differ: {wrong}")
    return int(bool(wrong) or found["start_s"] > LONGEST_S or found["start_mb"] > MOST_MB)


if __name__ == "__main__":
    main()
