"""What a training promises when a scheduler, a disk, a rank or a person gets in its way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEED_A_DISK = ("full_disk", "read_only")


def may_mount(folder: Path) -> bool:
    """Tell whether a small disk of its own can be had."""
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        return False
    subprocess.run(["umount", str(folder)], check=True)
    return True


@pytest.mark.parametrize("name", ["signals", "second_signal", "stopped_rank", "lost_rank", *NEED_A_DISK])
def test_trouble_ends_as_promised(tmp_path, name):
    if name in NEED_A_DISK and not may_mount(tmp_path):
        pytest.skip("a small disk of its own needs the right to mount one")
    command = [sys.executable, "-m", "tests.faults.trouble", name, str(tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
