"""Being asked to stop: by a scheduler that wants the machine back, or by what goes wrong."""

from __future__ import annotations

import errno
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import torch

from fourd.trainer.course import Course

log = logging.getLogger(__name__)

REQUEUE = 75
"""Exit code that asks for the same command again (EX_TEMPFAIL of sysexits.h)."""
REQUEUE_FILE = "requeue"
"""Left in the folder of a run that asks for the same command again: exit codes get lost in launchers."""
_ASKING = (signal.SIGTERM, signal.SIGUSR1)
LOOK_EVERY_S = 2.0
"""Time between two looks for the file that asks for the end: a shared disk is not asked at each step."""
_SAME_S = 3.0
"""Signals so soon after the first are the same request: a scheduler signals a process and its launcher, which passes
it on."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_LOST = (
    *("Connection closed by peer", "Connection reset by peer", "Socket Timeout", "Timed out waiting", "Broken pipe"),
    *("remote process exited", "communicator was aborted", "collective operation timeout"),
)


class Requeue(SystemExit):
    """End the process with the exit code that asks for the same command again."""

    def __init__(self) -> None:
        super().__init__(REQUEUE)


class RollBack(Exception):  # noqa: N818 - no error but a way to go on
    """Say that the run goes back to a checkpoint of at most `step` steps, on another course."""

    def __init__(self, step: int, course: Course) -> None:
        super().__init__(step, course)
        self.step, self.course = step, course


class Interruption:
    """Note that somebody asked for the end: by a signal, or by a file named `stop` in the folder of the run.

    The file reaches a run on other machines, and through launchers that keep signals to themselves. A signal
    some seconds after the first ends the process at once.
    """

    def __init__(self, out: Path, looks: bool = True) -> None:
        """Begin; `looks` for the file, which one rank has to do."""
        self._looks = looks
        self._stop, self._requeue = out / "stop", out / REQUEUE_FILE
        self._by = ""
        self._looked = self._signalled = 0.0

    @property
    def asked(self) -> bool:
        """Tell whether the run shall end; looks for the file now and then."""
        if self._looks and not self._by and time.monotonic() - self._looked > LOOK_EVERY_S:
            self._looked = time.monotonic()
            if self._stop.exists():
                self._note(f"the file {self._stop}")
        return bool(self._by)

    def begin(self) -> None:
        """Take back what an earlier process asked for; a request to stop, which may be meant for this one, stays."""
        self._requeue.unlink(missing_ok=True)

    def over(self) -> None:
        """Forget a request that came too late."""
        self._stop.unlink(missing_ok=True)

    def obeyed(self) -> None:
        """Leave a file that says that the same command is to be given again."""
        self._requeue.write_text(f"{self._by or 'another rank was asked'}\n")
        self._stop.unlink(missing_ok=True)

    def signalled(self, number: int, _frame: FrameType | None) -> None:
        """Take in a signal."""
        if not self._by:
            self._signalled = time.monotonic()
            self._note(signal.Signals(number).name)
        elif time.monotonic() - self._signalled > _SAME_S:
            os._exit(REQUEUE)

    def _note(self, by: str) -> None:
        self._by = by
        log.warning("%s: finish the step, save, and end with exit code %d", by, REQUEUE)


@contextmanager
def listening(out: Path, looks: bool) -> Iterator[Interruption]:
    """Listen to SIGTERM and SIGUSR1, and to a file in the folder of the run; signals reach only a main thread."""
    interruption = Interruption(out, looks)
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = {number: signal.signal(number, interruption.signalled) for number in _ASKING}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def explained(where: str) -> Iterator[None]:
    """Say in words what ends a run for want of memory, room or another rank, and where: "step 12", say.

    Raises MemoryError and ConnectionError in the place of torch's own errors.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise OSError(
            f"{where}: what a run writes along the way could not be written: {error}. Make room, or let the "
            "folder be written to; the same command goes on from the last checkpoint"
        ) from error
    except RuntimeError as error:
        text = str(error)
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in text:
            raise MemoryError(
                f"{where}: it does not fit into memory: {text.splitlines()[0]}. Work a batch off in more parts "
                "(--parallel.parts 2), compute more again (--parallel.recompute full), spread the model over more "
                "ranks, or make the batch smaller; `fourd plan` says what fits. The same command goes on from the "
                "last checkpoint"
            ) from error
        if isinstance(error, torch.distributed.DistNetworkError) or any(sign in text for sign in _LOST):
            raise ConnectionError(
                f"{where}: another rank is gone, or does not answer: {text.splitlines()[0]}. Look for the "
                "first rank that failed; the same command goes on from the last checkpoint"
            ) from error
        raise
