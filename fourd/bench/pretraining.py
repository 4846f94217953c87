"""A step of SimpleMAE beside a step of VideoMAE, as `transformers` trains it, in one process and in turns."""

from __future__ import annotations

import gc
import importlib.metadata
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from fourd import provenance
from fourd.bench.demand import SIZES
from fourd.bench.pretraining_rows import PretrainingRow, require_path, write_rows
from fourd.bench.rooflines import limit_s, measure_limits
from fourd.bench.videomae_step import VideoMAEStep
from fourd.objectives.simple_mae import SimpleMAEConfig
from fourd.optim import OptimConfig, build_optimizer
from fourd.parallel import ParallelConfig, Precision, Ranks, autocast, find_device, materialise, reproducible
from fourd.parallel.settings import Compile
from fourd.telemetry import StepProgress, memory_gb, reset_peak
from fourd.tokens import Triple, grid_of
from fourd.types import Batch

Shape = torch.Size
Comparison = Literal["default", "coarse", "same"]
_OUR_PATCH: dict[str, Triple] = {"default": (4, 16, 16), "coarse": (4, 32, 32), "same": (2, 16, 16)}


@dataclass(frozen=True)
class PretrainingConfig:
    """Say what is measured. Sizes, 16 frames of 224 and our masking are from the paper; the rest is not."""

    sizes: tuple[str, ...] = ("B",)
    """Sizes of the encoder: S B L H G e j."""
    comparisons: tuple[Comparison, ...] = ("default", "coarse", "same")
    """default: each as it comes; coarse: with our 196 latents; same: the same arithmetic on both sides."""
    resolution: int = 224
    frames: int = 16
    batch: int = 8
    """Clips of a step."""
    mask_ratio: float = 0.95
    """Of ours, and of both sides in the comparison `same`."""
    rival_mask_ratio: float = 0.90
    """Of VideoMAE as it comes (its paper's)."""
    rounds: int = 5
    """Timed steps of each side, in turns, after one to warm up."""
    precision: Precision = "bf16"
    compile: Compile = "auto"
    """Compile our blocks, as training does; theirs cannot be compiled whole, and run as they come."""
    threads: int | None = None
    """Threads of a CPU; by default torch's own number."""
    device: str = "auto"
    seed: int = 0
    out: Path | None = None
    """Write the rows to this file.parquet, a table to file.md and a picture to file.png beside it."""
    json: bool = False
    """Print one JSON document, and nothing else, on standard output."""

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        unknown = [size for size in self.sizes if size not in SIZES]
        if unknown or not self.sizes or not self.comparisons:
            raise ValueError(f"sizes are {self.sizes}, comparisons {self.comparisons}: expected some of {tuple(SIZES)}")
        for name in ("batch", "rounds", "resolution", "frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: expected 1 or more")
        if self.rounds < 2:
            raise ValueError("rounds is 1: expected 2 or more, since the loss has to fall")


