"""Runs that are killed end as runs that are not. `make faults` does fifty; here a few, one for each victim."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
NUMBER = int(os.environ.get("FOURD_KILLS", "3"))


def test_killed_runs_end_as_one_that_nobody_killed(tmp_path):
    command = [sys.executable, "-m", "tests.faults.kills", str(tmp_path), str(NUMBER)]
    result = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    assert f"{NUMBER} runs" in result.stdout.splitlines()[-1]
