"""The tables of a study: what each arm scored and cost, as Markdown, on the terminal and as a file."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from fourd.label_propagation import READOUT
from fourd.study.config import CONTROL, COST_FACTORS, Arm, Pick, Study, Value, control_name
from fourd.study.costs import Cost
from fourd.study.figures import Asked, Figures
from fourd.study.intervals import Estimate
from fourd.study.numbers import by_thousands
from fourd.study.sentences import Sentence

_SHOWN_HEALTH = ("held_out_loss", "feature_rank", "feature_std", "nearest_neighbour")


@dataclass(frozen=True)
class Grid:
    """Hold a table as text: its title, the heads of its columns, and a line for each arm."""

    title: str
    heads: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    best: frozenset[tuple[int, int]] = frozenset()
    """Line and column of the best figures, of the lines that have all seeds."""


def figure_text(found: Estimate | None) -> str:
    """Write a figure and half of its interval."""
    if found is None:
        return "not run"
    half = (found.interval.high - found.interval.low) / 2
    spread = f" ±{half:.2g}" if math.isfinite(half) else " (one group)"
    return f"{found.value:.3g}{spread}"


# ----------------------------------------------------------------------------- scores


def grids(figures: Figures) -> list[Grid]:
    """Make the table of what stands for each arm, then one for each other way of measuring."""
    main = _scores(figures, "", [(arm, Pick(arm.name)) for arm in figures.measured])
    ways: dict[str, list[tuple[Arm, Pick]]] = {}
    for arm in figures.measured:
        for pick in figures.picks(arm):
            ways.setdefault(f"{pick.use}, {pick.readout} readout, depth {pick.depth:g}", []).append((arm, pick))
    titled = {title + _blocks_text(figures, own): own for title, own in ways.items()}
    return [main, *(_scores(figures, title, own) for title, own in titled.items() if len(ways) > 1)]


def _blocks_text(figures: Figures, picks: Sequence[tuple[Arm, Pick]]) -> str:
    """Say how many blocks a depth means, where it means the same for all."""
    found = {figures.blocks(arm, pick.depth) for arm, pick in picks if pick.depth is not None} - {None}
    return f" (after {found.pop()} blocks)" if len(found) == 1 else ""


def _scores(figures: Figures, title: str, picks: Sequence[tuple[Arm, Pick]]) -> Grid:
    factors = figures.study.factor_names
    heads = ("arm", *factors, "seeds", *(f"{one.title}: {one.headline}" for one in figures.asked))
    lines, values, held = [], [], []
    for arm, pick in picks:
        found = [figures.estimate(one, pick) for one in figures.asked]
        seeds = sorted({seed for one in found if one is not None for seed, _ in one.by_seed})
        levels = [_level_text(arm.levels.get(name)) for name in factors]
        lines.append((arm.name, *levels, " ".join(map(str, seeds)), *map(figure_text, found)))
        values.append([one.gain * e.value if e else -math.inf for one, e in zip(figures.asked, found, strict=True)])
        held.append(seeds)
    controls = [_control_line(figures, pick) for pick in figures.controls]
    first, most = len(factors) + 2, max(map(len, held), default=0)
    ranked = [own if len(seeds) == most else [-math.inf] * len(own) for own, seeds in zip(values, held, strict=True)]
    best = {(int(np.argmax(column)), first + n) for n, column in enumerate(zip(*ranked, strict=True))}
    return Grid(title, heads, (*lines, *controls), frozenset(best) if len(lines) > 1 else frozenset())


def _control_line(figures: Figures, pick: Pick) -> tuple[str, ...]:
    """Make the line of an answer that sees no pixels, which has neither factors nor seeds, and is not ranked."""
    found = [figures.estimate(one, pick) for one in figures.asked]
    texts = ["" if one is None else figure_text(one) for one in found]
    return (f"no pixels: {control_name(pick.arm)}", *("" for _ in (*figures.study.factor_names, "seeds")), *texts)


def _level_text(level: Value | None) -> str:
    return "" if level is None else f"{level:g}" if isinstance(level, float) else str(level)


# ----------------------------------------------------------------------------- costs


def cost_grid(figures: Figures) -> Grid:
    """Make the table of what each arm cost: means over its seeds."""
    names = {name: None for cost in figures.costs.values() for name in cost.health}
    health = [name for name in names if name.startswith(_SHOWN_HEALTH)]
    heads = (
        *("arm", "parameters", "samples", "different clips", "FLOP per sample", "FLOP", "of the most"),
        *("FLOP before", "time", "final loss", *(name.replace("_", " ") for name in health)),
    )
    most = max([cost.flop or 0.0 for cost in figures.costs.values()] + [0.0])
    lines = []
    for arm in figures.study.arms:
        costs = [cost for (name, _), cost in figures.costs.items() if name == arm.name]
        if costs:
            lines.append((arm.name, *_cost_texts(costs, most), *(_mean_text(costs, name) for name in health)))
    return Grid("", heads, tuple(lines))


def _cost_texts(costs: Sequence[Cost], most: float) -> list[str]:
    """Write costs; those of operations and samples are the same for all seeds."""
    one = costs[0]
    losses = [cost.final_loss for cost in costs if cost.final_loss is not None]
    return [
        f"{one.parameters / 1e6:.3g}M" if one.parameters else "0",
        f"{one.samples:,}" if one.samples else "",
        f"{one.unique_clips:,}" if one.samples else "",
        _operations(one.flop_per_sample),
        _operations(one.flop),
        f"{one.flop / most:.0%}" if one.flop and most else "",
        _operations(one.flop_before),
        f"{np.mean([cost.seconds for cost in costs]):.0f} s" if one.samples else "",
        f"{np.mean(losses):.4g}" if losses else "",
    ]


def _operations(count: float | None) -> str:
    """Write a number of operations; nothing for none, and a question mark where it is not known."""
    return "?" if count is None else by_thousands(count) if count else ""


def _mean_text(costs: Sequence[Cost], name: str) -> str:
    values = [cost.health[name] for cost in costs if name in cost.health]
    return f"{np.mean(values):.4g}" if values else ""


def write_arms(figures: Figures, path: Path) -> None:
    """Write a row for each arm and seed: its factors and what it cost; health, and factors as JSON too."""
    records = [_record(figures.study, name, seed, cost) for (name, seed), cost in sorted(figures.costs.items())]
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    pq.write_table(pa.Table.from_pylist(records), aside)
    os.replace(aside, path)


def _record(study: Study, name: str, seed: int, cost: Cost) -> dict[str, object]:
    arm = study.arm(name)
    costs = {key: getattr(cost, key) for key in Cost.__dataclass_fields__ if key != "health"}
    factors = {f"factor: {key}": _column(study, key, arm.levels.get(key)) for key in study.factor_names}
    every = sorted({*cost.health})
    return {
        "study": study.name,
        "version": study.version,
        "scale": study.scale,
        "arm": name,
        "seed": seed,
        **factors,
        **costs,
        "factors": json.dumps(dict(arm.levels)),
        "health": json.dumps({key: cost.health[key] for key in every}),
    }


def write_figures(figures: Figures, path: Path) -> None:
    """Write a row for each figure, however an arm was measured: value, interval, each seed by itself, and what it cost.

    So that a law can be fitted to them without the rows of single clips.
    """
    picks = [pick for arm in figures.measured for pick in figures.picks(arm)] + figures.controls
    records = [
        record
        for pick in picks
        for asked in figures.asked
        if (record := _figure_record(figures, pick, asked)) is not None
    ]
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    pq.write_table(pa.Table.from_pylist(records), aside)
    os.replace(aside, path)


def _figure_record(figures: Figures, pick: Pick, asked: Asked) -> dict[str, object] | None:
    found = figures.estimate(asked, pick)
    if found is None:
        return None
    study, own = figures.study, found.interval
    arm = None if pick.arm.startswith(CONTROL) else study.arm(pick.arm)
    levels = arm.levels if arm else {}
    costs = {name: figures.level(arm, name) if arm else None for name in COST_FACTORS}
    return {
        "study": study.name,
        "arm": pick.arm,
        **{f"factor: {key}": _column(study, key, levels.get(key)) for key in study.factor_names},
        "entry": asked.name,
        "metric": asked.metric.name,
        "higher_is_better": asked.metric.higher_is_better,
        "average": asked.average,
        **{"use": pick.use, "readout": READOUT if asked.is_film else pick.readout, "depth": pick.depth},
        **{"value": own.value, "low": own.low, "high": own.high},
        **{"num_clips": own.num_clips, "num_groups": own.num_groups, "num_undefined": own.num_undefined},
        "seeds": [seed for seed, _ in found.by_seed],
        "value_of_seed": [value for _, value in found.by_seed],
        **costs,
    }


def _column(study: Study, factor: str, level: Value | None) -> Value | None:
    """Give a factor's values one type: numbers where all of them are, else texts."""
    levels = [arm.levels[factor] for arm in study.arms if factor in arm.levels]
    if level is None:
        return None
    return str(level) if any(isinstance(one, str) for one in levels) else float(level)


