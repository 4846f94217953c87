"""The commands as people give them: under torchrun, on two ranks of this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def torchrun(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of fourd on two ranks."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*launcher, "-m", "fourd", *command], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=240
    )


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    out = tmp_path_factory.mktemp("pretrained")
    result = torchrun("pretrain", "tests.small_runs:pretraining", "--out", str(out))
    assert result.returncode == 0, result.stderr[-3000:]
    return out, result.stdout


def test_two_ranks_pretrain_and_one_of_them_speaks(pretrained):
    out, said = pretrained
    assert said.count("weights:") == 1
    assert (out / "final/model.safetensors").stat().st_size > 1e5
    steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4]
    assert len(list((out / "checkpoints/step_00000004").glob("*.distcp"))) == 2


def test_two_ranks_finetune_what_was_pretrained(pretrained, tmp_path):
    weights = str(pretrained[0] / "final/model.safetensors")
    result = torchrun("probe", "tests.small_runs:finetuning", "--out", str(tmp_path), "--init", weights)
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.count("rows:") == 1
    assert (tmp_path / "rows.parquet").exists()


def test_other_commands_say_that_they_run_alone(tmp_path):
    command = [sys.executable, "-m", "fourd", "demo", "--out", str(tmp_path)]
    result = subprocess.run(
        command, env=os.environ | {"WORLD_SIZE": "2"}, cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 1
    assert "one of 2 ranks, which only pretrain and probe share" in result.stderr
