"""How fast a corpus gives clips on this machine, stage by stage, and which models that feeds."""

from __future__ import annotations

import os
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import tyro

from fourd import loader, video
from fourd.bench.demand import Demand, demands
from fourd.datasets._clips import ClipConfig, OpenedClip, fit_clip
from fourd.datasets._corpora import clips_of
from fourd.datasets.video_files import VideoFiles
from fourd.datasets.video_shards import VideoShards
from fourd.parallel import find_device
from fourd.telemetry import StepProgress
from fourd.types import DatasetConfig
from fourd.video import Decoder

STAGES = ("open", "decode", "crop and resize", "gather", "to device")


@dataclass(frozen=True)
class FeedingConfig:
    """Say what is measured. None of the values is from the paper, except for 16 frames of 224."""

    data: tyro.conf.Positional[str]
    """Films, an index of films, or a prepared corpus: whatever `fourd pretrain --data` takes."""
    num_frames: int = 16
    """Frames of a clip."""
    size: int = 224
    """Pixels of a clip's side."""
    batch_size: int = 8
    """Clips that are gathered and handed over at once."""
    rounds: int = 5
    """Times that everything is measured, one after the other, so that whatever else runs falls on all alike."""
    num_workers: int | None = None
    """Processes that read at once, in the last measurement; by default one for each processor."""
    decoders: tuple[Decoder, ...] = ("pyav",)
    """Decoders to measure beside each other: pyav torchcodec."""
    repeats: tuple[int, ...] = (1, 2, 4)
    """Masks per decoded clip, for the table of models."""
    tflop_per_s: float = 790.0
    """What the matrix multiplications of the accelerator to be fed reach, in 1e12 per second; by default an H200's."""
    utilisation: float = 0.5
    """Share of it that the training reaches."""
    device: str = "auto"
    """Where clips are handed to: auto, cpu, cuda or cuda:N."""
    seed: int = 0
    """Chooses the clips."""
    shuffle: loader.BlockShuffle = field(default_factory=loader.BlockShuffle)
    """The order by blocks, for object stores, of which it is said how well it mixes this corpus."""
    mixed_batch: int = 1024
    """Clips of a batch of training, for that; of a smaller corpus, all of its clips."""

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        for name in ("num_frames", "size", "batch_size", "rounds", "mixed_batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: expected 1 or more")
        if not self.decoders or not self.repeats or min(self.repeats) < 1:
            raise ValueError(f"decoders {self.decoders}, repeats {self.repeats}: expected one or more, repeats above 0")


@dataclass(frozen=True)
class Speed:
    """Say how long something takes per clip: the middle of several rounds, the shortest and the longest of them."""

    decoder: str
    stage: str
    ms_per_clip: float
    least_ms: float
    most_ms: float

    @property
    def clips_per_s(self) -> float:
        """Give the clips per second."""
        return 1000 / self.ms_per_clip


@dataclass(frozen=True)
class Feeding:
    """Hold what was measured: each stage by one process, all of them by one and by several, and what models ask for.

    mixing: how well a shuffle by blocks mixes; None where there are not two clips to mix.
    """

    speeds: tuple[Speed, ...]
    num_workers: int
    demands: tuple[Demand, ...]
    mixing: loader.Mixing | None = None

    def speed(self, decoder: str, stage: str) -> Speed:
        """Look up a stage."""
        return next(speed for speed in self.speeds if (speed.decoder, speed.stage) == (decoder, stage))


def bench_feeding(config: FeedingConfig) -> Feeding:
    """Measure a corpus; torch computes on one thread meanwhile, as it does in a worker."""
    clips, _ = clips_of(config.data, config.num_frames, config.size)
    if not isinstance(clips, ClipConfig):
        raise ValueError(f"{config.data} holds no films")
    num_workers = config.num_workers or os.cpu_count() or 1
    mixing = mixing_of_blocks(config, len(clips.build()))
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with StepProgress("bench", len(config.decoders) * (config.rounds + 1)) as progress:
            speeds = [
                speed
                for place, decoder in enumerate(config.decoders)
                for speed in _measure(replace(clips, decoder=decoder), config, num_workers, progress, place)
            ]
    finally:
        torch.set_num_threads(num_threads)
    return Feeding(tuple(speeds), num_workers, tuple(demands(config.tflop_per_s, config.utilisation)), mixing)


_MIXED_BATCHES = 50
"""Batches that are looked at: seconds for any corpus. Not from the paper."""


