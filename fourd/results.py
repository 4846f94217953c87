"""Rows of evaluation: one score of one clip each, kept in Parquet, and what may be said of them.

A file explains itself: the descriptions of its metrics travel in the schema's metadata. Whether a
figure is a clip mean or a weighted mean stands in its name. Intervals come from a bootstrap that draws
whole groups (scenes, source films), since clips of one film are not independent.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Float

from fourd.types import Metric, Score

_CELL_FIELDS = [
    ("suite", pa.string()),
    ("entry", pa.string()),
    ("backbone", pa.string()),
    ("weights", pa.string()),
    ("readout", pa.string()),
    ("task", pa.string()),
    ("metric", pa.string()),
    ("depth", pa.float64()),
    ("block", pa.int64()),
    ("seed", pa.int64()),
]
_NULLABLE = ("depth", "block")
ROW_SCHEMA = pa.schema(
    [
        pa.field(name, kind, nullable=name in _NULLABLE)
        for name, kind in [
            *_CELL_FIELDS,
            ("clip", pa.string()),
            ("group", pa.string()),
            ("score", pa.float64()),
            ("weight", pa.float64()),
        ]
    ]
)
"""The columns of a row: whose score it is, of which clip (and its group), and score and weight."""

_METRICS_KEY = b"fourd.metrics"
_ONE_ROW_PER = [name for name in ROW_SCHEMA.names if name not in ("group", "score", "weight")]

Average = Literal["clip_mean", "weighted_mean"]


@dataclass(frozen=True)
class Cell:
    """Name what was evaluated: one backbone with its weights, read out for one task of a suite's entry.

    `depth` is the fraction of the backbone's depth that is read, and `block` the number of blocks that this came to
    mean (see `Backbone.block_at`); None where that has no meaning.
    """

    suite: str
    entry: str
    backbone: str
    weights: str
    readout: str
    task: str
    depth: float | None
    block: int | None
    seed: int


class Rows(NamedTuple):
    """Hold rows and the descriptions of their metrics, by name."""

    table: pa.Table
    metrics: Mapping[str, Metric]


# ----------------------------------------------------------------------------- making and keeping


def tabulate(cell: Cell, clips: Sequence[str], groups: Sequence[str], scores: Sequence[Score]) -> Rows:
    """Turn the scores of a batch into rows; `clips` and `groups` name its clips in order."""
    parts = [_tabulate_one(cell, clips, groups, score) for score in scores]
    table = pa.concat_tables(parts) if parts else ROW_SCHEMA.empty_table()
    return Rows(table, {score.metric.name: score.metric for score in scores})


def _tabulate_one(cell: Cell, clips: Sequence[str], groups: Sequence[str], score: Score) -> pa.Table:
    sizes = {"clips": len(clips), "groups": len(groups), "score": len(score.score), "weight": len(score.weight)}
    if len(set(sizes.values())) != 1:
        raise ValueError(f"metric {score.metric.name!r}: lengths differ: {sizes}; expected one of each per clip")
    same = {name: [value] * len(clips) for name, value in {**asdict(cell), "metric": score.metric.name}.items()}
    own = {
        "clip": list(clips),
        "group": list(groups),
        "score": score.score.double().tolist(),
        "weight": score.weight.double().tolist(),
    }
    return pa.table({**same, **own}, schema=ROW_SCHEMA)


def write_rows(path: Path, table: pa.Table, metrics: Mapping[str, Metric]) -> None:
    """Write rows to a Parquet file, aside first and then renamed, so that no reader sees half of it.

    Raises ValueError where a column is missing or of another type, a metric has no description, a
    score or weight is not finite, or a row is there twice.
    """
    table = _conform(table, str(path))
    _check_rows(table, metrics, str(path))
    described = {name: _describe(metrics[name]) for name in sorted(_distinct(table, "metric"))}
    table = table.replace_schema_metadata({_METRICS_KEY: json.dumps(described).encode()})
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        pq.write_table(table, aside, compression="zstd", use_dictionary=True)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def read_rows(path: Path) -> Rows:
    """Read rows and the descriptions of their metrics.

    Raises FileNotFoundError, or ValueError where the file is not Parquet or does not hold rows.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected rows written by `write_rows`")
    try:
        table = pq.ParquetFile(path).read()  # not `read_table`, which makes columns of folders named a=b
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: not a readable Parquet file ({error}); write the rows again") from error
    described = (table.schema.metadata or {}).get(_METRICS_KEY)
    if described is None:
        raise ValueError(f"{path}: holds no descriptions of metrics; expected rows written by `write_rows`")
    metrics = {name: Metric(name=name, **fields) for name, fields in json.loads(described).items()}
    table = _conform(table, str(path))
    _check_rows(table, metrics, str(path))
    return Rows(table, metrics)