# ----------------------------------------------------------------------------- for people


def markdown(study: Study, found: Sequence[Sentence], tables: Sequence[Grid], facts: Sequence[tuple[str, str]]) -> str:
    """Write a study for a README: question, sentences, tables, how it was made."""
    lines = [f"# {study.question}", "", study.why, "", *(f"- {sentence.text}" for sentence in found), ""]
    for grid in tables:
        lines += [f"## {grid.title[:1].upper() + grid.title[1:]}", ""] if grid.title else []
        lines += [_row(grid.heads), _row(["---"] * len(grid.heads)), *(map(_row, grid.lines)), ""]
    return (
        "\n".join([*lines, *(f"- {name}: {value}" for name, value in facts), *(f"- {n}" for n in study.notes)]) + "\n"
    )


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def brief(costs: Grid) -> Grid:
    """Keep of the costs what a terminal has room for."""
    kept = [number for number, head in enumerate(costs.heads) if head in ("arm", *_BRIEF)]
    lines = tuple(tuple(line[number] for number in kept) for line in costs.lines)
    return Grid(costs.title, tuple(costs.heads[number] for number in kept), lines)


_BRIEF = ("parameters", "samples", "FLOP", "of the most", "time", "final loss", "feature rank")


def show(study: Study, found: Sequence[Sentence], tables: Sequence[Grid], width: int = 118) -> None:
    """Print question, tables and sentences."""
    console = Console(width=width)
    console.print(study.question, style="bold", markup=False)
    for grid in tables:
        view = Table(title=grid.title or None, title_justify="left")
        for number, head in enumerate(grid.heads):
            view.add_column(head.replace(": ", "\n").replace(", ", "\n"), justify="right" if number else "left")
        for line in grid.lines:
            view.add_row(*line)
        console.print(view)
    for sentence in found:
        console.print(f"* {sentence.text}", markup=False, highlight=False)
