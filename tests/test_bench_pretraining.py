"""The bench of pretraining: both sides learn the same clips in turns, and what is said of them is what was measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from fourd.backbones.video_vit import SIZES
from fourd.bench import pretraining
from fourd.bench.pretraining import PretrainingConfig, bench_pretraining
from fourd.bench.pretraining_rows import markdown
from fourd.bench.rooflines import Limits, limit_s
from fourd.bench.videomae_step import tube_mask
from fourd.flops import training_flop
from fourd.objectives.simple_mae import SimpleMAEConfig

SMALL = PretrainingConfig(
    ("S",), resolution=32, frames=4, batch=2, mask_ratio=0.5, rival_mask_ratio=0.5, rounds=2, device="cpu", threads=1
)
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "new/rows.parquet"
    return bench_pretraining(replace(SMALL, out=out), "fourd bench pretraining"), out


def test_every_comparison_has_a_row_with_both_sides(measured):
    rows, out = measured
    assert [(row.comparison, row.latents) for row in rows] == [("default", 4), ("coarse", 1), ("same", 8)]
    for row in rows:
        assert row.ratio == pytest.approx(row.rival_seconds / row.seconds)
        assert row.seconds_low <= row.seconds <= row.seconds_high
        assert row.last_loss < row.first_loss
        assert row.rival_last_loss < row.rival_first_loss
        assert (row.threads, row.share_of_limit, row.peak_gb) == (1, None, None)
    assert pq.read_table(out).num_rows == 3
    assert out.with_suffix(".md").read_text() == markdown(rows)
    assert out.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"


def test_the_same_arithmetic_takes_the_same_operations_but_for_what_clips_share(measured):
    """Ours leaves out what is the same in all clips and what nobody reads; the rival predicts hidden tokens alone."""
    same = measured[0][2]
    assert 0.5 < same.gflop_per_clip / same.rival_gflop_per_clip < 1.05


def test_operations_are_those_of_the_step(measured):
    config = pretraining.our_config(SMALL, "S", "default")
    counted = training_flop(config, pretraining.random_clips(SMALL, torch.device("cpu"))) / SMALL.batch / 1e9
    assert measured[0][0].gflop_per_clip == pytest.approx(counted, rel=0.1)  # attention of another kernel counts alike


def test_a_side_that_does_not_learn_is_refused(monkeypatch):
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: None)
    with pytest.raises(ValueError, match=r"size S, default, ours: the loss went from .* what does not learn"):
        bench_pretraining(replace(SMALL, comparisons=("default",)))


def test_tubes_hide_the_same_places_at_all_times():
    mask = tube_mask(5, (3, 4, 4), 0.75).view(5, 3, 16)
    assert (mask == mask[:, :1]).all()
    assert (~mask).sum(dim=(1, 2)).tolist() == [12] * 5
    assert (mask[0] != mask[1]).any()


def test_the_limit_is_at_least_that_of_the_products_and_of_the_bytes():
    config = pretraining.our_config(SMALL, "S", "default")
    flop = training_flop(config, pretraining.random_clips(SMALL, torch.device("cpu")))
    products = limit_s(config, SMALL.batch, Limits(1e9, 1e30))
    assert products == pytest.approx(flop / 1e9, rel=0.01)
    both, bytes_alone = (limit_s(config, SMALL.batch, Limits(rate, 1e9)) for rate in (1e9, 1e30))
    assert max(products, bytes_alone) < both < products + bytes_alone


@pytest.mark.parametrize(
    ("size", "clips_per_s"), [("S", 13_895), ("B", 4_817), ("L", 2_229), ("H", 1_288), ("G", 535), ("e", 280)]
)
def test_the_limit_is_near_one_that_was_computed_apart_from_our_code(size, clips_per_s):
    """On one H200: 790 TFLOP/s and 4.3 TB/s as measured, blocks whose operations are joined."""
    seconds = limit_s(SimpleMAEConfig(SIZES[size]()), 64, Limits(790e12, 4.3e12))
    assert 64 / seconds == pytest.approx(clips_per_s, rel=0.07)


def test_ours_can_be_measured_alone(tmp_path):
    out = tmp_path / "rows.parquet"
    (row,) = bench_pretraining(replace(SMALL, comparisons=("default",), rival=False, out=out))
    assert (row.ratio, row.rival_seconds) == (None, None)
    assert row.seconds > 0
    assert "| - | - |" in out.with_suffix(".md").read_text()


COMPILED = """
from dataclasses import replace
from functools import partialmethod
import torch
from tests.test_bench_pretraining import SMALL, bench_pretraining

torch.nn.Module.compile = partialmethod(torch.nn.Module.compile, backend="eager")
bench_pretraining(replace(SMALL, comparisons=("default",), rival=False, compile="yes"))
print(torch._dynamo.utils.counters["stats"]["unique_graphs"])
"""


def test_blocks_are_compiled_where_that_is_asked_for():
    """Counting a first step must not keep them from it."""
    command = [sys.executable, "-c", COMPILED]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    assert int(result.stdout.split()[-1]) >= 3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sizes": ("XXL",)}, r"sizes are \('XXL',\)"),
        ({"rounds": 1}, "rounds is 1: expected 2 or more"),
        ({"batch": 0}, "batch is 0: expected 1 or more"),
        ({"mask_ratio": 0.95}, "leaves none of 8 tokens visible"),
        ({"out": Path("rows.csv")}, "expected '.parquet'"),
    ],
)
def test_what_cannot_be_measured_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        bench_pretraining(replace(SMALL, **changes))


def test_json_is_one_document_and_nothing_else():
    words = "--sizes S --resolution 32 --frames 4 --batch 2 --mask-ratio 0.5 --rival-mask-ratio 0.5 --rounds 2"
    command = [
        sys.executable,
        "-m",
        "fourd",
        "bench",
        "pretraining",
        *words.split(),
        "--comparisons",
        "default",
        "--json",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    (row,) = json.loads(result.stdout)["rows"]
    assert row["ratio"] > 0
    assert "--json" in row["command"]
