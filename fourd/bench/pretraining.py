"""A step of SimpleMAE beside a step of VideoMAE, as `transformers` trains it, in one process and in turns."""

from __future__ import annotations

import gc
import importlib.metadata
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from fourd import provenance
from fourd.backbones.video_vit import SIZES
from fourd.bench.pretraining_rows import PretrainingRow, require_path, write_rows
from fourd.bench.rooflines import Limits, limit_s, measure_limits
from fourd.bench.videomae_step import VideoMAEStep
from fourd.objectives.simple_mae import SimpleMAEConfig
from fourd.optim import OptimConfig, build_optimizer
from fourd.parallel import ParallelConfig, Precision, Ranks, autocast, find_device, materialise, reproducible
from fourd.parallel.settings import Compile
from fourd.telemetry import StepProgress
from fourd.tokens import Triple, grid_of
from fourd.types import Batch, Objective

Shape = torch.Size
Comparison = Literal["default", "coarse", "same"]
_WARM_UP = 2
_OUR_PATCH: dict[str, Triple] = {"default": (4, 16, 16), "coarse": (4, 32, 32), "same": (2, 16, 16)}


@dataclass(frozen=True)
class PretrainingConfig:
    """Say what is measured. Sizes, 16 frames of 224 and our masking are from the paper; the rest is not."""

    sizes: tuple[str, ...] = ("B",)
    """Sizes of the encoder: S B L H G e j."""
    comparisons: tuple[Comparison, ...] = ("default", "coarse", "same")
    """default: each as it comes; coarse: ours with latents of 4x32x32 pixels (196 of them at 224); same: the same
    masking, tokens and decoder on both sides."""
    resolution: int = 224
    frames: int = 16
    batch: int = 8
    """Clips of a step."""
    mask_ratio: float = 0.95
    """Of ours, and of both sides in the comparison `same`."""
    rival_mask_ratio: float = 0.90
    """Of VideoMAE as it comes (its paper's)."""
    rounds: int = 5
    """Timed steps of each side, in turns, after two to warm up."""
    precision: Precision = "bf16"
    compile: Compile = "auto"
    """Compile our blocks, as training does; theirs cannot be compiled whole, and run as they come."""
    threads: int | None = None
    """Threads of a CPU; by default torch's own number."""
    device: str = "auto"
    rival: bool = True
    """Measure VideoMAE too; without it, ours alone has the memory of the device."""
    seed: int = 0
    out: Path | None = None
    """Write the rows to this file.parquet, a table to file.md and a picture to file.png beside it."""
    json: bool = False
    """Print one JSON document, and nothing else, on standard output."""

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        unknown = [size for size in self.sizes if size not in SIZES]
        if unknown or not self.sizes:
            raise ValueError(f"sizes are {self.sizes}: expected some of {tuple(SIZES)}")
        if not self.comparisons:
            raise ValueError(f"comparisons are empty: expected some of {get_args(Comparison)}")
        for name, least in {"batch": 1, "rounds": 2, "resolution": 1, "frames": 1}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}: expected {least} or more")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads is {self.threads}: expected 1 or more")


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
    flop: float
    """Of the products and of attention of a step."""
    held_gb: float
    """What it keeps on a GPU from one step to the next."""
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    peak_gb: float | None = None
    """Of a GPU's allocator, without what the other side holds; a process on a CPU has one number for both."""

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
        pairs = [(size, comparison) for size in config.sizes for comparison in config.comparisons]
        with StepProgress("bench", len(pairs) * (config.rounds + 1)) as progress, reproducible(device):
            limits = measure_limits(device, config.precision) if device.type == "cuda" else None
            for number, (size, comparison) in enumerate(pairs):
                tell = partial(_tell, progress, number * (config.rounds + 1), f"{size}, {comparison}")
                rows.append(_measure(config, size, comparison, device, command, limits, tell))
                gc.collect()
                if config.out is not None:
                    write_rows(config.out, rows)
    finally:
        torch.set_num_threads(before)
    return rows


def _tell(progress: StepProgress, before: int, name: str, done: int, what: str) -> None:
    progress.update(before + done, f"{name}: {what}")


def _measure(
    config: PretrainingConfig,
    size: str,
    comparison: Comparison,
    device: torch.device,
    command: str,
    limits: Limits | None,
    tell: Callable[[int, str], None],
) -> PretrainingRow:
    """Build both sides, let them take turns, and compare them; no other model is in memory."""
    tell(0, "building")
    clips = random_clips(config, device)
    sides = {"ours": _ours(config, size, comparison, clips, device)}
    if config.rival:
        sides["theirs"] = _theirs(config, size, comparison, clips, device)
    for round_ in range(config.rounds):
        tell(1 + round_, f"round {round_ + 1} of {config.rounds}")
        for name in sides if round_ % 2 == 0 else reversed(sides):
            held_gb = sum((side.held_gb for other, side in sides.items() if other != name), 0.0)
            _time(sides[name], device, held_gb)
    _require_learning(f"{size}, {comparison}", sides)
    tell(1 + config.rounds, "done")
    limit = limit_s(our_config(config, size, comparison), config.batch, limits) if limits else None
    return _row(config, size, comparison, sides, limit, _provenance(config, device, command))


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
    described = our_config(config, size, comparison)

    def build(compile: Compile) -> Objective:
        alone, layout = Ranks(0, 1, 1, device), ParallelConfig(compile=compile)
        return materialise(described, device, config.seed, ranks=alone, parallel=layout, precision=config.precision)

    def stepping(compile: Compile) -> Callable[[], Tensor]:
        objective = build(compile)
        optimizer = build_optimizer(objective, OptimConfig())
        return _stepping(lambda: objective(clips).loss, optimizer, device, config.precision)

    # counted on another one: blocks whose first call is counted would never be compiled
    return _ready(stepping("no"), lambda: stepping(config.compile), device)


