"""Where the numbers of a run go: lines on disk, TensorBoard, Weights & Biases, a line on the screen."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from torch.utils.tensorboard import SummaryWriter

from fourd.telemetry.progress import StepProgress
from fourd.telemetry.records import JsonLines


class _Board(Protocol):
    """Show the metrics of a run to people."""

    def record(self, record: Mapping[str, Any]) -> None: ...

    def close(self, failed: bool) -> None: ...


class Telemetry:
    """Write a run's metrics, ledger and quarantine, and show how far it is."""

    metrics: JsonLines
    ledger: JsonLines
    quarantine: JsonLines
    progress: StepProgress
    boards: list[_Board]

    def __init__(
        self,
        out: Path,
        title: str,
        num_steps: int,
        first_step: int,
        wandb: str = "",
        config: Mapping[str, Any] | None = None,
    ) -> None:
        """Go on in the folder `out` after `first_step` of `num_steps`; what it says of later steps is cut off.

        wandb: project of Weights & Biases that gets the metrics as well; empty for none. config: what is shown there
        beside the curves. Raises ImportError where wandb is asked for and not installed.
        """
        self.boards = [_Wandb(out, wandb, config or {})] if wandb else []
        self.metrics = JsonLines(out / "metrics.jsonl", first_step)
        self.ledger = JsonLines(out / "ledger.jsonl", first_step)
        self.quarantine = JsonLines(out / "quarantine.jsonl", first_step, of_every_step=False)
        self.boards.append(_TensorBoard(out / "tensorboard", first_step))
        self.progress = StepProgress(title, num_steps, first_step)

    def record(self, record: Mapping[str, Any]) -> None:
        """Write the metrics of one step, which they name as `step`, everywhere."""
        self.metrics.write(record)
        known = {name: value for name, value in record.items() if value is not None}
        for board in self.boards:
            board.record(known)

    def flush(self, to_disk: bool = False) -> None:
        """Hand everything to the system, so that a kill loses nothing that a checkpoint relies on.

        to_disk: force it to the disk, so that a loss of power does not either.
        """
        for lines in (self.metrics, self.ledger, self.quarantine):
            lines.flush(to_disk)

    def __enter__(self) -> Telemetry:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close everything; an error of the run is not hidden by one of closing, as a full disk gives both."""
        with ExitStack() as closing:
            if error is not None:
                closing.enter_context(suppress(OSError))
            for board in self.boards:
                closing.callback(board.close, failed=error is not None)
            for lines in (self.metrics, self.ledger, self.quarantine):
                closing.callback(lines.close)
            closing.callback(self.progress.stop)


class Silent(Telemetry):
    """Take what `Telemetry` takes, and write nothing: for every rank but the first."""

    def __init__(self) -> None:
        self.metrics, self.ledger, self.quarantine = _NoLines(), _NoLines(), _NoLines()
        self.progress = _NoProgress()
        self.boards = []


class _NoLines(JsonLines):
    """Keep nothing."""

    num_records = 0  # type: ignore[assignment] # nothing is counted here

    def __init__(self) -> None:
        pass

    def write(self, record: Mapping[str, Any]) -> None:
        pass

    def flush(self, to_disk: bool = False) -> None:
        pass

    def close(self) -> None:
        pass


class _NoProgress(StepProgress):
    """Show nothing."""

    def __init__(self) -> None:
        pass

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def update(self, done: int, status: str) -> None:
        pass


class _TensorBoard:
    """Draw curves for TensorBoard, without those of steps that a restart does again."""

    def __init__(self, folder: Path, first_step: int) -> None:
        self._writer = SummaryWriter(str(folder), purge_step=first_step + 1)

    def record(self, record: Mapping[str, Any]) -> None:
        for name, value in record.items():
            if name != "step":
                self._writer.add_scalar(name, value, record["step"])

    def close(self, failed: bool) -> None:
        self._writer.close()


class _Wandb:
    """Report to a run of Weights & Biases, the same one after each restart."""

    def __init__(self, out: Path, project: str, config: Mapping[str, Any]) -> None:
        try:
            import wandb
        except ImportError as error:
            raise ImportError(
                f"metrics shall go to the project {project!r} of Weights & Biases as well, and its package is not "
                "installed: `pip install wandb`, or leave `wandb` empty"
            ) from error
        self._run = wandb.init(
            project=project, id=_wandb_id(out), resume="allow", dir=str(out), name=out.name, config=dict(config)
        )
        # its own count of steps never goes back, and would drop what a restart does again
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def record(self, record: Mapping[str, Any]) -> None:
        self._run.log(dict(record))

    def close(self, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


def _wandb_id(out: Path) -> str:
    """Read which run of Weights & Biases a folder reports to; the first time choose one, and keep it."""
    path = out / "wandb_id.txt"
    if path.exists():
        return path.read_text().strip()
    chosen = uuid.uuid4().hex[:16]
    aside = path.with_name(path.name + ".tmp")
    aside.write_text(chosen + "\n")
    os.replace(aside, path)
    return chosen
