"""Every backbone beside its rival's own code: is it the same, and how fast is it."""

from __future__ import annotations

import gc
import importlib.metadata
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from fourd import provenance
from fourd.backbones._own_code import OwnCode, own_code
from fourd.bench.references import compare
from fourd.bench.subjects import Subject, choose
from fourd.bench.table import ARRAYS, OWN_CODE, Row, is_wrong, require_path, write_table
from fourd.parallel import find_device
from fourd.telemetry import StepProgress
from fourd.types import Backbone, BackboneConfig, ClipShape

Side = Callable[[], object]


@dataclass(frozen=True)
class BenchConfig:
    """Say what is measured. None of the values is from the paper."""

    backbones: tuple[str, ...] = ()
    """Backbones by the name of their module, with a size if not the base (dinov2 dinov2:giant); all by default."""
    tiny: bool = False
    """Take the sizes that are made for tests."""
    batches: tuple[int, ...] = (1, 8)
    """Clips that are encoded at once."""
    frames: int | None = None
    """Give every backbone clips of this many frames, at its own height and width; by default its own number (16 for
    image encoders). Own code that takes one length alone, such as VideoMAE's, refuses others."""
    max_seconds: float = 60.0
    """Stop timing a backbone at a batch size after this long; each side is timed at least once."""
    max_runs: int = 7
    """Time each side at most so many times."""
    seed: int = 0
    """Seed of the random weights and pixels."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda."""
    videomae_v2: Path | None = None
    """A checkout of github.com/OpenGVLab/VideoMAEv2, whose code is run beside our module."""
    out: Path | None = None
    """Write the rows to this file.parquet, and the table to file.md beside it."""

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        if not self.batches or min(self.batches) < 1 or len(set(self.batches)) < len(self.batches):
            raise ValueError(f"batches are {self.batches}; expected one or more numbers above 0, each once")
        if self.max_runs < 1 or (self.frames or 1) < 1:
            raise ValueError(f"max_runs is {self.max_runs} and frames {self.frames}; expected 1 or more")


def bench_backbones(config: BenchConfig, command: str = "") -> list[Row]:
    """Measure one backbone after the other; give a row for each batch size of each.

    The files of `config.out` are written anew after every backbone. command: what the user typed, for the rows.
    Raises ValueError for what cannot be measured. Whether the features are right is for `require_right` to say.
    """
    subjects = choose(config.backbones, config.tiny)
    if config.out is not None:
        require_path(config.out)
    rows: list[Row] = []
    with StepProgress("bench", len(subjects) * len(config.batches)) as progress:
        for subject in subjects:
            rows += _measure(subject, config, command, progress, len(rows))
            gc.collect()  # one backbone at a time in memory
            if config.out is not None:
                write_table(config.out, rows)
    return rows


def require_right(rows: Sequence[Row]) -> None:
    """Raise ValueError naming the backbones whose golden error is too large."""
    wrong = {f"{row.backbone}:{row.size} ({row.golden_error:.1e})" for row in rows if is_wrong(row)}
    if wrong:
        raise ValueError(f"features differ from the rival's own code: {', '.join(sorted(wrong))}; mend the adapter")


# ----------------------------------------------------------------------------- one backbone


def _measure(subject: Subject, config: BenchConfig, command: str, progress: StepProgress, done: int) -> Iterator[Row]:
    """Build a backbone and its rival, compare them once, and time them at every batch size."""
    device = find_device(config.device)
    progress.update(done, f"{subject}: building")
    backbone = build(subject.config, config.frames, config.seed).to(device)
    clip = _clip(backbone, config.frames)
    own = own_code(backbone, config.videomae_v2)
    error, against = _golden(subject, backbone, own, random_clips(1, clip, config.seed).to(device))
    for number, batch in enumerate(config.batches):
        progress.update(done + number, f"{subject}: batch {batch}")
        video = random_clips(batch, clip, config.seed).to(device)
        timed = time_in_turns(_sides(backbone, own, video), config.max_seconds, config.max_runs)
        speeds = [batch / seconds for seconds in timed.seconds]
        found: dict[str, Any] = {"golden_error": error, "golden_against": against, "batch": batch, "runs": timed.runs}
        found |= {"ours_clips_per_s": speeds[0], "own_clips_per_s": None, "ratio": None}
        if own is not None:
            found |= {"own_clips_per_s": speeds[1], "ratio": speeds[0] / speeds[1]}
        yield Row(**_about(subject, backbone, clip), **found, **_provenance(config, device, command))
    progress.update(done + len(config.batches), f"{subject}: done")


def build(config: BackboneConfig, frames: int | None, seed: int) -> Backbone:
    """Build a backbone with random weights, none of them neutral, that takes clips of `frames` frames."""
    backbone = config.build()
    if frames is not None and backbone.native_input.num_frames not in (None, frames):
        backbone = replace(config, native_size=False).build()
    generator = torch.Generator().manual_seed(seed)
    backbone.init_weights(generator)
    move_weights(backbone, generator)
    return backbone.eval()


@torch.no_grad()
def move_weights(backbone: Backbone, generator: torch.Generator) -> None:
    """Add noise to every parameter, so that no bias is 0 and no norm is 1: what is left out would not show."""
    width = backbone.feature_shape(_clip(backbone, None)).width
    for parameter in backbone.parameters():
        parameter.add_(0.5 * width**-0.5 * torch.randn(parameter.shape, generator=generator))


