"""What the study of readout sizes adds to its page: each task by width, and what the widest brings."""

from __future__ import annotations

from pathlib import Path

from fourd.study.config import Pick
from fourd.study.figures import Asked, Figures
from fourd.study.intervals import comparable, difference
from fourd.study.page import Supplement
from fourd.study.sentences import amount, verdict_of
from fourd.study.tables import Grid, figure_text

_MARK = "_width_"


def supplement(figures: Figures, out: Path) -> list[Supplement]:
    """Lay the entries of each task side by side by the width of their readouts."""
    tasks: dict[str, dict[int, Asked]] = {}
    for asked in figures.asked:
        task, _, width = asked.name.partition(_MARK)
        tasks.setdefault(task, {})[int(width)] = asked
    widths = sorted({width for by_width in tasks.values() for width in by_width})
    lines = [
        (
            f"{task.replace('_', ' ')}, {arm.name}",
            *(figure_text(figures.estimate(one, Pick(arm.name))) for one in entries),
        )
        for task, by_width in tasks.items()
        for entries in [[by_width[width] for width in widths]]
        for arm in figures.measured
    ]
    grid = Grid("", ("task, encoder", *(f"{width} wide" for width in widths)), tuple(lines))
    said = [_widest(figures, task, by_width, arm.name) for task, by_width in tasks.items() for arm in figures.measured]
    return [Supplement("By the width of the readout", tuple(said), grids=(grid,))]


def _widest(figures: Figures, task: str, by_width: dict[int, Asked], arm: str) -> str:
    """Compare the widest readout with the narrowest on one task of one encoder."""
    narrow, wide = min(by_width), max(by_width)
    sides = [figures.scores(by_width[width], Pick(arm)) for width in (wide, narrow)]
    known = [side for side in sides if side is not None]
    begun = f"{task.replace('_', ' ')}, {arm}: {wide} wide against {narrow}"
    if len(known) < 2 or not comparable(known):
        return f"{begun}: not measured on the same seeds and clips yet."
    asked = by_width[wide]
    gain = difference(known[0], known[1], asked.average)
    gain = gain if asked.gain > 0 else gain.negated()
    shown = {"better": "better by", "worse": "worse by", "equal": "no difference is shown,"}[verdict_of(gain)]
    return f"{begun}: {shown} {amount(gain if verdict_of(gain) != 'worse' else gain.negated())}."
