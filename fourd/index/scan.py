"""From sources to files: folders, patterns, lists and object stores are searched, and nothing is opened yet."""

from __future__ import annotations

import csv
import glob
import os
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import fsspec
import pyarrow.parquet as pq

EXTENSIONS = (
    *(".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi"),
    *(".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".flv", ".wmv", ".ogv"),
)
"""The endings of a film's name, in small letters."""

_LISTS = (".csv", ".parquet")


@dataclass(frozen=True)
class FoundFile:
    """Name a file, and say by what it is known again, or why it cannot be a film.

    path: from the root that all files share. version: changes when the file does: its time of change, or what an
    object store says in its place. reason: None for a possible film.
    """

    path: str
    num_bytes: int
    version: str
    reason: str | None = None


def find_files(sources: Sequence[str], extensions: Sequence[str] = EXTENSIONS) -> tuple[str, list[FoundFile]]:
    """Find all files of `sources`, in the order of their paths, and the root that they share.

    A source is a folder (searched with those below it; hidden files are passed over, symbolic links listed and not
    followed), a pattern with `*`, a film, a CSV or Parquet file with a column `path`, or a URL such as
    s3://bucket/prefix. Files named twice count once.
    Raises: FileNotFoundError for a source that is not there; ValueError where local and remote ones are mixed.
    """
    found: dict[str, FoundFile] = {}
    folders: list[str] = []
    for source in sources:
        for file in _look(source, tuple(extensions)):
            found.setdefault(file.path, file)
        folders += [str(Path(source).expanduser().resolve())] if Path(source).expanduser().is_dir() else []
    root = _common_root(list(found), folders, sources)
    below = [
        FoundFile(_relative(file.path, root), file.num_bytes, file.version, file.reason) for file in found.values()
    ]
    return root, sorted(below, key=lambda file: file.path)


def is_url(source: str) -> bool:
    """Tell whether a source is the address of an object store, not a local path."""
    return "://" in source


def _look(source: str, extensions: tuple[str, ...]) -> Iterator[FoundFile]:
    """Give the files of one source, under their whole addresses."""
    if is_url(source):
        yield from _look_remote(source, extensions)
        return
    path = Path(os.path.abspath(Path(source).expanduser()))
    if path.is_dir():
        yield from _scan(str(path.resolve()), extensions)
    elif path.suffix.lower() in _LISTS and path.is_file():
        yield from _look_at_list(path, extensions)
    elif path.exists() or path.is_symlink():
        yield _look_at(str(path), extensions)
    elif glob.has_magic(source):
        yield from _look_at_matches(str(path), extensions)
    else:
        raise FileNotFoundError(
            f"there is no {source}: expected a folder, a film, a pattern, a list (.csv, .parquet) or a URL"
        )


def _look_at_matches(pattern: str, extensions: tuple[str, ...]) -> Iterator[FoundFile]:
    matches = sorted(glob.glob(pattern, recursive=True))
    if not matches:
        raise FileNotFoundError(f"nothing matches {pattern}")
    for match in matches:
        if os.path.isdir(match) and not os.path.islink(match):
            yield from _scan(match, extensions)
        else:
            yield _look_at(match, extensions)


def _scan(folder: str, extensions: tuple[str, ...]) -> Iterator[FoundFile]:
    """List everything in a folder that is not hidden, and in the folders below it."""
    try:
        with os.scandir(folder) as listing:
            entries = [entry for entry in listing if not entry.name.startswith(".")]
    except PermissionError:
        yield FoundFile(_printable(folder), 0, "", "folder: permission denied")
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _scan(entry.path, extensions)
        else:
            yield _look_at(entry.path, extensions)


def _look_at(path: str, extensions: tuple[str, ...]) -> FoundFile:
    """Take a local file as a possible film, or say why not, without opening it."""
    if _printable(path) != path:
        return FoundFile(_printable(path), 0, "", "its name is not valid UTF-8: rename it")
    if os.path.islink(path):
        reason = "symbolic link, which is not followed: set root to where it leads, or copy the film"
        return FoundFile(path, 0, "", reason)
    if not os.path.exists(path):
        return FoundFile(path, 0, "", "no such file")
    if not os.path.isfile(path):
        return FoundFile(path, 0, "", "not a regular file")
    status = os.stat(path)
    return FoundFile(path, status.st_size, str(status.st_mtime_ns), _why_no_film(path, extensions))


def _why_no_film(path: str, extensions: tuple[str, ...]) -> str | None:
    return None if PurePosixPath(path).suffix.lower() in extensions else "not a video file"


def _printable(path: str) -> str:
    """Write bytes of a file name that are no text as escapes."""
    return path.encode("utf-8", "backslashreplace").decode()


# ----------------------------------------------------------------------------- lists


def _look_at_list(path: Path, extensions: tuple[str, ...]) -> Iterator[FoundFile]:
    """Look at what a list names; relative paths are meant from the list's folder."""
    for name in _names_in(path):
        if is_url(name):
            yield from _look_remote(name, extensions)
        else:
            yield _look_at(os.path.normpath(path.parent / Path(name).expanduser()), extensions)


def _names_in(path: Path) -> list[str]:
    if path.suffix.lower() == ".parquet":
        schema = pq.read_schema(path)
        column = _path_column(path, schema.names)
        return [str(name) for name in pq.read_table(path, columns=[column])[column].to_pylist()]
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.reader(file) if row]
    if not rows:
        raise ValueError(f"{path}: an empty list; expected a column `path`")
    if "path" not in rows[0] and len(rows[0]) == 1:
        return [row[0] for row in rows]  # names alone, without a header
    place = rows[0].index(_path_column(path, rows[0]))
    return [row[place] for row in rows[1:]]


