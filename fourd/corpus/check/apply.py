"""Write a new version of an index, without what a check found to be at fault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from fourd.corpus.check.report import Fault, Report
from fourd.corpus.check.subjects import FilmsSubject, PiecesSubject, Subject
from fourd.index import films, pieces
from fourd.index.films import film_of
from fourd.index.remote import is_url
from fourd.index.table import RowTable, RowWriter


def require_applicable(subjects: Sequence[Subject], out: Path) -> None:
    """Raise ValueError where `apply` would: before hours are spent on a check."""
    if len(subjects) != 1:
        names = ", ".join(subject.name for subject in subjects[:3])
        raise ValueError(f"--apply with {len(subjects)} indexes ({names}): it makes one new index; name one of them")
    (subject,) = subjects
    if not isinstance(subject, FilmsSubject | PiecesSubject):
        raise ValueError(f"--apply: {subject.name} is no index; expected one of films or of pieces")
    if out.expanduser().exists():
        raise ValueError(f"--apply {out}: there is such a file, and no index is written over: name a new one")
    if isinstance(subject, PiecesSubject) and not is_url(subject.name):
        folder = Path(subject.name).resolve().parent
        if out.expanduser().resolve().parent != folder:
            raise ValueError(f"--apply {out}: shards are found from the folder of the index; expected it in {folder}")


def apply(subject: Subject, report: Report, out: Path) -> int:
    """Write a new version of an index without what is at fault, and give how many rows are no longer used.

    Pieces are left out. Films keep a row with the reason, as all that is found in a folder does: so they are listed,
    and `fourd data index` does not take them up again. The metadata name the parent's fingerprint, how many rows were
    removed, and how many were judged. Raises: ValueError (see `require_applicable`), or where nothing is usable.
    """
    require_applicable([subject], out)
    bad = report.bad.get(subject.name, {})
    if not report.num_usable and report.num_checked == report.num_rows:
        raise ValueError(f"--apply {out}: nothing in {subject.name} is usable, so that no new index is written")
    table = _table(subject)
    judged = f"{report.num_checked} of {report.num_rows} rows"
    about = {"parent": table.fingerprint, "removed": str(len(bad)), "judged": judged}
    schema = films.SCHEMA if isinstance(subject, FilmsSubject) else pieces.SCHEMA
    change = _with_reasons if isinstance(subject, FilmsSubject) else _without
    with RowWriter(out, schema, table.kind, **(_described(table) | about)) as writer:
        for number in range(table.num_groups):
            rows = range(table.start_of_group(number), table.start_of_group(number) + table.num_rows(number))
            found = {row: fault for row, fault in bad.items() if row in rows}
            writer.write_table(change(table, number, found) if found else table.group(number))
    return len(bad)


def _table(subject: Subject) -> RowTable:
    if isinstance(subject, FilmsSubject):
        return subject.index.table
    assert isinstance(subject, PiecesSubject)  # as `require_applicable` made sure
    return subject.table


_OWN = ("kind", "content", "ARROW:schema")
"""Metadata that each file has of its own."""


def _described(table: RowTable) -> dict[str, str]:
    return {name: value for name, value in table.metadata.items() if name not in _OWN}


def _without(table: RowTable, group: int, bad: Mapping[int, Fault]) -> pa.Table:
    """Give a group's rows without those that are bad."""
    start, rows = table.start_of_group(group), table.group(group)
    return rows.filter(pa.array([start + place not in bad for place in range(len(rows))], pa.bool_()))


def _with_reasons(table: RowTable, group: int, bad: Mapping[int, Fault]) -> pa.Table:
    """Give a group's rows; those that are bad with the reason in the place of all that was known."""
    start, rows = table.start_of_group(group), table.group(group)
    parts = []
    for number in sorted(bad):
        parts += [rows.slice(start - table.start_of_group(group), number - start)]
        parts += [pa.Table.from_pylist([_refused(table.row(number), bad[number])], schema=rows.schema)]
        start = number + 1
    return pa.concat_tables([*parts, rows.slice(start - table.start_of_group(group))])


def _refused(row: Mapping[str, Any], fault: Fault) -> dict[str, Any]:
    """Write a film's row as that of a file which is not used; without a fingerprint if to look into it did harm."""
    film = film_of(row)
    fingerprint = "" if fault.is_harm else film.fingerprint
    return replace(film, fingerprint=fingerprint, info=None, reason=fault.reason).row()
