"""The one loop: pretraining, probing, finetuning and distillation all go through `fit`."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from fourd import checkpoint, loader, provenance, run_folder, weights
from fourd.loader import Batches, GlobalShuffle, Loaded, Shuffle
from fourd.optim import OptimConfig, build_optimizer, learning_rate, set_learning_rate
from fourd.parallel import Precision, autocast, find_device, materialise, reproducible, require_finite, to_device
from fourd.telemetry import Telemetry
from fourd.types import Dataset, DatasetConfig, Objective, ObjectiveConfig, Step, Unreadable
from fourd.weights.starting import fill_backbone, identity, require_weights

log = logging.getLogger(__name__)

_NUM_SHOWN = 4
_LEAST_CLIPS_JUDGED = 1000
_FREE_TO_CHANGE = (
    *("device", "num_workers", "worker_timeout_s", "max_quarantined", "log_every", "save_every", "init"),
    *(
        f"{data}*.{name}"
        for data in ("data", "held_out")
        for name in ("folder", "weights", "cache", "root", "index", "index_path", "device")
    ),
)
"""Fields that change nothing of the result; of files it is the content that must not change (`_inputs`)."""


@dataclass(frozen=True)
class RunConfig:
    """Describe a run in full. A recipe is a function that returns one of these."""

    objective: ObjectiveConfig
    data: DatasetConfig
    held_out: DatasetConfig | None = None
    """Clips that are never trained on; their loss is taken along the way."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    steps: int = 1000
    batch_size: int = 32
    repeat: int = 1
    """Masked views of each decoded clip; a batch of `batch_size` samples then holds `batch_size / repeat` clips. MAE-ST
    trains with 4; not from the 4DS paper."""
    shuffle: Shuffle = field(default_factory=GlobalShuffle)
    seed: int = 0
    init: str = ""
    """Weights of the backbone to start from, a run's file or anything else that `fourd.load` takes; empty starts from
    random ones."""
    precision: Precision = "bf16"
    """Of the arithmetic; the weights that are trained stay float32."""
    device: str = "auto"
    num_workers: int = 0
    """Processes that read ahead; 0 reads within the training process."""
    worker_timeout_s: float = 1800.0
    """Stop where a worker gives nothing for so long: it hangs. Not from the paper."""
    max_quarantined: float = 0.01
    """Stop where more than this share of the clips drawn (a thousand at least) could not be decoded. Not from the
    paper."""
    max_skipped: int = 3
    """Stop where so many steps in a row had a loss or gradient that is not finite; they are never applied. Not from the
    paper."""
    log_every: int = 10
    save_every: int = 500
    held_out_every: int = 250
    num_held_out: int = 64
    """Clips to take the held-out loss on."""

    def __post_init__(self) -> None:
        """Refuse counts that no run can have."""
        least = {"steps": 1, "batch_size": 1, "repeat": 1, "seed": 0, "num_workers": 0, "max_skipped": 1}
        least |= {"log_every": 1, "save_every": 1, "held_out_every": 1, "num_held_out": 1}
        for name, number in least.items():
            if getattr(self, name) < number:
                raise ValueError(f"RunConfig.{name} is {getattr(self, name)}: expected {number} or more")
        if self.batch_size % self.repeat:
            raise ValueError(
                f"RunConfig.batch_size is {self.batch_size} samples with {self.repeat} views of each clip: expected a "
                "multiple of repeat"
            )
        if not 0 <= self.max_quarantined <= 1:
            raise ValueError(f"RunConfig.max_quarantined is {self.max_quarantined}: expected a share, 0 to 1")
        if not self.worker_timeout_s >= 0:
            raise ValueError(f"RunConfig.worker_timeout_s is {self.worker_timeout_s}: expected 0 (no end) or more")

    @property
    def clips_per_step(self) -> int:
        """Count the clips that are decoded for a step."""
        return self.batch_size // self.repeat


