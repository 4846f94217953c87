"""What is left to do of a unit: what an earlier call paid for is never done again."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fourd.benchmark.units import AnyUnit, Unit
from fourd.types import ReadoutKind

log = logging.getLogger(__name__)


def is_done(unit: AnyUnit, out: Path) -> bool:
    """Say whether a unit's rows are there."""
    return (unit.folder(out) / "rows.parquet").exists()


def settle(unit: AnyUnit, out: Path) -> list[AnyUnit]:
    """Part a unit into those that hold its cells: done ones, and new ones for the cells that no one has."""
    if not isinstance(unit, Unit) or is_done(unit, out):
        return [unit]
    wanted = {(kind, depth) for kind in unit.readouts for depth in unit.depths}
    kept: list[AnyUnit] = []
    for other in _done_like(unit, out):
        cells = {(kind, depth) for kind in other.readouts for depth in other.depths}
        if cells <= wanted:
            kept.append(other)
            wanted -= cells
    return kept + _covering(unit, wanted)


def _done_like(unit: Unit, out: Path) -> Iterator[Unit]:
    """Give the units that differ in readouts and depths alone and are done, those with most cells first."""
    found = []
    for path in sorted(unit.folder(out).parent.glob("*/unit.json")):
        about = _described(path)
        if about is None:
            continue
        other = replace(unit, readouts=tuple(about["readouts"]), depths=tuple(about["depths"]))
        if other.folder(out) == path.parent and is_done(other, out):
            found.append(other)
    yield from sorted(found, key=lambda other: -len(other.readouts) * len(other.depths))


def _described(path: Path) -> dict[str, Any] | None:
    """Read what a unit is of; None, after a warning, where its file is damaged: its cells are then measured anew."""
    try:
        about: dict[str, Any] = json.loads(path.read_text())
        return about if {"readouts", "depths"} <= about.keys() else None
    except (ValueError, AttributeError) as error:
        log.warning("%s is damaged (%s): what it is of is measured again", path, error)
        return None


def _covering(unit: Unit, wanted: set[tuple[ReadoutKind, float]]) -> list[AnyUnit]:
    """Make one unit of the readouts that lack the same depths."""
    by_depths: dict[tuple[float, ...], list[ReadoutKind]] = defaultdict(list)
    for kind in unit.readouts:
        lacking = tuple(depth for depth in unit.depths if (kind, depth) in wanted)
        if lacking:
            by_depths[lacking].append(kind)
    return [replace(unit, readouts=tuple(kinds), depths=depths) for depths, kinds in by_depths.items()]


def unfinished(units: Sequence[AnyUnit], out: Path) -> list[AnyUnit]:
    """List the units whose rows are not there."""
    return [unit for unit in units if not is_done(unit, out)]