def _clip(backbone: Backbone, frames: int | None) -> ClipShape:
    native = backbone.native_input
    return ClipShape(frames or native.clip_frames, *native.size)


def random_clips(num_clips: int, clip: ClipShape, seed: int) -> UInt8[Tensor, "B T 3 H W"]:
    """Draw random pixels."""
    shape = (num_clips, clip.num_frames, 3, clip.height, clip.width)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


# ----------------------------------------------------------------------------- is it the same


def _golden(
    subject: Subject, backbone: Backbone, own: OwnCode | None, video: UInt8[Tensor, "B T 3 H W"]
) -> tuple[float | None, str | None]:
    """Measure the golden error, and say what it is against; None where there is nothing."""
    if own is not None:
        return golden_error(backbone, own, video), OWN_CODE
    compared = compare(subject.backbone)
    return (None, None) if compared is None else (relative_error(*compared), ARRAYS)


def golden_error(backbone: Backbone, own: OwnCode, video: UInt8[Tensor, "B T 3 H W"]) -> float:
    """Compare the features of depth 1 with those of the rival's own code (see `relative_error`)."""
    with torch.inference_mode():
        return relative_error(_ours(backbone, video), own(_pixels(backbone, video)))


def relative_error(actual: Float[Tensor, "*shape"], expected: Float[Tensor, "*shape"]) -> float:
    """Give the largest difference, in units of the expected output's standard deviation.

    Raises ValueError where the expected output is constant, which would prove nothing.
    """
    if not float(expected.std()) > 1e-3:
        raise ValueError(f"the expected features have deviation {float(expected.std()):.1e}; expected some variation")
    return float((actual - expected).abs().max() / expected.std())


def _ours(backbone: Backbone, video: UInt8[Tensor, "B T 3 H W"]) -> Tensor:
    (features,) = backbone(video, (1.0,))
    return features.grid


def _pixels(backbone: Any, video: UInt8[Tensor, "B T 3 H W"]) -> Tensor:
    """Prepare clips as the adapter does: what is compared is what comes after."""
    pixels: Tensor = backbone.pixels(video)
    return pixels


# ----------------------------------------------------------------------------- how fast is it


class Timed(NamedTuple):
    """Hold the median seconds of each side, and over how many runs."""

    seconds: tuple[float, ...]
    runs: int


def _sides(backbone: Backbone, own: OwnCode | None, video: UInt8[Tensor, "B T 3 H W"]) -> list[Side]:
    """Give what is timed: ours, and the rival's own code where there is some, both from the same uint8 clips."""
    sides: list[Side] = [lambda: _ours(backbone, video)]
    if own is not None:
        sides.append(lambda: own(_pixels(backbone, video)))
    return [_finished(side, video.device) for side in sides]


def _finished(side: Side, device: torch.device) -> Side:
    """Wait until an accelerator has done what it was told."""

    def run() -> None:
        with torch.inference_mode():
            side()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return run


def time_in_turns(
    sides: Sequence[Side], max_seconds: float, max_runs: int, clock: Callable[[], float] = time.perf_counter
) -> Timed:
    """Run the sides in turns, so that whatever slows the machine slows all of them, and take each one's median.

    The first round warms up and does not count, unless it alone takes longer than `max_seconds`: then it is the only
    one. Further rounds begin while another one fits into that time; every other round goes backwards.
    """
    rounds = [_round(sides, clock)]
    if sum(rounds[0]) <= max_seconds:
        rounds = [_round(sides, clock)]
    while len(rounds) < max_runs and _total(rounds) * (1 + 1 / len(rounds)) <= max_seconds:
        turned = _round(sides[::-1], clock)[::-1] if len(rounds) % 2 else _round(sides, clock)
        rounds.append(turned)
    return Timed(tuple(statistics.median(column) for column in zip(*rounds, strict=True)), len(rounds))


def _round(sides: Sequence[Side], clock: Callable[[], float]) -> list[float]:
    seconds = []
    for side in sides:
        start = clock()
        side()
        seconds.append(clock() - start)
    return seconds


def _total(rounds: Sequence[Sequence[float]]) -> float:
    return sum(map(sum, rounds))


# ----------------------------------------------------------------------------- what stands in a row


def _about(subject: Subject, backbone: Backbone, clip: ClipShape) -> dict[str, Any]:
    shape = backbone.feature_shape(clip)
    return {
        "backbone": subject.backbone,
        "size": subject.size,
        "parameters": sum(parameter.numel() for parameter in backbone.parameters()),
        "native_frames": backbone.native_input.num_frames,
        **{"frames": clip.num_frames, "height": clip.height, "width": clip.width},
        **{"t": shape.t, "h": shape.h, "w": shape.w, "D": shape.width},
        "source": subject.source,
    }


def _provenance(config: BenchConfig, device: torch.device, command: str) -> dict[str, Any]:
    environment = provenance.environment()
    git = environment["git"]
    processor = f"{environment['num_cpus']} CPU cores, {environment['processor']}"
    try:
        transformers = importlib.metadata.version("transformers")
    except importlib.metadata.PackageNotFoundError:
        transformers = None
    return {
        "machine": environment["gpu"] if device.type == "cuda" else processor,
        "torch": environment["torch"],
        "transformers": transformers,
        "threads": environment["num_threads"],
        "commit": (git["commit"] or "unknown") + (" (changed since)" if git["changed"] else ""),
        "seed": config.seed,
        "command": command,
    }