def fit(config: RunConfig, out: Path, title: str = "train") -> Objective:
    """Train to the end of `config`, or from where an earlier call was stopped, and return the objective.

    `out` ends up with config.json, environment.json, metrics.jsonl, ledger.jsonl, unreadable.csv,
    quarantine.jsonl (clips that could not be decoded, and what was shown instead), checkpoints/, tensorboard/,
    final/*.safetensors and the objective's pictures. Raises ValueError when `out` holds a run of another config or too
    many clips cannot be decoded, OSError when clips cannot be read for no fault of theirs, FloatingPointError when the
    loss stays not finite.
    """
    device = find_device(config.device)
    if config.init:
        require_weights(config.init)
    dataset = config.data.build()
    held_out = _build_held_out(config)
    objective = materialise(config.objective, device, config.seed)
    if config.init:
        fill_backbone(objective.get_submodule("backbone"), config.init)
    run_folder.claim(out, config, _FREE_TO_CHANGE, _inputs(config, dataset, held_out))
    run_folder.list_unreadable(out, (*dataset.unreadable, *dataset.damaged))
    optimizer = build_optimizer(objective, config.optim)
    found = checkpoint.newest(out / "checkpoints")
    first_step = 0
    if found is not None:
        checkpoint.restore(found[0], objective, optimizer)
        first_step = found[1]
        log.info("resume %s after step %d", out, first_step)

    steps = range(first_step, config.steps)
    batches = _batches(dataset, config, steps)
    with Telemetry(out, title, config.steps, first_step) as telemetry, reproducible(device), batches.explaining():
        window = _Window(telemetry, config, out)
        for step, loaded in zip(steps, window.waiting_for(batches), strict=True):
            torch.manual_seed(hash((config.seed, step)))
            set_learning_rate(optimizer, learning_rate(config.optim, step, config.steps))
            batch = loader.masked_views(to_device(loaded.batch, device), config.repeat)
            optimizer.zero_grad(set_to_none=True)
            objective.train()
            with autocast(device, config.precision):
                result = objective(batch)
            result.loss.backward()
            norm = clip_gradients(objective, config.optim.clip_norm)
            # the fused optimiser looks at this flag on the device: no update, and no wait for the host
            optimizer.found_inf = (~(torch.isfinite(norm) & torch.isfinite(result.loss))).float()  # type: ignore[attr-defined]
            optimizer.step()

            done = step + 1
            window.add(done, loaded, result, norm, optimizer.found_inf)  # type: ignore[attr-defined]
            is_last = done == config.steps
            if held_out is not None and (is_last or done % config.held_out_every == 0):
                window.held_out_loss = held_out_loss(objective, held_out, config, out, device)
            due = is_last or done % config.log_every == 0 or done % config.save_every == 0
            if due or window.held_out_loss is not None:
                window.write()
            if is_last or done % config.save_every == 0:
                checkpoint.save(out / "checkpoints", done, objective, optimizer)
    finish(objective, config, out, _worth_showing(held_out, dataset), device)
    return objective


def _batches(dataset: Dataset, config: RunConfig, steps: range) -> Batches:
    """Read the clips of each step."""
    return loader.batches(
        dataset,
        config.clips_per_step,
        config.seed,
        steps,
        config.num_workers,
        shuffle=config.shuffle,
        timeout_s=config.worker_timeout_s,
    )


def _inputs(config: RunConfig, dataset: Dataset, held_out: Dataset | None) -> dict[str, str]:
    """Fingerprint what the config only names: the clips, the weights to start from."""
    return {
        "data": dataset.fingerprint,
        "held_out": held_out.fingerprint if held_out is not None else "",
        "init": identity(config.init) if config.init else "",
    }


def _build_held_out(config: RunConfig) -> Dataset | None:
    dataset = config.held_out.build() if config.held_out else None
    if dataset is not None and not len(dataset):
        log.info("no clips are held out (there are too few): metrics will have no held_out_loss")
        return None
    return dataset


