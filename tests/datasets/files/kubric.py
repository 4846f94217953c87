"""Write a small copy of CoTracker3_Kubric: two films of pictures, each with a pickled table of tracks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from fourd.datasets.kubric import KubricConfig, base
from tests.films import numbered_picture

WIDTH, HEIGHT = 64, 40
NUM_FRAMES = 12
NUM_POINTS = {"movi_f_9": 5, "movi_f_10": 3}


def coords(key: str) -> np.ndarray:
    """Give places in pixels, which tell films, points and frames apart: float32, N T 2."""
    number, frame = np.meshgrid(np.arange(NUM_POINTS[key]), np.arange(NUM_FRAMES), indexing="ij")
    x = 5 + 9 * number + 0.7 * frame + len(key)
    y = 38 - 6 * number - 0.3 * frame - len(key) / 10
    return np.stack([x, y], axis=-1).astype(np.float32)


def hidden(key: str) -> np.ndarray:
    """Hide the second point in frame 4: bool, N T."""
    kept = np.zeros((NUM_POINTS[key], NUM_FRAMES), bool)
    kept[1, 4] = True
    return kept


def write(root: Path) -> KubricConfig:
    """Write the copy; what its tables call visibility is true where a point is hidden."""
    for key in NUM_POINTS:
        frames = root / key / "frames"
        frames.mkdir(parents=True)
        for number in range(NUM_FRAMES):
            Image.fromarray(numbered_picture(number, (WIDTH, HEIGHT))).save(frames / f"{number:03d}.png")
        np.save(root / key / f"{key}.npy", {"coords": coords(key), "visibility": hidden(key)}, allow_pickle=True)
    config = base(str(root))
    return KubricConfig(
        root=config.root, tasks=config.tasks, sampling=config.sampling, num_frames=6, size=(HEIGHT, WIDTH)
    )
