"""Draw what an encoder sees at its native size, at 1.5 times the size, and at twice the frames.

    python benchmarks/position_pictures.py --weights RUN/final/model.safetensors --out docs/images/positions.png

The clip is one of the embedded world, rendered once, long and large enough for all. The colours of all rows are the
same first three principal components, found at the native size: where the position table is resampled well, the same
things keep the same colours. The encoder of the picture in the docs:

    fourd pretrain fourd.recipes.demo:pretraining --out RUN --objective.backbone.size 64 64 --batch-size 16
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor

import fourd
from fourd.datasets.toy_world import ToyWorldConfig
from fourd.feature_film import FeatureColours
from fourd.loader import Draw
from fourd.types import Backbone

_CLIP = 2_000_003  # never trained on
_COLUMNS = 4


def clip_of(num_frames: int, size: tuple[int, int], seconds: float) -> Tensor:
    """Render a clip of the embedded world: `1 T 3 H W`."""
    height, width = size
    world = ToyWorldConfig(
        first_index=_CLIP, num_clips=1, num_frames=num_frames, height=height, width=width, duration_s=seconds
    )
    return world.build().read(0, Draw(0, 0, 0).rng()).video


def at_size(video: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a clip."""
    return F.interpolate(video[0], size, mode="bilinear", antialias=True, align_corners=False)[None]


@torch.inference_mode()
def features(backbone: Backbone, video: Tensor, depth: float) -> Tensor:
    """Encode one clip: `t h w D`."""
    return backbone(video, (depth,))[0].grid[0]


def draw(rows: list[tuple[str, Tensor, Tensor]], colours: FeatureColours, out: Path) -> None:
    """Lay inputs and coloured features out, a pair of lines per row."""
    figure, axes = plt.subplots(2 * len(rows), _COLUMNS, figsize=(2 * _COLUMNS, 4.2 * len(rows)))
    for number, (title, video, grid) in enumerate(rows):
        painted = colours.paint(grid).permute(0, 2, 3, 1)
        for column in range(_COLUMNS):
            step = column * (len(grid) - 1) // (_COLUMNS - 1)
            frame = step * video.shape[1] // len(grid)
            above, below = axes[2 * number, column], axes[2 * number + 1, column]
            above.imshow(video[0, frame].permute(1, 2, 0))
            below.imshow(painted[step], interpolation="nearest")
            above.set_title(f"frame {frame}", fontsize=9)
        axes[2 * number, 0].set_ylabel(title, fontsize=9)
        axes[2 * number + 1, 0].set_ylabel("features", fontsize=9)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    figure.tight_layout()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=80)


def main() -> None:
    """Encode the three clips and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--depth", type=float, default=1.0)
    options = parser.parse_args()
    backbone, free = fourd.load(options.weights), fourd.load(options.weights, native_size=False)
    native = backbone.native_input
    num_frames, size = native.num_frames or 8, native.size
    larger = (size[0] * 3 // 2, size[1] * 3 // 2)
    long = clip_of(2 * num_frames, larger, 2 * ToyWorldConfig().duration_s)
    short = long[:, :num_frames]
    clips = {
        f"native: {num_frames} x {size[0]} x {size[1]}": at_size(short, size),
        f"1.5 times the size: {larger[0]} x {larger[1]}": short,
        f"twice the frames: {2 * num_frames}": at_size(long, size),
    }
    rows = [(title, video, features(free, video, options.depth)) for title, video in clips.items()]
    exact = features(backbone, rows[0][1], options.depth)
    print(f"native size, largest difference with native_size=False: {(exact - rows[0][2]).abs().max():g}")
    draw(rows, FeatureColours.fit(exact.flatten(0, 2)), options.out)
    print(options.out)


if __name__ == "__main__":
    main()
