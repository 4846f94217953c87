"""A small copy of DAVIS-2017: two films in which a block moves, objects numbered in palette pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from fourd.datasets.davis import DavisConfig

NUM_FRAMES, HEIGHT, WIDTH = 6, 48, 96
COLOURS = {1: (250, 40, 40), 2: (40, 60, 250)}
STEPS = {"bear": 4, "bike": -3}


def masks(film: str) -> np.ndarray:
    """Give the numbers of the objects: `T H W`; object 1 moves along, object 2 stands still."""
    numbers = np.zeros((NUM_FRAMES, HEIGHT, WIDTH), np.uint8)
    for frame in range(NUM_FRAMES):
        left = 36 + STEPS[film] * frame
        numbers[frame, 8:24, left : left + 20] = 1
        numbers[frame, 32:44, 10:26] = 2
    return numbers


def write(root: Path) -> DavisConfig:
    """Write both films."""
    for film in STEPS:
        pictures, labels = (root / part / "480p" / film for part in ("JPEGImages", "Annotations"))
        pictures.mkdir(parents=True)
        labels.mkdir(parents=True)
        for frame, numbers in enumerate(masks(film)):
            colours = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
            for number, colour in COLOURS.items():
                colours[numbers == number] = colour
            Image.fromarray(colours).save(pictures / f"{frame:05d}.jpg", quality=95, subsampling=0)
            label = Image.fromarray(numbers, mode="P")
            label.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
            label.save(labels / f"{frame:05d}.png")
    lists = root / "ImageSets" / "2017"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("bear\nbike\n")
    return DavisConfig(root=str(root), size=(HEIGHT, WIDTH))
