"""Lists of films: CSV and Parquet files with a column of paths, read a piece at a time."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

LISTS = (".csv", ".parquet")
"""The endings of a list's name."""


def names_in(path: Path) -> Iterator[str]:
    """Give what a list names, from its column `path` or its only column; other columns are passed over.

    The first line of a CSV file names its columns; one column needs no such line, if its first entry has an ending.
    Raises: ValueError for a file that is no such list, or has several columns and none called `path`.
    """
    return _names_in_parquet(path) if path.suffix.lower() == ".parquet" else _names_in_csv(path)


def _names_in_parquet(path: Path) -> Iterator[str]:
    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: no Parquet file, or cut off: {error}") from error
    made_by = (file.metadata.metadata or {}).get(b"kind", b"").decode(errors="replace")
    if made_by.startswith("fourd"):
        raise ValueError(f"{path} is a {made_by}, no list of files: name what it was made of, or use it as it is")
    column = _path_column(path, file.schema_arrow.names)
    kind = file.schema_arrow.field(column).type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind)):
        raise ValueError(f"{path}: column {column!r} is of type {kind}; expected text")
    for batch in file.iter_batches(columns=[column]):
        for name in batch.column(0).to_pylist():
            yield _checked(path, name)


def _names_in_csv(path: Path) -> Iterator[str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = (row for row in csv.reader(file) if row)
            first = next(rows, None)
            if first is None:
                raise ValueError(f"{path}: it is empty; expected a path in each row")
            place = 0
            if len(first) == 1 and Path(first[0]).suffix:
                yield _checked(path, first[0])  # names alone, without a line that says what they are
            else:
                place = first.index(_path_column(path, first))
            for row in rows:
                yield _checked(path, row[place] if place < len(row) else None)
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: no list in UTF-8 with commas: {error}") from error


def _checked(path: Path, name: str | None) -> str:
    if not name:
        raise ValueError(f"{path}: an entry names no file; expected a path or URL in each row")
    return name


def _path_column(path: Path, columns: Sequence[str]) -> str:
    if "path" in columns:
        return "path"
    if len(columns) == 1:
        return columns[0]
    raise ValueError(f"{path}: columns are {', '.join(columns)}; expected one called `path`")