def mixing_of_blocks(config: FeedingConfig, num_clips: int) -> loader.Mixing | None:
    """Say what the clips of a batch have in common if the corpus is shuffled by blocks; None for fewer than two."""
    batch_size, block = min(config.mixed_batch, num_clips), config.shuffle.block
    if batch_size < 2:
        return None
    look = {"num_batches": _MIXED_BATCHES, "seed": config.seed}
    return loader.mixing(config.shuffle, num_clips, batch_size, lambda clip: clip // block, **look)


def _measure(
    clips: ClipConfig, config: FeedingConfig, num_workers: int, progress: StepProgress, place: int
) -> list[Speed]:
    """Measure every stage in each round, and reading by several processes at last."""
    dataset = clips.build()
    assert isinstance(dataset, (VideoFiles, VideoShards))
    device = find_device(config.device)
    done = place * (config.rounds + 1)
    took: dict[str, list[float]] = defaultdict(list)
    for number in range(-1, config.rounds):  # the first is to warm up
        progress.update(done + number + 1, f"{clips.decoder}, one process")
        found = _time_stages(dataset, clips, config, device, number + 1)
        for stage, seconds in found.items() if number >= 0 else ():
            took[stage].append(seconds / config.batch_size)
        if number >= 0:
            took["all, 1 process"].append(sum(found.values()) / config.batch_size)
    progress.update(done + config.rounds, f"{clips.decoder}, {num_workers} processes")
    took[f"all, {num_workers} processes"] = _time_workers(clips, config, num_workers)
    progress.update(done + config.rounds + 1, f"{clips.decoder}: done")
    return [_speed(clips.decoder, stage, seconds) for stage, seconds in took.items()]


def _speed(decoder: str, stage: str, seconds: Sequence[float]) -> Speed:
    return Speed(decoder, stage, *(1000 * pick(seconds) for pick in (statistics.median, min, max)))


def _time_stages(
    dataset: VideoFiles | VideoShards, clips: ClipConfig, config: FeedingConfig, device: torch.device, number: int
) -> dict[str, float]:
    """Make one batch, stage by stage; give the seconds of each."""
    marks = [time.perf_counter()]
    opened = list(_open(dataset, config, number))
    marks.append(time.perf_counter())
    decoded = [video.decode(one.source, one.plan.frames, one.info, decoder=clips.decoder) for one in opened]
    marks.append(time.perf_counter())
    fitted = [fit_clip(pixels, one.plan, clips) for pixels, one in zip(decoded, opened, strict=True)]
    marks.append(time.perf_counter())
    batch = torch.stack(fitted)
    marks.append(time.perf_counter())
    handed = batch.to(device, copy=True)
    if handed.is_cuda:
        torch.cuda.synchronize()
    marks.append(time.perf_counter())
    return {stage: after - before for stage, before, after in zip(STAGES, marks[:-1], marks[1:], strict=True)}


def _open(dataset: VideoFiles | VideoShards, config: FeedingConfig, number: int) -> Iterator[OpenedClip]:
    order = loader.Order(dataset.corpora, config.seed)
    for position in range(number * config.batch_size, (number + 1) * config.batch_size):
        draw = order.draw(position)
        yield dataset.open(draw.index, draw.rng())


def _time_workers(clips: DatasetConfig, config: FeedingConfig, num_workers: int) -> list[float]:
    """Read batches in several processes; give the seconds per clip, after each process has given its first."""
    ahead, rounds = 2 * num_workers, 2 * config.rounds * num_workers
    batches = loader.batches(clips.build(), config.batch_size, config.seed, range(ahead + rounds), num_workers)
    for _ in range(ahead):  # while processes start, and until what they read meanwhile is taken
        next(batches)
    took = []
    for _ in range(config.rounds):
        start = time.perf_counter()
        for _ in range(2 * num_workers):
            next(batches)
        took.append((time.perf_counter() - start) / (2 * num_workers * config.batch_size))
    return took


# ----------------------------------------------------------------------------- what it feeds


def cores_needed(feeding: Feeding, demand: Demand, decoder: str, repeat: int) -> float:
    """Say how many processes like the measured one keep a model busy, with so many masks per clip."""
    return demand.clips_per_s / repeat * feeding.speed(decoder, "all, 1 process").ms_per_clip / 1000


def rows_of(feeding: Feeding, about: dict[str, Any]) -> list[dict[str, Any]]:
    """Give a row for each measurement, with what it was made by; how blocks mix stands in all of them."""
    mixing = feeding.mixing
    mixed = {"same_block": mixing and mixing.same_group, "same_block_of_all": mixing and mixing.ideal}
    return [{**vars(speed), "clips_per_s": speed.clips_per_s, **mixed, **about} for speed in feeding.speeds]


def require_parquet(out: Path) -> None:
    """Refuse a file for rows that is none of Parquet."""
    if out.suffix != ".parquet":
        raise ValueError(f"--out {out}: expected a name that ends in .parquet")
