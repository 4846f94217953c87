"""Make an index of films, or bring it up to date: only what is new or changed is read."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fourd.index.films import Film, FilmIndex, film_source, write_films
from fourd.index.scan import EXTENSIONS, FoundFile, find_files
from fourd.isolation import Failure, Limits, isolated_map
from fourd.media import FilmSource, StoredFile, UnreadableVideo, probe

_FILMS_PER_PART = 1000
"""Films after which what is known is saved, so that a stop loses no more."""

_SECONDS_PER_PART = 30.0

_SAMPLE_BYTES = 2**20


@dataclass(frozen=True)
class IndexSummary:
    """Say what an index holds, and what this time brought."""

    num_usable: int
    num_damaged: int
    reasons: Counter[str]
    num_frames: int
    seconds: float
    num_bytes: int
    num_read: int
    num_gone: int


def build_index(
    sources: Sequence[str],
    out: str | os.PathLike[str],
    *,
    extensions: Sequence[str] = EXTENSIONS,
    num_workers: int | None = None,
    limits: Limits | None = None,
) -> IndexSummary:
    """Index all films of `sources` (see `find_files`) in the file `out`, each probed in a process that may fail.

    Rows of an earlier index whose path, size and version are the same are taken over. A stop loses at most the last
    few films: the same call goes on. num_workers: processes; None takes one per processor.
    Raises: ValueError where `out` is another kind of file; OSError where films cannot be read for no fault of theirs.
    """
    out = Path(out).expanduser()
    root, files = find_files(sources, extensions)
    known = _Known(out, root)
    num_gone = known.count_gone(files)
    new = [file for file in files if file.reason is None and not known.has(file)]
    num_workers = min(num_workers or os.cpu_count() or 1, max(len(new), 1))
    for films in _parts(probe_all(root, new, num_workers, limits or Limits())):
        known.add(films)
    if new or num_gone or not known.is_the_same(files):
        write_films(out, (known.film(file) for file in files), root)
    known.forget_parts()
    return _summary(FilmIndex(out), len(new), num_gone)


# ----------------------------------------------------------------------------- looking into films


@dataclass(frozen=True)
class _Task:
    root: str
    file: FoundFile


def probe_all(root: str, files: Sequence[FoundFile], num_workers: int, limits: Limits) -> Generator[Film, None, None]:
    """Look into files side by side, each in a process of its own, and show the time left."""
    if not files:
        return
    tasks = (_Task(root, file) for file in files)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, console=Console(stderr=True)) as progress,
        closing(isolated_map(look_into, tasks, num_workers, limits)) as looked,
    ):
        for task, found in progress.track(looked, total=len(files), description="Looking into the films"):
            yield _failed(task.file, found.reason) if isinstance(found, Failure) else found


def _failed(file: FoundFile, reason: str) -> Film:
    return Film(file.path, file.num_bytes, file.version, "", None, reason)


def look_into(task: _Task) -> Film:
    """Describe one file; raise OSError where it cannot be read for no fault of its own."""
    file = task.file
    source = film_source(task.root, file.path, file.num_bytes)
    try:
        info = probe(source)
    except UnreadableVideo as error:
        return _failed(file, error.reason)
    return Film(file.path, file.num_bytes, file.version, sample_sha256(source, file.num_bytes), info)


def sample_sha256(source: FilmSource, num_bytes: int) -> str:
    """Hash a file's size, its first and its last MiB, by which it is known again wherever it lies."""
    digest = hashlib.sha256(str(num_bytes).encode())
    with source.open() if isinstance(source, StoredFile) else open(source, "rb") as file:
        digest.update(file.read(_SAMPLE_BYTES))
        file.seek(max(num_bytes - _SAMPLE_BYTES, 0))
        digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def _parts(films: Generator[Film, None, None]) -> Iterator[list[Film]]:
    """Gather films until they are many or a while has passed; whatever stops this, what is there is given first."""
    part: list[Film] = []
    since = time.monotonic()
    with closing(films):
        try:
            for film in films:
                part.append(film)
                if len(part) == _FILMS_PER_PART or time.monotonic() - since > _SECONDS_PER_PART:
                    yield part
                    part, since = [], time.monotonic()
        except (OSError, KeyboardInterrupt):
            yield part
            raise
    yield part


# ----------------------------------------------------------------------------- what is known already


class _Known:
    """Hold what an earlier index says, and what was found out since, in parts beside it that outlive a stop."""

    def __init__(self, out: Path, root: str) -> None:
        self._folder = out.with_name(f".{out.name}.parts")
        self._earlier = FilmIndex(out) if out.exists() else None
        self._indexes: list[FilmIndex] = []
        self._places: dict[str, tuple[FilmIndex, int, int, str]] = {}
        for index in filter(None, [self._earlier, *map(FilmIndex, sorted(self._folder.glob("*.parquet")))]):
            if index.root == root:
                self._take(index)
        self._root = root

    def _take(self, index: FilmIndex) -> None:
        number = 0
        for group in index.table.groups(["path", "num_bytes", "version"]):
            for path, num_bytes, version in zip(*(column.to_pylist() for column in group.columns), strict=True):
                self._places[path] = (index, number, num_bytes, version)
                number += 1
        self._indexes.append(index)

    def has(self, file: FoundFile) -> bool:
        place = self._places.get(file.path)
        return place is not None and place[2:] == (file.num_bytes, file.version) and bool(file.version)

    def film(self, file: FoundFile) -> Film:
        if file.reason is not None:
            return _failed(file, file.reason)
        index, number, _, _ = self._places[file.path]
        return index.film(number)

    def add(self, films: Iterable[Film]) -> None:
        """Save what was found out."""
        films = list(films)
        if not films:
            return
        path = self._folder / f"{len(list(self._folder.glob('*.parquet'))):06d}.parquet"
        write_films(path, films, self._root)
        self._take(FilmIndex(path))

    def count_gone(self, files: Iterable[FoundFile]) -> int:
        """Count the rows of the earlier index whose files are no longer found."""
        if self._earlier is None or self._earlier.root != self._root:
            return 0
        there = {file.path for file in files}
        earlier = (path for group in self._earlier.table.groups(["path"]) for path in group["path"].to_pylist())
        return sum(path not in there for path in earlier)

    def is_the_same(self, files: Sequence[FoundFile]) -> bool:
        """Tell whether the earlier index says of all files what is known now."""
        if self._earlier is None or self._earlier.root != self._root or len(self._earlier) != len(files):
            return False
        groups = self._earlier.table.groups(["path", "reason"])
        rows = (row for group in groups for row in zip(*(column.to_pylist() for column in group.columns), strict=True))
        return all(
            path == file.path and (file.reason is None or file.reason == reason)
            for (path, reason), file in zip(rows, files, strict=True)
        )

    def forget_parts(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def _summary(index: FilmIndex, num_read: int, num_gone: int) -> IndexSummary:
    reasons: Counter[str] = Counter()
    usable = damaged = frames = num_bytes = 0
    seconds = 0.0
    for group in index.table.groups(["reason", "damage", "num_frames", "last_s", "num_bytes"]):
        for reason, damage, count, last_s, size in zip(*(c.to_pylist() for c in group.columns), strict=True):
            if reason is not None:
                reasons[reason] += 1
                continue
            usable, damaged, frames = usable + 1, damaged + (damage is not None), frames + count
            seconds, num_bytes = seconds + last_s, num_bytes + size
    return IndexSummary(usable, damaged, reasons, frames, seconds, num_bytes, num_read, num_gone)
