"""From rows to figures: the scores of any arm on any entry, however it was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fourd.benchmark.suite import Entry, FilmExam
from fourd.benchmark.units import FINETUNED
from fourd.label_propagation import READOUT
from fourd.report.benchmark.figures import table_depth
from fourd.results import Average, Rows
from fourd.study.config import CONTROL, Arm, Pick, Study, Value
from fourd.study.costs import Cost
from fourd.study.intervals import Estimate, Scores, estimate
from fourd.study.measuring import ArmSeed, weights_column
from fourd.types import Metric

_Key = tuple[str, str, str, str, float]


@dataclass(frozen=True)
class Asked:
    """Hold what stands for an entry: a metric, and how it is averaged."""

    name: str
    title: str
    question: str
    metric: Metric
    average: Average
    is_film: bool

    @property
    def gain(self) -> float:
        """Give the sign that makes more of the metric better."""
        return 1.0 if self.metric.higher_is_better else -1.0

    @property
    def quantity(self) -> str:
        """Name the metric, which way is better, and its unit."""
        unit = f" [{self.metric.unit}]" if self.metric.unit else ""
        return f"{self.metric.name} {'↑' if self.metric.higher_is_better else '↓'}{unit}"

    @property
    def headline(self) -> str:
        """Name the figure, and how it is averaged."""
        return f"{self.quantity}, {'mean of clips' if self.average == 'clip_mean' else 'weighted mean'}"


class Figures:
    """Answer what each arm of a study scores, and what answers do that see no pixels: picks of `controls`."""

    def __init__(self, study: Study, rows: Rows, costs: Mapping[ArmSeed, Cost]) -> None:
        """Sort headline rows by cell."""
        self.study, self.costs = study, costs
        self.asked = list(_asked(study, rows.metrics))
        self._weights = {arm.name: weights_column(arm) for arm in study.arms}
        headlines = _headlines(rows.table, {one.name: one.metric.name for one in self.asked})
        self._blocks = _blocks(headlines)
        self._cells = _cells(headlines.filter(pc.is_valid(headlines["depth"])))
        self._controls = {key[:2]: scores for key, scores in _cells(_of_controls(headlines)).items()}
        self._estimates: dict[tuple[str, Pick], Estimate | None] = {}

    @property
    def measured(self) -> list[Arm]:
        """List the arms that have any figure."""
        found = {(backbone, weights.removesuffix(FINETUNED)) for _, backbone, weights, _, _ in self._cells}
        return [arm for arm in self.study.arms if (arm.name, self._weights[arm.name]) in found]

    @property
    def controls(self) -> list[Pick]:
        """List the answers that see no pixels."""
        return [Pick(name) for name in dict.fromkeys(name for _, name in self._controls)]

    def best_control(self, asked: Asked) -> Pick | None:
        """Choose the answer without pixels that scores best on an entry; None where none was measured."""
        found = {pick: one.value for pick in self.controls if (one := self.estimate(asked, pick)) is not None}
        return max(found, key=lambda pick: asked.gain * found[pick], default=None)

    def scores(self, asked: Asked, pick: Pick) -> Scores | None:
        """Give the scores of an arm on an entry; None where they are not there.

        A control has no seed: its scores are those of every seed.
        """
        if pick.arm.startswith(CONTROL):
            scores = self._controls.get((asked.name, pick.arm))
            return scores and scores.of_seeds(sorted({seed for _, seed in self.costs}))
        use = pick.use or self.main_use
        weights = self._weights[pick.arm] + (FINETUNED if use == "finetuned" else "")
        readout = "attention" if use == "finetuned" else pick.readout or self.readout_of(asked)
        readout = READOUT if asked.is_film else readout
        depths = self._depths(asked.name, pick.arm, weights, readout)
        if not depths:
            return None
        if pick.depth is None:
            depth = table_depth(depths, self.study.suite.table_depth if use == "frozen" else 1.0)
        else:
            depth = pick.depth
        return self._cells.get((asked.name, pick.arm, weights, readout, depth))

    def estimate(self, asked: Asked, pick: Pick) -> Estimate | None:
        """Give the figure of an arm on an entry; None where no clip of it counts."""
        key = (asked.name, pick)
        if key not in self._estimates:
            scores = self.scores(asked, pick)
            counts = scores is not None and bool((scores.weight > 0).all(0).any())
            self._estimates[key] = estimate(scores, asked.average) if scores is not None and counts else None
        return self._estimates[key]

    @property
    def main_use(self) -> Any:
        """Say which use of an encoder stands for it."""
        return "frozen" if "frozen" in self.study.wanted.uses else "finetuned"

    @property
    def main_readout(self) -> str:
        """Say which kind of readout stands for an arm: the first that is wanted."""
        return self._readouts[0]

    def readout_of(self, asked: Asked) -> str:
        """Say which kind of readout stands for an entry: the first that is wanted and that its task has."""
        had = {readout for entry, _, _, readout, _ in self._cells if entry == asked.name}
        return next((kind for kind in self._readouts if kind in had), self.main_readout)

    @property
    def _readouts(self) -> tuple[str, ...]:
        return self.study.wanted.readouts or self.study.suite.readouts

    def picks(self, arm: Arm) -> list[Pick]:
        """List all ways in which an arm was measured."""
        found = dict.fromkeys(
            Pick(arm.name, readout, depth, "finetuned" if weights.endswith(FINETUNED) else "frozen")
            for _, backbone, weights, readout, depth in sorted(self._cells)
            if backbone == arm.name and weights.removesuffix(FINETUNED) == self._weights[arm.name]
        )
        return [pick for pick in found if pick.readout != READOUT]

    def level(self, arm: Arm, factor: str, pick: Pick | None = None) -> Value | None:
        """Say what an arm, measured in some way, has of a factor or cost; None for one that has it not."""
        if factor == "arm":
            return arm.name
        if factor == "block":
            return None if pick is None or pick.depth is None else self.blocks(arm, pick.depth)
        if factor in ("readout", "depth", "use"):
            own = getattr(pick, factor) if pick is not None else None
            return own if own != "" else None
        costs = [cost for (name, _), cost in self.costs.items() if name == arm.name]
        if factor in Cost.__dataclass_fields__ and factor not in arm.levels:
            known = [getattr(cost, factor) for cost in costs]
            if not known or None in known or not sum(known):
                return None
            return float(np.mean(known))
        return arm.levels.get(factor)

    def blocks(self, arm: Arm, depth: float) -> int | None:
        """Say how many of an arm's blocks its features passed that are read at some depth; None where unknown."""
        return self._blocks.get((arm.name, depth))

    def arms_with(self, where: Sequence[tuple[str, Value]]) -> list[Arm]:
        """List the measured arms that have some levels."""
        return [arm for arm in self.measured if all(arm.levels.get(name) == level for name, level in where)]

    def _depths(self, entry: str, arm: str, weights: str, readout: str) -> list[float]:
        return sorted({key[4] for key in self._cells if key[:4] == (entry, arm, weights, readout)})


