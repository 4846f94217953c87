"""What is known already of files that are found: rows of an earlier index, and of journals that never became one."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pyarrow as pa

from fourd.index.films import SCHEMA, Film, FilmIndex, path_hash
from fourd.index.journal import JournalPart
from fourd.index.looking import FORBIDDEN, NO_FILE
from fourd.index.roots import moved
from fourd.index.scan import FoundFile

Row = Mapping[str, Any]

KEYS = ("path", "num_bytes", "version", "fingerprint", "reason")
"""The columns by which a row is known to be of a certain file, as it is now."""


@dataclass(frozen=True)
class Source:
    """Give rows in the order of their paths. A later source counts more than an earlier one."""

    root: str
    batches: Callable[[Sequence[str]], Iterable[pa.Table | pa.RecordBatch]]
    is_index: bool

    def rows(self, columns: Sequence[str], root: str) -> Iterator[dict[str, Any]]:
        """Give the rows of what lies below `root`, with their paths from there."""
        for batch in self.batches(columns):
            for row in batch.to_pylist():
                path = row["path"] if root == self.root else moved(row["path"], self.root, root)
                if path is not None:
                    yield row if path == row["path"] else _renamed(row, path)


def _renamed(row: dict[str, Any], path: str) -> dict[str, Any]:
    return row | {"path": path} | ({"path_hash": path_hash(path)} if "path_hash" in row else {})


def of_index(index: FilmIndex) -> Source:
    """Take the rows of an index."""
    return Source(index.root, index.table.groups, is_index=True)


def of_journal(part: JournalPart) -> Source:
    """Take the rows of a journal."""
    return Source(part.root, lambda columns: (batch.select(list(columns)) for batch in part.batches()), is_index=False)


@dataclass(frozen=True)
class Match:
    """Join a file that is found with what is known of it; either may be missing.

    in_index: what the earlier index says of a file of this name, whether it is still the same one or not.
    """

    file: FoundFile | None
    row: Row | None
    in_index: Row | None

    @property
    def is_new(self) -> bool:
        """Tell whether the file has to be looked into."""
        return self.file is not None and self.file.reason is None and self.row is None

    @property
    def is_as_indexed(self) -> bool:
        """Tell whether the earlier index says just this."""
        if self.in_index is None or self.file is None:
            return False
        if self.row is not None:
            return self.row is self.in_index
        return all(self.in_index[name] == getattr(self.file, name) for name in FoundFile._fields)


_Item = tuple[str, int, FoundFile | None, Row]
"""A path, the number of the source of what follows, and the file or the row."""


class Known:
    """Walk through files and what is known of them side by side, so that memory does not grow with either."""

    def __init__(self, sources: Sequence[Source], root: str, is_settled: Callable[[Row], bool]) -> None:
        """Take those rows for files below `root` that pass `is_settled`."""
        self._sources, self._root, self._is_settled = sources, root, is_settled

    def matches(self, files: Iterable[FoundFile], columns: Sequence[str] = KEYS) -> Iterator[Match]:
        """Give each file with its row, and each row of the earlier index whose file is gone, in the order of paths."""
        streams = (self._stream(number, columns) for number in range(len(self._sources)))
        found: Iterator[_Item] = ((file.path, -1, file, {}) for file in files)
        merged = heapq.merge(found, *streams, key=lambda item: item[:2])
        for _, items in groupby(merged, key=lambda item: item[0]):
            file, rows = None, {}
            for _, number, found_file, row in items:
                if found_file is None:
                    rows[number] = row
                else:
                    file = found_file
            yield self._match(file, rows)

    def _stream(self, number: int, columns: Sequence[str]) -> Iterator[_Item]:
        return ((row["path"], number, None, row) for row in self._sources[number].rows(columns, self._root))

    def _match(self, file: FoundFile | None, rows: Mapping[int, Row]) -> Match:
        """Choose what is known of a file as it is now: what was found out last."""
        in_index = next((row for number, row in rows.items() if self._sources[number].is_index), None)
        if file is None or file.reason is not None:
            return Match(file, None, in_index)
        row = next((rows[number] for number in sorted(rows, reverse=True) if self._is_of(rows[number], file)), None)
        return Match(file, row, in_index)

    def _is_of(self, row: Row, file: FoundFile) -> bool:
        same = (row["num_bytes"], row["version"]) == (file.num_bytes, file.version)
        return same and self._is_settled(row)

    def rows(self, files: Iterable[FoundFile]) -> Iterator[Row]:
        """Give the rows of a new index; all files have to be known."""
        for match in self.matches(files, SCHEMA.names):
            if match.row is not None:
                yield match.row
            elif match.file is not None:
                assert not match.is_new, f"{match.file.path} was not looked into"
                yield refused(match.file).row()


def refused(file: FoundFile) -> Film:
    """Make the row of what is no film by its name or kind."""
    return Film(file.path, file.num_bytes, file.version, "", None, file.reason)


def settled(row: Row) -> bool:
    """Tell whether a film is as the row says for as long as it is not changed."""
    return bool(row["version"]) and row["reason"] not in (NO_FILE, FORBIDDEN)


def settled_without_harm(row: Row) -> bool:
    """Tell the same, but not of a film that crashed, hung or took too much memory."""
    return settled(row) and not (row["reason"] is not None and not row["fingerprint"])


def anything(row: Row) -> bool:
    """Take every row."""
    return True
