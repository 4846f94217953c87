"""How far an extraction is: a live line on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

_SECONDS_BETWEEN_LINES = 15.0


class ExtractProgress:
    """Show inputs done, frames per second and time left.

    Inputs count by their bytes, because that is known of each before it is opened.
    """

    def __init__(self, num_inputs: int, num_bytes: int, out: str) -> None:
        self.num_inputs, self.num_bytes, self.out = num_inputs, max(num_bytes, 1), out
        self._num_done = self._bytes_done = self._num_frames = 0
        self._started = self._last_line = time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(file=sys.stderr), disable=not sys.stderr.isatty())
        self._task = self._bar.add_task("", total=self.num_bytes)

    def __enter__(self) -> ExtractProgress:
        self._started = time.monotonic()
        self._bar.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._bar.stop()

    def frames(self, num_frames: int, share: float, source_bytes: int) -> None:
        """Say that frames were encoded, which make up `share` of an input that has `source_bytes`."""
        self._num_frames += num_frames
        self._show(share * source_bytes)

    def done(self, source_bytes: int) -> None:
        """Say that an input is done, one way or another."""
        self._num_done += 1
        self._bytes_done += source_bytes
        self._show(0.0)

    def _show(self, begun_bytes: float) -> None:
        seconds = max(time.monotonic() - self._started, 1e-9)
        share = min((self._bytes_done + begun_bytes) / self.num_bytes, 1.0)
        rate = f"{self._num_done}/{self.num_inputs} inputs, {self._num_frames / seconds:.0f} frames/s"
        self._bar.update(self._task, completed=share * self.num_bytes, description=f"{rate}, to {self.out}")
        due = time.monotonic() - self._last_line > _SECONDS_BETWEEN_LINES or self._num_done == self.num_inputs
        if self._bar.disable and due:
            self._last_line = time.monotonic()
            left = f"{seconds / share * (1 - share):.0f} s left" if share else "time left unknown"
            print(f"extract: {share:.0%}, {rate}, {left}, to {self.out}", file=sys.stderr, flush=True)
