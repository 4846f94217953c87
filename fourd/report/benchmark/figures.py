"""From rows to figures: one for each entry and contender, its interval, and a rank where ranks may be given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from fourd.report.benchmark.story import BenchmarkStory, ContenderStory, EntryStory
from fourd.results import Interval, Rows, bootstrap_interval, paired_difference, select
from fourd.types import Metric


@dataclass(frozen=True)
class Figure:
    """Hold one figure of the table.

    depth: the fraction that was read, None for controls. rank: one more than the number of contenders of the same use
    that are shown to be better; None where random weights or controls are not to be ranked.
    """

    interval: Interval
    depth: float | None
    rank: int | None = None
    is_contaminated: bool = False


@dataclass(frozen=True)
class Line:
    """Hold a line of the table: whose it is, and its figures by entry; what was not measured is missing."""

    name: str
    story: ContenderStory | None
    """None for a control."""
    readout: str
    figures: Mapping[str, Figure]

    @property
    def mean_rank(self) -> float | None:
        """Average the ranks, where there are any."""
        ranks = [figure.rank for figure in self.figures.values() if figure.rank is not None]
        return sum(ranks) / len(ranks) if ranks else None


@dataclass(frozen=True)
class Part:
    """Hold lines that are ranked among each other: frozen, or finetuned, by one kind of readout."""

    use: str
    readout: str
    lines: tuple[Line, ...]

    @property
    def title(self) -> str:
        """Name it for people."""
        if self.readout == "propagation":
            return "label propagation, nothing learned"
        return f"{self.use}, {self.readout} readout" if self.use != "control" else "answers that see no pixels"


_KINDS = (
    ("frozen", "attention"),
    ("finetuned", "attention"),
    *(("frozen", kind) for kind in ("linear", "attention_deep", "dense", "propagation")),
)


def parts(rows: Rows, story: BenchmarkStory) -> list[Part]:
    """Compute the whole table: attention first, then the other readouts, then the answers that see no pixels."""
    found = []
    for use, readout in _KINDS:
        chosen = [contender for contender in story.contenders if contender.use == use]
        lines = [_line(rows, story, contender, readout) for contender in chosen]
        lines = [line for line in lines if line.figures]
        if lines:
            found.append(Part(use, readout, tuple(_ranked(rows, story, lines))))
    controls = _controls(rows, story)
    return [*found, Part("control", "none", tuple(controls))] if controls else found


def headlines(rows: Rows, story: BenchmarkStory) -> Rows:
    """Keep the rows of the metrics that stand for entries: a small part of all, and all that a report reads."""
    wanted = pa.array(sorted({entry.headline_metric for entry in story.entries}))
    return Rows(rows.table.filter(pc.is_in(rows.table["metric"], wanted)).combine_chunks(), rows.metrics)


def metric_of(rows: Rows, entry: EntryStory) -> Metric | None:
    """Find the metric that stands for an entry; None where there are no rows of it."""
    return rows.metrics.get(entry.headline_metric)


def rows_of(rows: Rows, entry: EntryStory, contender: ContenderStory, readout: str) -> pa.Table:
    """Keep the headline rows of a contender, at all depths."""
    return select(
        rows.table,
        entry=entry.name,
        metric=entry.headline_metric,
        backbone=contender.backbone,
        weights=contender.weights,
        readout=readout,
    )


def depths_of(table: pa.Table) -> list[float]:
    """List the depths of rows, rising."""
    return sorted({depth for depth in pc.unique(table["depth"]).to_pylist() if depth is not None})


def table_depth(depths: Sequence[float], asked: float) -> float:
    """Choose the depth that the table shows: the deepest not deeper than the suite names, never the best scored."""
    allowed = [depth for depth in depths if depth <= asked + 1e-9]
    return max(allowed) if allowed else min(depths)


def _at_table_depth(
    rows: Rows, story: BenchmarkStory, entry: EntryStory, contender: ContenderStory, readout: str
) -> tuple[pa.Table, float] | None:
    table = rows_of(rows, entry, contender, readout)
    if not table.num_rows:
        return None
    depth = table_depth(depths_of(table), story.table_depth if contender.use == "frozen" else 1.0)
    return select(table, depth=depth), depth


def _line(rows: Rows, story: BenchmarkStory, contender: ContenderStory, readout: str) -> Line:
    figures = {}
    for entry in story.entries:
        found = _at_table_depth(rows, story, entry, contender, readout)
        if found is not None and pc.max(found[0]["weight"]).as_py() > 0:
            interval = bootstrap_interval(found[0], entry.average)
            figures[entry.name] = Figure(interval, found[1], None, entry.name in contender.contaminated)
    return Line(contender.display_name, contender, readout, figures)


def _ranked(rows: Rows, story: BenchmarkStory, lines: Sequence[Line]) -> list[Line]:
    """Rank the lines of a part in each column, but none with random weights."""
    ranked = [dict(line.figures) for line in lines]
    for entry in story.entries:
        metric = metric_of(rows, entry)
        places = [n for n, line in enumerate(lines) if entry.name in line.figures and _may_be_ranked(line)]
        for place in places if len(places) > 1 else []:  # alone it is neither first nor last
            better = sum(_is_better(rows, story, entry, metric, lines[other], lines[place]) for other in places)
            figure = ranked[place][entry.name]
            ranked[place][entry.name] = Figure(figure.interval, figure.depth, better + 1, figure.is_contaminated)
    return [Line(line.name, line.story, line.readout, own) for line, own in zip(lines, ranked, strict=True)]


def _may_be_ranked(line: Line) -> bool:
    return line.story is not None and not line.story.is_random


def _is_better(
    rows: Rows, story: BenchmarkStory, entry: EntryStory, metric: Metric | None, one: Line, other: Line
) -> bool:
    """Say whether one is shown to be better than the other: the interval of their difference excludes zero."""
    if one is other or metric is None or one.story is None or other.story is None:
        return False
    sides = [_at_table_depth(rows, story, entry, line.story, line.readout) for line in (one, other) if line.story]
    tables = [side[0] for side in sides if side is not None]
    seeds = set.intersection(*(set(pc.unique(table["seed"]).to_pylist()) for table in tables))
    if len(tables) < 2 or not seeds:
        return False
    clips = set.intersection(*(set(pc.unique(table["clip"]).to_pylist()) for table in tables))
    if not clips:
        return False
    # a clip that one of both could not decode says nothing of their difference
    shared = [table.filter(pc.is_in(table["clip"], pa.array(sorted(clips)))) for table in tables]
    a, b = (pa.concat_tables([select(table, seed=seed) for seed in sorted(seeds)]) for table in shared)
    difference = paired_difference(a, b, entry.average)
    return difference.low > 0 if metric.higher_is_better else difference.high < 0


def _controls(rows: Rows, story: BenchmarkStory) -> list[Line]:
    names = sorted(name for name in pc.unique(rows.table["backbone"]).to_pylist() if name.startswith("control:"))
    lines = []
    for name in names:
        figures = {}
        for entry in story.entries:
            table = select(rows.table, entry=entry.name, metric=entry.headline_metric, backbone=name)
            if table.num_rows and pc.max(table["weight"]).as_py() > 0:
                figures[entry.name] = Figure(bootstrap_interval(table, entry.average), None)
        lines.append(Line(name.removeprefix("control:").replace("_", " "), None, "none", figures))
    return lines
