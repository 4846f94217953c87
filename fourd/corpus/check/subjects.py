"""What can be checked: an index of films, an index of pieces, tar files without an index."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fourd.corpus.check.looking import FilmItem, Item, MemberItem, PieceItem
from fourd.corpus.check.tars import Member, Refused, read_members
from fourd.index import films, pieces
from fourd.index.films import FilmIndex
from fourd.index.pieces import Piece, Timing
from fourd.index.remote import is_url
from fourd.index.table import COPIES, RowTable, kind_of
from fourd.isolation import Failure, Limits, isolated_map
from fourd.storage import local_copy, open_store

_SPLITS = ("train.parquet", "held_out.parquet")


class Subject(ABC):
    """Be something that is checked row by row. `name` is how the user calls it."""

    name: str

    @abstractmethod
    def __len__(self) -> int:
        """Count the rows."""

    @abstractmethod
    def item(self, number: int) -> Item | Refused | str:
        """Give what is checked in a row, or refuse it, or say why it is known not to be a film."""

    @abstractmethod
    def find(self, clips: frozenset[str]) -> list[int]:
        """Find the rows of clips that a run's quarantine names."""


class FilmsSubject(Subject):
    """Be an index of films."""

    def __init__(self, name: str) -> None:
        self.name, self.index = name, FilmIndex(name)

    def __len__(self) -> int:
        """Count the rows, of films and of what is none."""
        return len(self.index)

    def item(self, number: int) -> Item | str:
        """Give a film, or why the index says that it is none."""
        film = self.index.film(number)
        return film.reason or FilmItem(film.path, film.num_bytes, self.index.root, film)

    def find(self, clips: frozenset[str]) -> list[int]:
        """Find films by their paths, before which a mixture puts the name of the corpus."""
        parts = (clip.split("/") for clip in clips)
        return _rows_with(self.index.table, "path", ("/".join(part[n:]) for part in parts for n in range(len(part))))


class PiecesSubject(Subject):
    """Be an index of pieces in shards."""

    def __init__(self, name: str) -> None:
        self.name, self.table = name, RowTable(name, pieces.KIND, pieces.SCHEMA)
        self._timing = Timing.from_metadata(self.table.metadata, name)

    def __len__(self) -> int:
        """Count the pieces."""
        return len(self.table)

    def item(self, number: int) -> Item:
        """Give a piece."""
        piece = Piece(**self.table.row(number))
        return PieceItem(piece.key, piece.num_bytes, self.table.folder, piece, self._timing)

    def find(self, clips: frozenset[str]) -> list[int]:
        """Find pieces by their keys, which stand behind the shard's name."""
        return _rows_with(self.table, "key", (clip.rpartition(":")[2].removesuffix(".mp4") for clip in clips))


def _rows_with(table: RowTable, column: str, values: Iterable[str]) -> list[int]:
    """Find the rows whose text is one of several."""
    wanted, start, found = pa.array(sorted(set(values)), pa.string()), 0, list[int]()
    for group in table.groups([column]):
        places = np.flatnonzero(pc.is_in(group[column], value_set=wanted).to_numpy())
        found += (start + places).tolist()
        start += len(group)
    return found


class TarSubject(Subject):
    """Be a tar file of films, made by whomever."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self.name, self._path, self._members = str(path), path, _members(path, limits)

    def __len__(self) -> int:
        """Count the members that are films, or are refused."""
        return len(self._members)

    def _key(self, number: int) -> str:
        return f"{self._path.name}:{self._members[number].name}"

    def item(self, number: int) -> Item | Refused:
        """Give a film, or refuse it."""
        member = self._members[number]
        if isinstance(member, Refused):
            return Refused(self._key(number), member.reason)
        return MemberItem(self._key(number), member.num_bytes, str(self._path.parent), self._path.name, member.offset)

    def find(self, clips: frozenset[str]) -> list[int]:
        """Find none: no run reads such files."""
        return []


def _members(path: Path, limits: Limits) -> Sequence[Member | Refused]:
    """List a tar file's films in a process that may fail."""
    ((_, found),) = isolated_map(read_members, [path], 1, limits)
    return [Refused("", found.reason)] if isinstance(found, Failure) else found


def subjects_of(paths: Sequence[str], limits: Limits | None = None) -> list[Subject]:
    """Find out what is to be checked: indexes and prepared folders, here or in a store, and tar files.

    Raises: ValueError or FileNotFoundError for what is none of these; StorageError where an index cannot be copied.
    """
    return [subject for path in paths for subject in _subjects_of(path, limits or Limits())]


def _subjects_of(name: str, limits: Limits) -> Iterator[Subject]:
    if is_url(name):
        inside = [name] if name.endswith(".parquet") else [f"{name.rstrip('/')}/{split}" for split in _SPLITS]
        yield from (_index(index, _copied(index)) for index in inside)
        return
    path = Path(name).expanduser()
    if path.is_dir():
        yield from (_index(str(split), split) for split in _splits(path))
    elif not path.exists():
        raise FileNotFoundError(f"there is no {path}: expected an index, a prepared folder or tar files")
    elif path.suffix == ".tar":
        yield TarSubject(path, limits)
    else:
        yield _index(str(path), path)


def _splits(folder: Path) -> list[Path]:
    found = [folder / split for split in _SPLITS if (folder / split).is_file()]
    if not found:
        way_out = f"index films first: fourd data index {folder} --out films.parquet"
        raise ValueError(f"{folder} holds no {_SPLITS[0]}; {way_out}")
    return found


def _copied(url: str) -> Path:
    folder, _, name = url.rpartition("/")
    return local_copy(open_store(folder), name, Path(COPIES).expanduser())


def _index(name: str, path: Path) -> Subject:
    kind = kind_of(path)
    if kind == films.KIND:
        return FilmsSubject(name)
    if kind == pieces.KIND:
        return PiecesSubject(name)
    raise ValueError(f"{name} is {kind}; expected an index of films or of pieces, made by `fourd data`")