class _Window:
    """Hold what the last few steps said on the device, so that the host waits for it only now and then."""

    def __init__(self, telemetry: Telemetry, config: RunConfig, out: Path) -> None:
        self.telemetry, self.config, self.out = telemetry, config, out
        self.held_out_loss: float | None = None
        self._rows: list[tuple[int, Loaded, Tensor]] = []
        self._names: list[str] = []
        self._since = time.perf_counter()
        self._waited_s = 0.0
        self._skipped_in_a_row = 0

    def waiting_for(self, batches: Iterator[Loaded]) -> Iterator[Loaded]:
        """Give batches, and note how long they were waited for.

        A GPU works on meanwhile: the share of time that it stands still is at most this.
        """
        while True:
            before = time.perf_counter()
            loaded = next(batches, None)
            self._waited_s += time.perf_counter() - before
            if loaded is None:
                return
            yield loaded

    def add(self, step: int, loaded: Loaded, result: Step, norm: Tensor, skipped: Tensor) -> None:
        """Take in one step."""
        self._names = list(result.scalars)
        numbers = [result.loss, norm, skipped, *result.scalars.values()]
        self._rows.append((step, loaded, torch.stack([number.detach().float() for number in numbers])))

    def write(self) -> None:
        """Write one line for each step of the window, and begin the next one."""
        numbers = torch.stack([row[2] for row in self._rows]).tolist()
        now = time.perf_counter()
        seconds = now - self._since
        clips_per_s = len(self._rows) * self.config.batch_size / seconds
        speed = {"clips_per_s": clips_per_s, "unique_clips_per_s": clips_per_s / self.config.repeat}
        speed["data_wait"] = self._waited_s / seconds
        for (step, loaded, _), (loss, norm, skipped, *scalars) in zip(self._rows, numbers, strict=True):
            record: dict[str, Any] = {"step": step, "loss": loss, "grad_norm": norm, **speed}
            record |= {"samples": step * self.config.batch_size, "unique_clips": step * self.config.clips_per_step}
            record |= zip(self._names, scalars, strict=True)
            record["learning_rate"] = learning_rate(self.config.optim, step - 1, self.config.steps)
            if skipped:
                record["skipped"] = 1
            if step == self._rows[-1][0] and self.held_out_loss is not None:
                record["held_out_loss"] = self.held_out_loss
            self.telemetry.record(record)
            self.telemetry.ledger.write({"step": step, "keys": loaded.batch.key})
            self._count_skipped(step, bool(skipped), loaded)
            self._quarantine(step, loaded)
        self.telemetry.flush()
        self.telemetry.progress.update(self._rows[-1][0], f"loss {numbers[-1][0]:.4f}  {clips_per_s:.0f} clips/s")
        self._rows, self._since, self._waited_s, self.held_out_loss = [], now, 0.0, None

    def _quarantine(self, step: int, loaded: Loaded) -> None:
        """Record the clips that could not be decoded, and stop where they are too many."""
        for lost in loaded.replaced:
            self.telemetry.quarantine.write({"step": step, **vars(lost)})
        most = self.config.max_quarantined * max(step * self.config.clips_per_step, _LEAST_CLIPS_JUDGED)
        if loaded.replaced and self.telemetry.quarantine.num_records > most:
            self.telemetry.flush()
            named = "; ".join(f"{lost.path}: {lost.reason}" for lost in loaded.replaced[:3])
            raise ValueError(
                f"{self.telemetry.quarantine.num_records} clips could not be decoded by step {step}, more than "
                f"max_quarantined allows ({self.config.max_quarantined:g}); the last: {named}. All are listed in "
                f"{self.out}/quarantine.jsonl: look at them, take them out of the corpus with `fourd data check INDEX "
                "--apply`, or allow more"
            )

    def _count_skipped(self, step: int, skipped: bool, loaded: Loaded) -> None:
        self._skipped_in_a_row = self._skipped_in_a_row + 1 if skipped else 0
        if self._skipped_in_a_row >= self.config.max_skipped:
            self.telemetry.flush()
            raise FloatingPointError(
                f"the loss or its gradient was not finite {self._skipped_in_a_row} times in a row, last at step {step} "
                f"on {loaded.batch.key[:3]}; no such step was applied. "
                "Lower optim.learning_rate, or look at these clips"
            )


def held_out_loss(objective: Objective, dataset: Dataset, config: RunConfig, out: Path, device: torch.device) -> float:
    """Take the mean loss over held-out clips, one view of each, the same with the same random numbers each time."""
    objective.eval()
    num_clips = min(config.num_held_out, len(dataset))
    total = 0.0
    for loaded in loader.once(dataset, config.batch_size, num_clips):
        with torch.no_grad(), autocast(device, config.precision):
            total += float(objective(to_device(loaded.batch, device)).loss) * len(loaded.batch.key)
        run_folder.list_unreadable(out, [Unreadable(lost.path, lost.reason) for lost in loaded.replaced])
    return total / num_clips


def _worth_showing(held_out: Dataset | None, dataset: Dataset) -> Dataset:
    """Take the held-out clips for pictures, unless they are too few to say anything."""
    return held_out if held_out is not None and len(held_out) >= _NUM_SHOWN else dataset


def finish(objective: Objective, config: RunConfig, out: Path, dataset: Dataset, device: torch.device) -> None:
    """Write the final weights and pictures; the pictures show clips of `dataset`."""
    require_finite(objective)
    objective.eval()
    shown = next(loader.batches(dataset, min(_NUM_SHOWN, len(dataset)), seed=0, steps=range(1)))
    with autocast(device, config.precision):
        pictures = objective.pictures(to_device(shown.batch, device))
    for name, picture in pictures.items():
        Image.fromarray(picture.cpu().numpy()).save(out / f"{name}.png")
    # last of all the weights: where they lie, the run is complete
    (out / "final").mkdir(exist_ok=True)
    for name, module in objective.export().items():
        described = json.dumps(provenance.describe(getattr(module, "config", config.objective)))
        weights.save_module(module, out / "final" / f"{name}.safetensors", described)


def clip_gradients(objective: Objective, clip_norm: float) -> Tensor:
    """Scale gradients down to `clip_norm` where it is above 0, and return the norm they had."""
    gradients = [parameter.grad for parameter in objective.parameters() if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if clip_norm:
        trained = [parameter for parameter in objective.parameters() if parameter.grad is not None]
        torch.nn.utils.clip_grads_with_norm_(trained, clip_norm, norm)
    return norm