def _theirs(config: PretrainingConfig, size: str, comparison: Comparison, clips: Batch, device: torch.device) -> Side:
    same = comparison == "same"
    backbone = SIZES[size]().at(config.resolution, config.frames)
    ratio = config.mask_ratio if same else config.rival_mask_ratio

    def stepping() -> Callable[[], Tensor]:
        rival = VideoMAEStep(backbone, clips, mask_ratio=ratio, same_decoder=same, seed=config.seed).to(device)
        optim = OptimConfig()
        optimizer = torch.optim.AdamW(
            rival.parameters(), lr=optim.learning_rate, betas=optim.betas, weight_decay=optim.weight_decay, fused=True
        )
        return _stepping(rival, optimizer, device, config.precision)

    return _ready(stepping(), stepping, device)


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


def _ready(uncompiled: Callable[[], Tensor], build: Callable[[], Callable[[], Tensor]], device: torch.device) -> Side:
    """Count the operations of a step, then take two steps that are not timed: the first may compile."""
    with FlopCounterMode(display=False, custom_mapping=_FUSED_ON_A_CPU) as counter:
        uncompiled()
    del uncompiled
    gc.collect()
    before_gb = _allocated_gb(device)
    step = build()
    losses = [float(step()) for _ in range(_WARM_UP)]
    return Side(step, float(counter.get_total_flops()), _allocated_gb(device) - before_gb, losses=losses)


def _allocated_gb(device: torch.device) -> float:
    return torch.cuda.memory_allocated(device) / 1e9 if device.type == "cuda" else 0.0


def _time(side: Side, device: torch.device, held_gb: float) -> None:
    """Time a step; held_gb: of the other side."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    began = time.perf_counter()
    loss = float(side.step())  # reading it waits for the device
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    side.seconds.append(time.perf_counter() - began)
    side.losses.append(loss)
    if device.type == "cuda":
        side.peak_gb = max(side.peak_gb or 0.0, torch.cuda.max_memory_allocated(device) / 1e9 - held_gb)


def _require_learning(name: str, sides: Mapping[str, Side]) -> None:
    for whose, side in sides.items():
        first, *_, last = side.losses
        if not last < first:
            raise ValueError(
                f"size {name}, {whose}: the loss went from {first:.4f} to {last:.4f} in {len(side.losses)} steps on "
                "the same clips: what does not learn is not worth timing. Give it more --rounds"
            )


def _row(
    config: PretrainingConfig,
    size: str,
    comparison: Comparison,
    sides: Mapping[str, Side],
    limit: float | None,
    about: dict[str, Any],
) -> PretrainingRow:
    ours = sides["ours"]
    low, middle, high = ours.quartiles()
    return PretrainingRow(
        size=size,
        comparison=comparison,
        frames=config.frames,
        resolution=config.resolution,
        batch=config.batch,
        precision=config.precision,
        latents=math.prod(grid_of(config.frames, (config.resolution, config.resolution), _OUR_PATCH[comparison])),
        mask_ratio=config.mask_ratio,
        rounds=config.rounds,
        seconds=middle,
        seconds_low=low,
        seconds_high=high,
        gflop_per_clip=ours.flop / config.batch / 1e9,
        peak_gb=ours.peak_gb,
        first_loss=ours.losses[0],
        last_loss=ours.losses[-1],
        share_of_limit=None if limit is None else limit / middle,
        **_rival_of_row(config, comparison, middle, sides.get("theirs")),
        **about,
    )


def _rival_of_row(
    config: PretrainingConfig, comparison: Comparison, seconds: float, theirs: Side | None
) -> dict[str, Any]:
    """Give the numbers of a row that are of the other side; nothing where there is none."""
    if theirs is None:
        return {}
    low, middle, high = theirs.quartiles()
    return {
        "rival_mask_ratio": config.mask_ratio if comparison == "same" else config.rival_mask_ratio,
        "rival_seconds": middle,
        "rival_seconds_low": low,
        "rival_seconds_high": high,
        "ratio": middle / seconds,
        "rival_gflop_per_clip": theirs.flop / config.batch / 1e9,
        "rival_peak_gb": theirs.peak_gb,
        "rival_first_loss": theirs.losses[0],
        "rival_last_loss": theirs.losses[-1],
    }


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
