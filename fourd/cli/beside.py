"""Further processes of the same command, which share its work: one for each GPU, or as many as are asked for."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

log = logging.getLogger(__name__)


def devices_of(processes: int, device: str) -> list[str]:
    """Say on what each process works: one GPU after the other, or what `--device` says.

    processes: how many; 0 for one on each GPU, without a GPU one. Raises ValueError for fewer than none.
    """
    if processes < 0:
        raise ValueError(f"--processes is {processes}: expected 1 or more, or 0 for one on each GPU")
    gpus = torch.cuda.device_count() if device == "auto" else 0
    number = processes or max(gpus, 1)
    return [f"cuda:{place % gpus}" if gpus > 1 else device for place in range(number)]


@contextmanager
def beside(command: Sequence[str], out: Path, devices: Sequence[str]) -> Iterator[None]:
    """Start a process of a `fourd` command on each device; what they say is in `process_N.log`, from 2 on.

    They show nothing at the end. They are asked to end, and save, where this one does not come to its end.
    """
    if not devices:
        yield
        return
    threads = max((os.cpu_count() or 1) // (len(devices) + 1), 1)
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    started = [_start(command, out, number, device, threads) for number, device in enumerate(devices, 2)]
    try:
        yield
    except BaseException:
        for process in started:
            process.terminate()
        raise
    finally:
        for number, process in enumerate(started, 2):
            if process.wait():
                told = "process %d ended with exit code %d: see %s"
                log.warning(told, number, process.returncode, out / f"process_{number}.log")


def _start(command: Sequence[str], out: Path, number: int, device: str, threads: int) -> subprocess.Popen[bytes]:
    own = ["--device", device, "--processes", "1", "--no-page"]
    line = [sys.executable, "-m", "fourd", *command, *own]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with (out / f"process_{number}.log").open("ab") as log:
        return subprocess.Popen(line, stdout=log, stderr=log, env=environment)
