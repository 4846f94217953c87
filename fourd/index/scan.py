"""From sources to files: folders, patterns, lists and object stores are searched, and nothing is opened yet."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby, islice
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from fourd.index.lists import LISTS, names_in
from fourd.index.looking import FORBIDDEN, NO_FILE
from fourd.index.remote import is_url, list_remote, local_path_of, look_up
from fourd.index.roots import CommonRoot

EXTENSIONS = (
    *(".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi"),
    *(".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".flv", ".wmv", ".ogv"),
)
"""The endings of a film's name, in small letters."""


class FoundFile(NamedTuple):
    """Name a file, and say by what it is known again, or why it cannot be a film.

    path: from the root that all files share. version: changes when the file does: its time of change, or what an
    object store says in its place. reason: None for a possible film; all others have no version.
    """

    path: str
    num_bytes: int
    version: str
    reason: str | None = None


def find_files(sources: Sequence[str], extensions: Sequence[str] = EXTENSIONS) -> FoundFiles:
    """Find all files of `sources`.

    A source is a folder (searched with those below it; hidden files are passed over, symbolic links listed and not
    followed), a pattern with `*`, a film, a CSV or Parquet file with a column `path`, or a URL such as
    s3://bucket/prefix. Files named twice count once.
    Raises: FileNotFoundError for a source that is not there; PermissionError for a folder that must not be read;
    ValueError where local and remote ones are mixed; OSError where a store or disk fails.
    """
    endings = tuple(extension.lower() for extension in extensions)
    root = CommonRoot()
    return FoundFiles((file for source in sources for file in _look(local_path_of(source), endings, root)), root)


class FoundFiles:
    """Hold what was found, in the order of paths and each once.

    A local file takes about a hundred bytes. One of an object store takes about 900 while it is searched, since fsspec
    lists all that lies below a URL before it gives the first.

    `root` is the folder or URL from which the paths start.
    """

    def __init__(self, files: Iterable[FoundFile], root: CommonRoot) -> None:
        """Take files under their whole addresses."""
        files = iter(files)
        parts = []
        while part := list(islice(files, _FILES_PER_PART)):
            root.include(file.path for file in part)
            parts.append(pa.Table.from_arrays([pa.array(column, kind) for column, kind in _columns(part)], _NAMES))
        self.root = str(root)
        self._start = len(self.root.rstrip("/")) + 1
        self._table = _sorted_once(pa.concat_tables(parts)) if parts else None

    def __len__(self) -> int:
        """Count the files."""
        return 0 if self._table is None else len(self._table)

    def __iter__(self) -> Iterator[FoundFile]:
        """Give the files with their paths from the root."""
        if self._table is None:
            return
        for batch in self._table.to_batches(_FILES_PER_PART):
            for path, *rest in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                yield FoundFile(path[self._start :], *rest)


_FILES_PER_PART = 2**14
_NAMES = FoundFile._fields
_TYPES = (pa.large_string(), pa.int64(), pa.large_string(), pa.large_string())


def _columns(files: Sequence[FoundFile]) -> Iterator[tuple[tuple[object, ...], pa.DataType]]:
    return zip(zip(*files, strict=True), _TYPES, strict=True)


def _sorted_once(table: pa.Table) -> pa.Table:
    """Sort files by their addresses, and keep the first of those that were named twice."""
    table = table.take(pc.sort_indices(table, [("path", "ascending")])).combine_chunks()
    paths = table["path"]
    is_new = pc.not_equal(paths.slice(1), paths.slice(0, len(paths) - 1))
    return table.filter(pa.concat_arrays([pa.array([True]), *is_new.chunks]))


# ----------------------------------------------------------------------------- local files


def _look(source: str, endings: tuple[str, ...], root: CommonRoot) -> Iterator[FoundFile]:
    """Give the files of one source, under their whole addresses."""
    if is_url(source):
        yield from (_listed(*found, endings) for found in list_remote(source))
        return
    path = _absolute(source)
    if os.path.isdir(path):
        folder = os.path.realpath(path)
        root.include_folder(folder)
        yield from _scan(folder, endings)
    elif Path(path).suffix.lower() in LISTS and os.path.isfile(path):
        yield from _look_at_list(Path(path), endings)
    elif os.path.lexists(path):
        yield _look_at(path, endings)
    elif glob.has_magic(source):
        yield from _look_at_matches(path, endings)
    else:
        raise FileNotFoundError(
            f"there is no {source}: expected a folder, a film, a pattern, a list (.csv, .parquet) or a URL"
        )


