"""Plots as SVG text, drawn in the page's own colours so that they follow its light and dark look."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from fourd.report.summary import Comparison

# Narrow enough that the labels can still be read on a phone.
_LABEL_WIDTH, _PLOT_WIDTH, _ROW_HEIGHT = 130, 300, 28
_CURVE_WIDTH, _CURVE_HEIGHT, _MARGIN = 520, 260, 58


def interval_plot(comparisons: Sequence[Comparison]) -> str:
    """Draw gains with their intervals around zero, one line each, every task on its own scale."""
    height = _ROW_HEIGHT * len(comparisons) + 34
    zero = _LABEL_WIDTH + _PLOT_WIDTH / 2
    parts = [f'<line class="axis" x1="{zero}" y1="6" x2="{zero}" y2="{height - 26}"/>']
    parts += [_interval(comparison, number) for number, comparison in enumerate(comparisons)]
    parts.append(f'<text class="muted" x="{zero - 8}" y="{height - 8}" text-anchor="end">worse</text>')
    parts.append(f'<text class="muted" x="{zero + 8}" y="{height - 8}">better</text>')
    return svg(_LABEL_WIDTH + _PLOT_WIDTH + 10, height, parts)


def _interval(comparison: Comparison, row: int) -> str:
    gain = comparison.gain
    ends = (gain.low, gain.value, gain.high)
    reach = max([abs(end) for end in ends if math.isfinite(end)] + [1e-12])
    scale = 0.46 * _PLOT_WIDTH / reach
    zero, y = _LABEL_WIDTH + _PLOT_WIDTH / 2, _ROW_HEIGHT * row + 22
    # One group of clips says nothing about the spread: its endless interval goes from edge to edge.
    low, mid, high = (zero + scale * min(max(end, -reach), reach) for end in ends)
    kind = comparison.verdict.split()[0]
    label = escape(comparison.entry.replace("_", " "))
    return (
        f'<text x="{_LABEL_WIDTH - 12}" y="{y + 5}" text-anchor="end">{label}</text>'
        f'<line class="{kind}" x1="{low:.1f}" y1="{y}" x2="{high:.1f}" y2="{y}" stroke-width="3"/>'
        f'<circle class="{kind}" cx="{mid:.1f}" cy="{y}" r="5"/>'
    )


@dataclass(frozen=True)
class Curve:
    """Hold one line of a plot."""

    name: str
    points: tuple[tuple[int, float], ...]


def read_curves(path: Path, name: str) -> list[Curve]:
    """Read the training and the held-out loss of a run from its metrics.jsonl."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    records = [record for record in lines if record["loss"]]  # a skipped step has no loss
    if not records:
        raise ValueError(f"{path} holds no metrics; was the run stopped before its first step?")
    window = max(len(records) // 150, 1)
    chunks = [records[start : start + window] for start in range(0, len(records), window)]
    train = tuple((chunk[-1]["step"], sum(r["loss"] for r in chunk) / len(chunk)) for chunk in chunks)
    held_out = tuple((r["step"], r["held_out_loss"]) for r in records if r.get("held_out_loss") is not None)
    curves = [Curve(f"{name}, training clips", train)]
    return [*curves, Curve(f"{name}, held-out clips", held_out)] if held_out else curves


def curve_plot(curves: Sequence[Curve], x_title: str, y_title: str) -> str:
    """Draw lines over a common range; the vertical axis is logarithmic."""
    xs = [x for curve in curves for x, _ in curve.points]
    ys = [math.log10(y) for curve in curves for _, y in curve.points]
    (x0, x1), (y0, y1) = (min(xs), max(xs)), (min(ys), max(ys))
    width, height = _CURVE_WIDTH - 2 * _MARGIN, _CURVE_HEIGHT - 2 * _MARGIN

    def place(x: int, y: float) -> str:
        across = _MARGIN + width * (x - x0) / max(x1 - x0, 1e-9)
        down = _CURVE_HEIGHT - _MARGIN - height * (math.log10(y) - y0) / max(y1 - y0, 1e-9)
        return f"{across:.1f},{down:.1f}"

    parts = []
    for number, curve in enumerate(curves):
        line = " ".join(place(x, y) for x, y in curve.points)
        parts.append(f'<polyline class="line{number % 4}" points="{line}"/>')
        y = 16 + 16 * number
        parts.append(f'<text class="text{number % 4}" x="{_CURVE_WIDTH - 8}" y="{y}" text-anchor="end">')
        parts.append(f"{escape(curve.name)}</text>")
    for value in (y0, (y0 + y1) / 2, y1):
        down = _CURVE_HEIGHT - _MARGIN - height * (value - y0) / max(y1 - y0, 1e-9)
        parts.append(
            f'<text class="muted" x="{_MARGIN - 6}" y="{down + 4:.1f}" text-anchor="end">{10**value:.3g}</text>'
        )
    bottom = _CURVE_HEIGHT - _MARGIN + 20
    parts.append(f'<text class="muted" x="{_MARGIN}" y="{bottom}">{x0:g}</text>')
    parts.append(f'<text class="muted" x="{_CURVE_WIDTH - _MARGIN}" y="{bottom}" text-anchor="end">{x1:g}</text>')
    parts.append(
        f'<text class="muted" x="{_CURVE_WIDTH / 2}" y="{bottom}" text-anchor="middle">{escape(x_title)}</text>'
    )
    parts.append(f'<text class="muted" x="4" y="14">{escape(y_title)}</text>')
    return svg(_CURVE_WIDTH, _CURVE_HEIGHT, parts)


def svg(width: int, height: int, parts: Sequence[str]) -> str:
    """Put parts together as a picture that shrinks with the page."""
    inner = "".join(parts)
    return f'<svg viewBox="0 0 {width} {height}" role="img" style="max-width:{width}px">{inner}</svg>'
