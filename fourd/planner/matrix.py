"""Every size on every number of GPUs: built, laid out and stepped without numbers, its memory written down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from fourd import provenance
from fourd.backbones.video_vit import SIZES
from fourd.objectives.simple_mae import SimpleMAEConfig
from fourd.parallel import ParallelConfig, build_blank
from fourd.planner.gpus import find_gpu
from fourd.planner.ledger import KINDS
from fourd.planner.measure import Layout
from fourd.planner.memo import memory_of
from fourd.telemetry import StepProgress

Row = dict[str, Any]


@dataclass(frozen=True)
class MatrixConfig:
    """Say what is measured. None of the values is from the paper."""

    sizes: tuple[str, ...] = tuple(SIZES)
    """Sizes of SimpleMAE as published."""
    gpus: tuple[int, ...] = (1, 8, 64, 256)
    """Numbers of GPUs, 8 to a machine; models are split over the GPUs of one machine."""
    clips: int = 16
    """Clips of a rank in a step."""
    gpu: str = "h200"
    """GPU that it is asked to fit into."""
    reserve: float = 0.07
    """Share of its memory left free."""
    out: Path | None = None
    """Write the rows to this file.parquet, and a table to file.md beside it."""

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        unknown = [size for size in self.sizes if size not in SIZES]
        if unknown or not self.sizes:
            raise ValueError(f"--sizes {' '.join(unknown)}: expected some of {' '.join(SIZES)}")
        if min((*self.gpus, self.clips), default=0) < 1 or not self.gpus:
            raise ValueError(f"--gpus {self.gpus}, --clips {self.clips}: expected 1 or more each")
        if self.out is not None and self.out.suffix != ".parquet":
            raise ValueError(f"--out {self.out}: expected a name that ends in .parquet")


def make_matrix(config: MatrixConfig) -> list[Row]:
    """Measure every pair of size and number of GPUs, and write the rows; what was measured before is not again."""
    pairs = [(size, gpus) for size in config.sizes for gpus in config.gpus]
    rows = []
    with StepProgress("plan matrix", len(pairs)) as progress:
        for done, (size, gpus) in enumerate(pairs):
            progress.update(done, f"{size} on {gpus}")
            rows.append(_row(config, size, gpus))
        progress.update(len(pairs), "done")
    if config.out is not None:
        _write(config, rows)
    return rows


def _row(config: MatrixConfig, size: str, gpus: int) -> Row:
    gpu = find_gpu(config.gpu)
    objective = SimpleMAEConfig(SIZES[size]())
    layout = Layout(gpus, gpu.per_node, ParallelConfig())
    peak = memory_of(objective, layout, config.clips)[config.clips]
    return {
        "size": size,
        "parameters": sum(parameter.numel() for parameter in build_blank(objective).parameters()),
        "gpus": gpus,
        "shard": min(gpus, gpu.per_node),
        "clips_per_rank": config.clips,
        "peak_at": peak.phase,
        **{f"{kind}_bytes": taken for kind, taken in peak.by_kind.items()},
        "total_bytes": peak.total,
        "gpu": gpu.name,
        "usable_bytes": gpu.memory_gb * 1e9 * (1 - config.reserve),
        "torch": torch.__version__,
        "commit": provenance.git_state()["commit"],
    }


def _write(config: MatrixConfig, rows: Sequence[Row]) -> None:
    out = config.out
    assert out is not None
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = out.with_name(f".{out.name}.tmp")
    pq.write_table(pa.Table.from_pylist(list(rows)), aside)
    aside.replace(out)
    aside.write_text(markdown(rows))
    aside.replace(out.with_suffix(".md"))


def markdown(rows: Sequence[Row]) -> str:
    """Write the rows as a table, GB of 1e9 bytes, and how to read it."""
    titles = ["size", "GPUs", "split over", *KINDS, "total", "peak at", "fits"]
    lines = [titles, ["---"] * len(titles)]
    for row in rows:
        sizes = [f"{row[f'{kind}_bytes'] / 1e9:.2f}" for kind in (*KINDS, "total")]
        fits = "yes" if row["total_bytes"] <= row["usable_bytes"] else "no"
        lines.append([row["size"], str(row["gpus"]), str(row["shard"]), *sizes, row["peak_at"], fits])
    first = rows[0]
    notes = [
        f"Memory of one rank at the moment of a step at which it takes most, GB of 1e9 bytes: SimpleMAE as published, "
        f"{first['clips_per_rank']} clips a rank in one part, bf16, nothing recomputed, not compiled.",
        f"Fits: into the {first['usable_bytes'] / 1e9:.0f} GB of an {first['gpu']} that are planned with; `fourd plan` "
        "finds what recomputation, parts and more shards bring.",
        f"torch {first['torch']}, commit {first['commit']}; `make plan-matrix`.",
    ]
    return "\n".join(["| " + " | ".join(line) + " |" for line in lines] + [""] + [f"* {note}" for note in notes]) + "\n"
