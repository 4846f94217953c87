"""Write what was found: the lists of each split, and the whole report."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from fourd.doctor.examine import Report, SplitReport
from fourd.doctor.story import table
from fourd.types import Unreadable


def write_lists(out: Path, split: SplitReport) -> list[Path]:
    """Write the list of a split's clips, and a table of what cannot be used, if there is any.

    `sha256sum clips.txt` is the number that a report shows. Tables that an earlier call left and that have nothing to
    say any more are removed.
    """
    folder = out / split.split
    folder.mkdir(parents=True, exist_ok=True)
    counts = split.counts
    clips = folder / "clips.txt"
    clips.write_text("\n".join(counts.clips if counts else ()), encoding="utf-8")
    tables: dict[str, Sequence[Unreadable]] = {"unloaded": split.tally.unloaded}
    if counts is not None:
        tables |= {"unreadable": counts.unreadable, "damaged": counts.damaged, "too_short": counts.too_short}
    written = [_write_table(folder / f"{name}.csv", lost) for name, lost in tables.items()]
    return [clips, *(path for path in written if path is not None)]


def write_report(path: Path, report: Report) -> None:
    """Write all that is printed as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(table(report), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _write_table(path: Path, lost: Sequence[Unreadable]) -> Path | None:
    if not lost:
        path.unlink(missing_ok=True)
        return None
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "reason"))
        writer.writerows((at.path, at.reason) for at in lost)
    return path
