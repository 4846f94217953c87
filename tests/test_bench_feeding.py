"""What a corpus gives is measured stage by stage, and what models ask for is counted, not guessed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fourd.bench.demand import Demand, demands
from fourd.bench.feeding import (
    STAGES,
    Feeding,
    FeedingConfig,
    Speed,
    bench_feeding,
    cores_needed,
    mixing_of_blocks,
)
from fourd.cli.data import bench
from fourd.datasets.video_shards import tiny
from fourd.loader import BlockShuffle
from tests.films import write_film


@pytest.fixture
def films(tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4"):
        write_film(folder / name, 60)
    return folder


@pytest.fixture
def shards() -> Path:
    return Path(tiny().index)


def config(data: Path, **changes) -> FeedingConfig:
    small = {"num_frames": 4, "size": 32, "batch_size": 2, "rounds": 2, "num_workers": 1, "device": "cpu"}
    return FeedingConfig(str(data), **{**small, **changes})


@pytest.mark.parametrize("source", ["films", "shards"])
def test_every_stage_is_measured(source: str, request: pytest.FixtureRequest):
    feeding = bench_feeding(config(request.getfixturevalue(source)))
    assert [speed.stage for speed in feeding.speeds] == [*STAGES, "all, 1 process", "all, 1 processes"]
    for speed in feeding.speeds:
        assert 0 < speed.least_ms <= speed.ms_per_clip <= speed.most_ms
    parts = sum(feeding.speed("pyav", stage).least_ms for stage in STAGES)
    assert parts <= feeding.speed("pyav", "all, 1 process").most_ms * 1.001


@pytest.fixture(scope="module")
def asked() -> dict[str, Demand]:
    return {demand.size: demand for demand in demands(790.0, 0.5)}


@pytest.mark.parametrize(
    ("size", "gflop"), [("S", 39.5), ("B", 132.0), ("L", 295.0), ("H", 524.0), ("G", 1282.0), ("e", 2484.0)]
)
def test_the_cost_of_a_clip_is_that_of_the_published_layout(asked: dict[str, Demand], size: str, gflop: float):
    # computed apart from our code: matrix multiplications of the blocks, the embedding and the decoder, three times;
    # a step leaves out some: pixels have no gradient, the last block gives the latents alone, and what the latents say
    # to each other in the first decoder block is computed once for all clips, a fifth of the work of a small model
    assert 0.75 < asked[size].flop_per_clip / 1e9 / gflop < 1.0
    assert asked[size].clips_per_s == pytest.approx(0.5 * 790e12 / asked[size].flop_per_clip)


def test_masks_divide_the_processes_that_a_model_needs():
    speed = Speed("pyav", "all, 1 process", 20.0, 19.0, 21.0)
    feeding = Feeding((speed,), 2, ())
    demand = Demand("B", 132e9, 3000.0)
    assert [cores_needed(feeding, demand, "pyav", repeat) for repeat in (1, 4)] == [60.0, 15.0]


def test_how_blocks_mix_follows_from_the_window():
    blocks = config(Path("films"), shuffle=BlockShuffle(8, 16), mixed_batch=64)
    found = mixing_of_blocks(blocks, 170_000_000)
    assert found is not None
    # two clips of a window of w blocks of b clips share their block with a chance of (b - 1) / (b w - 1); two that
    # stand on either side of its end share none, and half of the batches lie across one
    inside = np.minimum(64, 8 * 16 - np.arange(8 * 16))
    in_one_window = (inside * (inside - 1) + (64 - inside) * (63 - inside)).mean() / (64 * 63)
    assert found.same_group == pytest.approx(in_one_window * 7 / (8 * 16 - 1), rel=0.06)
    assert found.ideal < 1e-4
    assert mixing_of_blocks(blocks, 1) is None


def test_a_window_that_holds_the_corpus_mixes_as_well_as_any():
    found = mixing_of_blocks(config(Path("films"), mixed_batch=64), 8192)
    assert found is not None
    assert found.same_group == pytest.approx(found.ideal, rel=0.1)


def test_the_command_shows_and_writes_what_it_measured(films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "rows" / "feeding.parquet"
    small = ["--num-frames", "4", "--size", "32", "--batch-size", "2", "--rounds", "2", "--num-workers", "1"]
    bench.run([str(films), *small, "--repeats", "1", "3", "--device", "cpu", "--out", str(out)])
    shown = capsys.readouterr().out
    assert "crop and" in shown
    assert "4DS-j" in shown
    assert "3 masks" in shown
    assert "shuffle by blocks of 32 clips, 256 open at a time: 100.000% of the pairs" in shown
    rows = pq.read_table(out).to_pylist()
    assert {row["stage"] for row in rows} > set(STAGES)
    assert {(row["same_block"], row["same_block_of_all"]) for row in rows} == {(1.0, 1.0)}
    assert all(row["command"].startswith("fourd data bench") and row["processor"] for row in rows)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rounds": 0}, "rounds is 0"),
        ({"mixed_batch": 0}, "mixed_batch is 0"),
        ({"repeats": (0,)}, "repeats above 0"),
        ({"decoders": ()}, "one or more"),
    ],
)
def test_what_cannot_be_measured_is_refused(changes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        config(Path("films"), **changes)


def test_rows_go_to_parquet_alone(films: Path):
    with pytest.raises(ValueError, match=r"expected a name that ends in \.parquet"):
        bench.run([str(films), "--out", "rows.csv"])
