"""The same global batches give the same losses on any number of ranks, whatever a run goes on from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.distributed.layouts import LAYOUTS, STEPS

ROOT = Path(__file__).parents[2]
CLOSE = {"rel": 1e-4, "abs": 1e-6}


@pytest.fixture(scope="module", params=["simple_mae", "frozen", "finetuned"])
def trained(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    names = LAYOUTS if request.param == "simple_mae" else ("one", "two", "from_two_to_one", "from_two_to_four")
    command = [sys.executable, "-m", "tests.distributed.layouts", str(folder), request.param, *names]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=240
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return folder


def lines(folder: Path, name: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_batches_losses_norms_and_weights_are_the_same(trained):
    ledger = (trained / "one/ledger.jsonl").read_bytes()
    expected = lines(trained / "one", "metrics.jsonl")
    assert [line["step"] for line in expected] == list(range(1, STEPS + 1))
    others = sorted(path for path in trained.iterdir() if path.name != "one")
    assert len(others) >= 3
    for folder in others:
        assert (folder / "ledger.jsonl").read_bytes() == ledger, folder.name
        for line, other in zip(expected, lines(folder, "metrics.jsonl"), strict=True):
            assert other["loss"] == pytest.approx(line["loss"], **CLOSE), (folder.name, line["step"])
            assert other["grad_norm"] == pytest.approx(line["grad_norm"], **CLOSE), (folder.name, line["step"])
            for name in line.keys() & {"held_out_loss", "feature_rank", "feature_std"}:
                assert other[name] == pytest.approx(line[name], rel=1e-3), (folder.name, line["step"], name)
        for file in (trained / "one/final").iterdir():
            whole, found = load_file(file), load_file(folder / "final" / file.name)
            assert whole.keys() == found.keys()
            # a key's bias changes no softmax: its gradient is nothing but rounding, of which AdamW takes the sign
            moved = [name for name in whole if not name.endswith("key.bias")]
            far = max(float((whole[name] - found[name]).abs().mean()) for name in moved)
            assert far < 1e-4, (folder.name, file.name, far)


def test_a_checkpoint_says_how_many_ranks_wrote_it(trained):
    found = json.loads((trained / f"two/checkpoints/step_{STEPS:08d}/manifest.json").read_text())["manifest"]
    assert (found["ranks"], found["step"]) == (2, STEPS)
    assert {name for name in found["sha256"] if name.endswith(".distcp")} == {"__0_0.distcp", "__1_0.distcp"}


def test_a_frozen_backbone_does_not_move_on_many_ranks(trained):
    if not trained.name.startswith("frozen"):
        pytest.skip("only a frozen backbone stays")
    start, end = (load_file(trained / name / "final/model.safetensors") for name in ("one", "from_two_to_four"))
    assert all((start[name] == end[name]).all() for name in start)
