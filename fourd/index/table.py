"""Rows of a Parquet file by their number, in memory that does not grow with the file."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Bool, Int64

from fourd.storage import local_copy, open_store

ROWS_PER_GROUP = 2**14
"""Rows that are read and kept together: more make looking up one row slower, fewer make the list of groups longer,
which every process keeps in memory."""

_KEPT_GROUPS = 4
_TESTED_GROUPS = 16
"""Groups that are read and kept at a time, and those that are read at once to be tested: some MB each."""

COPIES = "~/.cache/fourd/indexes"
"""Where an index is copied that is kept in an object store; each version of it once. What is no longer needed there may
be deleted."""

_WAY_OUT = "Copy it again, or make it again with `fourd data`"


class RowTable:
    """Give the rows of an index by number; only a few groups of rows are in memory at a time.

    `path` is where the file lies on this machine, `folder` the folder or URL that it was named in. `metadata` is what
    the writer said of the whole; `fingerprint` changes when the file does. A table can be sent to another process of
    this machine, which opens the file again.
    """

    def __init__(self, path: str | os.PathLike[str], kind: str, schema: pa.Schema | None = None) -> None:
        """Open an index of a certain kind, which is copied to `COPIES` first where `path` is a URL.

        schema: columns that it must have. Raises: ValueError where the file is no such index, or is damaged at its end;
        FileNotFoundError; StorageError where it cannot be copied.
        """
        self.folder, self.path = _folder_and_path(os.fspath(path))
        self.kind = kind
        self._open()
        self._require_columns(schema or pa.schema([]))

    def _open(self) -> None:
        with self._naming_damage():
            self._file = pq.ParquetFile(self.path, page_checksum_verification=True)
        footer = self._file.metadata
        self.metadata = {key.decode(): value.decode() for key, value in (footer.metadata or {}).items()}
        self._require_kind()
        sizes = [footer.row_group(number).num_rows for number in range(footer.num_row_groups)]
        self._ends = np.cumsum(np.array(sizes, np.int64))
        self._places = {footer.schema.column(place).path: place for place in range(len(footer.schema))}
        self._groups: OrderedDict[int, pa.Table] = OrderedDict()

    def _require_kind(self) -> None:
        stated = self.metadata.get("kind", "no index of fourd")
        if stated != self.kind:
            raise ValueError(f"{self.path} is {stated!r}: expected a {self.kind!r}. Make it again with `fourd data`")
        if "content" not in self.metadata:
            raise ValueError(f"{self.path} does not say what it holds: expected a field 'content'. {_WAY_OUT}")

    def _require_columns(self, schema: pa.Schema) -> None:
        found = self._file.schema_arrow
        for wanted in schema:
            if wanted.name not in found.names or found.field(wanted.name).type != wanted.type:
                told = found.field(wanted.name).type if wanted.name in found.names else "missing"
                raise ValueError(f"{self.path}: column {wanted.name} is {told}, expected {wanted.type}. {_WAY_OUT}")

    @contextmanager
    def _naming_damage(self) -> Iterator[None]:
        """Tell damage from a disk that fails: only the latter has an error number."""
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise ValueError(
                f"{self.path} is no Parquet file, or was cut off or damaged ({error}): "
                f"expected a {self.kind!r}. {_WAY_OUT}"
            ) from error

    @property
    def fingerprint(self) -> str:
        """Give a hash of what the file holds, which its writer took."""
        return hashlib.sha256(self.metadata["content"].encode()).hexdigest()[:16]

    def __len__(self) -> int:
        """Count the rows."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getstate__(self) -> tuple[str, Path, str, str]:
        return self.folder, self.path, self.kind, self.fingerprint

    def __setstate__(self, state: tuple[str, Path, str, str]) -> None:
        self.folder, self.path, self.kind, fingerprint = state
        self._open()
        if self.fingerprint != fingerprint:  # the numbers of rows, which others hold, would mean other rows
            raise ValueError(f"{self.path} was written again while it was in use: start again")

    def row(self, number: int) -> dict[str, Any]:
        """Give row `number` as a dictionary; lists come as numpy arrays."""
        if not 0 <= number < len(self):
            raise IndexError(f"{self.path}: row {number}, expected 0 to {len(self) - 1}")
        group = int(np.searchsorted(self._ends, number, side="right"))
        place = number - self.start_of_group(group)
        found = self.group(group)
        return {name: _value(found[name], place) for name in found.column_names}

    def group(self, number: int) -> pa.Table:
        """Give a group of rows."""
        if number not in self._groups:
            with self._naming_damage():
                self._groups[number] = self._file.read_row_group(number, use_threads=False)
            while len(self._groups) > _KEPT_GROUPS:
                self._groups.popitem(last=False)
        self._groups.move_to_end(number)
        return self._groups[number]

    def groups(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Give certain columns of all rows, group by group."""
        return (self.columns(number, columns) for number in range(self.num_groups))

    @property
    def num_groups(self) -> int:
        """Count the groups of rows."""
        return len(self._ends)

    def num_rows(self, group: int) -> int:
        """Count the rows of a group."""
        return int(self._ends[group]) - self.start_of_group(group)

    def columns(self, group: int, columns: Sequence[str]) -> pa.Table:
        """Give certain columns of a group."""
        return self.columns_of([group], columns)

    def columns_of(self, groups: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """Give certain columns of several groups, one after the other."""
        with self._naming_damage():
            return self._file.read_row_groups(list(groups), columns=list(columns), use_threads=False)

    def is_at_least(self, group: int, least: Mapping[str, int]) -> bool:
        """Tell whether the file itself says that no number of a group is missing or below the one named."""
        about = self._file.metadata.row_group(group)
        for name, value in least.items():
            found = about.column(self._places[name]).statistics
            if found is None or not found.has_min_max or found.null_count or found.min < value:
                return False
        return True

    def start_of_group(self, group: int) -> int:
        """Give the number of a group's first row."""
        return int(self._ends[group - 1]) if group else 0


def _folder_and_path(address: str) -> tuple[str, Path]:
    """Give the folder or URL that holds an index, and where it lies on this machine, after copying it if need be."""
    address = address.removeprefix("file://")
    folder, _, name = address.rpartition("/")
    if "://" in folder:
        return folder, local_copy(open_store(folder), name, Path(COPIES).expanduser())
    path = Path(address).expanduser()
    return str(path.parent), path


def kind_of(path: str | os.PathLike[str]) -> str:
    """Say what a Parquet file is; raise ValueError where it is none, FileNotFoundError where there is none."""
    try:
        metadata = pq.read_metadata(path).metadata or {}
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is no Parquet file, or was cut off") from error
    return metadata.get(b"kind", b"no index of fourd").decode()


def num_rows(path: str | os.PathLike[str]) -> int:
    """Count the rows of a Parquet file."""
    return int(pq.read_metadata(path).num_rows)


def _value(column: pa.ChunkedArray, place: int) -> Any:
    scalar = column[place]
    return scalar.values.to_numpy() if isinstance(scalar, pa.ListScalar) and scalar.is_valid else scalar.as_py()


Test = Callable[[pa.Table], Bool[np.ndarray, " n"]]
"""Say of each row of a group whether it passes."""


class Selection:
    """Number the rows of a table that pass a test; it keeps one count per group of rows."""

    def __init__(
        self, table: RowTable, columns: Sequence[str], test: Test, least: Mapping[str, int] | None = None
    ) -> None:
        """Apply `test`, which looks at `columns` of a group, to all rows.

        least: where the file says that no number of a group's columns is below these, all rows of the group pass, and
        it is not read.
        """
        self.table, self.columns, self.test, self._least = table, tuple(columns), test, least
        self._ends: Int64[np.ndarray, " G"] = np.cumsum(self._counts())
        self._kept: OrderedDict[int, Int64[np.ndarray, " n"]] = OrderedDict()

    @classmethod
    def at_least(cls, table: RowTable, least: Mapping[str, int]) -> Selection:
        """Select the rows whose columns are not below the numbers named."""
        return cls(table, tuple(least), _AtLeast(tuple(least.items())), least)

    def _counts(self) -> Int64[np.ndarray, " G"]:
        """Count the rows of each group that pass, and read those groups of which the file does not say enough."""
        counts = np.array([self.table.num_rows(group) for group in range(self.table.num_groups)], np.int64)
        unknown = [group for group in range(len(counts)) if not self._all_pass(group)]
        for first in range(0, len(unknown), _TESTED_GROUPS):
            groups = unknown[first : first + _TESTED_GROUPS]
            passes = self.test(self.table.columns_of(groups, self.columns))
            by_group = np.split(passes, np.cumsum(counts[groups])[:-1])
            counts[groups] = [np.count_nonzero(part) for part in by_group]
        return counts

    def _all_pass(self, group: int) -> bool:
        return self._least is not None and self.table.is_at_least(group, self._least)

    def __len__(self) -> int:
        """Count the rows that pass."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def row_number(self, index: int) -> int:
        """Give the number, in the table, of the row that passes as number `index`."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self.table.path}: selected row {index}, expected 0 to {len(self) - 1}")
        group = int(np.searchsorted(self._ends, index, side="right"))
        before = int(self._ends[group - 1]) if group else 0
        place, first = index - before, self.table.start_of_group(group)
        if self._ends[group] - before == self.table.num_rows(group):
            return first + place
        return first + int(self._passing(group)[place])

    def _passing(self, group: int) -> Int64[np.ndarray, " n"]:
        """Give the places in a group of the rows that pass; kept for as many groups as the table keeps."""
        if group not in self._kept:
            self._kept[group] = np.flatnonzero(self.test(self.table.group(group)))
            while len(self._kept) > _KEPT_GROUPS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(group)
        return self._kept[group]


