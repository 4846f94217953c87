"""`fit`: from a config to a trained objective, whatever happens on the way."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from fourd import checkpoint, loader, provenance
from fourd.flops import training_flop
from fourd.loader import Batches, Loaded
from fourd.optim import build_optimizer, learning_rate, set_learning_rate
from fourd.parallel import Ranks, autocast, build_blank, join, materialise, reproducible, sliced_filling, to_device
from fourd.telemetry import Silent, StepClock, Telemetry, Watchdog, layer_norms, matrix_rate, memory_gb
from fourd.trainer.config import RunConfig
from fourd.trainer.course import Course
from fourd.trainer.finish import finish, worth_showing
from fourd.trainer.guard import StepGuard
from fourd.trainer.held_out import look_at_held_out
from fourd.trainer.stopping import REQUEUE_FILE, Interruption, Requeue, RollBack, explained, listening
from fourd.trainer.taking import alone_in, require_layout, starting_weights, take
from fourd.trainer.window import StepSaid, Window
from fourd.types import Dataset, Objective
from fourd.weights.starting import fill_backbone, require_weights

log = logging.getLogger(__name__)

_FOREVER_S = 1e6
_LEAST_STEPS_MEASURED = 1000
_SET_UP = 4
"""Times that building, and reading a checkpoint of any size, may take as long as a step may."""


def fit(config: RunConfig, out: Path, title: str = "train") -> Objective:
    """Train to the end of `config`, or from where an earlier call was stopped, and return the objective.

    Under `torchrun` the processes train together, each on its share of every batch. `out` ends up with config.json,
    environment.json, metrics.jsonl, ledger.jsonl, unreadable.csv, quarantine.jsonl (clips that could not be decoded,
    and what was shown instead), checkpoints/, tensorboard/, final/*.safetensors and the objective's pictures.

    Raises ValueError when `out` holds a run of another config or too many clips cannot be decoded, OSError when clips
    cannot be read for no fault of theirs or a checkpoint cannot be written, FloatingPointError when the loss stays not
    finite, MemoryError and ConnectionError for what they say, and Requeue, which ends the process with exit code 75,
    when SIGTERM or SIGUSR1 asked for the end and the state is saved.
    """
    # longer than the watchdog waits, which knows more of a hang than a rank that waits for another one
    ranks = join(config.device, 2 * config.hang_timeout_s or _FOREVER_S)
    require_layout(config, ranks)
    sources = starting_weights(config, build_blank(config.objective))
    for source in sources.values():
        require_weights(source)
    dataset, held_out = config.data.build(), _build_held_out(config)
    with alone_in(out, ranks):
        ranks.first_does(lambda: take(out, config, dataset, held_out, sources))
        for clips in (dataset, held_out):
            if clips is not None:
                clips.prepare()  # not watched: making clips may take longer than any step
        with _watched(config, out, ranks) as (interruption, watchdog):
            objective = _train_on(_Run(config, out, title, ranks, dataset, held_out, interruption, watchdog))
            watchdog.phase("finish", timeout_s=0.0)
            finish(objective, config, out, worth_showing(held_out, dataset), ranks)
            ranks.first_does(interruption.over)
    return objective


@contextmanager
def _watched(config: RunConfig, out: Path, ranks: Ranks) -> Iterator[tuple[Interruption, Watchdog]]:
    """Listen to whoever asks for the end, and end what hangs."""
    watchdog = Watchdog(
        out / "heartbeat", ranks.rank, config.hang_timeout_s, num_ranks=ranks.size, leaves=out / REQUEUE_FILE
    )
    with listening(out, ranks.is_first) as interruption, watchdog:
        ranks.first_does(interruption.begin)
        yield interruption, watchdog


@dataclass(frozen=True)
class _Run:
    """Hold what stays the same when a run goes back to a checkpoint."""

    config: RunConfig
    out: Path
    title: str
    ranks: Ranks
    dataset: Dataset
    held_out: Dataset | None
    interruption: Interruption
    watchdog: Watchdog


def _train_on(run: _Run) -> Objective:
    """Train to the end, back to a checkpoint and on another course where that has to be."""
    at_most, course = run.config.steps, None
    while True:
        try:
            return _train(run, at_most, course)
        except RollBack as back:
            at_most, course = back.step, back.course
            log.warning("go back to a checkpoint of step %d or before; batches left out: %s", at_most, course)
        _free_memory()


def _free_memory() -> None:
    """Let go of what was trained before another one is built: sharded modules refer to themselves."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _train(run: _Run, at_most: int, course: Course | None) -> Objective:
    """Train from the newest checkpoint of `at_most` steps to the end.

    course: taken in the place of the one that the checkpoint notes.
    """
    config, out, ranks, watchdog = run.config, run.out, run.ranks, run.watchdog
    watchdog.phase("set up", timeout_s=_SET_UP * config.hang_timeout_s)
    with explained("setting up"):
        objective, optimizer, guard = _materialise(config, ranks)
        first_step, course = _go_on(out / "checkpoints", objective, optimizer, guard, ranks, at_most, course)
    steps = range(first_step, config.steps)
    batches = _batches(run.dataset, config, course.batches(steps), ranks)
    with (
        _telemetry(run, first_step) as telemetry,
        checkpoint.Saver(out / "checkpoints", ranks, config.keep_checkpoints) as saver,
        reproducible(ranks.device, config.deterministic),
        batches.explaining(),
    ):
        clock = StepClock(config.batch_size, config.clips_per_step)
        window = Window(telemetry, clock, config, out, ranks, course)
        arriving = clock.waiting_for(batches)
        for step in steps:
            with explained(f"step {step + 1}"):
                stopping = ranks.any(run.interruption.asked)
                set_learning_rate(optimizer, learning_rate(config.optim, step, config.steps))
                optimizer.zero_grad(set_to_none=True)
                objective.train()
                loss, scalars, read = _forward_backward(run, objective, arriving, step, course.batch_of(step))
                norm = clip_gradients(objective, config.optim.clip_norm)
                # the fused optimiser looks at this flag on the device: no update, and no wait for the host
                skipped = guard.judge(loss, norm)
                optimizer.found_inf = skipped  # type: ignore[attr-defined]
                optimizer.step()
                with torch.no_grad():
                    objective.after_step((step + 1) / config.steps, 1 - skipped)

                done = step + 1
                window.add(StepSaid(done, read, loss, norm, skipped, guard.carried["in_a_row"].clone(), scalars))
                if done == first_step + 1:
                    _know_the_limit(clock, config, read, ranks)
                is_last, asked = done == config.steps, bool(stopping)
                if run.held_out is not None and (is_last or done % config.held_out_every == 0):
                    watchdog.phase("held out")
                    window.extra |= look_at_held_out(objective, run.held_out, config, out, ranks)
                if done % config.norms_every == 0:
                    window.extra |= layer_norms(objective, optimizer).read()
                to_save = is_last or asked or done % config.save_every == 0
                if to_save or done % config.log_every == 0 or window.extra:
                    watchdog.phase("write")
                    window.extra |= memory_gb(ranks.device)
                    window.write(to_disk=to_save)
                    saver.raise_failure()
                if to_save and (is_last or asked or not window.in_a_row):
                    watchdog.phase("save")
                    state = checkpoint.state_of(objective, optimizer, guard.carried)
                    notes = {"samples": done * config.batch_size, "course": course.described()}
                    saver.save(done, state, notes, replaces=not window.in_a_row)  # the run may have to go back
                if asked and not is_last:
                    saver.wait()
                    ranks.first_does(run.interruption.obeyed)
                    log.warning("saved after step %d of %d; the same command goes on from there", done, config.steps)
                    raise Requeue
        watchdog.phase("save")
    return objective


def _materialise(config: RunConfig, ranks: Ranks) -> tuple[Objective, torch.optim.Optimizer, StepGuard]:
    """Build what a run trains, with its first numbers, and what moves it."""
    objective = materialise(
        config.objective,
        ranks.device,
        config.seed,
        ranks=ranks,
        parallel=config.parallel,
        precision=config.precision,
    )
    with sliced_filling():
        for part, source in starting_weights(config, objective).items():
            fill_backbone(objective.get_submodule(part), source)
    with torch.no_grad():
        objective.begin()
    return objective, build_optimizer(objective, config.optim), StepGuard(ranks.device, config.max_norm_sigmas)


def _telemetry(run: _Run, first_step: int) -> Telemetry:
    if not run.ranks.is_first:
        return Silent()
    described = provenance.describe(run.config)
    return Telemetry(run.out, run.title, run.config.steps, first_step, run.config.wandb, described)


def _know_the_limit(clock: StepClock, config: RunConfig, read: Sequence[Loaded], ranks: Ranks) -> None:
    """Measure what the devices could multiply, and count what the first step of a process multiplied.

    Long runs alone: it takes a second.
    """
    if config.steps < _LEAST_STEPS_MEASURED:
        return
    batch = loader.masked_views(read[-1].batch, config.repeat)
    with clock.paused():
        try:
            flop_per_sample = training_flop(config.objective, batch) / len(batch.key)
            clock.flop_per_s = matrix_rate(ranks.device, config.precision) * ranks.size
        except (RuntimeError, NotImplementedError) as error:  # for want of memory too
            reason = str(error).partition("\n")[0]
            log.info("metrics have no utilisation, since it cannot be measured here: %s", reason)
            return
    clock.flop_per_sample = flop_per_sample


def _forward_backward(
    run: _Run, objective: Objective, arriving: Iterator[Loaded], step: int, batch_number: int
) -> tuple[Tensor, Mapping[str, Tensor], list[Loaded]]:
    """Work off this rank's share of a batch, part by part; give the loss and scalars of all ranks together.

    Every sample counts alike, however the batch is parted: each part's mean loss is weighted by its samples.
    """
    config, ranks = run.config, run.ranks
    read: list[Loaded] = []
    said: dict[str, Tensor] = {}
    for number in range(config.parallel.parts):
        run.watchdog.phase("read", step=step + 1)
        loaded = next(arriving)
        run.watchdog.phase("step")
        batch = loader.masked_views(to_device(loaded.batch, ranks.device), config.repeat)
        torch.manual_seed(hash((config.seed, batch_number, ranks.rank, number)))
        share = len(batch.key) / config.batch_size
        with autocast(ranks.device, config.precision):
            result = objective(batch)
        # gradients are averaged over ranks, not added up; each part's travel at once, since what waits is held whole
        (result.loss * (share * ranks.size)).backward()
        for name, value in {"loss": result.loss, **result.scalars}.items():
            weighted = value.detach().float() * share
            said[name] = said[name] + weighted if name in said else weighted
        read.append(loaded)
    numbers = ranks.add_up(torch.stack(list(said.values())))
    scalars = dict(zip(said, numbers, strict=True))
    return scalars.pop("loss"), scalars, read


def _go_on(
    checkpoints: Path,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    guard: StepGuard,
    ranks: Ranks,
    at_most: int,
    course: Course | None,
) -> tuple[int, Course]:
    """Restore the newest checkpoint, if there is one; give the steps that are done, and the course to take."""
    found = checkpoint.newest(checkpoints, ranks, None if course is None else at_most + 1)
    if course is not None:
        # what was saved later belongs to the course that was given up
        ranks.first_does(lambda: checkpoint.drop_after(checkpoints, at_most))
    if found is None:
        return 0, course or Course()
    checkpoint.restore(found.path, objective, optimizer, ranks, guard.carried)
    log.info("resume after step %d", found.step)
    return found.step, course or Course.of(found.notes["course"])


def _batches(dataset: Dataset, config: RunConfig, numbers: Sequence[int], ranks: Ranks) -> Batches:
    """Read this rank's share of the clips of each batch."""
    return loader.batches(
        dataset,
        config.clips_per_step,
        config.seed,
        numbers,
        config.num_workers,
        shuffle=config.shuffle,
        rank=ranks.rank,
        world=ranks.size,
        micro=config.parallel.parts,
        timeout_s=config.worker_timeout_s,
        pinned=ranks.device.type == "cuda",
    )


def _build_held_out(config: RunConfig) -> Dataset | None:
    dataset = config.held_out.build() if config.held_out else None
    if dataset is not None and not len(dataset):
        log.info("no clips are held out (there are too few): metrics will have no held_out_loss")
        return None
    return dataset


def clip_gradients(objective: Objective, clip_norm: float) -> Tensor:
    """Scale gradients down to `clip_norm` where it is above 0, and return the norm they had, over all ranks."""
    trained = [parameter for parameter in objective.parameters() if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in trained if parameter.grad is not None])
    if clip_norm:
        torch.nn.utils.clip_grads_with_norm_(trained, clip_norm, norm)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm
