"""How far the work is: a live line on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

_SECONDS_BETWEEN_LINES = 15.0


class StageProgress:
    """Show how much of a stage is done, and the time left. What earlier runs did does not count for the speed."""

    def __init__(self, stage: str, total: float, unit: str) -> None:
        """Begin a stage of `total` units, such as hours of film."""
        self._stage, self._total, self._unit = stage, max(total, 1e-9), unit
        self._done = self._done_before = 0.0
        self._started = self._last_line = time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(file=sys.stderr), disable=not sys.stderr.isatty())
        self._task = self._bar.add_task(stage, total=self._total)

    def __enter__(self) -> StageProgress:
        self._bar.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._bar.stop()

    def skip(self, amount: float) -> None:
        """Say that an earlier run did a part."""
        self._done_before += amount
        self._show(amount)

    def done(self, amount: float) -> None:
        """Say that a part is done."""
        self._show(amount)

    def _show(self, amount: float) -> None:
        self._done += amount
        text = f"{self._stage}: {min(self._done, self._total):.4g} of {self._total:.4g} {self._unit}"
        self._bar.update(self._task, completed=self._done, description=text)
        now = time.monotonic()
        if self._bar.disable and (now - self._last_line > _SECONDS_BETWEEN_LINES or self._done >= self._total):
            self._last_line = now
            new = self._done - self._done_before
            left = f", {(now - self._started) / new * max(self._total - self._done, 0):.0f} s left" if new > 0 else ""
            print(f"{text}{left}", file=sys.stderr, flush=True)
