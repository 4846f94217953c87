"""The planner's memory beside that of real steps: does `fourd plan` tell the truth?

    python benchmarks/plan_memory.py --out results/plan_memory.parquet

Each case runs in fresh processes, on a CPU: a tiny step first, so that libraries are loaded; then the model is built,
laid over its ranks and stepped three times. Counted is the peak resident memory of the first rank above its level
before the build. Twice: with an allocator that hands freed memory back (`returned`), which shows what tensors take; and
as the trainer runs on a CPU (`kept`), where glibc keeps freed memory for speed, and gaps between tensors with it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shlex
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.distributed as dist

from fourd import provenance
from fourd.backbones.video_vit import SIZES
from fourd.objectives import simple_mae
from fourd.objectives.simple_mae import SimpleMAEConfig
from fourd.optim import OptimConfig, build_optimizer
from fourd.parallel import ParallelConfig, Ranks, autocast, join, materialise, reproducible
from fourd.parallel.settings import Recompute
from fourd.planner.ledger import peak_of
from fourd.planner.measure import Layout, measure, native_input
from fourd.telemetry import StepProgress
from fourd.types import Batch, ObjectiveConfig

_RETURNED = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
_STEPS = 3


@dataclass(frozen=True)
class Case:
    """Name what is run; clips: of each rank."""

    size: str
    clips: int
    ranks: int
    recompute: Recompute
    allocator: str


CASES = [
    *(
        Case(size, clips, ranks, recompute, "returned")
        for size, clips, ranks, recompute in (
            ("S", 32, 1, "none"),
            ("S", 32, 2, "none"),
            ("B", 12, 1, "none"),
            ("B", 12, 1, "selective"),
            ("B", 24, 1, "full"),
            ("B", 12, 2, "none"),
            ("L", 2, 1, "none"),
            ("L", 2, 1, "full"),
            ("L", 6, 2, "none"),
        )
    ),
    *(Case(size, clips, 1, "none", "kept") for size, clips in (("S", 32), ("B", 12), ("L", 2))),
]


def planned(case: Case) -> int:
    """Ask the planner."""
    parallel = ParallelConfig(recompute=case.recompute)
    layout = Layout(case.ranks, case.ranks, parallel, on_gpu=False)
    return peak_of(measure(SimpleMAEConfig(SIZES[case.size]()), layout, (case.clips,))[case.clips]).total


# ----------------------------------------------------------------------------- a real run


def real(case: Case) -> int:
    """Run the case in processes of its own, and give the peak of the first rank."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    shared = os.environ | {"WORLD_SIZE": str(case.ranks), "LOCAL_WORLD_SIZE": str(case.ranks)}
    shared |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    shared |= _RETURNED if case.allocator == "returned" else {}
    command = [sys.executable, __file__, "--case", json.dumps(asdict(case))]
    running = [
        subprocess.Popen(
            command, env=shared | {"RANK": str(r), "LOCAL_RANK": str(r)}, stdout=subprocess.PIPE, text=True
        )
        for r in range(case.ranks)
    ]
    said = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        raise RuntimeError(f"{case} ended with {[process.returncode for process in running]}")
    return int(said[0].split()[-1])


def run_case(case: Case) -> int:
    """Be one rank of a case; give the bytes of its peak above its level before the build."""
    ranks = join("cpu")
    step(simple_mae.tiny(), 2, ranks, ParallelConfig(), steps=1)
    keeping: Any = reproducible(ranks.device) if case.allocator == "kept" else contextlib.nullcontext()
    with keeping:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = resident("VmRSS")
        config = SimpleMAEConfig(SIZES[case.size]())
        step(config, case.clips, ranks, ParallelConfig(recompute=case.recompute), _STEPS)
        return resident("VmHWM") - before


