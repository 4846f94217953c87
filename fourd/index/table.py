"""Rows of a Parquet file by their number, in memory that does not grow with the file."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Bool, Int64

ROWS_PER_GROUP = 2**14
"""Rows that are read and kept together."""

_KEPT_GROUPS = 4


class RowTable:
    """Give the rows of an index by number; only a few groups of rows are in memory at a time.

    `metadata` is what the writer said of the whole; `fingerprint` changes when the file does. A table can be sent to
    another process, which opens the file again.
    """

    def __init__(self, path: str | os.PathLike[str], kind: str) -> None:
        """Open an index of a certain kind; raise ValueError where the file is none."""
        self.path, self.kind = Path(path).expanduser(), kind
        self._open()

    def _open(self) -> None:
        try:
            self._file = pq.ParquetFile(self.path, memory_map=False)
        except pa.ArrowInvalid as error:
            raise ValueError(f"{self.path} is no Parquet file, or was cut off: expected a {self.kind}") from error
        found = {key.decode(): value.decode() for key, value in (self._file.metadata.metadata or {}).items()}
        if found.get("kind") != self.kind:
            stated = found.get("kind", "no index of fourd")
            raise ValueError(f"{self.path} is {stated!r}: expected a {self.kind!r}. Make it again with `fourd data`")
        self.metadata = found
        footer = self._file.metadata
        sizes = [footer.row_group(number).num_rows for number in range(footer.num_row_groups)]
        self._ends = np.cumsum(np.array(sizes, np.int64))
        self._groups: OrderedDict[int, pa.Table] = OrderedDict()

    @property
    def fingerprint(self) -> str:
        """Give a hash of what the file holds, which its writer took."""
        return hashlib.sha256(self.metadata["content"].encode()).hexdigest()[:16]

    def __len__(self) -> int:
        """Count the rows."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getstate__(self) -> tuple[Path, str]:
        return self.path, self.kind

    def __setstate__(self, state: tuple[Path, str]) -> None:
        self.path, self.kind = state
        self._open()

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
            self._groups[number] = self._file.read_row_group(number)
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
        return self._file.read_row_group(group, columns=list(columns))

    def is_at_least(self, group: int, least: Mapping[str, float]) -> bool:
        """Tell whether the file itself says that no number of a group is missing or below the one named."""
        about = self._file.metadata.row_group(group)
        for name, value in least.items():
            found = about.column(self._file.schema_arrow.get_field_index(name)).statistics
            if found is None or not found.has_min_max or found.null_count or found.min < value:
                return False
        return True

    def start_of_group(self, group: int) -> int:
        """Give the number of a group's first row."""
        return int(self._ends[group - 1]) if group else 0


def _value(column: pa.ChunkedArray, place: int) -> Any:
    scalar = column[place]
    return scalar.values.to_numpy() if isinstance(scalar, pa.ListScalar) and scalar.is_valid else scalar.as_py()


Test = Callable[[pa.Table], Bool[np.ndarray, " n"]]
"""Say of each row of a group whether it passes."""


class Selection:
    """Number the rows of a table that pass a test; it keeps one count per group of rows."""

    def __init__(
        self, table: RowTable, columns: Sequence[str], test: Test, least: Mapping[str, float] | None = None
    ) -> None:
        """Apply `test`, which looks at `columns` of a group, to all rows.

        least: where the file says that no number of a group's columns is below these, all rows of the group pass, and
        it is not read.
        """
        self.table, self.columns, self.test, self._least = table, tuple(columns), test, least
        counts = [self._count(number) for number in range(table.num_groups)]
        self._ends: Int64[np.ndarray, " G"] = np.cumsum(np.array(counts, np.int64))

    @classmethod
    def at_least(cls, table: RowTable, least: Mapping[str, float]) -> Selection:
        """Select the rows whose columns are not below the numbers named."""
        return cls(table, tuple(least), _AtLeast(tuple(least.items())), least)

    def _count(self, group: int) -> int:
        if self._least is not None and self.table.is_at_least(group, self._least):
            return self.table.num_rows(group)
        return int(np.count_nonzero(self.test(self.table.columns(group, self.columns))))

    def __len__(self) -> int:
        """Count the rows that pass."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def row_number(self, index: int) -> int:
        """Give the number, in the table, of the row that passes as number `index`."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self.table.path}: selected row {index}, expected 0 to {len(self) - 1}")
        group = int(np.searchsorted(self._ends, index, side="right"))
        before = int(self._ends[group - 1]) if group else 0
        passing = np.flatnonzero(self.test(self.table.group(group)))
        return self.table.start_of_group(group) + int(passing[index - before])


@dataclass(frozen=True)
class _AtLeast:
    """Test numbers against their least values; a missing number does not pass."""

    least: tuple[tuple[str, float], ...]

    def __call__(self, rows: pa.Table) -> Bool[np.ndarray, " n"]:
        passes = [pc.fill_null(pc.greater_equal(rows[name], value), False).to_numpy() for name, value in self.least]
        return np.logical_and.reduce(passes)


def _encodings(schema: pa.Schema) -> dict[str, Any]:
    """Store lists of whole numbers by their differences: those of an even rate take almost nothing."""
    lists = [field.name for field in schema if pa.types.is_large_list(field.type)]
    plain = [name for name in schema.names if name not in lists]
    delta = {f"{name}.list.element": "DELTA_BINARY_PACKED" for name in lists}
    return {"use_dictionary": plain, "column_encoding": delta} if lists else {}


class RowWriter:
    """Write an index row by row, aside at first, so that a reader never meets half a file.

    Use as a context manager; without an error the file stands at `path` when it is left.
    """

    def __init__(self, path: str | os.PathLike[str], schema: pa.Schema, kind: str, **metadata: str) -> None:
        """Begin a file; `metadata` says what is true of all rows."""
        self.path = Path(path).expanduser()
        self.schema = schema
        self._metadata = {"kind": kind, **metadata}
        self._rows: list[dict[str, Any]] = []
        self._digest = hashlib.sha256(repr(sorted(self._metadata.items())).encode())

    def __enter__(self) -> RowWriter:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._aside = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        self._writer = pq.ParquetWriter(self._aside, self.schema, compression="zstd", **_encodings(self.schema))
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
        for batch in table.combine_chunks().to_batches():
            self._digest.update(batch.serialize())
        self._writer.write_table(table, row_group_size=ROWS_PER_GROUP)

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
