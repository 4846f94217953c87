"""From rows to what a reader is told: one figure for each entry and contender, differences, verdicts.

Figures are means over clips, each clip counted once, after averaging over seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from fourd.results import Interval, bootstrap_interval, paired_difference, select
from fourd.types import Metric


@dataclass(frozen=True)
class Contender:
    """Name one column of the table: whose features, with which weights, read out how and how deep."""

    backbone: str
    weights: str
    readout: str
    depth: float | None

    @property
    def is_control(self) -> bool:
        """Say whether this is an answer that knows nothing of the pixels."""
        return self.backbone.startswith("control:")

    @property
    def title(self) -> str:
        """Name it for people."""
        if self.is_control:
            return self.backbone.removeprefix("control:").replace("_", " ")
        names = {"pretrained": "pretrained", "random": "random weights", "none": self.backbone}
        name = names.get(self.weights, f"{self.backbone}, {self.weights}")
        name = name.replace("_", " ").replace("mean pixel", "mean colour")
        return name if self.depth in (None, 1.0) else f"{name}, depth {self.depth:g}"


@dataclass(frozen=True)
class Entry:
    """Hold what is shown of one entry: its headline metric, and a figure for each contender."""

    name: str
    metric: Metric
    figures: Mapping[Contender, Interval]

    @property
    def best(self) -> Contender:
        """Say who comes first."""
        choose = max if self.metric.higher_is_better else min
        return choose(self.figures, key=lambda contender: self.figures[contender].value)


@dataclass(frozen=True)
class Comparison:
    """Hold how much better the subject is than a baseline; positive is better, whatever the metric."""

    entry: str
    metric: Metric
    baseline: Contender
    seeds: tuple[int, ...]
    gain: Interval

    @property
    def verdict(self) -> str:
        """Say what the interval shows."""
        if self.gain.low > 0:
            return "better"
        return "worse" if self.gain.high < 0 else "no difference shown"


def contenders(table: pa.Table) -> list[Contender]:
    """List who is in the rows: those that are read out first, controls last."""
    found = {
        Contender(row["backbone"], row["weights"], row["readout"], row["depth"])
        for row in table.group_by(["backbone", "weights", "readout", "depth"]).aggregate([]).to_pylist()
    }
    rank = {"pretrained": 0, "random": 1}
    return sorted(found, key=lambda c: (c.is_control, c.readout, rank.get(c.weights, 2), c.backbone, c.depth or 0))


def rows_of(table: pa.Table, contender: Contender, **equals: str | int) -> pa.Table:
    """Keep a contender's rows."""
    chosen: dict[str, Any] = {**vars(contender), **equals}
    return select(table, **chosen)


def headline(table: pa.Table, entry: str, metrics: Mapping[str, Metric], chosen: Mapping[str, str]) -> Metric:
    """Choose the metric that stands for an entry: the one asked for, else the first of its rows."""
    of_entry = select(table, entry=entry)
    name = chosen.get(entry) or of_entry["metric"][0].as_py()
    if name not in metrics:
        raise ValueError(f"entry {entry!r} has no metric {name!r}; the rows hold {sorted(metrics)}")
    return metrics[name]


def entries(table: pa.Table, metrics: Mapping[str, Metric], chosen: Mapping[str, str]) -> list[Entry]:
    """Summarise every entry by its headline metric."""
    return [
        summarise(table, name, headline(table, name, metrics, chosen))
        for name in dict.fromkeys(table["entry"].to_pylist())
    ]


def summarise(table: pa.Table, entry: str, metric: Metric) -> Entry:
    """Give each contender's figure on one metric of an entry."""
    of_entry = select(table, entry=entry, metric=metric.name)
    figures = {c: bootstrap_interval(rows_of(of_entry, c)) for c in contenders(of_entry)}
    return Entry(entry, metric, figures)


def comparisons(
    table: pa.Table, shown: Sequence[Entry], readout: str, seeds: Sequence[int] | None = None
) -> list[Comparison]:
    """Compare what was pretrained with every other backbone, by the same kind of readout, on the same clips.

    Where several depths were read out, the deepest of each stands for it, so that no depth is chosen by its score.
    """
    found = []
    for entry in shown:
        # Contenders come sorted by depth: the last one of each backbone and weights is the deepest.
        deepest = {(c.backbone, c.weights): c for c in entry.figures if c.readout == readout}
        subject = next((c for c in deepest.values() if c.weights == "pretrained"), None)
        if subject is None:
            continue
        for baseline in deepest.values():
            if baseline != subject:
                found.append(_compare(table, entry, subject, baseline, seeds))
    return found


def _compare(
    table: pa.Table, entry: Entry, subject: Contender, baseline: Contender, seeds: Sequence[int] | None
) -> Comparison:
    of_entry = select(table, entry=entry.name, metric=entry.metric.name)
    present = sorted(set(rows_of(of_entry, subject)["seed"].to_pylist()))
    kept = tuple(seeds) if seeds is not None else tuple(present)
    sides = [_of_seeds(rows_of(of_entry, contender), kept) for contender in (subject, baseline)]
    if not entry.metric.higher_is_better:
        sides.reverse()
    gain = paired_difference(sides[0], sides[1])
    return Comparison(entry.name, entry.metric, baseline, kept, gain)


def _of_seeds(table: pa.Table, seeds: Sequence[int]) -> pa.Table:
    return pa.concat_tables([select(table, seed=seed) for seed in seeds])


def seeds_of(table: pa.Table) -> list[int]:
    """List the seeds of what was pretrained."""
    return sorted(set(select(table, weights="pretrained")["seed"].to_pylist()))
