"""Choose, over all items, which pieces are kept, for which purpose, and in which shard each goes.

It is a function of the pieces and the config, whichever worker made them, and in whatever order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int64, UInt8, UInt64

from fourd.corpus.prepare.config import PrepareConfig
from fourd.corpus.prepare.looks import HASH_BYTES, bits_apart, earlier_duplicate

SPLITS = ("train", "held_out")

NEAR_STATIC, NEAR_DUPLICATE = "near-static", "near-duplicate"

DROPPED = pa.schema(
    [
        ("key", pa.string()),
        ("path", pa.string()),
        ("start_s", pa.float64()),
        ("num_frames", pa.int32()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)


@dataclass(frozen=True, eq=False)
class Choice:
    """Hold what is kept, in the order of the shards with a column `shard` that names each, and what was dropped."""

    kept: pa.Table
    dropped: pa.Table


def choose(rows: pa.Table, config: PrepareConfig) -> Choice:
    """Drop what the config does not want, and put the rest into shards."""
    details = _details(rows, config)
    encoded = rows["num_bytes"].to_numpy() > 0
    wanted = encoded & np.array([detail is None for detail in details], bool)
    return Choice(_in_shards(rows.filter(wanted), config), _dropped(rows, details))


# ----------------------------------------------------------------------------- what is dropped


def _details(rows: pa.Table, config: PrepareConfig) -> list[tuple[str, str] | None]:
    """Say why a piece is dropped, as a reason and what was found, or nothing."""
    found: list[tuple[str, str] | None] = [None if why is None else (why, "") for why in rows["dropped"].to_pylist()]
    encoded, motion = rows["num_bytes"].to_numpy() > 0, rows["motion"].to_numpy()
    static = encoded & (motion < config.min_motion)
    for place in np.flatnonzero(static).tolist():
        found[place] = (NEAR_STATIC, f"moves by {motion[place]:.3f}, less than {config.min_motion:g}")
    if config.drop_duplicates:
        _mark_duplicates(found, rows, encoded & ~static, config.duplicate_bits)
    return found


def _mark_duplicates(
    found: list[tuple[str, str] | None], rows: pa.Table, among: Bool[np.ndarray, " n"], max_bits: int
) -> None:
    places = np.flatnonzero(among)
    by_key = places[pc.sort_indices(rows["key"].take(places)).to_numpy()]
    looks = _as_bytes(rows["looks"].take(by_key))
    for place, earlier in zip(by_key.tolist(), earlier_duplicate(looks, max_bits).tolist(), strict=True):
        if earlier >= 0:
            other = int(by_key[earlier])
            bits = bits_apart(rows["looks"][place].as_py(), rows["looks"][other].as_py())
            found[place] = (NEAR_DUPLICATE, f"of {rows['key'][other]}: {bits} of {8 * HASH_BYTES} bits differ")


def _as_bytes(column: pa.ChunkedArray) -> UInt8[np.ndarray, "n 32"]:
    joined = b"".join(column.to_pylist())
    return np.frombuffer(joined, np.uint8).reshape(-1, HASH_BYTES)


def _dropped(rows: pa.Table, details: Sequence[tuple[str, str] | None]) -> pa.Table:
    places = [place for place, detail in enumerate(details) if detail is not None]
    told = [detail for detail in details if detail is not None]
    table = rows.select(["key", "path", "start_s", "num_frames"]).take(pa.array(places, pa.int64()))
    table = table.append_column("reason", pa.array([reason for reason, _ in told], pa.string()))
    table = table.append_column("detail", pa.array([detail for _, detail in told], pa.string()))
    return table.cast(DROPPED).sort_by("key")


# ----------------------------------------------------------------------------- where the rest goes


def is_held_out(path: str, share: float) -> bool:
    """Tell whether a film is for validation. It depends on its path alone, so films that come later change nothing."""
    drawn = int.from_bytes(hashlib.blake2b(path.encode(), digest_size=8, person=b"held out").digest())
    return drawn < share * 2**64


def _in_shards(rows: pa.Table, config: PrepareConfig) -> pa.Table:
    held_out = np.array([is_held_out(path.as_py(), config.held_out) for path in rows["path"]], bool)
    parts = [_one_split(rows.filter(held_out == (split == "held_out")), split, config) for split in SPLITS]
    return pa.concat_tables(parts)


def _one_split(rows: pa.Table, split: str, config: PrepareConfig) -> pa.Table:
    """Order pieces by a keyed hash, so that neighbours are from different films, and cut them into like shards."""
    ordered = rows.take(np.argsort(_draws(rows["key"], config.seed), kind="stable"))
    sizes = ordered["num_bytes"].to_numpy().astype(np.int64)
    total = int(sizes.sum())
    num_shards = max(1, round(total / (config.shard_mb * 10**6)))
    starts = [-(-total * number // num_shards) for number in range(num_shards)]  # the products pass 64 bits
    numbers = np.searchsorted(np.array(starts, np.int64), np.cumsum(sizes) - sizes, side="right") - 1
    names = [f"{split}-{number:05d}" for number in _without_gaps(numbers).tolist()]
    return ordered.append_column("shard", pa.array(names, pa.string()))


def _draws(keys: pa.ChunkedArray, seed: int) -> UInt64[np.ndarray, " n"]:
    secret = str(seed).encode()
    hashed = (hashlib.blake2b(key.as_py().encode(), digest_size=8, key=secret).digest() for key in keys)
    return np.frombuffer(b"".join(hashed), ">u8").astype(np.uint64)


def _without_gaps(numbers: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Give shards numbers that leave none out, where a piece is larger than a shard."""
    return np.unique(numbers, return_inverse=True)[1].reshape(-1).astype(np.int64)