def _attention_flop(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def _attention_backward_flop(gradient: Shape, query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    return int(sdpa_backward_flop_count(gradient, query, key, value))


_FUSED_ON_A_CPU = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flop,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flop,
}
"""Attention that torch's own table leaves out."""


@dataclass
class Side:
    """Hold one of the two that are measured: what does a step and gives its loss, and what was found."""

    step: Callable[[], Tensor]
    flop: float = 0.0
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    peak_gb: float | None = None
    """Of a GPU's allocator; what a process on a CPU holds is that of all sides."""

    def quartiles(self) -> tuple[float, float, float]:
        """Give the quartiles of the seconds of a step."""
        low, middle, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return low, middle, high


def bench_pretraining(config: PretrainingConfig, command: str = "") -> list[PretrainingRow]:
    """Measure all comparisons of one size after the other; give a row for each.

    The files of `config.out` are written anew after every size. Raises ValueError where a loss does not fall,
    ImportError where transformers is missing.
    """
    if config.out is not None:
        require_path(config.out)
    device = find_device(config.device)
    before = torch.get_num_threads()
    torch.set_num_threads(config.threads or before)
    rows: list[PretrainingRow] = []
    try:
        with StepProgress("bench", len(config.sizes) * (config.rounds + 1)) as progress, reproducible(device):
            for number, size in enumerate(config.sizes):
                rows += _measure(config, size, device, command, progress, number * (config.rounds + 1))
                gc.collect()
                if config.out is not None:
                    write_rows(config.out, rows)
    finally:
        torch.set_num_threads(before)
    return rows


def _measure(
    config: PretrainingConfig, size: str, device: torch.device, command: str, progress: StepProgress, done: int
) -> list[PretrainingRow]:
    """Build every side once, let them take turns, and compare them pair by pair."""
    progress.update(done, f"{size}: building")
    clips = random_clips(config, device)
    ours = {comparison: _ours(config, size, comparison, clips, device) for comparison in config.comparisons}
    kinds = dict.fromkeys(_rival_kind(comparison) for comparison in config.comparisons)
    theirs = {kind: _theirs(config, size, kind, clips, device) for kind in kinds}
    sides = [*ours.values(), *theirs.values()]
    for side in sides:
        _count(side)
    for round_ in range(config.rounds):
        progress.update(done + 1 + round_, f"{size}: round {round_ + 1} of {config.rounds}")
        for side in sides if round_ % 2 == 0 else sides[::-1]:
            _time(side, device)
    _require_learning(size, ours, theirs)
    progress.update(done + config.rounds + 1, f"{size}: done")
    about = _provenance(config, device, command)
    limits = measure_limits(device, config.precision) if device.type == "cuda" else None
    rows = []
    for comparison in config.comparisons:
        limit = limit_s(our_config(config, size, comparison), config.batch, limits) if limits else None
        rows.append(_row(config, size, comparison, ours[comparison], theirs[_rival_kind(comparison)], limit, about))
    return rows


# ----------------------------------------------------------------------------- the two sides


def random_clips(config: PretrainingConfig, device: torch.device) -> Batch:
    """Draw pixels: both sides learn the same clips, again and again."""
    generator = torch.Generator().manual_seed(config.seed)
    shape = (config.batch, config.frames, 3, config.resolution, config.resolution)
    names = tuple(f"clip {number}" for number in range(config.batch))
    video = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    seeds = torch.randint(2**62, (config.batch,), generator=generator)
    times = torch.arange(config.frames).expand(config.batch, -1) / 25
    return Batch(video.to(device), times.to(device), names, names, seeds.to(device))


def our_config(config: PretrainingConfig, size: str, comparison: Comparison) -> SimpleMAEConfig:
    """Describe our side of a comparison."""
    backbone = SIZES[size]().at(config.resolution, config.frames)
    return SimpleMAEConfig(backbone, mask_ratio=config.mask_ratio, decoder_patch=_OUR_PATCH[comparison])


def _ours(config: PretrainingConfig, size: str, comparison: Comparison, clips: Batch, device: torch.device) -> Side:
    objective = materialise(
        our_config(config, size, comparison),
        device,
        config.seed,
        ranks=Ranks(0, 1, 1, device),
        parallel=ParallelConfig(compile=config.compile),
        precision=config.precision,
    )
    optimizer = build_optimizer(objective, OptimConfig())
    return Side(_stepping(lambda: objective(clips).loss, optimizer, device, config.precision))


def _rival_kind(comparison: Comparison) -> str:
    return "same" if comparison == "same" else "default"


def _theirs(config: PretrainingConfig, size: str, kind: str, clips: Batch, device: torch.device) -> Side:
    backbone = SIZES[size]().at(config.resolution, config.frames)
    ratio = config.mask_ratio if kind == "same" else config.rival_mask_ratio
    rival = VideoMAEStep(backbone, clips, mask_ratio=ratio, same_decoder=kind == "same", seed=config.seed).to(device)
    optim = OptimConfig()
    optimizer = torch.optim.AdamW(
        rival.parameters(), lr=optim.learning_rate, betas=optim.betas, weight_decay=optim.weight_decay, fused=True
    )
    return Side(_stepping(rival, optimizer, device, config.precision))


def _stepping(
    loss_of: Callable[[], Tensor], optimizer: torch.optim.Optimizer, device: torch.device, precision: Precision
) -> Callable[[], Tensor]:
    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        with autocast(device, precision):
            loss = loss_of()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


# ----------------------------------------------------------------------------- measuring


def _count(side: Side) -> None:
    """Take the first step, which warms up, and count the operations of its products and of attention."""
    with FlopCounterMode(display=False, custom_mapping=_FUSED_ON_A_CPU) as counter:
        side.losses.append(float(side.step()))
    side.flop = float(counter.get_total_flops())


def _time(side: Side, device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        reset_peak(device)
    began = time.perf_counter()
    loss = float(side.step())  # reading it waits for the device
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        side.peak_gb = max(side.peak_gb or 0.0, memory_gb(device)["memory_peak_gb"])
    side.seconds.append(time.perf_counter() - began)
    side.losses.append(loss)


def _require_learning(size: str, *named: dict[Any, Side]) -> None:
    for name, side in (pair for sides in named for pair in sides.items()):
        first, *_, last = side.losses
        if not last < first:
            raise ValueError(
                f"size {size}, {name}: the loss went from {first:.4f} to {last:.4f} in {len(side.losses)} steps on the "
                "same clips: what does not learn is not worth timing. Give it more --rounds"
            )


def _row(
    config: PretrainingConfig,
    size: str,
    comparison: Comparison,
    ours: Side,
    theirs: Side,
    limit: float | None,
    about: dict[str, Any],
) -> PretrainingRow:
    low, middle, high = ours.quartiles()
    rival_low, rival_middle, rival_high = theirs.quartiles()
    return PretrainingRow(
        size=size,
        comparison=comparison,
        frames=config.frames,
        resolution=config.resolution,
        batch=config.batch,
        precision=config.precision,
        latents=math.prod(grid_of(config.frames, (config.resolution, config.resolution), _OUR_PATCH[comparison])),
        mask_ratio=config.mask_ratio,
        rival_mask_ratio=config.mask_ratio if comparison == "same" else config.rival_mask_ratio,
        rounds=config.rounds,
        seconds=middle,
        seconds_low=low,
        seconds_high=high,
        rival_seconds=rival_middle,
        rival_seconds_low=rival_low,
        rival_seconds_high=rival_high,
        ratio=rival_middle / middle,
        gflop_per_clip=ours.flop / config.batch / 1e9,
        rival_gflop_per_clip=theirs.flop / config.batch / 1e9,
        peak_gb=ours.peak_gb,
        rival_peak_gb=theirs.peak_gb,
        first_loss=ours.losses[0],
        last_loss=ours.losses[-1],
        rival_first_loss=theirs.losses[0],
        rival_last_loss=theirs.losses[-1],
        share_of_limit=None if limit is None else limit / middle,
        **about,
    )


def _provenance(config: PretrainingConfig, device: torch.device, command: str) -> dict[str, Any]:
    environment = provenance.environment()
    git = environment["git"]
    processor = f"{environment['num_cpus']} CPU cores, {environment['processor']}"
    return {
        "machine": environment["gpu"] if device.type == "cuda" else processor,
        "torch": environment["torch"],
        "transformers": importlib.metadata.version("transformers"),
        "threads": torch.get_num_threads(),
        "commit": (git["commit"] or "unknown") + (" (changed since)" if git["changed"] else ""),
        "seed": config.seed,
        "command": command,
    }
