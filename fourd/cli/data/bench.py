"""`fourd data bench`: how many clips a second your corpus and machine can feed."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
import tyro
from rich.console import Console
from rich.table import Table

from fourd import provenance
from fourd.bench.feeding import Feeding, FeedingConfig, bench_feeding, cores_needed, require_parquet, rows_of

_ABOUT = """Measure how many clips a second your corpus and machine can feed, stage by stage, and which models.

Examples:
  fourd data bench films                                        a folder of films as they are
  fourd data bench corpus                                       what fourd data prepare made
  fourd data bench films --decoders pyav torchcodec             decoders beside each other
  fourd data bench corpus --size 112 --tflop-per-s 989 --utilisation 0.4

Run it while nothing else runs. The second table says how many such processes keep an accelerator busy: one column for
each number of masks per decoded clip (fourd pretrain --repeat). The last line says how well a shuffle by blocks, which
spares an object store small requests, mixes a corpus of this size."""


@dataclass(frozen=True)
class Arguments:
    """Hold what the command line says."""

    config: Annotated[FeedingConfig, tyro.conf.arg(name="")]
    out: Path | None = None
    """Write the measurements to this file.parquet, with command, commit and machine."""


def run(arguments: list[str]) -> None:
    """Measure, and show two tables."""
    options = tyro.cli(Arguments, prog="fourd data bench", description=_ABOUT, args=arguments)
    if options.out is not None:
        require_parquet(options.out)
    feeding = bench_feeding(options.config)
    console = Console()
    console.print(stages_table(feeding, options.config))
    console.print(models_table(feeding, options.config))
    print(mixing_line(feeding, options.config))
    if options.out is not None:
        command = shlex.join(["fourd", "data", "bench", *arguments])
        _write(options.out, rows_of(feeding, {"command": command, **_about(options.config)}))
        print(f"rows: {options.out}")


def _about(config: FeedingConfig) -> dict[str, Any]:
    environment = provenance.environment()
    names = ("processor", "num_cpus", "gpu", "torch", "platform")
    git = environment["git"]
    decoders = ", ".join(f"{name} {version}" for name, version in environment["decoders"].items())
    machine = {name: str(environment[name]) for name in names} | {"decoders": decoders}
    clip = {"num_frames": config.num_frames, "size": config.size, "seed": config.seed, "rounds": config.rounds}
    return {"commit": str(git["commit"]), "changed": str(git["changed"]), **clip, **machine}


def _write(out: Path, rows: list[dict[str, Any]]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), out)


def stages_table(feeding: Feeding, config: FeedingConfig) -> Table:
    """Show how long each stage takes."""
    table = Table(title=f"Clips of {config.num_frames} frames of {config.size} pixels from {config.data}")
    for name in ("decoder", "stage", "ms per clip", "from", "to", "clips/s", "frames/s"):
        table.add_column(name, justify="left" if name in ("decoder", "stage") else "right")
    for speed in feeding.speeds:
        times = (f"{ms:.2f}" for ms in (speed.ms_per_clip, speed.least_ms, speed.most_ms))
        per_s = (f"{number:,.0f}" for number in (speed.clips_per_s, speed.clips_per_s * config.num_frames))
        table.add_row(speed.decoder, speed.stage, *times, *per_s)
    return table


def models_table(feeding: Feeding, config: FeedingConfig) -> Table:
    """Show how many processes each size of model needs."""
    table = Table(
        title=f"Processes like this one that feed SimpleMAE of 16 frames of 224 pixels at {config.utilisation:.0%} of "
        f"{config.tflop_per_s:g} TFLOP/s"
    )
    for name in ("decoder", "model", "GFLOP per clip", "samples/s", *(f"{k} masks" for k in config.repeats)):
        table.add_column(name, justify="left" if name in ("decoder", "model") else "right")
    for decoder in config.decoders:
        for demand in feeding.demands:
            cores = (cores_needed(feeding, demand, decoder, repeat) for repeat in config.repeats)
            counts = (f"{number:,.1f}" for number in cores)
            about = (f"{demand.flop_per_clip / 1e9:,.0f}", f"{demand.clips_per_s:,.0f}")
            table.add_row(decoder, f"4DS-{demand.size}", *about, *counts)
    return table


def mixing_line(feeding: Feeding, config: FeedingConfig) -> str:
    """Say how much the clips of a batch have in common in a shuffle by blocks, beside one of all clips."""
    shuffle, mixing = config.shuffle, feeding.mixing
    name = f"shuffle by blocks of {shuffle.block} clips, {shuffle.blocks_open} open at a time"
    if mixing is None:
        return f"{name}: nothing to mix, or batches of one clip"
    return (
        f"{name}: {mixing.same_group:.3%} of the pairs in a batch come from one block, which shows "
        f"{mixing.groups_per_batch:,.0f} blocks; drawn from all clips {mixing.ideal:.3%} and {mixing.ideal_groups:,.0f}"
    )
