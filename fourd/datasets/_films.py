"""What datasets of films with one class each share: a list of films becomes recordings, and a film's frames a clip.

How long each film is stands in an index in the user's cache: the first start looks into every film, and shows how far
it is; later ones look only into what is new or changed.
"""

from __future__ import annotations

import hashlib
import os
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch

from fourd import video
from fourd.datasets._labelled import Found, LabelledConfig, LabelledDataset, Recording
from fourd.datasets._sampling import FrameNumbers, Sampling, Segments
from fourd.datasets._view import Labelled
from fourd.index.build import build_index
from fourd.index.films import Film, FilmIndex
from fourd.index.scan import EXTENSIONS
from fourd.media import UnreadableVideo
from fourd.types import Label, Unreadable


@dataclass(frozen=True)
class ListedFilm:
    """Name a film of a list, and its class.

    key: its own within the dataset. group: what it was cut from, which other films may share.
    """

    key: str
    group: str
    path: str
    label: int


@dataclass(frozen=True)
class Listing:
    """Hold what a list names, in its order, and what of it cannot be used."""

    films: tuple[ListedFilm, ...]
    unreadable: tuple[Unreadable, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FilmsConfig(LabelledConfig):
    """Describe a split of films with one class each.

    film_list: a file of lines `path label` (or `path::label`), without a header, paths from ROOT and labels from 0 on;
    it may lie anywhere, and its name is taken from ROOT. Empty takes the official lists, or `<split>.csv` of such lines
    where these are not there. A clip is taken from the middle of a film by default, which is not from the paper.
    """

    film_list: str = ""
    sampling: Sampling = field(default_factory=Segments)

    kinds: ClassVar[tuple[str, ...]] = ("action",)


class LabelledFilms(LabelledDataset):
    """Give clips of films, each with the class of its film."""

    @abstractmethod
    def listing(self) -> Listing:
        """Name the films of the split and their classes, without opening any.

        Raises: UnreadableVideo where a list is damaged; FileNotFoundError where there is none.
        """

    def find(self) -> Found:
        """List the films of the split, after bringing the index of them up to date."""
        try:
            listing = self.listing()
        except UnreadableVideo as error:
            return Found((), (Unreadable(str(error.path), error.reason),))
        films, lost = _usable(listing.films)
        if not films:
            return Found((), (*listing.unreadable, *lost))
        self._index = _index_of([path for path, _ in films], self._index_path())
        recordings, refused = self._recordings(films)
        return Found(recordings, (*listing.unreadable, *lost, *refused))

    def load(self, recording: Recording, frames: FrameNumbers) -> Labelled:
        """Decode frames of a film; times are seconds after its first frame.

        Raises: UnreadableVideo where the film is damaged, or is not the one that was indexed; OSError.
        """
        row, label = recording.source
        film = self._index.film(row)
        path = os.path.join(self._index.root, film.path)
        _require_unchanged(path, film)
        assert film.info is not None  # only such films become recordings
        return Labelled(
            video=video.decode(path, frames, film.info),
            time_s=torch.from_numpy(film.info.frame_times_s[frames]),
            label=Label(torch.tensor([label])),
        )

    def _index_path(self) -> Path:
        """Name the place in the user's cache for what is known of these films."""
        named = f"{self.root.resolve()}\n{self.name}\n{self.config.split}\n{self.config.film_list}"
        return Path(f"~/.cache/fourd/films/{hashlib.sha256(named.encode()).hexdigest()[:16]}.parquet").expanduser()

    def _recordings(
        self, films: Sequence[tuple[str, ListedFilm]]
    ) -> tuple[tuple[Recording, ...], tuple[Unreadable, ...]]:
        """Join the list with what the index knows; keep in `damaged` which films can be used in part."""
        rows = _rows(self._index)
        recordings: list[Recording] = []
        refused: list[Unreadable] = []
        damaged: list[Unreadable] = []
        for path, film in films:
            row = rows[path]
            if row.reason is not None:
                refused.append(Unreadable(film.path, row.reason))
                continue
            if row.damage is not None:
                damaged.append(Unreadable(film.path, f"used up to the damage: {row.damage}"))
            identity = f"{row.fingerprint[:16]}-{film.label}"
            source = (row.number, film.label)
            recordings.append(Recording(film.key, film.group, row.num_frames, identity, source))
        self.damaged = tuple(damaged)
        return tuple(recordings), tuple(refused)


# ----------------------------------------------------------------------------- from a list to an index


def _usable(films: Sequence[ListedFilm]) -> tuple[list[tuple[str, ListedFilm]], list[Unreadable]]:
    """Resolve links, since an index follows none, and refuse films that are not there or are listed twice."""
    found: list[tuple[str, ListedFilm]] = []
    lost: list[Unreadable] = []
    listed: dict[str, ListedFilm] = {}
    for film in films:
        first = listed.setdefault(film.key, film)
        path = _resolved(film.path)
        if first is not film:
            lost.append(Unreadable(film.path, f"listed before as {first.path} of class {first.label}: list it once"))
        elif not os.path.isfile(path):
            lost.append(Unreadable(film.path, "no such film, and the list names it: get it, or take it off the list"))
        else:
            found.append((path, film))
    return found, lost


def _resolved(path: str) -> str:
    folder, name = os.path.split(os.path.abspath(path))
    whole = os.path.join(_resolved_folder(folder), name)
    return os.path.realpath(whole) if os.path.islink(whole) else whole


@lru_cache(maxsize=4096)
def _resolved_folder(folder: str) -> str:
    return os.path.realpath(folder)


def _index_of(paths: Sequence[str], out: Path) -> FilmIndex:
    build_index(paths, out)
    return FilmIndex(out)


class _Row(NamedTuple):
    """Hold what the index knows of a film: with a `reason` why it cannot be used, no number of frames."""

    number: int
    num_frames: int
    reason: str | None
    damage: str | None
    fingerprint: str


def _rows(index: FilmIndex) -> dict[str, _Row]:
    """Read what recordings need of each film, by its whole path."""
    rows: dict[str, _Row] = {}
    for group in index.table.groups(("path", "num_frames", "reason", "damage", "fingerprint")):
        for path, *known in zip(*(column.to_pylist() for column in group.columns), strict=True):
            rows[os.path.join(index.root, path)] = _Row(len(rows), *known)
    return rows


def _require_unchanged(path: str, film: Film) -> None:
    """Refuse a film whose frames are not those that were counted; raise FileNotFoundError where it is gone."""
    status = os.stat(path)
    if (status.st_size, str(status.st_mtime_ns)) != (film.num_bytes, film.version):
        raise UnreadableVideo(path, "changed since this dataset was built: build it again")


# ----------------------------------------------------------------------------- lists and folders


def first_file(root: Path, folders: Sequence[str], names: Sequence[str], holds: str) -> Path:
    """Find the first of some names in some folders of ROOT; raise FileNotFoundError that says what was looked for."""
    for folder in folders:
        for name in names:
            path = root / folder / name
            if path.is_file():
                return path
    where = ", ".join(folder or "ROOT" for folder in folders)
    raise FileNotFoundError(f"{root}: found no {' or '.join(names)} in {where}; expected {holds}")


def films_below(folder: Path | str, depth: int = 0) -> Iterator[str]:
    """Give the paths of the films in a folder and in those up to `depth` below it, sorted by name; links count."""
    with os.scandir(folder) as listing:
        entries = sorted((entry for entry in listing if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_dir():
            yield from films_below(entry.path, depth - 1) if depth else ()
        elif os.path.splitext(entry.name)[1].lower() in EXTENSIONS:
            yield entry.path


def stem(path: str) -> str:
    """Give a film's name without folder and ending."""
    return os.path.splitext(os.path.basename(path))[0]


def listed_paths(path: Path, root: Path, num_classes: int) -> Listing:
    """Read a list of lines `path label`, the form that VideoMAE and V-JEPA read; keys and groups are the films' names.

    A path may hold spaces, or stand in double quotes; `::` may stand in place of the last space. Lines that are not of
    this form are listed as unreadable, with their number.
    """
    films: list[ListedFilm] = []
    unreadable: list[Unreadable] = []
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        parted = _path_and_label(line.strip())
        if parted is None or not 0 <= parted[1] < num_classes:
            expected = f"expected `path label`, a label from 0 to {num_classes - 1}"
            unreadable.append(Unreadable(f"{path}:{number}", f"found {line.strip()[:80]!r}, {expected}"))
            continue
        films.append(ListedFilm(stem(parted[0]), stem(parted[0]), os.path.join(root, parted[0]), parted[1]))
    return Listing(tuple(films), tuple(unreadable))


def _path_and_label(line: str) -> tuple[str, int] | None:
    for separator in (" ", "::"):
        path, _, label = line.rpartition(separator)
        if path and label.isdecimal() and "\0" not in path:
            return path.strip().strip('"'), int(label)
    return None


def read_lines(path: Path) -> list[str]:
    """Read the lines of a text; raise UnreadableVideo where it is none."""
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UnreadableVideo(str(path), f"not a text in UTF-8 ({error}): get it again") from error
