"""The table that a command ends with."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
from rich.console import Console
from rich.table import Table

from fourd.report.summary import Comparison, Contender, Entry, comparisons, contenders, entries, seeds_of
from fourd.types import Metric

_SIGNS = {"better": "✓", "worse": "✗", "no difference shown": "·"}


def terminal_table(
    table: pa.Table, metrics: Mapping[str, Metric], chosen: Mapping[str, str] | None = None, width: int = 118
) -> None:
    """Print a line for each entry: every contender's score, and what the pretrained features gain."""
    console = Console(width=width)
    shown = entries(table, metrics, chosen or {})
    controls = [c for c in contenders(table) if c.is_control]
    for readout in ("attention", "linear"):
        columns = [c for c in contenders(table) if c.readout == readout]
        if columns:
            console.print(_table(table, shown, readout, columns, controls))
    console.print(
        f"Seeds {seeds_of(table)}, {len(set(table['clip'].to_pylist()))} held-out clips. Gains are positive where "
        "pretraining is better, with a 95% interval: ✓ better, ✗ worse, · no difference shown."
    )


def _table(
    table: pa.Table, shown: list[Entry], readout: str, columns: list[Contender], controls: list[Contender]
) -> Table:
    gains = {(c.entry, c.baseline): c for c in comparisons(table, shown, readout)}
    baselines = list(dict.fromkeys(baseline for _, baseline in gains))
    view = Table(title=f"{readout} readout", title_justify="left", title_style="bold")
    view.add_column("task")
    for contender in (*columns, *controls):
        view.add_column(contender.title, justify="right")
    for baseline in baselines:
        view.add_column(f"gain over {baseline.title}", justify="right")
    for entry in shown:
        arrow = "↑" if entry.metric.higher_is_better else "↓"
        cells = [_score(entry, contender) for contender in (*columns, *controls)]
        cells += [_gain(gains.get((entry.name, baseline))) for baseline in baselines]
        view.add_row(f"{entry.name.replace('_', ' ')}\n  {entry.metric.name} {arrow}", *cells)
    return view


def _score(entry: Entry, contender: Contender) -> str:
    return f"{entry.figures[contender].value:.3g}" if contender in entry.figures else ""


def _gain(comparison: Comparison | None) -> str:
    if comparison is None:
        return ""
    gain = comparison.gain
    return f"{gain.value:+.3g} {_SIGNS[comparison.verdict]}\n[{gain.low:+.3g}, {gain.high:+.3g}]"