def merge_rows(paths: Sequence[Path]) -> Rows:
    """Read several files as one. Raises ValueError where they contradict or repeat each other."""
    if not paths:
        raise ValueError("no files to merge; expected at least one path")
    metrics: dict[str, Metric] = {}
    tables = []
    for path in paths:
        rows = read_rows(path)
        for name, metric in rows.metrics.items():
            if metrics.setdefault(name, metric) != metric:
                raise ValueError(f"{path}: describes {name!r} as {metric}; an earlier file as {metrics[name]}")
        tables.append(rows.table)
    table = pa.concat_tables(tables)
    _check_unique(table, " + ".join(map(str, paths)))
    return Rows(table, metrics)


def _describe(metric: Metric) -> dict[str, Any]:
    return {name: value for name, value in asdict(metric).items() if name != "name"}


def _conform(table: pa.Table, where: str) -> pa.Table:
    """Bring the columns of rows into their order and exact types, without their metadata."""
    missing = [name for name in ROW_SCHEMA.names if name not in table.column_names]
    unknown = [name for name in table.column_names if name not in ROW_SCHEMA.names]
    if missing or unknown:
        raise ValueError(f"{where}: missing columns {missing}, unknown columns {unknown}; expected {ROW_SCHEMA.names}")
    found = table.schema
    wrong = [f"{f.name} is {found.field(f.name).type}, expected {f.type}" for f in ROW_SCHEMA if not _fits(found, f)]
    if wrong:
        raise ValueError(f"{where}: wrong column types: {'; '.join(wrong)}")
    table = table.select(ROW_SCHEMA.names)
    empty = [f.name for f in ROW_SCHEMA if not f.nullable and table[f.name].null_count]
    if empty:
        raise ValueError(f"{where}: columns {empty} hold nulls; only {' and '.join(_NULLABLE)} may")
    return table.cast(ROW_SCHEMA)


def _fits(schema: pa.Schema, expected: pa.Field) -> bool:
    found = schema.field(expected.name).type
    found = found.value_type if pa.types.is_dictionary(found) else found
    return bool(found == expected.type or pa.types.is_null(found))


def _check_rows(table: pa.Table, metrics: Mapping[str, Metric], where: str) -> None:
    undescribed = sorted(_distinct(table, "metric") - set(metrics))
    if undescribed:
        raise ValueError(f"{where}: metrics {undescribed} are not described; described are {sorted(metrics)}")
    sane = pc.and_(pc.is_finite(table["score"]), pc.is_finite(table["weight"]))
    bad = table.filter(pc.invert(pc.and_(sane, pc.greater_equal(table["weight"], 0))))
    if bad.num_rows:
        raise ValueError(
            f"{where}: {bad.num_rows} rows have a score that is not finite, or a weight that is not finite and >= 0; "
            f"the first: {bad.slice(0, 1).to_pylist()[0]}. A metric that is not defined has score 0 and weight 0"
        )
    _check_unique(table, where)


def _check_unique(table: pa.Table, where: str) -> None:
    counted = table.group_by(_ONE_ROW_PER).aggregate([([], "count_all")])
    twice = counted.filter(pc.greater(counted["count_all"], 1))
    if twice.num_rows:
        first = twice.slice(0, 1).to_pylist()[0]
        raise ValueError(f"{where}: {twice.num_rows} rows are there more than once; the first: {first}")


# ----------------------------------------------------------------------------- choosing and averaging


def select(table: pa.Table, **equals: str | int | float | None) -> pa.Table:
    """Keep the rows whose columns equal the given values; `depth=None` keeps those without a depth."""
    for name, value in equals.items():
        if name not in table.column_names:
            raise ValueError(f"no column {name!r} to select by; columns are {table.column_names}")
        column = table[name]
        table = table.filter(pc.is_null(column) if value is None else pc.equal(column, value))
    return table


@dataclass(frozen=True)
class Mean:
    """Hold both averages of a metric over the clips where it is defined.

    `clip_mean` counts every clip once, `weighted_mean` by its weight; both are NaN where no clip counts.
    """

    clip_mean: float
    weighted_mean: float
    num_clips: int
    num_undefined: int


@dataclass(frozen=True)
class Interval:
    """Hold a figure and its 95% interval, and what it rests on.

    `num_undefined` clips were left out since they have weight 0 (on either side, for a difference). One
    group says nothing about the spread: the interval is then infinite.
    """

    value: float
    low: float
    high: float
    num_clips: int
    num_groups: int
    num_undefined: int


@dataclass(frozen=True)
class _Clips:
    """Hold one score per clip, the mean over seeds; weight 0 where any seed has weight 0. Sorted by clip."""

    clip: np.ndarray
    group: np.ndarray
    score: np.ndarray
    weight: np.ndarray

    def keep(self, where: np.ndarray) -> _Clips:
        return _Clips(self.clip[where], self.group[where], self.score[where], self.weight[where])


def mean(table: pa.Table) -> Mean:
    """Average one metric over clips, after averaging each clip over seeds.

    Raises ValueError where the rows are not all of one metric, and of one cell up to the seed.
    """
    clips = _per_clip(table)
    defined = clips.keep(clips.weight > 0)
    num_clips = len(defined.clip)
    if not num_clips:
        return Mean(float("nan"), float("nan"), 0, len(clips.clip))
    weighted = float(np.average(defined.score, weights=defined.weight))
    return Mean(float(defined.score.mean()), weighted, num_clips, len(clips.clip) - num_clips)


def _per_clip(table: pa.Table) -> _Clips:
    _check_one_cell(table)
    num_seeds = len(_distinct(table, "seed"))
    statistics = [
        ("score", "mean"),
        ("weight", "mean"),
        ("weight", "min"),
        ("seed", "count"),
        ("seed", "count_distinct"),
    ]
    clips = table.group_by(["clip", "group"]).aggregate(statistics).sort_by("clip")
    name, seeds, distinct = (clips[c].to_numpy() for c in ("clip", "seed_count", "seed_count_distinct"))
    uneven = (seeds != num_seeds) | (distinct != num_seeds)
    if uneven.any():
        raise ValueError(
            f"{uneven.sum()} clips do not have exactly one row for each of {num_seeds} seeds, or have two groups; "
            f"the first: {_first(name[uneven])}"
        )
    weight = np.where(clips["weight_min"].to_numpy() > 0, clips["weight_mean"].to_numpy(), 0)
    return _Clips(name, clips["group"].to_numpy(), clips["score_mean"].to_numpy(), weight)


def _check_one_cell(table: pa.Table) -> None:
    if not table.num_rows:
        raise ValueError("no rows to average; look at what was selected")
    for name, _ in _CELL_FIELDS:
        values = _distinct(table, name)
        if len(values) > 1 and name != "seed":
            raise ValueError(f"rows of {len(values)} values of {name!r}: {_first(values)}; select one of them first")


def _distinct(table: pa.Table, column: str) -> set[Any]:
    return set(pc.unique(table[column]).to_pylist())


def _first(values: Sequence[Any] | set[Any] | np.ndarray, number: int = 5) -> str:
    listed = sorted(values, key=str)
    return ", ".join(map(repr, listed[:number])) + (", ..." if len(listed) > number else "")


# ----------------------------------------------------------------------------- intervals


def bootstrap_interval(
    table: pa.Table, average: Average = "clip_mean", num_resamples: int = 2000, seed: int = 0
) -> Interval:
    """Estimate an average of one metric with its 95% percentile bootstrap over groups.

    All clips of a group are drawn together. num_resamples: 2000, not from the paper.
    Raises ValueError as `mean` does, and where no clip has a weight.
    """
    clips = _per_clip(table)
    defined = clips.weight > 0
    return _bootstrap([clips.keep(defined)], average, num_resamples, seed, num_undefined=int((~defined).sum()))