def _asked(study: Study, metrics: Mapping[str, Metric]) -> Iterator[Asked]:
    every: list[tuple[str, Entry | FilmExam]] = [(e.name, e) for exam in study.suite.exams for e in exam.entries]
    every += [(exam.name, exam) for exam in study.suite.film_exams]
    for name, one in every:
        if one.metric in metrics:
            is_film = isinstance(one, FilmExam)
            yield Asked(name, one.title, one.question, metrics[one.metric], one.average, is_film)


# ----------------------------------------------------------------------------- sorting rows


def _headlines(table: pa.Table, metrics: Mapping[str, str]) -> pa.Table:
    """Keep the rows of the metric that stands for each entry."""
    pairs = pc.binary_join_element_wise(table["entry"], table["metric"], "\n")
    return table.filter(pc.is_in(pairs, pa.array([f"{entry}\n{metric}" for entry, metric in metrics.items()])))


def _blocks(table: pa.Table) -> dict[tuple[str, float], int]:
    found = table.group_by(["backbone", "depth", "block"]).aggregate([]).to_pylist()
    return {(row["backbone"], row["depth"]): row["block"] for row in found if row["block"] is not None}


def _of_controls(table: pa.Table) -> pa.Table:
    """Keep the rows of answers that see no pixels, which have no depth, and give them one."""
    table = table.filter(pc.starts_with(table["backbone"], CONTROL))
    place = table.schema.get_field_index("depth")
    return table.set_column(place, "depth", pc.fill_null(table["depth"], 0.0))


def _cells(table: pa.Table) -> dict[_Key, Scores]:
    """Part rows by cell, in one pass."""
    table = table.combine_chunks()
    if not table.num_rows:
        return {}
    names = ("entry", "backbone", "weights", "readout", "depth")
    coded = [np.unique(table[name].to_numpy(zero_copy_only=False), return_inverse=True) for name in names]
    code = np.ravel_multi_index([own for _, own in coded], [len(values) for values, _ in coded])
    order = np.argsort(code, kind="stable")
    starts = np.flatnonzero(np.diff(code[order], prepend=-1))
    columns = {name: table[name].to_numpy(zero_copy_only=False) for name in ("seed", "clip", "group")}
    columns |= {name: table[name].to_numpy() for name in ("score", "weight")}
    found = {}
    for rows in np.split(order, starts[1:]):
        values = [values[own[rows[0]]] for values, own in coded]
        entry, backbone, weights, readout = map(str, values[:4])
        found[entry, backbone, weights, readout, float(values[4])] = _scores(columns, rows)
    return found


def _scores(columns: Mapping[str, np.ndarray], rows: np.ndarray) -> Scores:
    """Lay the rows of one cell out as seeds by clips, of which a clip that some seed lacks has weight 0."""
    seeds, row = np.unique(columns["seed"][rows], return_inverse=True)
    clips, first, column = np.unique(columns["clip"][rows].astype(str), return_index=True, return_inverse=True)
    score, weight = np.zeros((2, len(seeds), len(clips)))
    score[row, column] = columns["score"][rows]
    weight[row, column] = columns["weight"][rows]
    group = columns["group"][rows].astype(str)[first]
    return Scores(tuple(int(seed) for seed in seeds), clips, group, score, weight)
