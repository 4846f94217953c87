"""The rows of the bench of pretraining: kept in Parquet, shown as a table and a picture."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

ABOUT: dict[str, str] = {
    "default": "each as it comes: our latents of 4 x 16 x 16 pixels, their narrow decoder of 4 blocks",
    "coarse": "the same with our latents of 4 x 32 x 32 pixels",
    "same": "as much hidden on both sides, two decoder blocks of full width over every token; theirs come after the "
    "encoder's blocks, ours are the last two of them, and what all clips share is computed once",
}


@dataclass(frozen=True)
class PretrainingRow:
    """Hold one comparison: seconds of a step (quartiles of the rounds) of ours and of VideoMAE's, and the ratio.

    GFLOP count the products of a step that ran. `share_of_limit` is the least possible time by the time taken, on a
    GPU alone. What is of VideoMAE is None where ours was measured alone.
    """

    size: str
    comparison: str
    frames: int
    resolution: int
    batch: int
    precision: str
    latents: int
    mask_ratio: float
    rounds: int
    seconds: float
    seconds_low: float
    seconds_high: float
    gflop_per_clip: float
    peak_gb: float | None
    first_loss: float
    last_loss: float
    share_of_limit: float | None
    machine: str
    torch: str
    transformers: str
    threads: int
    commit: str
    seed: int
    command: str
    rival_mask_ratio: float | None = None
    rival_seconds: float | None = None
    rival_seconds_low: float | None = None
    rival_seconds_high: float | None = None
    rival_gflop_per_clip: float | None = None
    rival_peak_gb: float | None = None
    rival_first_loss: float | None = None
    rival_last_loss: float | None = None
    ratio: float | None = None

    @property
    def clips_per_s(self) -> float:
        """Give the speed of ours."""
        return self.batch / self.seconds


def require_path(path: Path) -> None:
    """Raise ValueError, before anything is measured, for a file that could not be written."""
    if path.suffix != ".parquet":
        raise ValueError(f"{path}: found the ending '{path.suffix}', expected '.parquet'; .md and .png come beside it")
    path.parent.mkdir(parents=True, exist_ok=True)


def write_rows(path: Path, rows: Sequence[PretrainingRow]) -> None:
    """Write the rows to Parquet, a table to Markdown and a picture beside it, aside first and then renamed."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        pq.write_table(pa.Table.from_pylist([asdict(row) for row in rows]), aside)
        os.replace(aside, path)
        aside.write_text(markdown(rows))
        os.replace(aside, path.with_suffix(".md"))
        if any(row.ratio is not None for row in rows):
            _draw(rows, aside)
            os.replace(aside, path.with_suffix(".png"))
    finally:
        aside.unlink(missing_ok=True)


def as_json(rows: Sequence[PretrainingRow]) -> str:
    """Write the rows as one JSON document."""
    return json.dumps({"rows": [asdict(row) for row in rows]}, indent=2)


_TITLES = ("size", "comparison", "latents", "hidden", "clips/s", "VideoMAE clips/s", "ratio", "GFLOP/clip", "of limit")


def _cells(row: PretrainingRow) -> list[str]:
    speeds = [_speed(row.batch, row.seconds, row.seconds_low, row.seconds_high)]
    hidden, rival, ratio, gflop = f"{row.mask_ratio:.0%}", "-", "-", f"{row.gflop_per_clip:.0f}"
    if row.ratio is not None:
        seconds = (row.rival_seconds, row.rival_seconds_low, row.rival_seconds_high)
        rival, ratio = _speed(row.batch, *(one or 0.0 for one in seconds)), f"{row.ratio:.2f}"
        hidden, gflop = f"{hidden} / {row.rival_mask_ratio:.0%}", f"{gflop} / {row.rival_gflop_per_clip:.0f}"
    limit = "-" if row.share_of_limit is None else f"{row.share_of_limit:.0%}"
    return [row.size, row.comparison, str(row.latents), hidden, *speeds, rival, ratio, gflop, limit]


def _speed(batch: int, middle: float, low: float, high: float) -> str:
    """Write clips per second, and between which the middle half of the rounds lay."""
    return f"{batch / middle:.3g} ({batch / high:.3g} to {batch / low:.3g})"


_BESIDE = "Ours begins with bytes, VideoMAE with colours that were normalised before. The loss fell on both."


def _notes(rows: Sequence[PretrainingRow]) -> list[str]:
    first = rows[0]
    return [
        *(f"{name}: {about}." for name, about in ABOUT.items() if any(row.comparison == name for row in rows)),
        f"Steps of {first.batch} clips of {first.frames} frames of {first.resolution} pixels in {first.precision}, "
        f"forward, backward and AdamW, clips on the device; medians (and quartiles) of {first.rounds} rounds in turns. "
        f"{_BESIDE if first.ratio is not None else 'VideoMAE was not measured. The loss fell.'} GFLOP: of the products "
        "that ran; what is the same for all clips of a step runs once.",
        f"{first.machine}, {first.threads} threads; torch {first.torch}, transformers {first.transformers}; commit "
        f"{first.commit}; seed {first.seed}; `{first.command}`.",
    ]


def markdown(rows: Sequence[PretrainingRow]) -> str:
    """Write the table as Markdown, its notes below."""
    lines = [list(_TITLES), ["---"] * len(_TITLES), *(_cells(row) for row in rows)]
    table = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([*table, "", *(f"* {note}" for note in _notes(rows))]) + "\n"


def show(rows: Sequence[PretrainingRow], console: Console | None = None) -> None:
    """Print the table and its notes."""
    console = console or Console()
    console.width = max(console.width, 120)
    view = Table(title="pretraining: clips per second", title_justify="left", title_style="bold")
    for title in _TITLES:
        view.add_column(title)
    for row in rows:
        view.add_row(*_cells(row))
    console.print(view)
    for note in _notes(rows):
        console.print(note, markup=False, highlight=False)


def _draw(rows: Sequence[PretrainingRow], path: Path) -> None:
    """Draw the ratios as bars, with the ratio of the operations beside each; rows of ours alone are not drawn."""
    from matplotlib.figure import Figure

    rows = [row for row in rows if row.ratio is not None]
    figure = Figure(figsize=(1.5 + 1.6 * len(rows), 3.6), layout="constrained")
    axes = figure.subplots()
    places = range(len(rows))
    bars = axes.bar([place - 0.2 for place in places], [row.ratio or 0.0 for row in rows], 0.4, label="speed, measured")
    axes.bar_label(bars, fmt="%.2f")
    flops = [(row.rival_gflop_per_clip or 0.0) / row.gflop_per_clip for row in rows]
    axes.bar_label(axes.bar([place + 0.2 for place in places], flops, 0.4, label="fewer operations"), fmt="%.2f")
    axes.axhline(1, color="0.6", linewidth=0.8)
    axes.set_xticks(list(places), [f"{row.size}, {row.comparison}\n{row.latents} latents" for row in rows])
    axes.set_ylabel("times VideoMAE's")
    axes.set_title(f"{rows[0].resolution} pixels, batch {rows[0].batch}, {rows[0].precision}", fontsize=10)
    axes.legend(frameon=False, fontsize=8)
    with matplotlib.rc_context({"svg.hashsalt": "fourd"}):
        figure.savefig(path, format="png", dpi=120)