@dataclass(frozen=True)
class _AtLeast:
    """Test numbers against their least values; a missing number does not pass."""

    least: tuple[tuple[str, int], ...]

    def __call__(self, rows: pa.Table) -> Bool[np.ndarray, " n"]:
        passes = [pc.fill_null(pc.greater_equal(rows[name], value), False).to_numpy() for name, value in self.least]
        return np.logical_and.reduce(passes)


def _options(schema: pa.Schema) -> dict[str, Any]:
    """Say how columns are written.

    Lists of whole numbers by their differences, which are almost nothing at an even rate; as dictionaries only what
    hardly differs from row to row. The least and the largest value of a group only where it is a number: those of
    texts would make the list of groups longer.
    """
    types = pa.types
    lists = [field.name for field in schema if types.is_large_list(field.type)]
    numbers = [field.name for field in schema if types.is_integer(field.type) or types.is_floating(field.type)]
    repeated = [
        f.name for f in schema if types.is_dictionary(f.type) or types.is_int32(f.type) or types.is_float64(f.type)
    ]
    return {
        "compression": "zstd",
        "write_page_checksum": True,
        "write_statistics": numbers,
        "use_dictionary": repeated,
        "column_encoding": {f"{name}.list.element": "DELTA_BINARY_PACKED" for name in lists} or None,
    }


