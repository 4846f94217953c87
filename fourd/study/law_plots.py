"""The picture of a law: points, the law with its interval, and below each what it leaves over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fourd.study.plots import plain, save

_COLUMNS = 4
_POINT, _LAW = "#2f7fd1", "#4a5a70"


@dataclass(frozen=True)
class Panel:
    """Hold what one quantity shows.

    xs, values: of the points. rests: what each is above the law, and how far that reaches, low and high. at, fitted:
    the law drawn. band: its interval at the points; empty where there is none.
    """

    title: str
    quantity: str
    xs: tuple[float, ...]
    values: tuple[float, ...]
    rests: tuple[tuple[float, float, float], ...]
    at: tuple[float, ...]
    fitted: tuple[float, ...]
    band: tuple[tuple[float, float], ...] = ()


def draw(panels: Sequence[Panel], axis: str, path: Path) -> Path:
    """Draw laws side by side, what they leave over below, and return the path."""
    columns = min(len(panels), _COLUMNS)
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(3.4 * columns + 0.4, 4.0 * rows), layout="constrained")
    places = figure.subplots(2 * rows, columns, squeeze=False, sharex=True, height_ratios=[2.4, 1.0] * rows)
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        _law(places[2 * row, column], panel)
        _rest(places[2 * row + 1, column], panel, axis)
        if number + columns >= len(panels):  # nothing below shows the numbers that all panels share
            places[2 * row + 1, column].tick_params(labelbottom=True)
    for number in range(len(panels), rows * columns):
        row, column = divmod(number, columns)
        places[2 * row, column].set_visible(False)
        places[2 * row + 1, column].set_visible(False)
    save(figure, path)
    return path


def _law(axes: Axes, panel: Panel) -> None:
    axes.set_xscale("log")
    axes.plot(panel.at, panel.fitted, color=_LAW, lw=1.2, ls="--")
    if panel.band and np.isfinite(panel.band).all():
        low, high = np.array(panel.band).T
        axes.fill_between(panel.xs, low, high, color=_LAW, alpha=0.15, lw=0)
    axes.plot(panel.xs, panel.values, "o", color=_POINT, ms=5)
    axes.set_title(panel.title, fontsize=10)
    axes.set_ylabel(panel.quantity, fontsize=9)
    plain(axes)


def _rest(axes: Axes, panel: Panel, axis: str) -> None:
    value, low, high = np.array(panel.rests).T
    reach = np.where(np.isfinite([value - low, high - value]), np.maximum([value - low, high - value], 0.0), 0.0)
    axes.axhline(0.0, color=_LAW, lw=1.0, ls="--")
    axes.errorbar(panel.xs, value, reach, color=_POINT, marker="o", ls="none", ms=4, lw=0.9, capsize=2.5)
    axes.set_xlabel(axis, fontsize=9)
    axes.set_ylabel("left over", fontsize=8)
    plain(axes)
