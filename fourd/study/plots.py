"""The plots of a study: figures with their intervals over a factor, and what pretraining looked like along the way."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from fourd.study.config import Arm, Pick, Plot, Value, control_name
from fourd.study.costs import is_health
from fourd.study.figures import Asked, Figures
from fourd.study.intervals import Estimate, centred, comparable
from fourd.study.numbers import by_thousands

_COLOURS = (
    "#2f7fd1",
    "#d1622f",
    "#17a07a",
    "#a05bd0",
    "#b99a12",
    "#d04a7a",
    "#4a5a70",
    "#7a4a2a",
    "#3aa6b9",
    "#888888",
)
_CONTROL = "#777777"
_ROOM = 1.8
"""How many times the one before a value must be to get a number of its own on a log axis."""
_FEW = 12
"""Up to where counts, such as blocks, are each written below an axis."""
_NEAR = 0.75
"""How far from the middle of a panel, in its heights, an answer without pixels is still drawn."""
_MARKS = "osD^vP*X<>"
_LINES = ("-", "--", ":")
_COLUMNS = 3
_UNITS = {
    "flop": "FLOP",
    "flop_per_sample": "FLOP per sample",
    "seconds": "seconds of pretraining",
    "depth": "share of the depth that is read",
    "block": "blocks that features have passed",
}


@dataclass(frozen=True)
class Point:
    """Hold one figure of a plot. x: None for what has not the factor, and is drawn as a level line.

    apart: how far it is from the mean of the others, where all rest on the same clips and seeds.
    """

    arm: str
    x: Value | None
    series: str
    found: Estimate
    pick: Pick
    apart: Estimate | None = None


def points(figures: Figures, plot: Plot, asked: Asked) -> list[Point]:
    """Collect what a panel shows: each arm once, or once for each way that the axes tell apart."""
    found = [
        Point(arm.name, figures.level(arm, plot.x, pick), _series(figures, plot, arm, pick), one, pick)
        for arm in figures.arms_with(plot.where)
        for pick in _picks(figures, plot, arm)
        if (one := figures.estimate(asked, pick)) is not None
    ]
    return _apart(figures, asked, _levels_named(_told_apart(found)))


def _series(figures: Figures, plot: Plot, arm: Arm, pick: Pick) -> str:
    if figures.level(arm, plot.x, pick) is None:
        return arm.name
    level = figures.level(arm, plot.series, pick) if plot.series else ""
    return f"{level:g}" if isinstance(level, float) else str("" if level is None else level)


def _told_apart(found: Sequence[Point]) -> list[Point]:
    """Name arms in the series where several would lie on one place of one line."""
    arms: dict[tuple[Value | None, str], set[str]] = defaultdict(set)
    for point in found:
        arms[point.x, point.series].add(point.arm)
    if all(len(names) == 1 for names in arms.values()):
        return list(found)
    return [
        point
        if point.x is None
        else replace(point, series=f"{point.arm}, {point.series}" if point.series else point.arm)
        for point in found
    ]


def _levels_named(found: Sequence[Point]) -> list[Point]:
    """Tell a level line from a series that is called like its arm."""
    series = {point.series for point in found if point.x is not None}
    return [
        replace(point, series=f"arm {point.arm}") if point.x is None and point.series in series else point
        for point in found
    ]


def _apart(figures: Figures, asked: Asked, found: Sequence[Point]) -> list[Point]:
    """Add how far the figures on the axis are from their mean, where all have the same seeds."""
    on_axis = [point for point in found if point.x is not None]
    scores = [one for point in on_axis if (one := figures.scores(asked, point.pick)) is not None]
    if len(on_axis) < 2 or len({one.seeds for one in scores}) > 1 or not comparable(scores):
        return list(found)
    apart = dict(zip((point.pick for point in on_axis), centred(scores, asked.average), strict=True))
    return [replace(point, apart=apart.get(point.pick)) for point in found]


def _picks(figures: Figures, plot: Plot, arm: Arm) -> list[Pick]:
    """List the ways of measuring an arm that the axes tell apart; the others are those of the table."""
    told_apart = {plot.x, plot.series}
    found: dict[Pick, None] = {}
    for pick in figures.picks(arm):
        use = pick.use if "use" in told_apart else figures.main_use
        readout = pick.readout if "readout" in told_apart else ""
        if pick.use == use:
            found[Pick(arm.name, readout, pick.depth if told_apart & {"depth", "block"} else None, use)] = None
    return list(found)


# ----------------------------------------------------------------------------- figures over a factor


def draw(figures: Figures, plot: Plot, path: Path) -> bool:
    """Draw a plot, a panel for each entry; say whether there is anything to be shown."""
    panels = [
        (one, points(figures, plot, one)) for one in figures.asked if one.name in plot.entries or not plot.entries
    ]
    panels = [(one, found) for one, found in panels if found]
    if not panels:
        return False
    rows = math.ceil(len(panels) / _COLUMNS)
    columns = min(len(panels), _COLUMNS)
    figure = Figure(figsize=(4.0 * columns + 0.4, 3.1 * rows + 1.0), layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
    styles = _styles([point for _, found in panels for point in found])
    for place, (one, found) in zip(axes, panels, strict=False):
        _panel(place, figures, plot, one, found, styles)
    for place in axes[len(panels) :]:
        place.set_visible(False)
    _legend(figure, axes[0])
    if plot.title:
        figure.suptitle(plot.title, fontsize=11)
    save(figure, path)
    return True


def _styles(found: Sequence[Point]) -> Mapping[str, tuple[str, str]]:
    """Give each series a colour and a mark; where colours come again, they come with other marks."""
    names = list(dict.fromkeys(point.series for point in found))
    marks = [_MARKS[(number + number // len(_COLOURS)) % len(_MARKS)] for number in range(len(names))]
    return {name: (_COLOURS[number % len(_COLOURS)], marks[number]) for number, name in enumerate(names)}


def _panel(
    axes: Axes, figures: Figures, plot: Plot, asked: Asked, found: Sequence[Point], styles: Mapping[str, Any]
) -> None:
    on_axis = [point for point in found if point.x is not None]
    numeric = all(isinstance(point.x, (int, float)) for point in on_axis)
    kinds = [] if numeric else list(dict.fromkeys(str(point.x) for point in on_axis))
    names = list(dict.fromkeys(point.series for point in on_axis))
    for name in names:
        own = [point for point in on_axis if point.series == name]
        shift = 0.0 if numeric else 0.12 * (names.index(name) - (len(names) - 1) / 2)
        xs = [float(p.x) if isinstance(p.x, (int, float)) and numeric else kinds.index(str(p.x)) + shift for p in own]
        _line(axes, xs, own, name, styles[name], joined=numeric)
    for point in found:
        if point.x is None:
            axes.axhline(point.found.value, color=styles[point.series][0], ls="--", lw=1.2, label=point.series)
    if kinds:
        long = max(map(len, kinds)) * len(kinds) > 40
        axes.set_xticks(range(len(kinds)), kinds, rotation=35 if long else 0, ha="right" if long else "center")
        axes.set_xlim(-0.5, len(kinds) - 0.5)
    elif plot.log_x:
        axes.set_xscale("log")
    _name_axes(axes, plot, asked)
    if numeric and on_axis:
        values = sorted({float(point.x) for point in on_axis if isinstance(point.x, (int, float))})
        _tick_values(axes, values, plot.log_x)
    _controls(axes, figures, asked)


def _tick_values(axes: Axes, values: Sequence[float], is_log: bool) -> None:
    """Write the values of an axis below it, where there is room for each: on a log axis, and of small counts."""
    has_room = is_log and all(b / a >= _ROOM for a, b in itertools.pairwise(values))
    if has_room or (not is_log and max(values) <= _FEW and all(value.is_integer() for value in values)):
        axes.set_xticks(values, [by_thousands(value) for value in values])
        axes.minorticks_off()


def _controls(axes: Axes, figures: Figures, asked: Asked) -> None:
    """Say above a panel what answers get that see no pixels, and draw them where they lie within what is shown."""
    found = [(pick, one) for pick in figures.controls if (one := figures.estimate(asked, pick)) is not None]
    low, high = axes.get_ylim()
    near = [one.value for _, one in found if abs(one.value - (low + high) / 2) <= _NEAR * (high - low)]
    for value in near:
        axes.axhline(value, color=_CONTROL, ls=":", lw=1.4)
    axes.set_ylim(min([low, *near]), max([high, *near]))
    told = ", ".join(f"{control_name(pick.arm)} {one.value:.3g}" for pick, one in found)
    if told:
        axes.set_title(asked.title, fontsize=10, pad=16)
        note = f"no pixels: {told}"
        axes.text(0.5, 1.01, note, transform=axes.transAxes, ha="center", va="bottom", color=_CONTROL, fontsize=7)


def _line(
    axes: Axes, xs: Sequence[float], own: Sequence[Point], name: str, style: tuple[str, str], joined: bool
) -> None:
    """Draw a series: figures with their intervals, thick without what all share, and every seed as a dot."""
    order = np.argsort(xs, kind="stable")
    xs, own = [xs[n] for n in order], [own[n] for n in order]
    values = [point.found.value for point in own]
    colour, mark = style
    line = "-" if joined else "none"
    axes.plot(xs, values, color=colour, marker=mark, ls=line, ms=5, lw=1.3, label=name or None)
    axes.errorbar(xs, values, _reach([p.found for p in own]), color=colour, ls="none", lw=0.8, capsize=2.5)
    if all(point.apart is not None for point in own):
        apart = [point.apart for point in own if point.apart is not None]
        axes.errorbar(xs, values, _reach(apart), color=colour, ls="none", lw=3.2, alpha=0.55)
    for x, point in zip(xs, own, strict=True):
        if len(point.found.by_seed) > 1:
            seeds = [value for _, value in point.found.by_seed]
            axes.plot([x] * len(seeds), seeds, ".", color=colour, alpha=0.45, ms=5)


def _reach(found: Sequence[Estimate]) -> np.ndarray:
    """Give how far intervals reach below and above; nothing where there is no interval."""
    ends = np.array([[one.value - one.interval.low, one.interval.high - one.value] for one in found]).T
    return np.where(np.isfinite(ends), np.maximum(ends, 0.0), 0.0)


def _name_axes(axes: Axes, plot: Plot, asked: Asked) -> None:
    axes.set_title(asked.title, fontsize=10)
    axes.set_xlabel("" if plot.x == "arm" else _UNITS.get(plot.x, plot.x.replace("_", " ")), fontsize=9)
    axes.set_ylabel(asked.quantity, fontsize=9)
    plain(axes)


def plain(axes: Axes) -> None:
    """Give axes small numbers, a thin grid and no frame; between powers of ten as many numbers as there is room for."""
    axes.tick_params(which="both", labelsize=8)
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=6))
            axis.set_major_formatter(EngFormatter(sep=""))
            axis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.25, lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    named = {label: handle for handle, label in zip(handles, labels, strict=True) if label}
    if named:
        figure.legend(list(named.values()), list(named), loc="outside lower center", ncols=4, fontsize=8, frameon=False)


def save(figure: Figure, path: Path) -> None:
    """Write a figure aside and put it in its place; the same figure is the same bytes."""
    aside = path.with_name(f".{path.name}.tmp")
    with matplotlib.rc_context({"svg.hashsalt": "fourd"}):
        figure.savefig(aside, format="png", dpi=120, metadata={"Software": None})
    aside.replace(path)


# ----------------------------------------------------------------------------- along pretraining


def draw_curves(runs: Sequence[tuple[str, Sequence[Mapping[str, Any]]]], path: Path) -> bool:
    """Draw losses and health along pretraining, a line for each run, a colour for each arm; say whether there are any.

    runs: an arm's name, and the metrics of one of its runs.
    """
    names = list(dict.fromkeys(name for _, records in runs for record in records for name in _told(record)))
    if not names:
        return False
    rows = math.ceil(len(names) / _COLUMNS)
    columns = min(len(names), _COLUMNS)
    figure = Figure(figsize=(4.0 * columns + 0.4, 2.8 * rows + 1.0), layout="constrained")
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, name in zip(places, names, strict=False):
        _curves(axes, runs, name)
    for axes in places[len(names) :]:
        axes.set_visible(False)
    _legend(figure, places[0])
    save(figure, path)
    return True


def _told(record: Mapping[str, Any]) -> list[str]:
    return [name for name, value in record.items() if name == "loss" or is_health(name, value)]


def _curves(axes: Axes, runs: Sequence[tuple[str, Sequence[Mapping[str, Any]]]], name: str) -> None:
    arms = list(dict.fromkeys(arm for arm, _ in runs))
    drawn: set[str] = set()
    for arm, records in runs:
        own = [(r["samples"], r[name]) for r in records if name in _told(r) and not r.get("skipped")]
        window = max(len(own) // 200, 1)
        chunks = [own[start : start + window] for start in range(0, len(own), window)]
        xs, ys = [chunk[-1][0] for chunk in chunks], [float(np.mean([y for _, y in chunk])) for chunk in chunks]
        label = arm if arm not in drawn else None
        turn, number = divmod(arms.index(arm), len(_COLOURS))
        line = _LINES[turn % len(_LINES)]
        axes.plot(xs, ys, color=_COLOURS[number], ls=line, lw=1.0, alpha=0.8, label=label)
        drawn.add(arm)
    values = [r[name] for _, records in runs for r in records if name in _told(r)]
    if name.endswith("loss") and values and min(values) > 0:
        axes.set_yscale("log")
    axes.set_title(name.replace("_", " "), fontsize=10)
    axes.set_xlabel("samples", fontsize=9)
    plain(axes)
