"""The fastest layout of a run that fits into memory, and the fewest GPUs on which there is one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import get_args

from fourd.flops import StepFlop
from fourd.parallel import ParallelConfig, Precision
from fourd.parallel.settings import Recompute
from fourd.planner.cost import STEP_STATE_BYTES, Assumptions, Load, StepTime, step_time
from fourd.planner.gpus import CPU, Gpu
from fourd.planner.ledger import Peak
from fourd.planner.measure import Layout
from fourd.planner.memo import memory_of
from fourd.types import ObjectiveConfig

_ENOUGH_CLIPS = 16
"""Clips of a part below which matrix products read more than they compute; parts are made smaller only where nothing
else fits. Not from the paper."""


@dataclass(frozen=True)
class Job:
    """Hold what is to be trained, on what; memory_bytes: what a rank may take."""

    objective: ObjectiveConfig
    parameters: int
    flop: Mapping[Recompute, StepFlop]
    """By what is computed again."""
    batch: int
    gpu: Gpu
    memory_bytes: float
    precision: Precision
    reduce: Precision
    assumed: Assumptions


@dataclass(frozen=True)
class Setting:
    """Hold one layout of a step, and how long the step takes."""

    gpus: int
    parallel: ParallelConfig
    clips: int
    """Of the largest part of the largest share of a batch."""
    time: StepTime

    def order(self) -> tuple[object, ...]:
        """Put faster settings first; of equally fast ones those that change least."""
        parallel = self.parallel
        starved = parallel.parts > 1 and self.clips < _ENOUGH_CLIPS
        kinds = get_args(Recompute)
        return starved, self.time.seconds, kinds.index(parallel.recompute), parallel.parts, self.time.traffic_s


def settings(job: Job, gpus: int) -> list[Setting]:
    """List the layouts of a step on so many GPUs that could fit, the fastest first."""
    share = math.ceil(job.batch / gpus)
    found = []
    for shard in _shards(gpus, job.gpu.per_node):
        if job.parameters * STEP_STATE_BYTES / shard > job.memory_bytes:
            continue
        for recompute in get_args(Recompute):
            for parts in _numbers_of_parts(share):
                parallel = ParallelConfig(shard, recompute, parts, reduce=job.reduce)
                load = Load(job.parameters, job.flop[recompute], job.batch, job.precision)
                time = step_time(load, gpus, parallel, job.gpu, job.assumed)
                found.append(Setting(gpus, parallel, math.ceil(share / parts), time))
    return sorted(found, key=Setting.order)


def layout_of(job: Job, setting: Setting) -> Layout:
    """Say how a setting is measured."""
    return Layout(setting.gpus, job.gpu.per_node, setting.parallel, job.precision, job.gpu.name != CPU)


def fastest(job: Job, gpus: int) -> tuple[Setting, Peak] | None:
    """Find the fastest setting that fits, and what it takes; None where none does."""
    candidates = settings(job, gpus)
    too_large: list[Setting] = []
    for setting in candidates:
        if any(_takes_more(setting, than) for than in too_large):
            continue
        least = min((one for one in candidates if _alike(one, setting)), key=lambda one: one.clips)
        peaks = memory_of(job.objective, layout_of(job, setting), setting.clips, least.clips)
        if peaks[setting.clips].total <= job.memory_bytes:
            return setting, peaks[setting.clips]
        too_large += [one for one in (setting, least) if peaks[one.clips].total > job.memory_bytes]
    return None


def _alike(one: Setting, other: Setting) -> bool:
    """Tell settings that differ in the number of parts alone, beyond the second."""
    return _kind(one) == _kind(other) and one.parallel.shard == other.parallel.shard


def _takes_more(one: Setting, than: Setting) -> bool:
    """Tell a setting that takes as much as another or more, for it has as many clips and as few shards."""
    fewer_shards = one.parallel.shard <= than.parallel.shard and (one.parallel.shard > 1) == (than.parallel.shard > 1)
    return _kind(one) == _kind(than) and fewer_shards and one.clips >= than.clips


def _kind(one: Setting) -> tuple[str, bool]:
    return one.parallel.recompute, one.parallel.parts > 1


def fewest(job: Job, most: int = 4096) -> int:
    """Find the smallest number of GPUs on which some setting fits.

    Numbers are those of GPUs within one machine, then of whole machines. Raises ValueError where `most`, or as many as
    a batch has clips, do not do.
    """
    for gpus in _counts(job.gpu.per_node, min(most, job.batch)):
        if job.parameters * STEP_STATE_BYTES / gpus <= job.memory_bytes and _some_fits(job, gpus):
            return gpus
    raise ValueError(
        f"{job.parameters / 1e9:.1f}e9 parameters in batches of {job.batch} fit on no number of {job.gpu.name} up to "
        f"{min(most, job.batch)}; take a GPU with more memory (--gpu), or another --batch"
    )


def _some_fits(job: Job, gpus: int) -> bool:
    """Ask the settings that take least: whole blocks recomputed, few clips or one part, as many shards as there are."""
    frugal = [one for one in settings(job, gpus) if one.parallel.recompute == "full"]
    frugal = [one for one in frugal if one.parallel.shard == max(other.parallel.shard for other in frugal)]
    whole = [one for one in frugal if one.parallel.parts == 1]
    parted = sorted((one for one in frugal if one.parallel.parts > 1), key=lambda one: one.clips)[:1]
    return any(
        memory_of(job.objective, layout_of(job, one), one.clips)[one.clips].total <= job.memory_bytes
        for one in (*whole, *parted)
    )


def _shards(gpus: int, per_node: int) -> Iterator[int]:
    """Give the numbers of ranks that may share one copy of the model: within a machine, or all of whole machines."""
    for shard in range(1, gpus + 1):
        whole = shard % per_node == 0
        if gpus % shard == 0 and (shard <= per_node or whole) and (shard & (shard - 1) == 0 or shard == gpus):
            yield shard


def _counts(per_node: int, most: int) -> Iterator[int]:
    yield from range(1, min(per_node, most) + 1)
    yield from range(2 * per_node, most + 1, per_node)


def _numbers_of_parts(share: int) -> list[int]:
    """Give the numbers of parts that a rank's clips are tried in: those that divide them, and powers of two."""
    return [parts for parts in range(1, share + 1) if share % parts == 0 or parts & (parts - 1) == 0]
