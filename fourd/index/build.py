"""Make an index of films, or bring it up to date: only what is new or changed is read."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fourd.index.films import KIND, Film, FilmIndex, write_rows
from fourd.index.journal import Journal
from fourd.index.known import Known, Source, anything, of_index, of_journal, settled, settled_without_harm
from fourd.index.looking import FilmAddress, Seen, look_into, sample_sha256
from fourd.index.scan import EXTENSIONS, FoundFile, FoundFiles, find_files
from fourd.index.summary import IndexSummary, summarize
from fourd.index.table import kind_of
from fourd.isolation import Failure, Limits, isolated_map

__all__ = ["IndexSummary", "build_index", "earlier_index", "probe_all", "sample_sha256"]


def build_index(
    sources: Sequence[str],
    out: str | os.PathLike[str],
    *,
    extensions: Sequence[str] = EXTENSIONS,
    num_workers: int | None = None,
    limits: Limits | None = None,
    looks_again: bool = False,
) -> IndexSummary:
    """Index all films of `sources` (see `find_files`) in the file `out`, each probed in a process that may fail.

    Rows of an earlier index whose path, size and version are the same are taken over. However it is stopped, the same
    call goes on. num_workers: processes; None takes one per processor. looks_again: probe films once more that crashed,
    hung or took too much memory. Processes that make the same index wait for one another.
    Raises: ValueError where `out` is another kind of file; OSError where films cannot be read for no fault of theirs.
    """
    out = Path(out).expanduser()
    with _alone(out):
        earlier = earlier_index(out)
        with _console().status("Searching for films"):
            files = find_files(sources, extensions)
        journal = Journal(out.with_name(f".{out.name}.parts"))
        known = Known(_sources(earlier, journal), files.root, settled_without_harm if looks_again else settled)
        plan = _plan(known, files)
        if plan.num_new:
            films = probe_all(files.root, _new_files(known, files), plan.num_new, num_workers, limits or Limits())
            _keep(films, journal, files.root, plan.num_new)
            known = Known(_sources(earlier, journal), files.root, anything)
        if plan.num_new or plan.is_changed or earlier is None or earlier.root != files.root:
            write_rows(out, known.rows(files), files.root)
        journal.remove()
    return summarize(FilmIndex(out), plan.num_new, plan.num_gone)


def _console() -> Console:
    return Console(stderr=True)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keep other processes, such as the ranks of one run, from making the same index at the same time."""
    out.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out.with_name(f".{out.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _console().print(f"Another process makes {out}: waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)  # who waits for it finds that it is gone, and makes a new one
        lock.release()


# ----------------------------------------------------------------------------- what there is to do


def earlier_index(out: Path) -> FilmIndex | None:
    """Open the index that is to be brought up to date; None where there is none, or one of an older form.

    Raises: ValueError where another kind of file is there.
    """
    if not out.exists():
        return None
    try:
        is_older = kind_of(out) != KIND and kind_of(out).startswith(KIND.rstrip("0123456789"))
        return None if is_older else FilmIndex(out)
    except ValueError as error:
        raise ValueError(f"{error}. To index films here, delete it, or name another place") from error


def _sources(earlier: FilmIndex | None, journal: Journal) -> list[Source]:
    return [*([of_index(earlier)] if earlier is not None else []), *map(of_journal, journal.parts())]


@dataclass(frozen=True)
class _Plan:
    num_new: int
    num_gone: int
    is_changed: bool


def _plan(known: Known, files: FoundFiles) -> _Plan:
    """Count what has to be looked into, and find out whether the earlier index may stay as it is."""
    num_new = num_gone = 0
    is_changed = False
    for match in known.matches(files):
        num_new += match.is_new
        num_gone += match.file is None and match.in_index is not None
        is_changed |= not match.is_as_indexed
    return _Plan(num_new, num_gone, is_changed)


def _new_files(known: Known, files: FoundFiles) -> Iterator[FoundFile]:
    return (match.file for match in known.matches(files) if match.is_new and match.file is not None)


# ----------------------------------------------------------------------------- looking into films


def probe_all(
    root: str, files: Iterable[FoundFile], num_files: int, num_workers: int | None, limits: Limits
) -> Generator[Film, None, None]:
    """Look into files side by side, each in a process that may fail, and show the time left."""
    crew = max(min(num_workers or _num_processors(), num_files), 1)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    tasks = (FilmAddress(root, file.path, file.num_bytes, file.version) for file in files)
    with (
        Progress(*columns, console=_console()) as progress,
        closing(isolated_map(look_into, tasks, crew, limits)) as looked,
    ):
        for task, seen in progress.track(looked, total=num_files, description="Looking into films"):
            yield _film(task, seen)


def _film(task: FilmAddress, seen: Seen | Failure) -> Film:
    """Say what is known now."""
    if isinstance(seen, Failure):
        return Film(task.path, task.num_bytes, task.version, "", None, seen.reason)
    return Film(task.path, task.num_bytes, task.version, seen.fingerprint, seen.info, seen.reason)


def _num_processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _keep(films: Generator[Film, None, None], journal: Journal, root: str, num_films: int) -> None:
    """Write down what is found out; say what is kept where something stops it."""
    num_kept = 0
    with closing(films), journal.begin(root) as writer:
        try:
            for film in films:
                writer.write(film)
                num_kept += 1
        except (OSError, KeyboardInterrupt):
            _console().print(f"Stopped: {num_kept} of {num_films} films are kept, and the same command goes on.")
            raise
