"""Write a new version of an index, without what a check found to be at fault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from fourd.corpus.check.report import Report
from fourd.corpus.check.subjects import FilmsSubject, PiecesSubject, Subject
from fourd.index import films, pieces
from fourd.index.films import film_of
from fourd.index.remote import is_url
from fourd.index.table import RowTable, RowWriter
from fourd.isolation import Failure


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
    if not report.num_usable:
        raise ValueError(f"--apply {out}: nothing that was checked is usable, so that no new index is written")
    table = subject.index.table if isinstance(subject, FilmsSubject) else subject.table  # type: ignore[attr-defined]
    judged = f"{report.num_checked} of {report.num_rows} rows"
    about = {"parent": table.fingerprint, "removed": str(len(bad)), "judged": judged}
    if isinstance(subject, FilmsSubject):
        with RowWriter(out, films.SCHEMA, films.KIND, **_kept_metadata(table), **about) as writer:
            _write(table, writer, bad, _with_reasons)
    else:
        with RowWriter(out, pieces.SCHEMA, pieces.KIND, **_kept_metadata(table), **about) as writer:
            _write(table, writer, bad, _without)
    return len(bad)
