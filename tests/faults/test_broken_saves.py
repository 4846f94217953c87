"""Whatever happens while a checkpoint is written, a good one is left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_good_checkpoint_is_left_wherever_saving_dies(tmp_path):
    command = [sys.executable, "-m", "tests.faults.broken_saves", str(tmp_path)]
    result = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=240
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    assert int(result.stdout.split()[0]) >= 20, result.stdout
