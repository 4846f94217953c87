"""Being asked to stop: by a scheduler that wants the machine back, or by what goes wrong."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch

from fourd.trainer.course import Course

log = logging.getLogger(__name__)

REQUEUE = 75
"""Exit code that asks for the same command again (EX_TEMPFAIL of sysexits.h)."""
_ASKING = (signal.SIGTERM, signal.SIGUSR1)
_LOST = ("Connection closed by peer", "Connection reset by peer", "Socket Timeout", "NCCL", "gloo", "Broken pipe")


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
    """Note that a scheduler asked for the end; a second signal ends the process at once."""

    def __init__(self) -> None:
        self.asked = False

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.asked:
            os._exit(REQUEUE)
        self.asked = True
        log.warning("%s: finish the step, save, and end with exit code %d", signal.Signals(number).name, REQUEUE)


@contextmanager
def listening() -> Iterator[Interruption]:
    """Listen to SIGTERM and SIGUSR1; only the main thread of a process can."""
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = {number: signal.signal(number, interruption._note) for number in _ASKING}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def explained(step: int) -> Iterator[None]:
    """Say in words what ends a run for want of memory or of another rank.

    Raises MemoryError and ConnectionError in the place of torch's own errors.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in text:
            raise MemoryError(
                f"step {step + 1} does not fit into memory: {text.splitlines()[0]}. Work a batch off in more parts "
                "(--parallel.parts 2), compute more again (--parallel.recompute full), spread the model over more "
                "ranks, or make the batch smaller; `fourd plan` says what fits. The same command goes on from the "
                "last checkpoint"
            ) from error
        if any(sign in text for sign in _LOST):
            raise ConnectionError(
                f"step {step + 1}: another rank is gone, or does not answer: {text.splitlines()[0]}. Look for the "
                "first rank that failed; the same command goes on from the last checkpoint"
            ) from error
        raise