def _path_column(path: Path, columns: Sequence[str]) -> str:
    if "path" in columns:
        return "path"
    if len(columns) == 1:
        return columns[0]
    raise ValueError(f"{path}: columns are {', '.join(columns)}; expected one called `path`")


# ----------------------------------------------------------------------------- object stores


def _look_remote(url: str, extensions: tuple[str, ...]) -> Iterator[FoundFile]:
    """List what lies below a URL."""
    files, prefix = fsspec.core.url_to_fs(url)
    listed = files.find(prefix, detail=True)
    if not listed:
        raise FileNotFoundError(f"there is nothing below {url}")
    for name, about in listed.items():
        if PurePosixPath(name).name.startswith("."):
            continue
        reason = _why_no_film(name, extensions)
        yield FoundFile(files.unstrip_protocol(name), int(about["size"]), _version_of(about), reason)


def _version_of(about: dict[str, object]) -> str:
    """Take what a store says of an object's version; its size is compared in any case."""
    for name in ("ETag", "etag", "LastModified", "mtime", "updated", "created"):
        if about.get(name):
            return str(about[name])
    return ""


# ----------------------------------------------------------------------------- the root


def _common_root(addresses: list[str], folders: list[str], sources: Sequence[str]) -> str:
    """Find the deepest folder or prefix that holds everything."""
    remote = {is_url(address) for address in addresses}
    if len(remote) > 1:
        raise ValueError(f"{', '.join(sources)}: local and remote films in one index; make one index of each kind")
    if not addresses and not folders:
        raise FileNotFoundError(f"{', '.join(sources)}: no file found")
    if True in remote:
        scheme, _, _ = addresses[0].partition("://")
        parents = [posixpath.dirname(address.partition("://")[2]) for address in addresses]
        return f"{scheme}://{posixpath.commonpath(parents)}"
    return os.path.commonpath([*folders, *(os.path.dirname(address) for address in addresses)])


def _relative(address: str, root: str) -> str:
    return address.removeprefix(root).lstrip("/")
