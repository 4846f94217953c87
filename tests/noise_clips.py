"""Clips of noise that cost nothing; a module of its own, so that a process that reads them starts at once."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass

import numpy as np
import torch

from fourd.media import UnreadableVideo
from fourd.types import Batch, Dataset, DatasetConfig, Unreadable


@dataclass(frozen=True)
class ClipsConfig(DatasetConfig):
    """Describe clips of noise of which some cannot be decoded, or read at all, or hang whoever reads them."""

    num_clips: int = 12
    first: int = 0
    unreadable: tuple[int, ...] = ()
    listed: tuple[str, ...] = ()
    failing: tuple[int, ...] = ()
    hanging: tuple[int, ...] = ()
    crashing: tuple[int, ...] = ()
    shape: tuple[int, int, int] = (2, 4, 4)

    def build(self) -> Clips:
        return Clips(self)


class Clips(Dataset):
    """Give clips of 2 frames of 4 x 4 pixels, or of another shape; `time_s` and `seed` are drawn at each reading."""

    def __init__(self, config: ClipsConfig) -> None:
        self.config = config
        self.unreadable = tuple(Unreadable(name, "listed at the start") for name in config.listed)

    def __len__(self) -> int:
        return self.config.num_clips

    def read(self, index: int, rng: np.random.Generator) -> Batch:
        if index in self.config.unreadable:
            raise UnreadableVideo(f"clip-{index}", "damaged in the middle")
        if index in self.config.failing:
            raise OSError("the disk is gone")
        if index in self.config.crashing:
            os.kill(os.getpid(), signal.SIGSEGV)
        if index in self.config.hanging:
            time.sleep(600)
        number = self.config.first + index
        frames, *size = self.config.shape
        video = np.random.default_rng(number).integers(256, size=(1, frames, 3, *size), dtype=np.uint8)
        name = (f"clip-{number}",)
        time_s = torch.from_numpy(rng.random((1, frames), np.float32))
        return Batch(torch.from_numpy(video), time_s, name, name, torch.from_numpy(rng.integers(2**62, size=1)))
