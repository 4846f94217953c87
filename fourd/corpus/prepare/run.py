"""Prepare a corpus, from sources to shards; each step is skipped where an earlier run did it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fourd import provenance
from fourd.corpus.backends import Workers, do_all
from fourd.corpus.prepare.added import tell_added
from fourd.corpus.prepare.config import PrepareConfig
from fourd.corpus.prepare.folder import CorpusFolder, commit, locked, remove_work, scratch, take
from fourd.corpus.prepare.items import ItemJob, do_item, read_items
from fourd.corpus.prepare.outcome import counts_of, describe, usable_lengths, write_unusable
from fourd.corpus.prepare.piece_file import require_encoder
from fourd.corpus.prepare.plan import items_of, span_s, why_unusable
from fourd.corpus.prepare.progress import StageProgress
from fourd.corpus.prepare.selection import choose
from fourd.corpus.prepare.shards import ShardJob, pack_shard, write_indexes
from fourd.index import build
from fourd.index.films import KIND as FILM_KIND
from fourd.index.films import Film, FilmIndex
from fourd.index.table import kind_of
from fourd.isolation import Limits

SPAN_LIMITS = Limits(seconds=7200.0)
"""What ten minutes of film may cost; the clock is there for what hangs, and for nothing else."""


@dataclass(frozen=True)
class Prepared:
    """Say what a corpus holds.

    counts: as in `prepare.json`. cpu_s: seconds of a processor that encoding took in all runs together, or None where
    the corpus was complete before. added: how many films the sources have now that the corpus was
    not made of; None where they could not be searched. An index of films is always what it was.
    """

    counts: dict[str, Any]
    cpu_s: float | None
    added: int | None = 0


def prepare(
    sources: Sequence[str],
    out: str | os.PathLike[str],
    config: PrepareConfig | None = None,
    workers: Workers | None = None,
    limits: Limits = SPAN_LIMITS,
) -> Prepared:
    """Make a corpus of films in the folder `out`, or go on making it.

    sources: one index of films (`fourd data index`), or what such an index is made of. limits: of one span of film,
    about ten minutes; a longer one may take as much longer, up to 24 times.
    Raises: ValueError where `out` was begun with other options, or is another's; ImportError where the encoder or the
    backend is not installed; OSError where films or the folder cannot be read or written for no fault of a film.
    """
    require_encoder()
    config, workers = config or PrepareConfig(), workers or Workers()
    folder = CorpusFolder(Path(out).expanduser().absolute())
    folder.out.mkdir(parents=True, exist_ok=True)
    task = {"sources": [_absolute(source) for source in sources], "config": provenance.describe(config)}
    if is_index(sources):
        task["films"] = FilmIndex(sources[0]).table.fingerprint
    added = tell_added(sources, folder.films) if folder.films.exists() else 0
    if folder.description.exists() and not folder.work.exists():
        take(folder, task)
        return Prepared(json.loads(folder.description.read_text())["counts"], None, added)
    with locked(folder):
        take(folder, task)
        if not folder.description.exists():
            _Preparation(folder, config, workers, limits).run(task)
        counts, cpu_s = json.loads(folder.description.read_text())["counts"], _cpu_s(folder)
        remove_work(folder)
    return Prepared(counts, cpu_s, added)


def is_index(sources: Sequence[str]) -> bool:
    """Tell whether sources are one index of films; raise ValueError where one is among others."""
    indexes = [source for source in sources if _is_film_index(source)]
    if indexes and len(sources) > 1:
        raise ValueError(f"{indexes[0]} is an index of films: prepare it alone, or name the films' sources instead")
    return bool(indexes)


def _is_film_index(source: str) -> bool:
    if not source.endswith(".parquet") or "://" in source:
        return False
    kind = kind_of(Path(source).expanduser())
    if kind.startswith("fourd") and kind != FILM_KIND:
        raise ValueError(
            f"{source} is a {kind!r}: expected a {FILM_KIND!r}, or where the films are. Run `fourd data index` again"
        )
    return kind == FILM_KIND


def _absolute(source: str) -> str:
    return source if "://" in source else os.path.abspath(os.path.expanduser(source))


class _Preparation:
    """Go through the steps, each of which leaves files that the next one reads."""

    def __init__(self, folder: CorpusFolder, config: PrepareConfig, workers: Workers, limits: Limits) -> None:
        self.folder, self.config, self.workers, self.limits = folder, config, workers, limits

    def run(self, task: dict[str, Any]) -> None:
        """Do what is not yet done; the corpus's description comes last."""
        index = self._films(task)
        num_items = self._encode(index)
        self._select(index, num_items)
        self._pack()
        write_indexes(self.folder, self._kept()["shard"].unique().to_pylist(), self.config.timing)
        counts = json.loads(pq.read_schema(self.folder.selection).metadata[b"counts"])
        describe(self.folder, {**task, "films": index.table.fingerprint}, counts)

    def _films(self, task: dict[str, Any]) -> FilmIndex:
        """Open the index that was named, or make one; films that change from then on are no longer used."""
        if "films" in task:
            return FilmIndex(task["sources"][0])
        if not self.folder.films.exists():
            made = self.folder.work / "index" / "films.parquet"
            build.build_index(task["sources"], made, num_workers=self.workers.workers)
            commit(made, self.folder.films)
        return FilmIndex(self.folder.films)

    def _encode(self, index: FilmIndex) -> int:
        """Do the items that are not done, and count all."""
        self._num_items = 0
        self._hours: dict[int, float] = {}
        with StageProgress("encode", _hours_of_film(index, self.config), "hours of film") as progress:
            for number in do_all(do_item, self._item_jobs(index, progress), self.workers):
                progress.done(self._hours.pop(number))
        return self._num_items

    def _item_jobs(self, index: FilmIndex, progress: StageProgress) -> Iterator[ItemJob]:
        for item in items_of(_usable(index, self.config), self.config):
            self._num_items += 1
            hours = sum(span_s(span, self.config) for span in item.spans) / 3600
            if self.folder.item(item.number, ".parquet").exists():
                progress.skip(hours)
            else:
                self._hours[item.number] = hours
                yield ItemJob(self.folder.out, index.root, item, self.config, self.limits)

    def _select(self, index: FilmIndex, num_items: int) -> None:
        """Choose the pieces, and list what is not among them."""
        if self.folder.selection.exists():
            return
        done = read_items(self.folder, num_items)
        choice = choose(done.rows, self.config)
        counts = counts_of(index, done.rows, choice, self.config)
        about = {"counts": json.dumps(counts), "cpu_s": str(done.cpu_s)}
        with scratch(self.folder) as place:
            write_unusable(place / "unusable.csv", index, done.rows, self.config)
            commit(place / "unusable.csv", self.folder.out / "unusable.csv")
            pq.write_table(choice.dropped, place / "dropped.parquet", compression="zstd")
            commit(place / "dropped.parquet", self.folder.out / "dropped.parquet")
            pq.write_table(choice.kept.replace_schema_metadata(about), place / "selection.parquet")
            commit(place / "selection.parquet", self.folder.selection)

    def _kept(self) -> pa.Table:
        return pq.read_table(self.folder.selection)

    def _pack(self) -> None:
        """Make the shards that are not there."""
        kept = self._kept()
        gigabytes = dict(zip(*_bytes_by_shard(kept), strict=True))
        with StageProgress("pack", sum(gigabytes.values()), "GB") as progress:
            for name in do_all(pack_shard, self._shard_jobs(kept, progress, gigabytes), self.workers):
                progress.done(gigabytes[name])

    def _shard_jobs(self, kept: pa.Table, progress: StageProgress, gigabytes: dict[str, float]) -> Iterator[ShardJob]:
        counts = kept["shard"].value_counts().to_pylist()  # in the order in which they come
        start = 0
        for count in counts:
            name, rows = count["values"], kept.slice(start, count["counts"])
            start += count["counts"]
            if self.folder.shard_rows(name).exists():
                progress.skip(gigabytes[name])
            else:
                yield ShardJob(self.folder.out, name, rows.to_pylist(), float(self.config.rate))


def _usable(index: FilmIndex, config: PrepareConfig) -> Iterator[Film]:
    for film in index.films():
        if film.info is not None:
            last_s = float(film.info.frame_times_s[-1])
            if why_unusable(film.info.num_frames, last_s, config) is None:
                yield film


def _hours_of_film(index: FilmIndex, config: PrepareConfig) -> float:
    groups = index.table.groups(["num_frames", "last_s"])
    return sum(sum(usable_lengths(group, config)) for group in groups) / 3600


def _bytes_by_shard(kept: pa.Table) -> tuple[list[str], list[float]]:
    sums = kept.group_by("shard", use_threads=False).aggregate([("num_bytes", "sum")])
    return sums["shard"].to_pylist(), [num_bytes / 1e9 for num_bytes in sums["num_bytes_sum"].to_pylist()]


def _cpu_s(folder: CorpusFolder) -> float | None:
    if not folder.selection.exists():
        return None
    return float(pq.read_schema(folder.selection).metadata[b"cpu_s"])