def _without_dictionaries(schema: pa.Schema) -> pa.Schema:
    types = ((f.name, f.type.value_type if pa.types.is_dictionary(f.type) else f.type) for f in schema)
    return pa.schema(list(types))


class RowWriter:
    """Write an index row by row, aside at first, so that a reader never meets half a file.

    Use as a context manager; without an error the file stands at `path` when it is left.
    """

    def __init__(self, path: str | os.PathLike[str], schema: pa.Schema, kind: str, **metadata: str) -> None:
        """Begin a file; `metadata` says what is true of all rows."""
        self.path = Path(path).expanduser()
        self.schema, self._plain = schema, _without_dictionaries(schema)
        self._metadata = {"kind": kind, **metadata}
        self._rows: list[dict[str, Any]] = []
        self._digest = hashlib.sha256(repr(sorted(self._metadata.items())).encode())

    def __enter__(self) -> RowWriter:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._aside = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        self._writer = pq.ParquetWriter(self._aside, self.schema, **_options(self.schema))
        return self

    def write(self, row: dict[str, Any]) -> None:
        """Append a row: a value for every column of the schema."""
        self._rows.append(row)
        if len(self._rows) == ROWS_PER_GROUP:
            self._write_group()

    def write_table(self, table: pa.Table) -> None:
        """Append many rows at once, in the schema's columns."""
        self._write_group()
        for start in range(0, len(table), ROWS_PER_GROUP):
            self._write(table.slice(start, ROWS_PER_GROUP))

    def _write_group(self) -> None:
        if self._rows:
            self._write(pa.Table.from_pylist(self._rows, schema=self.schema))
            self._rows = []

    def _write(self, table: pa.Table) -> None:
        plain = table.cast(self._plain)  # with no more texts in a dictionary than these rows have
        copied = plain.take(np.arange(len(plain)))  # the bytes of a slice say from which place it was cut
        for batch in copied.combine_chunks().to_batches():
            self._digest.update(batch.serialize())
        self._writer.write_table(plain.cast(self.schema), row_group_size=ROWS_PER_GROUP)

    def __exit__(self, kind: type[BaseException] | None, *raised: object) -> None:
        try:
            if kind is None:
                self._write_group()
                self._writer.add_key_value_metadata({**self._metadata, "content": self._digest.hexdigest()})
            self._writer.close()
            if kind is None:
                with open(self._aside, "rb") as file:
                    os.fsync(file.fileno())
                self._aside.replace(self.path)
        finally:
            self._aside.unlink(missing_ok=True)
