"""Train the same run on several layouts of ranks; run by test_layouts.py in a process of its own.

`python -m tests.distributed.layouts FOLDER KIND` trains KIND whole on one rank, then on two, and goes on from the two
ranks' checkpoint on other layouts. Each run has a folder of its own in FOLDER.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from functools import partialmethod
from pathlib import Path

import torch

from fourd.backbones import video_vit
from fourd.objectives import probe, simple_mae
from fourd.parallel import ParallelConfig
from fourd.readout import ReadoutSize
from fourd.tasks import action, camera_pose
from fourd.trainer import RunConfig, fit
from tests import forked_ranks
from tests.noise_clips import ClipsConfig
from tests.small_runs import ProbeClipsConfig, run

STEPS, SAVED = 6, 3
COMPILE = torch.nn.Module.compile
LAYOUTS = {
    "one": (1, ParallelConfig()),
    "two": (2, ParallelConfig()),
    "from_two_to_one": (1, ParallelConfig()),
    "from_two_to_four": (4, ParallelConfig()),
    "from_two_to_three": (3, ParallelConfig()),
    "hybrid": (4, ParallelConfig(shard=2)),
    "copies": (2, ParallelConfig(shard=1)),
    "parts_full": (2, ParallelConfig(parts=2, recompute="full")),
    "compiled": (2, ParallelConfig(compile="yes")),
    "selective": (1, ParallelConfig(parts=2, recompute="selective", reshard=False)),
}
"""Those after "two" go on from its checkpoint."""


def config_of(kind: str, parallel: ParallelConfig) -> RunConfig:
    """Describe a small run of SimpleMAE, or of a probe that is frozen or finetuned."""
    common = {"steps": STEPS, "save_every": SAVED, "precision": "fp32", "parallel": parallel}
    if kind == "simple_mae":
        held_out = ClipsConfig(5, 100, shape=(4, 32, 32))
        return run(simple_mae.tiny(), ClipsConfig(12, shape=(4, 32, 32)), held_out, held_out_every=2, **common)
    # dropout differs between layouts by design: each rank draws its own
    tasks = (camera_pose.tiny(), replace(action.tiny(), size=ReadoutSize(width=16, num_heads=2, dropout=0.0)))
    config = replace(probe.tiny(), backbone=video_vit.tiny(), depths=(0.95,), use=kind, tasks=tasks)
    return run(config, ProbeClipsConfig(), batch_size=8, **common)


def train(kind: str, folder: Path, name: str) -> None:
    """Train on a layout, from the checkpoint of two ranks unless it is one of the first two."""
    size, parallel = LAYOUTS[name]
    out = folder / name
    if name not in ("one", "two"):
        shutil.copytree(folder / "two", out)
        shutil.rmtree(out / "final")
        shutil.rmtree(out / f"checkpoints/step_{STEPS:08d}")
    if parallel.compile == "yes":  # without the C++ compiler, which takes minutes
        torch.nn.Module.compile = partialmethod(COMPILE, backend="aot_eager")
    pids = forked_ranks.start(size, lambda: fit(config_of(kind, parallel), out))
    codes = forked_ranks.wait(pids)
    if any(codes):
        raise SystemExit(f"{kind} on layout {name!r}: exit codes {codes}")


if __name__ == "__main__":
    folder, kind, *names = sys.argv[1:]
    for name in names or LAYOUTS:
        train(kind, Path(folder), name)
