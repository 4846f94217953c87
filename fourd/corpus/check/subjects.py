"""What can be checked: an index of films, an index of pieces, tar files without an index."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from fourd.corpus.check.looking import FilmItem, Item, MemberItem, PieceItem
from fourd.corpus.check.tars import Member, Refused, read_members
from fourd.index import films, pieces
from fourd.index.films import FilmIndex, film_of, write_rows
from fourd.index.pieces import Piece, Timing
from fourd.index.remote import is_url
from fourd.index.table import RowTable, RowWriter, kind_of

_SPLITS = ("train.parquet", "held_out.parquet")


class Subject(ABC):
    """Be something that is checked row by row."""

    path: Path

    @abstractmethod
    def __len__(self) -> int:
        """Count the rows."""

    @abstractmethod
    def item(self, number: int) -> Item | Refused | str:
        """Give what is checked in a row, or refuse it, or say why it is known not to be a film."""

    @abstractmethod
    def key(self, number: int) -> str:
        """Name a row."""

    def apply(self, bad: Mapping[int, str], out: Path) -> None:
        """Write the index again without the rows that are bad; raise ValueError where there is no index."""
        raise ValueError(f"--apply: {self.path} is no index; expected one of films or of pieces")


class FilmsSubject(Subject):
    """Be an index of films."""

    def __init__(self, path: Path) -> None:
        self.path, self._index = path, FilmIndex(path)

    def __len__(self) -> int:
        """Count the rows, of films and of what is none."""
        return len(self._index)

    def key(self, number: int) -> str:
        """Give the path of a film."""
        return str(self._index.table.row(number)["path"])

    def item(self, number: int) -> Item | str:
        """Give a film, or why the index says that it is none."""
        film = self._index.film(number)
        if film.reason is not None:
            return film.reason
        return FilmItem(film.path, film.num_bytes, self._index.root, film)

    def apply(self, bad: Mapping[int, str], out: Path) -> None:
        """Write the index again; bad films stay in it with their reason, and are no longer read."""
        write_rows(out, (self._row(number, bad.get(number)) for number in range(len(self))), self._index.root)

    def _row(self, number: int, reason: str | None) -> Mapping[str, Any]:
        row = self._index.table.row(number)
        if reason is None:
            return row
        known = film_of(row)
        return films.Film(known.path, known.num_bytes, known.version, known.fingerprint, None, reason).row()


class PiecesSubject(Subject):
    """Be an index of pieces in shards."""

    def __init__(self, path: Path) -> None:
        self.path, self._table = path, RowTable(path, pieces.KIND)
        self._timing = Timing.from_metadata(self._table.metadata, str(path))

    def __len__(self) -> int:
        """Count the pieces."""
        return len(self._table)

    def key(self, number: int) -> str:
        """Give the key of a piece."""
        return str(self._table.row(number)["key"])

    def item(self, number: int) -> Item | str:
        """Give a piece."""
        piece = Piece(**self._table.row(number))
        return PieceItem(piece.key, piece.num_bytes, str(self.path.parent), piece, self._timing)

    def apply(self, bad: Mapping[int, str], out: Path) -> None:
        """Write the index again without the bad pieces; the shards stay as they are, and so must their place."""
        if out.parent.resolve() != self.path.parent.resolve():
            raise ValueError(
                f"--apply {out}: the shards are found from the index's folder; expected {self.path.parent}"
            )
        about = {"parent": self._table.fingerprint, "removed": str(len(bad))}
        with RowWriter(out, pieces.SCHEMA, pieces.KIND, **self._timing.metadata(), **about) as writer:
            start = 0
            for group in range(self._table.num_groups):
                rows = self._table.group(group)
                kept = [start + place not in bad for place in range(len(rows))]
                writer.write_table(rows.filter(pa.array(kept, pa.bool_())))
                start += len(rows)


class TarSubject(Subject):
    """Be a tar file of films, made by whomever."""

    def __init__(self, path: Path) -> None:
        self.path, self._members = path, read_members(path)

    def __len__(self) -> int:
        """Count the members that are films, or are refused."""
        return len(self._members)

    def key(self, number: int) -> str:
        """Give the name of a member."""
        return f"{self.path.name}:{self._members[number].name}"

    def item(self, number: int) -> Item | Refused:
        """Give a film, or refuse it."""
        member = self._members[number]
        if isinstance(member, Refused):
            return Refused(f"{self.path.name}:{member.name}", member.reason)
        assert isinstance(member, Member)
        return MemberItem(self.key(number), member.num_bytes, str(self.path.parent), self.path.name, member.offset)


def subjects_of(paths: Sequence[str]) -> list[Subject]:
    """Find out what is to be checked; raise ValueError or FileNotFoundError for what cannot be."""
    return [subject for path in paths for subject in _subjects_of(path)]


def _subjects_of(name: str) -> Iterator[Subject]:
    if is_url(name):
        raise ValueError(f"{name}: the index has to be a local file; its films or shards may lie elsewhere")
    path = Path(name).expanduser()
    if path.is_dir():
        splits = [path / split for split in _SPLITS if (path / split).is_file()]
        if not splits:
            raise ValueError(
                f"{path} holds no {_SPLITS[0]}; index films first: fourd data index {path} --out films.parquet"
            )
        yield from (PiecesSubject(split) for split in splits)
    elif not path.exists():
        raise FileNotFoundError(f"there is no {path}: expected an index, a prepared folder or tar files")
    elif path.suffix == ".tar":
        yield TarSubject(path)
    else:
        kinds = {films.KIND: FilmsSubject, pieces.KIND: PiecesSubject}
        kind = kind_of(path)
        if kind not in kinds:
            raise ValueError(f"{path} is {kind}; expected an index of films or of pieces, made by `fourd data`")
        yield kinds[kind](path)  # type: ignore[abstract]
