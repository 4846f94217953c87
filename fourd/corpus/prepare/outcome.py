"""What came of the films: counts, the list of what cannot be used, and the description of the corpus."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa

import fourd
from fourd.corpus.prepare.config import PrepareConfig
from fourd.corpus.prepare.folder import CorpusFolder, commit_json
from fourd.corpus.prepare.plan import why_unusable
from fourd.corpus.prepare.selection import SPLITS, Choice
from fourd.index.films import FilmIndex

KIND = "fourd prepared corpus 1"


def counts_of(index: FilmIndex, rows: pa.Table, choice: Choice, config: PrepareConfig) -> dict[str, Any]:
    """Count films, hours, pieces and bytes, kept and not."""
    usable, unusable, seconds = 0, 0, 0.0
    for group in index.table.groups(["num_frames", "last_s"]):
        lengths = usable_lengths(group, config)
        usable, unusable, seconds = usable + len(lengths), unusable + len(group) - len(lengths), seconds + sum(lengths)
    return {
        "films": {"used": usable, "unusable": unusable, "hours": round(seconds / 3600, 6)},
        **{split: _count_split(choice.kept, split, config) for split in SPLITS},
        "dropped": dict(sorted(Counter(choice.dropped["reason"].to_pylist()).items())),
        "unusable_pieces": sum(reason is not None for reason in rows["unusable"].to_pylist()),
    }


def usable_lengths(films: pa.Table, config: PrepareConfig) -> list[float]:
    """Give the seconds of each film of use, of columns `num_frames` and `last_s` of an index."""
    both = zip(films["num_frames"].to_pylist(), films["last_s"].to_pylist(), strict=True)
    return [last_s for count, last_s in both if last_s is not None and why_unusable(count, last_s, config) is None]


def _count_split(kept: pa.Table, split: str, config: PrepareConfig) -> dict[str, Any]:
    names = kept["shard"].to_pylist()
    chosen = kept.filter(np.array([name.startswith(f"{split}-") for name in names], bool))
    frames = int(chosen["num_frames"].to_numpy().sum())
    return {
        "pieces": len(chosen),
        "hours": round(frames / float(config.rate) / 3600, 6),
        "films": len(chosen["path"].unique()),
        "shards": len(chosen["shard"].unique()),
        "bytes": int(chosen["num_bytes"].to_numpy().sum()),
    }


def write_unusable(path: Path, index: FilmIndex, rows: pa.Table, config: PrepareConfig) -> None:
    """List what could not be used and why: whole films, and films from a time on. The list may be empty."""
    found = sorted([*_unusable_films(index, config), *_unusable_pieces(rows, config)])
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "from_s", "reason"])
        writer.writerows((name, f"{from_s:.3f}", reason) for name, from_s, reason in found)


def _unusable_films(index: FilmIndex, config: PrepareConfig) -> Iterator[tuple[str, float, str]]:
    """List films of which nothing can be used, from 0 s on, and those that end with damage, from there on."""
    for group in index.table.groups(["path", "reason", "damage", "num_frames", "last_s"]):
        for path, found, damage, count, last_s in zip(*(c.to_pylist() for c in group.columns), strict=True):
            reason = why_unusable(count, last_s, config) if found is None else found
            if reason is not None:
                yield path, 0.0, reason
            elif damage is not None:
                yield path, last_s, damage


def _unusable_pieces(rows: pa.Table, config: PrepareConfig) -> Iterator[tuple[str, float, str]]:
    named = rows.select(["path", "start_s", "num_frames", "num_bytes", "unusable"])
    for path, start_s, num_frames, num_bytes, reason in zip(*(c.to_pylist() for c in named.columns), strict=True):
        if reason is not None:
            yield path, start_s + (num_frames / float(config.rate) if num_bytes else 0.0), reason


def describe(folder: CorpusFolder, task: dict[str, Any], counts: dict[str, Any]) -> None:
    """Write what the corpus is, which also says that it is complete."""
    libraries = {name: ".".join(map(str, version)) for name, version in av.library_versions.items()}
    versions = {"fourd": fourd.__version__, "pyav": av.__version__, **libraries}
    commit_json(folder, folder.description, {"kind": KIND, **task, "counts": counts, "versions": versions})
