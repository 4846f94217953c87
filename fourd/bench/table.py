"""The table of a bench: rows kept in Parquet, and shown on the screen and in Markdown."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from fourd.bench.references import WHY_NOT_RUN

TOLERANCE = 1e-5
"""The largest golden error, in standard deviations of the output, with which an adapter counts as right."""

OWN_CODE, ARRAYS = "own code, in this run", "arrays of the public code, small model"
"""What a golden error is against."""

_MIN_WIDTH = 150
_ARROW = {"str": pa.string(), "int": pa.int64(), "float": pa.float64()}


@dataclass(frozen=True)
class Row:
    """Hold what was measured of one backbone at one batch size; None where there is nothing to compare with.

    `native_frames` is what the backbone takes by itself (None: any number); `frames` is what it was given. Speeds are
    medians over `runs` timed runs of each side, in clips per second; `ratio` is ours by the rival's.
    """

    backbone: str
    size: str
    parameters: int
    native_frames: int | None
    frames: int
    height: int
    width: int
    t: int
    h: int
    w: int
    D: int
    source: str
    golden_error: float | None
    golden_against: str | None
    batch: int
    ours_clips_per_s: float
    own_clips_per_s: float | None
    ratio: float | None
    runs: int
    machine: str
    torch: str
    transformers: str | None
    threads: int
    commit: str
    seed: int
    command: str


SCHEMA = pa.schema(
    [pa.field(f.name, _ARROW[str(f.type).removesuffix(" | None")], nullable="None" in str(f.type)) for f in fields(Row)]
)


def require_path(path: Path) -> None:
    """Raise ValueError, before anything is measured, for a file that could not be written."""
    if path.suffix != ".parquet":
        raise ValueError(
            f"{path}: found the ending '{path.suffix}', expected '.parquet'; a table in .md comes beside it"
        )
    path.parent.mkdir(parents=True, exist_ok=True)


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows to Parquet and the table as Markdown beside it, aside first and then renamed."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        pq.write_table(pa.Table.from_pylist([asdict(row) for row in rows], schema=SCHEMA), aside)
        os.replace(aside, path)
        aside.write_text(markdown(rows))
        os.replace(aside, path.with_suffix(".md"))
    finally:
        aside.unlink(missing_ok=True)


# ----------------------------------------------------------------------------- cells


def _by_backbone(rows: Iterable[Row]) -> list[list[Row]]:
    """Put the rows of each backbone together, in the order in which they came."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.backbone, row.size), []).append(row)
    return list(groups.values())


def _batches(rows: Iterable[Row]) -> list[int]:
    return sorted({row.batch for row in rows})


def _titles(rows: Sequence[Row]) -> list[str]:
    titles = ["backbone", "parameters", "input", "tokens", "golden error"]
    for batch in _batches(rows):
        titles += [f"clips/s at {batch}", "own code", "ratio", "runs"]
    return titles


def _cells(group: Sequence[Row], batches: Sequence[int]) -> list[str]:
    """Say what there is to say of one backbone."""
    first = group[0]
    other = f" (native {first.native_frames})" if first.native_frames not in (None, first.frames) else ""
    cells = [
        f"{first.backbone} {first.size}",
        f"{first.parameters / 1e6:.1f}M" if first.parameters >= 1e5 else str(first.parameters),
        f"{first.frames}{other} x {first.height} x {first.width}",
        f"{first.t} x {first.h} x {first.w}, {first.D}",
        _error(first),
    ]
    measured = {row.batch: row for row in group}
    for batch in batches:
        row = measured.get(batch)
        cells += ["-"] * 4 if row is None else [_speed(row.ours_clips_per_s), _speed(row.own_clips_per_s)]
        cells += [] if row is None else ["-" if row.ratio is None else f"{row.ratio:.2f}", str(row.runs)]
    return cells


def _error(row: Row) -> str:
    if row.golden_error is None:
        return "-"
    mark = " (arrays)" if row.golden_against == ARRAYS else ""
    return f"{row.golden_error:.1e}{mark}{' WRONG' if is_wrong(row) else ''}"


def is_wrong(row: Row) -> bool:
    """Tell an adapter that does not give its rival's features; an error that is no number is one too."""
    return row.golden_error is not None and not row.golden_error <= TOLERANCE


def _speed(clips_per_s: float | None) -> str:
    """Write three figures, and no powers of ten."""
    return "-" if clips_per_s is None else f"{clips_per_s:.0f}" if clips_per_s >= 100 else f"{clips_per_s:.3g}"


def _notes(rows: Sequence[Row]) -> list[str]:
    """Say how to read the table, why there is nothing to compare with, and where it was measured."""
    first = rows[0]
    software = f"torch {first.torch}" + (f", transformers {first.transformers}" if first.transformers else "")
    absent = dict.fromkeys(row.backbone for row in rows if row.own_clips_per_s is None)
    return [
        "Input: frames x height x width. Tokens: t x h x w, width. Weights: where they are published; random ones ran.",
        "Golden error: largest difference at depth 1 from the rival's own code with the same weights and pixels, in "
        f"standard deviations of its output; at most {TOLERANCE:g} is right. (arrays): of a small model, against what "
        "the public code gave, committed in tests/golden.",
        "Clips/s: medians of the timed runs in turns, ours before the rival's own code, float32, resizing and colours "
        "included; a single run is its own warm-up. Ratio: ours by the rival's. V-JEPA 2's own code runs without its "
        "predictor, VideoPrism's in eager attention. Both sides get our pixels: the tests compare preprocessing.",
        *(f"-: {WHY_NOT_RUN.get(name, f'{name} has no code of others to be run')}." for name in absent),
        f"{first.machine}, {first.threads} threads; {software}; commit {first.commit}; seed {first.seed}; "
        f"`{first.command}`.",
    ]


# ----------------------------------------------------------------------------- shown


def markdown(rows: Sequence[Row]) -> str:
    """Write the table as Markdown, its notes below; raise ValueError where there is no row."""
    _require_rows(rows)
    titles = [*_titles(rows), "weights"]
    lines = [titles, ["---"] * len(titles)]
    lines += [[*_cells(group, _batches(rows)), group[0].source] for group in _by_backbone(rows)]
    table = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([*table, "", *(f"* {note}" for note in _notes(rows))]) + "\n"


def terminal_table(rows: Sequence[Row], console: Console | None = None) -> None:
    """Print the table and its notes; raise ValueError where there is no row."""
    _require_rows(rows)
    console = console or Console()
    console.width = max(console.width, _MIN_WIDTH)
    view = Table(title="backbones", title_justify="left", title_style="bold")
    for number, title in enumerate(_titles(rows)):
        view.add_column(title, justify="right" if number else "left", no_wrap=number not in (1, 2, 3))
    for group in _by_backbone(rows):
        view.add_row(*_cells(group, _batches(rows)))
    console.print(view)
    weights = [f"Weights of {group[0].backbone} {group[0].size}: {group[0].source}." for group in _by_backbone(rows)]
    for note in (*weights, *_notes(rows)):
        console.print(note, markup=False, highlight=False)


def _require_rows(rows: Sequence[Row]) -> None:
    if not rows:
        raise ValueError("there is no row to show; expected at least one backbone and one batch size")
