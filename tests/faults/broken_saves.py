"""Die at each thing that saving a checkpoint does to the disk; run by test_broken_saves.py in a process of its own.

`python -m tests.faults.broken_saves FOLDER` saves twice, then kills a fork of itself at every opening, flush, rename,
change of mode and removal within the third save, and with files cut off at growing sizes; each time a good checkpoint
has to be left, and to be gone on from.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from fourd import checkpoint
from fourd.parallel import Ranks
from tests.test_checkpoint import ALONE, Trained, assert_same, save

_WATCHED = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "shutil.rmtree")
_SIZES = (0, 1, 100, 500, 1000, 2000, 4000, 8000)
"""Bytes after which a file can grow no more: cuts in each of the three files."""


class Deadly:
    """Count what is done to the disk below a folder, and die at a chosen count."""

    def __init__(self, folder: Path, dies_at: int) -> None:
        self.folder, self.dies_at, self.done = str(folder), dies_at, []
        real = os.fsync

        def fsync(descriptor: int) -> None:
            self.note("before os.fsync")
            real(descriptor)
            self.note("after os.fsync")

        os.fsync = fsync
        sys.addaudithook(self.audit)

    def audit(self, event: str, arguments: tuple[object, ...]) -> None:
        if event in _WATCHED and str(arguments[0]).startswith(self.folder):
            reading = event == "open" and str(arguments[1]).startswith("r")
            if not reading:
                self.note(event)

    def note(self, what: str) -> None:
        self.done.append(what)
        if len(self.done) == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)


def in_a_fork(work: Callable[[], object]) -> int:
    """Do something in a fork; give its exit code, negative for a signal."""
    pid = os.fork()
    if not pid:
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def trained(steps: int) -> Trained:
    """Train a small network for so many steps."""
    small = Trained()
    for _ in range(steps):
        small.step()
    return small


def third_save(folder: Path, dies_at: int, report: Path | None = None) -> None:
    """Save for the third time, and die on the way."""
    deadly = Deadly(folder, dies_at)
    save(folder, 3, trained(3))
    if report is not None:
        report.write_text("\n".join(deadly.done))


def cut_off_save(folder: Path, size: int) -> None:
    """Save for the third time with files that can grow to a size, and die there."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    save(folder, 3, trained(3))


def require_good(folder: Path, why: str) -> int:
    """Go on from what is left, and save again; give the step that was found."""
    found = checkpoint.newest(folder, Ranks(0, 1, 1, torch.device("cpu")))
    assert found is not None, why
    again = Trained(seed=1)
    checkpoint.restore(found.path, again.module, again.optimizer, ALONE)
    assert_same(again.state(), trained(found.step).state())
    save(folder, 4, trained(4))
    assert sorted(path.name for path in folder.iterdir())[-1] == "step_00000004", why
    assert not list(folder.glob(".step_00000004*")), why
    return found.step


def prepared(folder: Path) -> Path:
    """Make a folder with the first two checkpoints."""
    shutil.rmtree(folder, ignore_errors=True)
    for step in (1, 2):
        save(folder, step, trained(step))
    return folder


def main() -> None:
    """Do as the module says."""
    torch.set_num_threads(1)
    root = Path(sys.argv[1])
    report = root / "events.txt"
    assert in_a_fork(lambda: third_save(prepared(root / "dry"), 0, report)) == 0
    events = report.read_text().splitlines()
    found = []
    for number, event in enumerate(events, start=1):
        folder = prepared(root / "killed")
        assert in_a_fork(lambda: third_save(folder, number)) == -signal.SIGKILL  # noqa: B023 - called at once
        found.append(require_good(folder, f"killed at event {number}, {event}"))
    assert set(found) == {2, 3}, found
    assert found == sorted(found), "a checkpoint appeared and went away again"
    cut = []
    for size in _SIZES:
        folder = prepared(root / "cut")
        if in_a_fork(lambda: cut_off_save(folder, size)):  # noqa: B023 - called at once
            cut.append(size)
        require_good(folder, f"files cut off at {size} bytes")
    assert len(cut) >= 4, cut
    print(f"{len(events)} deaths, {len(cut)} files cut off")


if __name__ == "__main__":
    main()
