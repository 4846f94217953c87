"""How far a run is, on the screen."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_SECONDS_BETWEEN_LINES = 15.0


def duration(seconds: float) -> str:
    """Write a time for people: 40 s, 12 min, 2 h 5 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


class StepProgress:
    """Show loss, speed and time left: a live line on a terminal, a plain line now and then elsewhere."""

    def __init__(self, title: str, total: int, done: int = 0) -> None:
        self.title, self.total, self.first = title, total, done
        self._started = self._last_line = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(file=sys.stderr),
            disable=not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task(title, total=total, completed=done, status="")

    def start(self) -> None:
        """Begin to show."""
        self._started = time.monotonic()
        self._bar.start()

    def stop(self) -> None:
        """Leave the last state on the screen."""
        self._bar.stop()

    def __enter__(self) -> StepProgress:
        self.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.stop()

    def update(self, done: int, status: str) -> None:
        """Show how much is done and what there is to say of it."""
        self._bar.update(self._task, completed=done, status=status)
        now = time.monotonic()
        due = now - self._last_line > _SECONDS_BETWEEN_LINES or done == self.total
        if self._bar.disable and due:
            self._last_line = now
            left = (now - self._started) / max(done - self.first, 1) * (self.total - done)
            print(f"{self.title}: {done}/{self.total}  {status}  {left:.0f} s left", file=sys.stderr, flush=True)
