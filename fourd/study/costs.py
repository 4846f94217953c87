"""What an arm costs: operations, samples, clips, seconds; and how many steps so many operations are."""

from __future__ import annotations

import functools
import json
import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fourd import provenance
from fourd.benchmark.work import Means
from fourd.flops import training_flop
from fourd.planner.measure import blank_batch, native_input
from fourd.study.runs import Run
from fourd.trainer import RunConfig
from fourd.types import BackboneConfig, ClipShape, NativeInput, ObjectiveConfig
from fourd.weights.starting import identity

log = logging.getLogger(__name__)

_NO_HEALTH = (
    *("step", "loss", "grad_norm", "samples", "unique_clips", "learning_rate", "skipped"),
    *("clips_per_s", "unique_clips_per_s", "data_wait", "model_flop_utilisation"),
)
_NO_HEALTH_PREFIXES = ("weight_norm/", "update_norm/", "memory", "host_memory")
_LAST_SHARE = 0.05
"""Of the steps, whose mean loss is called final; one step alone is noise. Not from the paper."""


@dataclass(frozen=True)
class Cost:
    """Hold what one arm cost with one seed.

    parameters: of the encoder. samples: masked views that passed through. unique_clips: different clips among them.
    flop: operations of all forward and backward passes, without those of the evaluation; None where they cannot be
    counted. flop_before: those of the runs whose weights it needed. seconds: on the machine that it ran on. health: the
    last value of whatever else its metrics hold.
    """

    parameters: int
    samples: int = 0
    unique_clips: int = 0
    flop_per_sample: float | None = 0.0
    flop: float | None = 0.0
    flop_before: float | None = 0.0
    seconds: float = 0.0
    final_loss: float | None = None
    health: Mapping[str, float] = field(default_factory=dict)
    identity: str = ""
    """Of the weights."""


# ----------------------------------------------------------------------------- operations


def flop_of_step(objective: ObjectiveConfig, batch_size: int, clip: ClipShape | None = None) -> float:
    """Count the operations of one forward and backward pass over `batch_size` samples.

    clip: what a batch holds; what the objective's backbone takes by default. Frozen teachers count. Raises what
    `fourd.flops.training_flop` raises, ValueError for a batch without a sample, and for an objective without a backbone
    where no clip is given.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: expected 1 or more")
    return _counted(objective, batch_size, clip)


@functools.lru_cache(maxsize=256)
def _counted(objective: ObjectiveConfig, batch_size: int, clip: ClipShape | None) -> float:
    """Count once what all seeds of an arm take."""
    native = native_input(objective) if clip is None else _taking(clip)
    return training_flop(objective, blank_batch(native, batch_size))


def _taking(clip: ClipShape) -> NativeInput:
    return NativeInput(clip.num_frames, (clip.height, clip.width), (1, 1, 1))


def steps_for(flop: float, objective: ObjectiveConfig, batch_size: int, clip: ClipShape | None = None) -> int:
    """Say how many steps of `batch_size` samples come closest to so many operations.

    So that arms get equal operations, not equal samples. Raises ValueError where not even half a step is paid for.
    """
    of_step = flop_of_step(objective, batch_size, clip)
    steps = round(flop / of_step)
    if steps < 1:
        raise ValueError(f"{flop:.3g} operations: a step of {batch_size} samples takes {of_step:.3g}, which is more")
    return steps


def flop_of_run(config: RunConfig) -> float:
    """Count the operations of a whole run, by the clips that its data give."""
    return config.steps * flop_of_step(config.objective, config.batch_size, clip_of(config))


def clip_of(config: RunConfig) -> ClipShape:
    """Look at the first clip of a run's data for its shape."""
    frames, _, height, width = config.data.build().read(0, np.random.default_rng(0)).video.shape[1:]
    return ClipShape(frames, height, width)


def count_parameters(config: BackboneConfig) -> int:
    """Count the parameters of an encoder."""
    with torch.device("meta"):
        return sum(math.prod(parameter.shape) for parameter in config.build().parameters())


# ----------------------------------------------------------------------------- a run that is over


def cost_of(run: Run, runs: Path, means: Means) -> Cost:
    """Give what a complete run cost; it is looked at once, and kept beside its weights."""
    path = run.folder(runs) / "cost.json"
    if not path.exists():
        provenance.write_json(path, asdict(_measured(run, runs, means)))
    return Cost(**provenance.read_json(path, "delete it, and it is made anew"))


def _measured(run: Run, runs: Path, means: Means) -> Cost:
    config = run.resolved(runs, means)
    records = read_metrics(run.folder(runs))
    before = [cost_of(other, runs, means) for other in run.after]
    flop = _flop_or_none(config)
    samples = config.steps * config.batch_size
    return Cost(
        parameters=count_parameters(_backbone_of(config)),
        samples=samples,
        unique_clips=min(len(config.data.build()), config.steps * config.clips_per_step),
        flop_per_sample=None if flop is None else flop / samples,
        flop=flop,
        flop_before=_added([part for other in before for part in (other.flop, other.flop_before)]),
        seconds=sum((config.batch_size / record["clips_per_s"] for record in records), 0.0),
        final_loss=_final_loss(records),
        health=_last_values(records),
        identity=identity(run.weights(runs)),
    )


def _backbone_of(config: RunConfig) -> BackboneConfig:
    with torch.device("meta"):
        objective = config.objective.build()
    backbone: Any = objective.get_submodule("backbone")
    found: BackboneConfig = backbone.config
    return found


def _added(parts: list[float | None]) -> float | None:
    known = [part for part in parts if part is not None]
    return sum(known, 0.0) if len(known) == len(parts) else None


def _flop_or_none(config: RunConfig) -> float | None:
    try:
        return flop_of_run(config)
    except (RuntimeError, NotImplementedError) as error:
        log.warning("the operations of %s cannot be counted: %s", type(config.objective).__name__, error)
        return None


def read_environment(folder: Path) -> dict[str, Any]:
    """Read where a run was made; raise ValueError naming the file where it is damaged."""
    return provenance.read_json(folder / "environment.json", "delete its folder, and the run is made anew")


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Read the metrics of a run, one record for each step; of a step that was done twice, the later."""
    by_step = {record["step"]: record for record in _records(folder / "metrics.jsonl")}
    return [by_step[step] for step in sorted(by_step)]


def _records(path: Path) -> Iterator[dict[str, Any]]:
    """Give the records of whole lines; a last one without an end is being written, or was when its run was killed."""
    whole, _, _ = path.read_text().rpartition("\n")
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            yield json.loads(line)
        except ValueError as error:
            raise ValueError(
                f"{path}, line {number}: damaged ({error}); put the file back from a copy, or delete its folder, and "
                "the run is made anew"
            ) from error


def _final_loss(records: list[dict[str, Any]]) -> float | None:
    losses = [record["loss"] for record in records if record.get("loss") is not None and not record.get("skipped")]
    last = losses[-max(1, round(len(losses) * _LAST_SHARE)) :]
    return sum(last) / len(last) if last else None


def _last_values(records: list[dict[str, Any]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for record in records:
        found |= {name: float(value) for name, value in record.items() if is_health(name, value)}
    return found


def is_health(name: str, value: object) -> bool:
    """Say whether a number of a run's metrics tells of what was learned, and not of how it ran."""
    told = name not in _NO_HEALTH and not name.startswith(_NO_HEALTH_PREFIXES)
    return told and isinstance(value, (int, float)) and math.isfinite(value)