def paired_difference(
    rows_a: pa.Table, rows_b: pa.Table, average: Average = "clip_mean", num_resamples: int = 2000, seed: int = 0
) -> Interval:
    """Estimate how much higher a scores than b on the same clips, with a 95% bootstrap over groups.

    Both sides are drawn together, so what makes a clip hard for both cancels out. Clips that have
    weight 0 on either side are left out and counted. num_resamples: 2000, not from the paper.
    Raises ValueError where the two sides differ in suite, task, metric, seeds, clips or groups.
    """
    a, b = _per_clip(rows_a), _per_clip(rows_b)
    for column in ("suite", "task", "metric", "seed"):
        _check_same(column, _distinct(rows_a, column), _distinct(rows_b, column))
    _check_same("clip", set(a.clip), set(b.clip))
    _check_same("(clip, group)", set(zip(a.clip, a.group, strict=True)), set(zip(b.clip, b.group, strict=True)))
    defined = (a.weight > 0) & (b.weight > 0)
    sides = [a.keep(defined), b.keep(defined)]
    return _bootstrap(sides, average, num_resamples, seed, num_undefined=int((~defined).sum()))


def _check_same(what: str, a: set[Any], b: set[Any]) -> None:
    if a != b:
        raise ValueError(
            f"the two sides do not hold the same {what}: only in a: {_first(a - b) or 'none'}; "
            f"only in b: {_first(b - a) or 'none'}; select the rows that both have, or evaluate the missing ones"
        )


def _bootstrap(sides: list[_Clips], average: Average, num_resamples: int, seed: int, num_undefined: int) -> Interval:
    """Bootstrap the average of the first side, less that of the second if there is one."""
    num_clips = len(sides[0].clip)
    if not num_clips:
        raise ValueError(f"none of {num_undefined} clips has a weight above 0: there is nothing to average")
    groups, member = np.unique(sides[0].group.astype(str), return_inverse=True)
    sums = np.stack([_group_sums(clips, member, len(groups), average) for clips in sides], axis=1)
    value = float(_statistic(sums.sum(0, keepdims=True))[0])
    if len(groups) == 1:
        return Interval(value, -np.inf, np.inf, num_clips, 1, num_undefined)
    draws = np.concatenate([_statistic(drawn) for drawn in _draw_groups(sums, num_resamples, seed)])
    low, high = np.quantile(draws, [0.025, 0.975])
    return Interval(value, float(low), float(high), num_clips, len(groups), num_undefined)


def _group_sums(clips: _Clips, member: np.ndarray, num_groups: int, average: Average) -> Float[np.ndarray, "G 2"]:
    """Add up weight * score and weight within each group; the weights are 1 for a clip mean."""
    if average not in get_args(Average):
        raise ValueError(f"average is {average!r}; expected one of {get_args(Average)}")
    weight = clips.weight if average == "weighted_mean" else np.ones_like(clips.weight)
    return np.stack([np.bincount(member, w, minlength=num_groups) for w in (weight * clips.score, weight)], axis=-1)


def _statistic(sums: Float[np.ndarray, "draws sides 2"]) -> Float[np.ndarray, " draws"]:
    averages = sums[..., 0] / sums[..., 1]
    return averages[:, 0] - averages[:, 1:].sum(1)


def _draw_groups(
    sums: Float[np.ndarray, "G sides 2"], num_resamples: int, seed: int
) -> Iterator[Float[np.ndarray, "draws sides 2"]]:
    """Draw groups with replacement and add up what they hold, a few million draws at a time."""
    rng = np.random.default_rng(seed)
    num_groups = len(sums)
    at_once = max(1, 2_000_000 // num_groups)
    flat = sums.reshape(num_groups, -1)
    for start in range(0, num_resamples, at_once):
        number = min(at_once, num_resamples - start)
        drawn = rng.integers(num_groups, size=(number, num_groups)) + num_groups * np.arange(number)[:, None]
        times = np.bincount(drawn.ravel(), minlength=number * num_groups).reshape(number, num_groups)
        yield (times @ flat).reshape(number, *sums.shape[1:])
