"""What a run says of itself: metrics on disk, a progress line on the screen."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

_SECONDS_BETWEEN_LINES = 15.0


class JsonLines:
    """Append records to a file, one a line, after cutting off what a restart will do again."""

    def __init__(self, path: Path, last_step: int) -> None:
        kept = _records_up_to(path, last_step) if path.exists() else []
        aside = path.with_name(path.name + ".tmp")
        aside.write_text("".join(line + "\n" for line in kept))
        os.replace(aside, path)
        self.num_records = len(kept)
        self._file = path.open("a")

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record; numbers that are not finite are written as null."""
        self.num_records += 1
        self._file.write(json.dumps({name: _finite(value) for name, value in record.items()}) + "\n")

    def flush(self) -> None:
        """Hand everything to the system."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _records_up_to(path: Path, last_step: int) -> list[str]:
    """Read the lines of steps already done; a line torn by a kill lies beyond them and is dropped."""
    kept = []
    for line in path.read_text().splitlines():
        try:
            step = json.loads(line)["step"]
        except json.JSONDecodeError:
            break
        if step <= last_step:
            kept.append(line)
    return kept


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Telemetry:
    """Write a run's metrics, ledger and quarantine, and show how far it is."""

    def __init__(self, out: Path, title: str, num_steps: int, first_step: int) -> None:
        self.metrics = JsonLines(out / "metrics.jsonl", first_step)
        self.ledger = JsonLines(out / "ledger.jsonl", first_step)
        self.quarantine = JsonLines(out / "quarantine.jsonl", first_step)
        self.board = SummaryWriter(str(out / "tensorboard"), purge_step=first_step + 1)
        self.progress = StepProgress(title, num_steps, first_step)

    def record(self, record: Mapping[str, Any]) -> None:
        """Write the metrics of one step everywhere."""
        self.metrics.write(record)
        for name, value in record.items():
            if name != "step" and value is not None:
                self.board.add_scalar(name, value, record["step"])

    def flush(self) -> None:
        """Hand everything to the system, so that a kill loses nothing that a checkpoint relies on."""
        self.metrics.flush()
        self.ledger.flush()
        self.quarantine.flush()

    def __enter__(self) -> Telemetry:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()
        self.metrics.close()
        self.ledger.close()
        self.quarantine.close()
        self.board.close()


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
