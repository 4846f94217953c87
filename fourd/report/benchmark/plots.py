"""Plots of a benchmark as SVG text, in the page's own colours: dots with intervals, and curves over depth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import pyarrow.compute as pc

from fourd.report.benchmark.figures import Part, depths_of, metric_of, rows_of
from fourd.report.benchmark.story import BenchmarkStory, ContenderStory, EntryStory
from fourd.report.plots import svg
from fourd.results import Interval, Rows, bootstrap_interval, select

_LABEL, _PLOT, _ROW = 220, 220, 24
_WIDTH, _HEIGHT, _MARGIN = 440, 240, 46
_COLOURS = 6


@dataclass(frozen=True)
class Dot:
    """Hold one line of a dot plot; marks tell kinds apart: filled circle, ring, square, cross."""

    name: str
    mark: str
    interval: Interval


_MARKS = {("frozen", "attention"): "circle", ("frozen", "linear"): "ring", ("finetuned", "attention"): "square"}


def dots_of(shown: Sequence[Part], entry: EntryStory, higher_is_better: bool) -> list[Dot]:
    """Collect an entry's figures, the best on top."""
    found = [
        Dot(line.name, _MARKS.get((part.use, part.readout), "cross"), line.figures[entry.name].interval)
        for part in shown
        for line in part.lines
        if entry.name in line.figures
    ]
    return sorted(found, key=lambda dot: -dot.interval.value if higher_is_better else dot.interval.value)


def dot_plot(dots: Sequence[Dot]) -> str:
    """Draw figures with their intervals, one line each."""
    ends = [
        end for dot in dots for end in (dot.interval.low, dot.interval.value, dot.interval.high) if math.isfinite(end)
    ]
    low, high = min(ends), max(ends)
    span = max(high - low, 1e-12)

    def across(value: float) -> float:
        return _LABEL + 12 + (_PLOT - 24) * (min(max(value, low), high) - low) / span

    height = _ROW * len(dots) + 30
    parts = [f'<line class="axis" x1="{_LABEL}" y1="{height - 24}" x2="{_LABEL + _PLOT}" y2="{height - 24}"/>']
    for number, dot in enumerate(dots):
        y = _ROW * number + 16.0
        left, mid, right = (across(end) for end in (dot.interval.low, dot.interval.value, dot.interval.high))
        parts.append(
            f'<text x="{_LABEL - 8}" y="{y + 4}" text-anchor="end" class="small">{escape(_short(dot.name))}</text>'
        )
        parts.append(f'<line class="whisker" x1="{left:.1f}" y1="{y}" x2="{right:.1f}" y2="{y}"/>')
        parts.append(_mark(dot.mark, mid, y))
    for value in (low, high):
        parts.append(
            f'<text class="muted" x="{across(value):.1f}" y="{height - 8}" text-anchor="middle">{value:.3g}</text>'
        )
    return svg(_LABEL + _PLOT + 10, height, parts)


def _mark(kind: str, x: float, y: float) -> str:
    if kind == "square":
        return f'<rect class="dot" x="{x - 4.5:.1f}" y="{y - 4.5}" width="9" height="9"/>'
    if kind == "cross":
        return f'<path class="cross" d="M{x - 4:.1f} {y - 4}l8 8m0 -8l-8 8"/>'
    return f'<circle class="{"dot" if kind == "circle" else "ring"}" cx="{x:.1f}" cy="{y}" r="5"/>'


def _short(name: str, most: int = 33) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


@dataclass(frozen=True)
class DepthCurve:
    """Hold a contender's figures at each depth that was read."""

    name: str
    readout: str
    points: tuple[tuple[float, Interval], ...]


_DASHES = {"attention": "", "linear": "5 4", "attention_deep": "9 3", "dense": "2 3"}


def depth_curves(rows: Rows, story: BenchmarkStory, entry: EntryStory) -> list[DepthCurve]:
    """Collect the frozen figures over depth, of contenders that were read at several."""
    if metric_of(rows, entry) is None:
        return []
    frozen = [contender for contender in story.contenders if contender.use == "frozen"]
    found = [_depth_curve(rows, entry, contender, kind) for contender in frozen for kind in _DASHES]
    return [curve for curve in found if len(curve.points) > 1]


def _depth_curve(rows: Rows, entry: EntryStory, contender: ContenderStory, readout: str) -> DepthCurve:
    table = rows_of(rows, entry, contender, readout)
    points = tuple(
        (depth, bootstrap_interval(select(table, depth=depth), entry.average, num_resamples=500))
        for depth in depths_of(table)
        if pc.max(select(table, depth=depth)["weight"]).as_py() > 0
    )
    return DepthCurve(contender.display_name, readout, points)


def depth_plot(curves: Sequence[DepthCurve]) -> str:
    """Draw figures over depth: full lines for attention, dashes for the other readouts, a colour for each encoder."""
    xs = [depth for curve in curves for depth, _ in curve.points]
    ys = [
        value for curve in curves for _, i in curve.points for value in (i.low, i.high, i.value) if math.isfinite(value)
    ]
    (x0, x1), (y0, y1) = (min(xs), max(xs)), (min(ys), max(ys))
    names = list(dict.fromkeys(curve.name for curve in curves))
    height = _HEIGHT + 16 * len(names)

    def place(x: float, y: float) -> tuple[float, float]:
        across = _MARGIN + (_WIDTH - _MARGIN - 14) * (x - x0) / max(x1 - x0, 1e-9)
        return across, _HEIGHT - _MARGIN - (_HEIGHT - _MARGIN - 12) * (y - y0) / max(y1 - y0, 1e-12)

    parts = [
        f'<line class="axis" x1="{_MARGIN}" y1="{_HEIGHT - _MARGIN}" x2="{_WIDTH - 14}" y2="{_HEIGHT - _MARGIN}"/>'
    ]
    for curve in curves:
        colour = names.index(curve.name) % _COLOURS
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(depth, i.value) for depth, i in curve.points))
        dashes = _DASHES[curve.readout]
        dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
        parts.append(f'<polyline class="line c{colour}" points="{line}"{dashed}/>')
        for depth, interval in curve.points:
            (x, low), (_, high) = place(depth, max(interval.low, y0)), place(depth, min(interval.high, y1))
            parts.append(f'<line class="whisker c{colour}" x1="{x:.1f}" y1="{low:.1f}" x2="{x:.1f}" y2="{high:.1f}"/>')
    for value in (y0, y1):
        y = place(x0, value)[1] + 4
        parts.append(f'<text class="muted" x="{_MARGIN - 6}" y="{y:.1f}" text-anchor="end">{value:.3g}</text>')
    for value in sorted(set(xs)):
        x = place(value, y0)[0]
        parts.append(f'<text class="muted" x="{x:.1f}" y="{_HEIGHT - 26}" text-anchor="middle">{value:g}</text>')
    for number, name in enumerate(names):
        y = _HEIGHT + 16 * number
        parts.append(
            f'<line class="line c{number % _COLOURS}" x1="{_MARGIN}" y1="{y - 4}" x2="{_MARGIN + 22}" y2="{y - 4}"/>'
        )
        parts.append(f'<text class="small" x="{_MARGIN + 30}" y="{y}">{escape(name)}</text>')
    return svg(_WIDTH, height, parts)
