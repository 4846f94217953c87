"""What the last few steps said, held on the device, so that the host waits for it only now and then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fourd.loader import Loaded, Quarantined
from fourd.optim import learning_rate
from fourd.parallel import Ranks
from fourd.telemetry import StepClock, Telemetry
from fourd.trainer.config import RunConfig
from fourd.trainer.course import Course
from fourd.trainer.stopping import RollBack

_LEAST_CLIPS_JUDGED = 1000


@dataclass(frozen=True)
class StepSaid:
    """Hold what one step said: numbers of all ranks on the device, and what this rank read for it.

    `skipped` is 1 where the step was not applied; `in_a_row` counts such steps since one was.
    """

    step: int
    loaded: Sequence[Loaded]
    loss: Tensor
    norm: Tensor
    skipped: Tensor
    in_a_row: Tensor
    scalars: Mapping[str, Tensor]

    def numbers(self) -> Tensor:
        """Stack everything, for one trip to the host."""
        numbers = (self.loss, self.norm, self.skipped, self.in_a_row, *self.scalars.values())
        return torch.stack([number.detach().float() for number in numbers])

    def read(self) -> tuple[tuple[str, ...], tuple[Quarantined, ...]]:
        """Name the clips, and those that could not be decoded."""
        keys = (key for loaded in self.loaded for key in loaded.batch.key)
        return tuple(keys), tuple(lost for loaded in self.loaded for lost in loaded.replaced)


class Window:
    """Collect steps, and write a line for each of them when the window closes. All ranks do, one writes."""

    def __init__(
        self, telemetry: Telemetry, clock: StepClock, config: RunConfig, out: Path, ranks: Ranks, course: Course
    ) -> None:
        self.telemetry, self.clock, self.config, self.out = telemetry, clock, config, out
        self.ranks, self.course = ranks, course
        self.in_a_row = 0
        """Steps skipped since one was applied, as of the last line written."""
        self.extra: dict[str, float] = {}
        """Numbers for the last line of the window."""
        self._said: list[StepSaid] = []

    def add(self, said: StepSaid) -> None:
        """Take in one step."""
        self._said.append(said)

    def write(self, to_disk: bool = False) -> None:
        """Write one line for each step of the window, forced to the disk if asked, and begin the next one.

        Raises RollBack where too many steps in a row were skipped, FloatingPointError where the run went back not long
        before, ValueError where too many clips could not be decoded.
        """
        numbers = torch.stack([said.numbers() for said in self._said]).tolist()
        read = self.ranks.gather([said.read() for said in self._said])
        speed = self.clock.read(len(self._said))
        for place, (said, row) in enumerate(zip(self._said, numbers, strict=True)):
            keys = tuple(key for rank in read for key in rank[place][0])
            lost = [lost for rank in read for lost in rank[place][1]]
            self._write_step(said, row, speed, place + 1 == len(numbers), keys)
            self._quarantine(said.step, lost)
            self.in_a_row = round(row[3])
            if self.in_a_row >= self.config.max_skipped:
                self.telemetry.flush()
                self._go_back(said.step, keys)
        self.telemetry.flush(to_disk)
        self.telemetry.progress.update(
            self._said[-1].step, f"loss {numbers[-1][0]:.4f}  {speed['clips_per_s']:.3g} clips/s"
        )
        self._said, self.extra = [], {}

    def _write_step(
        self, said: StepSaid, row: list[float], speed: Mapping[str, float], is_last: bool, keys: tuple[str, ...]
    ) -> None:
        (loss, norm, skipped, _, *scalars), step, config = row, said.step, self.config
        record: dict[str, Any] = {"step": step, "loss": loss, "grad_norm": norm, **speed}
        record |= {"samples": step * config.batch_size, "unique_clips": step * config.clips_per_step}
        record |= zip(said.scalars, scalars, strict=True)
        record["learning_rate"] = learning_rate(config.optim, step - 1, config.steps)
        if skipped:
            record["skipped"] = 1
        if is_last:
            record |= self.extra
        self.telemetry.record(record)
        self.telemetry.ledger.write({"step": step, "keys": keys})

    def _quarantine(self, step: int, lost: Sequence[Quarantined]) -> None:
        """Record the clips that could not be decoded, and stop where they are too many."""
        for one in lost:
            self.telemetry.quarantine.write({"step": step, **vars(one)})
        if not lost:
            return
        # the first rank has the whole list, also that of before a restart; all stop together
        number = self.ranks.from_first(self.telemetry.quarantine.num_records)
        most = self.config.max_quarantined * max(step * self.config.clips_per_step, _LEAST_CLIPS_JUDGED)
        if number > most:
            self.telemetry.flush()
            named = "; ".join(f"{one.path}: {one.reason}" for one in lost[:3])
            raise ValueError(
                f"{number} clips could not be decoded by step {step}, more than "
                f"max_quarantined allows ({self.config.max_quarantined:g}); the last: {named}. All are listed in "
                f"{self.out}/quarantine.jsonl: look at them, take them out of the corpus with `fourd data check INDEX "
                "--apply`, or allow more"
            )

    def _go_back(self, step: int, keys: tuple[str, ...]) -> None:
        """Leave out the batches of the steps that were skipped, or stop."""
        first_bad, last_bad = step - self.in_a_row, step - 1  # counted from 0
        before = self.course.rollbacks
        if before and last_bad - before[-1] <= self.config.rollback_distance:
            raise FloatingPointError(
                f"{self.in_a_row} steps in a row had a loss or a gradient that is not finite, or far larger than those "
                f"before, the last of them step {step} on {keys[:3]}; no such step was applied. The run had gone back "
                f"for the same reason at step {before[-1] + 1}, and left those batches out. Lower "
                "optim.learning_rate, or look at these clips; max_norm_sigmas says what is far larger"
            )
        raise RollBack(first_bad, self.course.went_back(first_bad, last_bad))
