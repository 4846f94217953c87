"""What an index holds, in a few numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from fourd.index.films import FilmIndex

_MOST_EXAMPLES = 5
_MOST_REASONS = 1000
_OTHERS = "other reasons"


@dataclass(frozen=True)
class IndexSummary:
    """Say what an index holds, and what this time brought.

    reasons: how many files are not used, by the reason; examples: the first of them, with their reasons.
    num_read: looked into this time. num_gone: in the index before, and no longer found.
    """

    num_usable: int
    num_damaged: int
    reasons: Counter[str]
    examples: tuple[tuple[str, str], ...]
    num_frames: int
    seconds: float
    num_bytes: int
    num_read: int
    num_gone: int


def summarize(index: FilmIndex, num_read: int, num_gone: int) -> IndexSummary:
    """Add up the rows of an index."""
    reasons: Counter[str] = Counter()
    examples: list[tuple[str, str]] = []
    totals: Counter[str] = Counter()
    seconds = 0.0
    for rows in index.table.groups(["path", "reason", "damage", "num_frames", "duration_s", "num_bytes"]):
        usable = rows.filter(pc.is_null(rows["reason"]))
        totals.update(usable=len(usable), damaged=len(usable) - usable["damage"].null_count)
        totals.update({name: pc.sum(usable[name]).as_py() or 0 for name in ("num_frames", "num_bytes")})
        seconds += pc.sum(usable["duration_s"]).as_py() or 0.0
        others = rows.filter(pc.is_valid(rows["reason"]))
        _count(reasons, others)
        named = zip(others["path"].to_pylist(), others["reason"].to_pylist(), strict=True)
        examples += islice(named, _MOST_EXAMPLES - len(examples))
    sizes = (totals["num_frames"], seconds, totals["num_bytes"])
    return IndexSummary(totals["usable"], totals["damaged"], reasons, tuple(examples), *sizes, num_read, num_gone)


def _count(reasons: Counter[str], rows: pa.Table) -> None:
    """Count reasons; where very many differ, those that come late are counted as one."""
    for reason in rows["reason"].to_pylist():
        reasons[reason if reason in reasons or len(reasons) < _MOST_REASONS else _OTHERS] += 1
