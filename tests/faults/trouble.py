"""Make trouble for a training run, and see how it ends; run by test_trouble.py in a process of its own.

`python -m tests.faults.trouble NAME FOLDER` runs one of the functions below, and fails where what is promised does not
happen.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from fourd.telemetry import HUNG
from fourd.trainer import REQUEUE, RunConfig, fit
from fourd.trainer.stopping import LOOK_EVERY_S
from tests import forked_ranks
from tests.faults.kills import state
from tests.small_runs import long_run

HELD_STEP = 12


def start(out: Path, ranks: int = 1, held: bool = False, config: RunConfig | None = None) -> list[int]:
    """Start the run; `held`, it stands still in the middle until `let_go`, however slow who looks on may be."""

    def work() -> None:
        if held:
            _hold(_gate(out))
        fit(config or long_run(), out)

    return forked_ranks.start(ranks, work, log=f"{out}.log")


def _hold(gate: Path) -> None:
    from fourd.trainer import loop

    real, steps = loop.clip_gradients, itertools.count(1)

    def held(*arguments: object) -> object:
        if next(steps) == HELD_STEP:
            until(gate.exists)
        return real(*arguments)

    loop.clip_gradients = held


def let_go(out: Path) -> None:
    """Let a held run go on."""
    _gate(out).touch()


def _gate(out: Path) -> Path:
    return Path(f"{out}.go")


def finish(out: Path, ranks: int = 1) -> None:
    """Run to the end."""
    codes = forked_ranks.wait(start(out, ranks))
    assert not any(codes), said(out)


def said(out: Path) -> str:
    """Read what a run said."""
    log = Path(f"{out}.log")
    return log.read_text() if log.exists() else ""


def until(there: Callable[[], object], limit_s: float = 60.0) -> None:
    """Wait for something."""
    began = time.monotonic()
    while not there():
        assert time.monotonic() - began < limit_s, "waited in vain"
        time.sleep(0.01)


def saved(out: Path) -> list[str]:
    """List the checkpoints."""
    return sorted(path.name for path in (out / "checkpoints").glob("step_*"))


def require_same(out: Path, whole: Path) -> None:
    """Compare a run with one that had no trouble."""
    found, wanted = state(out), state(whole)
    assert found.keys() == wanted.keys()
    assert [name for name in found if found[name] != wanted[name]] == []


def signals(folder: Path) -> None:
    """SIGTERM, SIGUSR1 to any rank, and a file finish the step, save, and ask for requeueing."""
    for ranks in (1, 2):
        finish(folder / f"whole_{ranks}", ranks)
    for name, ranks, ask in (
        ("term", 1, lambda pids, out: os.kill(pids[0], signal.SIGTERM)),
        ("usr1_of_rank_1", 2, lambda pids, out: os.kill(pids[1], signal.SIGUSR1)),
        ("file", 1, lambda pids, out: _leave_stop(out)),
    ):
        out = folder / name
        pids = start(out, ranks, held=True)
        until(lambda: len(saved(out)) > 1)  # noqa: B023 - called at once
        ask(pids, out)
        let_go(out)
        assert forked_ranks.wait(pids) == [REQUEUE] * ranks, said(out)
        assert "saved after step" in said(out)
        assert (out / "requeue").exists()
        assert not (out / "final").exists()
        finish(out, ranks)
        assert not (out / "requeue").exists()
        require_same(out, folder / f"whole_{ranks}")


def _leave_stop(out: Path) -> None:
    (out / "stop").touch()
    time.sleep(LOOK_EVERY_S)  # the rest of the run takes less than the time between two looks


def second_signal(folder: Path) -> None:
    """A second signal some seconds later ends the process at once, whatever it is at; one at once is the same one."""
    out = folder / "impatient"
    clips = long_run().data
    stuck = replace(long_run(), data=replace(clips, hanging=tuple(range(len(clips.build())))), num_workers=0)
    pids = start(out, config=stuck)
    until(lambda: (out / "heartbeat/rank_00000.json").exists())
    time.sleep(1)
    os.kill(pids[0], signal.SIGTERM)
    time.sleep(0.5)
    os.kill(pids[0], signal.SIGTERM)
    time.sleep(3)
    assert os.waitpid(pids[0], os.WNOHANG) == (0, 0), "what is still the first request ended the process"
    began = time.monotonic()
    os.kill(pids[0], signal.SIGTERM)
    assert forked_ranks.wait(pids) == [REQUEUE], said(out)
    assert time.monotonic() - began < 5


def stopped_rank(folder: Path) -> None:
    """A rank that stands still ends the others with its name, and the run goes on."""
    finish(folder / "whole", 2)
    out = folder / "stopped"
    pids = start(out, 2, held=True, config=replace(long_run(), hang_timeout_s=12.0))
    until(lambda: saved(out))
    os.kill(pids[1], signal.SIGSTOP)
    let_go(out)
    began = time.monotonic()
    assert forked_ranks.wait(pids[:1])[0] in (HUNG, forked_ranks.FAILED), said(out)
    assert time.monotonic() - began < 40
    os.kill(pids[1], signal.SIGKILL)
    forked_ranks.wait(pids[1:])
    assert "rank 0 hangs" in said(out), said(out)
    assert "rank 1" in said(out)
    assert "Thread" in (out / "heartbeat/rank_00000_stacks.txt").read_text()
    finish(out, 2)
    require_same(out, folder / "whole")


def lost_rank(folder: Path) -> None:
    """A rank that is gone ends the others in words."""
    out = folder / "lost"
    pids = start(out, 2, held=True)
    until(lambda: saved(out))
    os.kill(pids[1], signal.SIGKILL)
    let_go(out)
    began = time.monotonic()
    assert forked_ranks.wait(pids) == [forked_ranks.FAILED, -signal.SIGKILL]
    assert time.monotonic() - began < 30
    assert "another rank is gone" in said(out), said(out)
    assert saved(out)


def full_disk(folder: Path) -> None:
    """A disk that fills up ends the run with the reason and a good checkpoint."""
    _without_a_disk(folder, "size=8m", _fill, lambda disk: (disk / "filler").unlink(), "No space left")


def read_only(folder: Path) -> None:
    """A disk that can no longer be written to does, too."""

    def spoil(disk: Path) -> None:
        # files that are open for writing forbid it while they are: the checkpoints have a disk of their own
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True, capture_output=True)

    def mend(disk: Path) -> None:
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)

    _without_a_disk(folder, "size=8m", spoil, mend, "Read-only file system", "disk/checkpoints")


def _fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


def _without_a_disk(
    folder: Path,
    size: str,
    spoil: Callable[[Path], None],
    mend: Callable[[Path], None],
    reason: str,
    place: str = "",
) -> None:
    finish(folder / "whole")
    out = folder / "disk"
    disk = folder / (place or "disk")
    disk.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(disk)], check=True)
    try:
        disk.chmod(0o700)
        pids = start(out, held=True)
        until(lambda: len(saved(out)) > 1)
        while True:  # a checkpoint that is just written keeps a disk from being read-only
            try:
                spoil(disk)
                break
            except subprocess.CalledProcessError:
                time.sleep(0.002)
        let_go(out)
        assert forked_ranks.wait(pids) == [forked_ranks.FAILED], said(out)
        assert reason in said(out), said(out)
        assert "the same command" in said(out)
        mend(disk)
        assert saved(out)
        finish(out)
        require_same(out, folder / "whole")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    globals()[sys.argv[1]](Path(sys.argv[2]))