def _look_at_matches(pattern: str, endings: tuple[str, ...]) -> Iterator[FoundFile]:
    is_empty = True
    for match in glob.iglob(pattern, recursive=True):
        is_empty = False
        if os.path.isdir(match) and not os.path.islink(match):
            yield from _scan(os.path.realpath(match), endings)
        else:
            yield _look_at(match, endings)
    if is_empty:
        raise FileNotFoundError(f"nothing matches {pattern}")


def _look_at_list(path: Path, endings: tuple[str, ...]) -> Iterator[FoundFile]:
    """Look at what a list names; relative paths are meant from the list's folder."""
    for remote, names in groupby(map(local_path_of, names_in(path)), is_url):
        if remote:
            yield from (_refused(f, NO_FILE) if isinstance(f, str) else _listed(*f, endings) for f in look_up(names))
        else:
            yield from (_look_at(os.path.join(path.parent, os.path.expanduser(name)), endings) for name in names)


def _scan(folder: str, endings: tuple[str, ...]) -> Iterator[FoundFile]:
    """List everything in a folder that is not hidden, and in the folders below it."""
    folders = [folder]
    while folders:
        below = folders.pop()
        try:
            with os.scandir(below) as listing:
                entries = [entry for entry in listing if not entry.name.startswith(".")]
        except (PermissionError, FileNotFoundError) as error:
            if below == folder:
                raise
            reason = FORBIDDEN if isinstance(error, PermissionError) else "gone while it was searched"
            yield _refused(below + "/", f"folder: {reason}")
            continue
        folders += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        yield from (_describe(entry.path, endings) for entry in entries if not entry.is_dir(follow_symlinks=False))


def _look_at(path: str, endings: tuple[str, ...]) -> FoundFile:
    """Take a local file that was named as a possible film, or say why not."""
    return _describe(_absolute(path) if "\0" not in path else path, endings)


def _describe(path: str, endings: tuple[str, ...]) -> FoundFile:
    """Take a local file as a possible film, or say why not, without opening it."""
    if "\0" in path or not _is_text(path):
        return _refused(path, "its name is not valid UTF-8: rename it")
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return _refused(path, NO_FILE)
    except PermissionError:
        return _refused(path, FORBIDDEN)
    reason = _why_no_film(path, status.st_mode, endings)
    return FoundFile(path, status.st_size, "" if reason else str(status.st_mtime_ns), reason)


def _why_no_film(path: str, mode: int, endings: tuple[str, ...]) -> str | None:
    if stat.S_ISLNK(mode):
        return "symbolic link, which is not followed: set root to where it leads, or copy the film"
    if not stat.S_ISREG(mode):
        return "not a regular file"
    if not _is_video(path, endings):
        return _NO_VIDEO
    return None if os.access(path, os.R_OK) else FORBIDDEN


_NO_VIDEO = "not a video file"


def _is_video(path: str, endings: tuple[str, ...]) -> bool:
    return os.path.splitext(path)[1].lower() in endings


def _refused(path: str, reason: str) -> FoundFile:
    return FoundFile(_printable(path).replace("\0", "\\x00"), 0, "", reason)


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _printable(path: str) -> str:
    """Write bytes of a file name that are no text as escapes."""
    return path.encode("utf-8", "backslashreplace").decode()


def _absolute(path: str) -> str:
    """Resolve the folder of a path, so that a file has one name; a link as its last part stays."""
    folder, name = os.path.split(os.path.abspath(os.path.expanduser(path)))
    return os.path.join(_resolved(folder), name)


@lru_cache(maxsize=4096)
def _resolved(folder: str) -> str:
    return os.path.realpath(folder)


def _listed(address: str, num_bytes: int, version: str, endings: tuple[str, ...]) -> FoundFile:
    """Take an object of a store as a possible film, or say why not."""
    reason = None if _is_video(address, endings) else _NO_VIDEO
    return FoundFile(address, num_bytes, "" if reason else version, reason)
