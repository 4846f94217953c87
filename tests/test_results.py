"""Rows: what is written is read, what is wrong is refused, and intervals hold what they promise."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fourd import metrics, results
from fourd.results import Cell
from fourd.types import Metric, Score

ERROR = Metric("error_px", "Error", higher_is_better=False, unit="px")
HITS = Metric("hits", "Hits", higher_is_better=True)
CELL = Cell("suite-1", "points", "vit", "run-7", "attention", "point_tracking", depth=0.95, block=10, seed=0)


def rows(
    score: list[float],
    weight: list[float] | None = None,
    group: list[str] | None = None,
    cell: Cell = CELL,
    metric: Metric = ERROR,
    first_clip: int = 0,
) -> pa.Table:
    clips = [f"clip{first_clip + i:05d}" for i in range(len(score))]
    weight = weight or [1.0] * len(score)
    scored = Score(metric, torch.tensor(score, dtype=torch.float64), torch.tensor(weight, dtype=torch.float64))
    return results.tabulate(cell, clips, group or clips, [scored]).table


def with_seed(seed: int) -> Cell:
    return dataclasses.replace(CELL, seed=seed)


# ----------------------------------------------------------------------------- making and keeping


def test_tabulate_gives_one_row_per_clip_and_metric():
    scores = [Score(metric, torch.tensor([0.5, 2.0]), torch.tensor([3.0, 0.0])) for metric in (ERROR, HITS)]
    table, metrics = results.tabulate(CELL, ["a", "b"], ["g", "g"], scores)
    assert table.schema == results.ROW_SCHEMA
    assert metrics == {"error_px": ERROR, "hits": HITS}
    expected = dataclasses.asdict(CELL) | {"metric": "hits", "clip": "b", "group": "g", "score": 2.0, "weight": 0.0}
    assert table.num_rows == 4
    assert table.to_pylist()[3] == expected


def test_tabulate_names_the_metric_whose_lengths_differ():
    with pytest.raises(ValueError, match=r"'error_px': lengths differ: .*'clips': 1.*'score': 2"):
        results.tabulate(CELL, ["a"], ["g"], [Score(ERROR, torch.zeros(2), torch.ones(2))])


def test_what_is_written_is_read(tmp_path: Path):
    no_depth = dataclasses.replace(CELL, depth=None, backbone="control")
    table = pa.concat_tables([rows([1.0, 2.5]), rows([3.0], cell=no_depth), rows([0.1], metric=HITS)])
    path = tmp_path / "seed=3" / "rows.parquet"  # a folder that a reader of partitions would take for a column
    results.write_rows(path, table, {"error_px": ERROR, "hits": HITS, "unused": ERROR})
    read = results.read_rows(path)
    assert read.table.equals(table)
    assert read.metrics == {"error_px": ERROR, "hits": HITS}
    assert [file.name for file in path.parent.iterdir()] == ["rows.parquet"]


def test_a_file_explains_itself_without_our_code(tmp_path: Path):
    results.write_rows(tmp_path / "rows.parquet", rows([1.0]), {"error_px": ERROR})
    metadata = pq.read_schema(tmp_path / "rows.parquet").metadata[b"fourd.metrics"]
    assert json.loads(metadata) == {"error_px": {"title": "Error", "higher_is_better": False, "unit": "px"}}


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "rows.parquet"
    results.write_rows(path, rows([1.0]), {"error_px": ERROR})
    before = path.read_bytes()

    def write_half(table: pa.Table, where: Path, **_: object) -> None:
        where.write_bytes(b"PAR1")
        raise OSError("disk full")

    monkeypatch.setattr(results.pq, "write_table", write_half)
    with pytest.raises(OSError, match="disk full"):
        results.write_rows(path, rows([2.0]), {"error_px": ERROR})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_many_rows_are_a_few_megabytes(tmp_path: Path):
    rng = np.random.default_rng(0)
    parts = [rows(rng.random(3000).astype(np.float32).tolist(), cell=with_seed(seed)) for seed in range(10)]
    path = tmp_path / "rows.parquet"
    results.write_rows(path, pa.concat_tables(parts), {"error_px": ERROR})
    assert path.stat().st_size < 10 * 30_000  # so 300,000 rows take less than 3 MB


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns(["clip"]), r"missing columns \['clip'\]"),
        (lambda t: t.append_column("extra", t["clip"]), r"unknown columns \['extra'\]"),
        (lambda t: t.set_column(9, "seed", pa.array(["0", "0"])), r"seed is string, expected int64"),
        (lambda t: t.set_column(10, "clip", pa.array(["a", None])), r"\['clip'\] hold nulls; only depth and block may"),
        (
            lambda t: t.set_column(12, "score", pa.array([0.0, np.nan])),
            r"1 rows have a score that is not finite.*00001",
        ),
        (lambda t: t.set_column(13, "weight", pa.array([0.0, -1.0])), r"1 rows have .* weight that is not .*>= 0"),
        (lambda t: pa.concat_tables([t, t]), r"2 rows are there more than once.*clip0000"),
        (lambda t: t.set_column(6, "metric", pa.array(["x", "x"])), r"metrics \['x'\] are not described.*'error_px'"),
    ],
)
def test_wrong_rows_are_refused(change, message: str, tmp_path: Path):
    path = tmp_path / "rows.parquet"
    with pytest.raises(ValueError, match=message):
        results.write_rows(path, change(rows([1.0, 2.0])), {"error_px": ERROR})
    assert list(tmp_path.iterdir()) == []


def test_wrong_files_are_refused(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"absent\.parquet: no such file"):
        results.read_rows(tmp_path / "absent.parquet")
    text, foreign, cut = (tmp_path / name for name in ("text", "foreign", "cut"))
    text.write_text("score,weight\n1,1\n")
    with pytest.raises(ValueError, match="text: not a readable Parquet file"):
        results.read_rows(text)
    pq.write_table(pa.table({"a": [1]}), foreign)
    with pytest.raises(ValueError, match="foreign: holds no descriptions of metrics"):
        results.read_rows(foreign)
    table = rows([1.0]).drop_columns(["weight"]).replace_schema_metadata({b"fourd.metrics": b"{}"})
    pq.write_table(table, cut)
    with pytest.raises(ValueError, match=r"cut: missing columns \['weight'\]"):
        results.read_rows(cut)


def test_merge_joins_files_and_refuses_contradictions(tmp_path: Path):
    def write(name: str, table: pa.Table, metric: Metric) -> Path:
        results.write_rows(tmp_path / name, table, {metric.name: metric})
        return tmp_path / name

    a = write("a", rows([1.0]), ERROR)
    b = write("b", rows([0.5], metric=HITS), HITS)
    other = write("other", rows([2.0], cell=with_seed(1)), dataclasses.replace(ERROR, unit="m"))
    merged = results.merge_rows([a, b])
    assert merged.table.num_rows == 2
    assert merged.metrics == {"error_px": ERROR, "hits": HITS}
    with pytest.raises(ValueError, match=r"1 rows are there more than once"):
        results.merge_rows([a, a])
    with pytest.raises(ValueError, match=r"other: describes 'error_px' as .*unit='m'.*an earlier file as .*unit='px'"):
        results.merge_rows([a, other])
    with pytest.raises(ValueError, match="no files to merge"):
        results.merge_rows([])


# ----------------------------------------------------------------------------- choosing and averaging


def test_select_takes_values_and_none():
    control = dataclasses.replace(CELL, depth=None)
    table = pa.concat_tables([rows([1.0, 2.0]), rows([3.0], cell=control), rows([4.0], cell=with_seed(1))])
    assert results.select(table, depth=None)["score"].to_pylist() == [3]
    assert results.select(table, **dataclasses.asdict(CELL))["score"].to_pylist() == [1, 2]
    assert results.select(table, seed=1, depth=0.95)["score"].to_pylist() == [4]
    with pytest.raises(ValueError, match=r"no column 'layer' to select by; columns are \['suite'"):
        results.select(table, layer=3)


def test_clip_mean_and_weighted_mean_are_what_their_names_say():
    found = results.mean(rows([1.0, 4.0, 0.0], weight=[1.0, 3.0, 0.0]))
    assert found == results.Mean(clip_mean=2.5, weighted_mean=3.25, num_clips=2, num_undefined=1)


def test_the_mean_of_nothing_is_nan_and_counts_what_is_undefined():
    found = results.mean(rows([0.0, 0.0], weight=[0.0, 0.0]))
    assert np.isnan([found.clip_mean, found.weighted_mean]).all()
    assert (found.num_clips, found.num_undefined) == (0, 2)


def test_clips_are_averaged_over_seeds_first():
    table = pa.concat_tables([rows([1.0, 5.0]), rows([3.0, 5.0], cell=with_seed(1))])
    assert results.mean(table) == results.Mean(3.5, 3.5, num_clips=2, num_undefined=0)


def test_a_clip_that_one_seed_leaves_undefined_is_left_out():
    table = pa.concat_tables([rows([1.0, 5.0]), rows([3.0, 0.0], weight=[1.0, 0.0], cell=with_seed(1))])
    assert results.mean(table) == results.Mean(2.0, 2.0, num_clips=1, num_undefined=1)


def test_only_rows_that_belong_together_are_averaged():
    other = dataclasses.replace(CELL, backbone="dino")
    with pytest.raises(ValueError, match=r"rows of 2 values of 'backbone': 'dino', 'vit'; select one"):
        results.mean(pa.concat_tables([rows([1.0]), rows([1.0], cell=other)]))
    with pytest.raises(ValueError, match=r"rows of 2 values of 'metric'"):
        results.mean(pa.concat_tables([rows([1.0]), rows([1.0], metric=HITS)]))
    with pytest.raises(ValueError, match=r"1 clips do not have exactly one row for each of 2 seeds.*'clip00001'"):
        results.mean(pa.concat_tables([rows([1.0, 1.0]), rows([1.0], cell=with_seed(1))]))
    with pytest.raises(ValueError, match="no rows to average"):
        results.mean(rows([1.0]).slice(0, 0))


# ----------------------------------------------------------------------------- intervals


def simulate(rng: np.random.Generator, num_groups: int, per_group: int) -> tuple[list[float], list[str]]:
    """Draw scores of mean 0 whose groups differ as much as the clips within them."""
    score = rng.normal(size=(num_groups, 1)) + rng.normal(size=(num_groups, per_group))
    return score.ravel().tolist(), np.repeat([f"g{i}" for i in range(num_groups)], per_group).tolist()


def test_the_interval_covers_the_truth_as_often_as_it_says_and_clips_drawn_alone_do_not():
    rng = np.random.default_rng(0)
    by_group = by_clip = 0
    for _ in range(300):
        score, group = simulate(rng, num_groups=40, per_group=6)
        grouped = results.bootstrap_interval(rows(score, group=group), num_resamples=300)
        alone = results.bootstrap_interval(rows(score), num_resamples=300)
        by_group += grouped.low <= 0 <= grouped.high
        by_clip += alone.low <= 0 <= alone.high
    assert 0.91 <= by_group / 300 <= 0.98
    assert by_clip / 300 < 0.8


def test_the_interval_agrees_with_the_normal_theory():
    score, group = simulate(np.random.default_rng(1), num_groups=400, per_group=1)
    interval = results.bootstrap_interval(rows(score, group=group))
    standard_error = np.std(score) / np.sqrt(400)
    assert interval.value == pytest.approx(np.mean(score))
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * standard_error, rel=0.06)
    assert (interval.num_clips, interval.num_groups, interval.num_undefined) == (400, 400, 0)


def test_the_interval_is_reproducible_and_the_seed_matters():
    table = rows(np.random.default_rng(0).random(50).tolist())
    assert results.bootstrap_interval(table) == results.bootstrap_interval(table)
    assert results.bootstrap_interval(table) != results.bootstrap_interval(table, seed=1)


def test_a_weighted_interval_is_about_the_weighted_mean():
    table = rows([0.0, 10.0, 10.0, 10.0], weight=[97.0, 1.0, 1.0, 1.0])
    assert results.bootstrap_interval(table, "weighted_mean").value == pytest.approx(0.3)
    assert results.bootstrap_interval(table, "clip_mean").value == pytest.approx(7.5)


def test_one_group_says_nothing_about_the_spread():
    interval = results.bootstrap_interval(rows([1.0, 2.0], group=["g", "g"]))
    assert (interval.value, interval.low, interval.high, interval.num_groups) == (1.5, -np.inf, np.inf, 1)


def test_an_interval_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="none of 1 clips has a weight above 0"):
        results.bootstrap_interval(rows([0.0], weight=[0.0]))


def test_pairing_cancels_what_makes_clips_hard():
    rng = np.random.default_rng(0)
    hard, group = simulate(rng, num_groups=30, per_group=3)
    a, b = np.array(hard) + 0.1 + 0.05 * rng.normal(size=90), np.array(hard)
    order = rng.permutation(90)
    difference = results.paired_difference(rows(a.tolist(), group=group), rows(b.tolist(), group=group).take(order))
    assert difference.value == pytest.approx((a - b).mean())
    assert 0.05 < difference.low < 0.1 < difference.high < 0.15
    assert (difference.num_clips, difference.num_groups) == (90, 30)
    assert results.bootstrap_interval(rows(a.tolist(), group=group)).low < -0.1


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=8), st.sampled_from(["clip_mean", "weighted_mean"]))
def test_nothing_differs_from_itself(score: list[float], average: results.Average):
    table = rows(score, weight=[1.0 + i for i in range(len(score))])
    difference = results.paired_difference(table, table, average, num_resamples=50)
    assert (difference.value, difference.low, difference.high) == (0, 0, 0)


def test_sides_are_compared_after_averaging_over_their_seeds():
    a = pa.concat_tables([rows([1.0, 4.0]), rows([3.0, 4.0], cell=with_seed(1))])
    b = pa.concat_tables([rows([0.0, 1.0]), rows([0.0, 3.0], cell=with_seed(1))])
    assert results.paired_difference(a, b).value == pytest.approx(((2 - 0) + (4 - 2)) / 2)


def test_clips_undefined_on_either_side_are_left_out_and_counted():
    a, b = rows([1.0, 0.0, 5.0, 7.0], weight=[1.0, 0.0, 1.0, 1.0]), rows([0.0, 9.0, 0.0, 6.0], weight=[1, 1, 0, 1])
    difference = results.paired_difference(a, b)
    assert (difference.value, difference.num_clips, difference.num_undefined) == (1, 2, 2)


@pytest.mark.parametrize(
    ("b", "message"),
    [
        (
            rows([0.0] * 9, first_clip=7),
            r"the same clip: only in a: 'clip00000', .*'clip00004', \.\.\.; only in b: 'clip00008'",
        ),
        (rows([0.0] * 8, cell=with_seed(2)), r"the same seed: only in a: 0; only in b: 2"),
        (rows([0.0] * 8, metric=HITS), r"the same metric: only in a: 'error_px'; only in b: 'hits'"),
        (rows([0.0] * 8, group=["g"] * 8), r"the same \(clip, group\)"),
        (rows([0.0] * 8, cell=dataclasses.replace(CELL, suite="suite-2")), r"the same suite"),
    ],
)
def test_sides_that_cannot_be_paired_are_refused(b: pa.Table, message: str):
    with pytest.raises(ValueError, match=message):
        results.paired_difference(rows([0.0] * 8), b)


def test_resamples_drawn_in_pieces_are_all_there():
    sums = np.random.default_rng(0).random((50_000, 1, 2))
    drawn = np.concatenate(list(results._draw_groups(sums, num_resamples=95, seed=0)))
    assert drawn.shape == (95, 1, 2)
    np.testing.assert_allclose(drawn.mean(0) / 50_000, sums.mean(0), rtol=0.01)


# ----------------------------------------------------------------------------- averages of real scores, on many ranks

Scorer = Callable[[slice], tuple[Score, ...]]


def scored_clips(seed: int, number: int = 7) -> tuple[Scorer, Scorer, Scorer]:
    """Make clips of depth, boxes and points, of which the last has nothing valid; each scores a slice of them."""
    generator = torch.Generator().manual_seed(seed)
    share = torch.linspace(0.9, 0, number)[:, None, None]

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(number, *shape, generator=generator)

    true = 0.5 + 9 * torch.rand(number, 4, 5, 6, generator=generator)
    pred, valid = true * torch.exp(0.3 * noise(4, 5, 6)), torch.rand(true.shape, generator=generator) < share[..., None]
    corner = 50 * torch.rand(number, 3, 4, 2, generator=generator)
    boxes = torch.cat([corner, corner + 10 + 20 * torch.rand(corner.shape, generator=generator)], -1)
    guess, counted = boxes + 4 * noise(3, 4, 4), torch.rand(number, 3, 4, generator=generator) < share
    query, seen = torch.zeros(number, 3, dtype=torch.int64), noise(3, 4) > -1
    return (
        lambda clips: metrics.depth(*(x[clips] for x in (pred, true, valid))),
        lambda clips: metrics.box_tracks(*(x[clips] for x in (guess, boxes, counted, query))),
        lambda clips: (
            *metrics.tap_vid(
                *(x[clips] for x in (guess[..., :2], seen, corner, seen.flip(1), query, counted)), query_mode="first"
            ),
            metrics.point_distance(*(x[clips] for x in (guess[..., :2], corner, seen, query, counted))),
        ),
    )


def rows_of(scorer: Scorer, clips: slice, cell: Cell = CELL, number: int = 7) -> results.Rows:
    names = [f"clip{i}" for i in range(number)]
    groups = ["film_a", "film_b", "film_a", "film_c", "film_d", "film_b", "film_c"]
    return results.tabulate(cell, names[clips], groups[clips], scorer(clips))


def test_a_weighted_mean_is_the_mean_over_all_pixels_and_a_clip_mean_counts_every_clip_once():
    generator = torch.Generator().manual_seed(0)
    true = 0.5 + 9 * torch.rand(5, 4, 5, 6, generator=generator)
    pred = true * torch.exp(0.3 * torch.randn(true.shape, generator=generator))
    valid = torch.rand(true.shape, generator=generator) < torch.tensor([0.9, 0.5, 0.2, 0.05, 0])[:, None, None, None]
    per_clip, pooled = (
        metrics.depth(pred, true, valid),
        metrics.depth(*(x.flatten(0, 1)[None] for x in (pred, true, valid))),
    )
    check_averages(per_clip, pooled, roots={"rmse", "rmse_log", "silog_x100"})


def test_a_weighted_mean_is_the_mean_over_all_object_frames_and_over_all_visible_points():
    generator = torch.Generator().manual_seed(0)
    corner = 50 * torch.rand(5, 3, 6, 2, generator=generator)
    true = torch.cat([corner, corner + 10 + 20 * torch.rand(corner.shape, generator=generator)], -1)
    pred = true + 4 * torch.randn(true.shape, generator=generator)
    valid = torch.rand(5, 3, 6, generator=generator) < torch.tensor([0.9, 0.6, 0.4, 0.3, 0])[:, None, None]
    query = torch.randint(0, 2, (5, 3), generator=generator)
    boxes = (pred, true, valid, query)
    per_clip = metrics.box_tracks(*boxes)
    check_averages(per_clip[:3], metrics.box_tracks(*(x.flatten(0, 1)[None] for x in boxes))[:3])
    over_tracks = results.mean(tabulated(per_clip[3:]))
    assert over_tracks.weighted_mean == over_tracks.clip_mean  # clips count once whichever mean is taken
    points = (pred[..., :2], true[..., :2], torch.rand(5, 3, 6, generator=generator) < 0.7, query, valid)
    pooled = metrics.point_distance(*(x.flatten(0, 1)[None] for x in points))
    check_averages((metrics.point_distance(*points),), (pooled,))


def tabulated(scores: tuple[Score, ...], name: str | None = None) -> pa.Table:
    clips = [f"clip{i}" for i in range(len(scores[0].score))]
    table = results.tabulate(CELL, clips, clips, scores).table
    return table if name is None else results.select(table, metric=name)


def check_averages(per_clip: tuple[Score, ...], pooled: tuple[Score, ...], roots: set[str] | None = None) -> None:
    """Hold both means over five clips, the last of them undefined, to what they promise; a root has no pooled mean."""
    for clip, whole in zip(per_clip, pooled, strict=True):
        name = clip.metric.name
        mean = results.mean(tabulated(per_clip, name))
        assert (mean.num_clips, mean.num_undefined) == (4, 1), name
        assert mean.clip_mean == pytest.approx(clip.score[:4].mean().item(), rel=1e-12), name
        assert mean.weighted_mean != pytest.approx(mean.clip_mean, rel=1e-3), name
        assert clip.weight.sum().item() == whole.weight.item(), name
        assert (mean.weighted_mean == pytest.approx(whole.score.item(), rel=1e-6)) == (name not in (roots or ())), name


SPLITS = {
    "alternating": (slice(0, None, 2), slice(1, None, 2)),
    "in two runs": (slice(0, 4), slice(4, None)),
    "second first": (slice(4, None), slice(0, 4)),
    "one by one": tuple(slice(i, i + 1) for i in (3, 0, 6, 1, 5, 2, 4)),
}


@pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS)
@pytest.mark.parametrize("kind", [0, 1, 2], ids=["depth", "boxes", "points"])
def test_rows_of_several_ranks_joined_are_those_of_one(kind: int, split: tuple[slice, ...], tmp_path: Path):
    scorers = {with_seed(seed): scored_clips(seed)[kind] for seed in (0, 1, 2)}
    whole = merged(tmp_path / "whole", [rows_of(scorer, slice(None), cell) for cell, scorer in scorers.items()])
    parts = [rows_of(scorer, clips, cell) for clips in split for cell, scorer in scorers.items()]
    assert len({len(part.table) for part in parts}) == (2 if len(split) == 2 else 1)  # seven clips do not divide
    joined = merged(tmp_path / "parts", parts)
    by_row = [(name, "ascending") for name in ("metric", "seed", "clip")]
    assert joined.table.sort_by(by_row).equals(whole.table.sort_by(by_row))
    assert joined.metrics == whole.metrics
    for name in whole.metrics:
        one, many = (results.select(rows.table, metric=name) for rows in (whole, joined))
        assert dataclasses.asdict(results.mean(many)) == pytest.approx(dataclasses.asdict(results.mean(one)), rel=1e-12)
        for average in ("clip_mean", "weighted_mean"):
            interval = results.bootstrap_interval(many, average, num_resamples=200)
            same = results.bootstrap_interval(one, average, num_resamples=200)
            # how sums are taken depends on where numbers lie in memory, down to their last bit
            assert dataclasses.asdict(interval) == pytest.approx(dataclasses.asdict(same), rel=1e-12)
            assert np.isfinite([interval.low, interval.high]).all()


def merged(folder: Path, parts: Sequence[results.Rows]) -> results.Rows:
    paths = [folder / f"rank{i}.parquet" for i in range(len(parts))]
    for path, rows in zip(paths, parts, strict=True):
        results.write_rows(path, rows.table, rows.metrics)
    return results.merge_rows(paths)