def step(config: ObjectiveConfig, clips: int, ranks: Ranks, parallel: ParallelConfig, steps: int) -> None:
    """Build a model and train it for some steps, as the trainer does."""
    native = native_input(config)
    objective = materialise(config, ranks.device, 0, ranks=ranks, parallel=parallel, precision="bf16").train()
    optimizer = build_optimizer(objective, OptimConfig())
    names = tuple(map(str, range(clips)))
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        pixels = torch.randint(0, 256, (clips, native.clip_frames, 3, *native.size), dtype=torch.uint8)
        batch = Batch(pixels, torch.zeros(clips, native.clip_frames), names, names, torch.arange(clips))
        with autocast(ranks.device, "bf16"):
            loss = objective(batch).loss
        loss.backward()
        del batch, pixels, loss
        optimizer.step()
    if ranks.many:
        dist.barrier()


def resident(field: str) -> int:
    """Read a line of what the kernel says of this process, in bytes."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


# ----------------------------------------------------------------------------- rows


def rows_of(cases: list[Case]) -> list[dict[str, Any]]:
    """Run every case, and put what was planned beside what was taken."""
    rows = []
    about = {
        "machine": provenance.processor_name(),
        "torch": torch.__version__,
        "commit": provenance.git_state()["commit"],
        "changed": provenance.git_state()["changed"],
        "command": shlex.join(["python", "benchmarks/plan_memory.py", *sys.argv[1:]]),
    }
    with StepProgress("plan memory", len(cases)) as progress:
        for done, case in enumerate(cases):
            progress.update(
                done, f"{case.size}, {case.clips} clips on {case.ranks}, {case.recompute}, {case.allocator}"
            )
            plan, taken = planned(case), real(case)
            rows.append({**asdict(case), "planned_bytes": plan, "real_bytes": taken, "ratio": plan / taken, **about})
            print(line_of(rows[-1]), flush=True)
        progress.update(len(cases), "done")
    return rows


def line_of(row: dict[str, Any]) -> str:
    """Write a row of the table."""
    sizes = [f"{row[name] / 1e9:.2f}" for name in ("planned_bytes", "real_bytes")]
    cells = [row["size"], row["clips"], row["ranks"], row["recompute"], row["allocator"], *sizes]
    return "| " + " | ".join(map(str, cells)) + f" | {row['ratio'] - 1:+.1%} |"


def markdown(rows: list[dict[str, Any]]) -> str:
    """Write the table and how it was made."""
    titles = ["size", "clips a rank", "ranks", "recompute", "allocator", "planned, GB", "real, GB", "planned by real"]
    first = rows[0]
    worst = max(abs(row["ratio"] - 1) for row in rows if row["allocator"] == "returned")
    notes = [
        "GB of 1e9 bytes, of the first rank: peak resident memory above the level before the build, 3 steps, bf16, one "
        "thread a rank, 16 frames of 224 pixels.",
        f"`returned`: freed memory goes back to the system; off by {worst:.1%} at most. `kept`: as the trainer runs on "
        "a CPU, where glibc keeps freed memory, and the gaps that come with it, because that is faster; no plan knows "
        "them, so leave two fifths more.",
        f"{first['machine']}; torch {first['torch']}; commit {first['commit']}; `{first['command']}`.",
    ]
    table = ["| " + " | ".join(titles) + " |", "| " + " | ".join(["---"] * len(titles)) + " |", *map(line_of, rows)]
    return "\n".join([*table, "", *(f"* {note}" for note in notes)]) + "\n"


def main() -> None:
    """Run all cases, or be one rank of one."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=Path, help="write the rows to this file.parquet, a table to file.md beside it")
    options.add_argument("--sizes", nargs="+", default=["S", "B", "L"], help="sizes to run")
    options.add_argument("--case", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.case:
        print(run_case(Case(**json.loads(given.case))))
        return
    rows = rows_of([case for case in CASES if case.size in given.sizes])
    if given.out is not None:
        pq.write_table(pa.Table.from_pylist(rows), given.out)
        given.out.with_suffix(".md").write_text(markdown(rows))


if __name__ == "__main__":
    main()
