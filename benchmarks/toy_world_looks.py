"""Draw the embedded world in each of its looks, for the docs; or time how fast it is made.

    python benchmarks/toy_world_looks.py --out docs/images/toy_world_looks.png
    python benchmarks/toy_world_looks.py --speed cpu

A row is a look, three clips of it, two frames of each; `rich`, `night` and `clay` show the same clips. Nothing is read
or kept: the clips are made on the spot, within seconds.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import get_args

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image

from fourd.datasets.toy_world import LookName, World, make_clips, make_video

_CLIPS = (2, 5, 9)
_NUM_FRAMES, _SIDE_PX = 8, 96
_FRAMES = (0, 5)
_RASTERS = ((64, 8), (64, 16), (64, 64), (112, 16), (224, 16), (224, 64))


def row_of(look: LookName) -> np.ndarray:
    """Lay some frames of some clips of a look side by side: `H W 3`."""
    world = World(0, _NUM_FRAMES, _SIDE_PX, _SIDE_PX, 0.0875 * _NUM_FRAMES, 1, "first", look)
    video = make_video(world, _CLIPS, torch.device("cpu"))
    return video[:, _FRAMES].permute(3, 0, 1, 4, 2).flatten(1, 3).numpy()


def clips_per_second(look: LookName, side: int, num_frames: int, device: torch.device) -> float:
    """Measure how fast clips are made with all their truth: the best of three, after a first one that is not timed."""
    world, taken = World(0, num_frames, side, side, 0.0875 * num_frames, 64, "first", look), []
    at_once = max(1, 16 * 64**2 * 8 // (side**2 * num_frames))
    for start in range(4):
        before = time.perf_counter()
        clips = make_clips(world, range(start * at_once, (start + 1) * at_once), device)
        clips.video.cpu()  # waits for the device
        taken.append(time.perf_counter() - before)
    return at_once / min(taken[1:])


def time_looks(device: torch.device) -> None:
    """Print clips per second for each look, size and length."""
    print(f"clips/s on {device}, {torch.get_num_threads()} thread(s)", *get_args(LookName), sep="\t")
    for side, num_frames in _RASTERS:
        rates = [clips_per_second(look, side, num_frames, device) for look in get_args(LookName)]
        print(f"{num_frames} x {side} x {side}", *(f"{rate:.1f}" for rate in rates), sep="\t", flush=True)


def draw(out: Path) -> None:
    """Write the picture of all looks."""
    looks = get_args(LookName)
    figure, axes = plt.subplots(len(looks), 1, figsize=(6.4, 1.1 * len(looks)))
    for look, axis in zip(looks, axes, strict=True):
        axis.imshow(row_of(look), interpolation="none")
        axis.set(xticks=[], yticks=[], ylabel=look)
        axis.spines[:].set_visible(False)
    figure.subplots_adjust(left=0.035, right=0.998, bottom=0.005, top=0.995, hspace=0.04)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=92)
    with Image.open(out) as picture:
        opaque = picture.convert("RGB")
    opaque.save(out, optimize=True)
    print(f"{out}: {out.stat().st_size / 1e3:.0f} kB")


def main() -> None:
    """Read the options; draw or time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path, help="write the picture here")
    what.add_argument("--speed", metavar="DEVICE", help="print clips per second on this device, on one thread")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.speed:
        time_looks(torch.device(options.speed))
    else:
        draw(options.out)


if __name__ == "__main__":
    main()
