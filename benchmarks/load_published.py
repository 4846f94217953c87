"""Measure how long loading a released file takes and how much memory, the first time and afterwards.

    python benchmarks/load_published.py --size e --folder FOLDER

writes a file of random numbers in the official layout (4DS-e: 14 GB; the conversion takes as much again), then loads
it in fresh processes: first, which converts it; again; again in bfloat16; and again with every weight read once, as
encoding a clip does. Peak memory is the largest resident set that the system saw, less that of a process which only
imports what loading needs. What was written is kept for the next run; delete FOLDER afterwards.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fourd.backbones.video_vit import SIZES, VideoViTConfig

_BLOCK = np.random.default_rng(0).standard_normal(2**22, np.float32) * 0.02  # repeated: only its size matters

_LOAD = """
import json, resource, sys, time
import torch, fourd
path, dtype, touch = sys.argv[1:]
fourd.load  # imports what loading needs
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
backbone = fourd.load(path, dtype=getattr(torch, dtype)) if path != "-" else torch.nn.Identity()
if touch == "touch":
    assert all(bool(p.sum().isfinite()) for p in backbone.parameters())
seconds = time.perf_counter() - start
num_bytes = sum(p.numel() * p.element_size() for p in backbone.parameters())
peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
print(json.dumps({"seconds": seconds, "weights_bytes": num_bytes, "peak_bytes": peak}))
"""


def official_shapes(config: VideoViTConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """List the arrays of a released backbone."""
    width, heads, mlp = config.width, config.num_heads, config.mlp_width
    grid = tuple(length // side for length, side in zip((config.num_frames, *config.size), config.patch, strict=True))
    yield "params/encoder/patch_embedding/Conv_0/kernel", (*config.patch, 3, width)
    yield "params/encoder/patch_embedding/Conv_0/bias", (width,)
    yield "params/encoder/posenc/embeddings", (*grid, width)
    for number in range(config.depth):
        block = f"params/processor/layers_{number}"
        for norm in ("attention_norm", "mlp_norm"):
            yield f"{block}/{norm}/scale", (width,)
            yield f"{block}/{norm}/bias", (width,)
        for name in ("query", "key", "value"):
            yield f"{block}/attention/{name}/kernel", (width, heads, width // heads)
            yield f"{block}/attention/{name}/bias", (heads, width // heads)
        yield f"{block}/attention/out/kernel", (heads, width // heads, width)
        yield f"{block}/attention/out/bias", (width,)
        yield f"{block}/mlp/dense_in/kernel", (width, mlp)
        yield f"{block}/mlp/dense_in/bias", (mlp,)
        yield f"{block}/mlp/dense_out/kernel", (mlp, width)
        yield f"{block}/mlp/dense_out/bias", (width,)


def write_released(config: VideoViTConfig, path: Path) -> None:
    """Write an `.npz` of random numbers, array by array."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, shape in official_shapes(config):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(member, header)
                count = int(np.prod(shape))
                for start in range(0, count, len(_BLOCK)):
                    member.write(_BLOCK[: min(len(_BLOCK), count - start)].tobytes())


def measure(path: Path, dtype: str, touch: bool, cache: Path) -> dict[str, float]:
    """Load in a process of its own."""
    command = [sys.executable, "-c", _LOAD, str(path), dtype, "touch" if touch else "-"]
    answer = subprocess.run(command, env={"FOURD_CACHE": str(cache)}, check=True, capture_output=True, text=True)
    measured: dict[str, float] = json.loads(answer.stdout)
    return measured


def main() -> None:
    """Write the file unless it is there, load it four times, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="e")
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    path = options.folder / f"{options.size}.npz"
    if not path.exists():
        aside = path.with_suffix(".part")
        write_released(SIZES[options.size](), aside)
        aside.rename(path)
    print(f"{path}: {path.stat().st_size / 1e9:.2f} GB")
    print("| load | seconds | weights, GB | peak memory, GB | peak / weights |\n|---|---|---|---|---|")
    cases = {
        "first (converts)": ("float32", False),
        "second": ("float32", False),
        "second, bfloat16": ("bfloat16", False),
        "second, every weight read": ("float32", True),
    }
    for name, (dtype, touch) in cases.items():
        found = measure(path, dtype, touch, options.folder / "cache")
        ratio = found["peak_bytes"] / found["weights_bytes"]
        sizes = f"{found['weights_bytes'] / 1e9:.2f} | {found['peak_bytes'] / 1e9:.2f}"
        print(f"| {name} | {found['seconds']:.1f} | {sizes} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
