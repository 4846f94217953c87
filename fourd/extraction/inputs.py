"""From paths to inputs: every video and image that is named, or lies in a folder that is named, under a key."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fourd.datasets.video_files import EXTENSIONS
from fourd.extraction.index import INDEX_NAME, UNREADABLE, Entry

IMAGE_EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
"""The endings of an image's name, in small letters."""

_LONGEST_NAME = 200  # bytes; file systems take 255, and endings are added
_BAD_NAME = "its name is not valid UTF-8: rename it"


@dataclass(frozen=True)
class Source:
    """Name an input, and say by which size and time of change it is known again.

    key: its path from the folder that is named, or from the one that holds all that is named; with the file's ending,
    so that it is the same whatever else is named. path: absolute.
    """

    key: str
    path: str
    num_bytes: int
    mtime_ns: int

    @property
    def is_image(self) -> bool:
        """Tell whether this is an image, by its name."""
        return Path(self.path).suffix.lower() in IMAGE_EXTENSIONS


def find_inputs(paths: Sequence[str | os.PathLike[str]], out: Path) -> tuple[list[Source], list[Entry]]:
    """Find all inputs, in the order of their keys, and list what is named or lies in a named folder and is none.

    A folder is searched with those below it: hidden files are passed over, symbolic links are listed and not followed,
    and so are images, which are inputs only if named one by one, and folders of features. `out` is left out.
    Raises FileNotFoundError for a name without a file, ValueError where `out` is itself searched or nothing is found.
    """
    named = absolute(paths)
    folders = [path if path.is_dir() else path.parent for path in named]
    root = Path(os.path.commonpath(folders))
    if out.resolve() in {path.resolve() for path in named if path.is_dir()}:
        raise ValueError(f"--out {out} is the folder of the videos: name another, which may lie in it")
    found = {path: reason for place in named for path, reason in _look(place, out.resolve())}
    sources = [_source(path, root) for path, reason in found.items() if not reason]
    others = [_other(path, root, reason) for path, reason in found.items() if reason]
    if not sources:
        first = "; ".join(f"{entry.path} is {entry.status}" for entry in others[:5]) or "the folder is empty"
        raise ValueError(f"no video or image among {len(others)} files. The first: {first}")
    return sorted(sources, key=lambda source: source.key), sorted(others, key=lambda entry: entry.key)


def absolute(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Give the absolute paths of what is named; raise FileNotFoundError for a name without a file."""
    named = [Path(os.path.abspath(Path(path).expanduser())) for path in paths]
    if not named:
        raise ValueError("no video is named: expected files or folders")
    for path in named:
        if not path.exists():
            raise FileNotFoundError(f"there is no {path}: expected a video, an image or a folder of videos")
    return named


_SAMPLE_BYTES = 2**20


def sample_sha256(path: str) -> str:
    """Hash the beginning and the end of a file, by which one that was moved is known from another of its size."""
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read(_SAMPLE_BYTES))
        file.seek(-min(_SAMPLE_BYTES, os.fstat(file.fileno()).st_size), os.SEEK_END)
        digest.update(file.read())
    return digest.hexdigest()


def _look(path: Path, out: Path) -> Iterator[tuple[Path, str]]:
    """Give a named file, or what a named folder holds, each with the reason why it is no input, or none."""
    if path.is_dir():
        yield from _scan(path, out)
    elif _printable(str(path)) != str(path):
        yield path, _BAD_NAME
    else:
        yield path, "" if path.is_file() else "not a regular file"


def _scan(folder: Path, out: Path) -> Iterator[tuple[Path, str]]:
    """Give what a folder and those below it hold."""
    try:
        with os.scandir(folder) as listing:
            entries = [entry for entry in listing if not entry.name.startswith(".")]
    except PermissionError:
        yield folder, "folder: permission denied"
        return
    for entry in entries:
        path = folder / entry.name
        if not entry.is_dir(follow_symlinks=False):
            yield path, _why_no_input(entry)
        elif (path / INDEX_NAME).is_file() and path.resolve() != out:
            yield path, "a folder of features, which is not searched"
        elif path.resolve() != out:
            yield from _scan(path, out)


def _why_no_input(entry: os.DirEntry[str]) -> str:
    """Say why a file of a folder is no input; empty if it is one."""
    suffix = Path(entry.name).suffix.lower()
    if _printable(entry.path) != entry.path:
        return _BAD_NAME
    if entry.is_symlink():
        return "symbolic link, which is not followed: name what it leads to"
    if not entry.is_file(follow_symlinks=False):
        return "not a regular file"
    if suffix in IMAGE_EXTENSIONS:
        return "an image: name it itself to have it encoded"
    return "" if suffix in EXTENSIONS else "not a video file"


def _source(path: Path, root: Path) -> Source:
    status = path.stat()
    return Source(_key(path, root), str(path), status.st_size, status.st_mtime_ns)


def _other(path: Path, root: Path, reason: str) -> Entry:
    return Entry(_key(path, root), _printable(str(path)), f"{UNREADABLE}: {reason}")


def _key(path: Path, root: Path) -> str:
    """Name a file by its path from `root`; a name too long for a file of features is cut and told by its hash."""
    relative = _printable(path.relative_to(root).as_posix())
    folder, slash, name = relative.rpartition("/")
    if len(name.encode()) > _LONGEST_NAME:
        digest = hashlib.sha256(name.encode()).hexdigest()[:16]
        name = name.encode()[: _LONGEST_NAME - 17].decode(errors="ignore") + "~" + digest
    return folder + slash + name


def _printable(path: str) -> str:
    """Write bytes of a file name that are no text as escapes."""
    return path.encode("utf-8", "backslashreplace").decode()
