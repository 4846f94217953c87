"""Which frames of a recording make a clip, and how many clips a recording gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

FrameNumbers = Int64[np.ndarray, " T"]


@dataclass(frozen=True)
class Windows:
    """Cut a recording into clips of every `stride`-th frame, one starting `hop` frames after the other.

    hop: None lets clips touch without sharing a frame. A recording too short for one clip gives none.
    """

    stride: int = 1
    hop: int | None = None

    def count(self, recorded: int, num_frames: int) -> int:
        """Count the clips of a recording of `recorded` frames."""
        spare = recorded - (num_frames - 1) * self.stride - 1
        return 0 if spare < 0 else spare // self._hop(num_frames) + 1

    def frames(self, recorded: int, num_frames: int, clip: int, rng: np.random.Generator) -> FrameNumbers:
        """Give the numbers of the frames of clip `clip`."""
        return clip * self._hop(num_frames) + self.stride * np.arange(num_frames, dtype=np.int64)

    def _hop(self, num_frames: int) -> int:
        return self.hop or num_frames * self.stride


@dataclass(frozen=True)
class Spread:
    """Take one clip of a recording, its frames spread evenly from the first to the last; a short one repeats some."""

    def count(self, recorded: int, num_frames: int) -> int:
        """Count the clips of a recording."""
        return min(recorded, 1)

    def frames(self, recorded: int, num_frames: int, clip: int, rng: np.random.Generator) -> FrameNumbers:
        """Give the numbers of the clip's frames."""
        return np.linspace(0, recorded - 1, num_frames).round().astype(np.int64)


@dataclass(frozen=True)
class RandomWindow:
    """Take one clip of a recording, of every `stride`-th frame from a random one; a short one repeats its last."""

    stride: int = 1

    def count(self, recorded: int, num_frames: int) -> int:
        """Count the clips of a recording."""
        return min(recorded, 1)

    def frames(self, recorded: int, num_frames: int, clip: int, rng: np.random.Generator) -> FrameNumbers:
        """Give the numbers of the clip's frames."""
        latest = max(recorded - (num_frames - 1) * self.stride - 1, 0)
        return _held(int(rng.integers(latest + 1)), self.stride, num_frames, recorded)


@dataclass(frozen=True)
class Segments:
    """Look at one recording `num_segments` times, in clips of every `stride`-th frame, spread evenly over it.

    They are views of one clip: their answers are averaged. A short recording repeats its last frame.
    """

    stride: int = 1
    num_segments: int = 1

    def count(self, recorded: int, num_frames: int) -> int:
        """Count the clips of a recording: one, however often it is looked at."""
        return min(recorded, 1)

    def frames(self, recorded: int, num_frames: int, clip: int, rng: np.random.Generator) -> FrameNumbers:
        """Give the numbers of the frames of segment `clip`; one segment alone lies in the middle."""
        latest = max(recorded - (num_frames - 1) * self.stride - 1, 0)
        starts = np.linspace(0, latest, self.num_segments) if self.num_segments > 1 else np.array([latest / 2])
        return _held(int(starts[clip].round()), self.stride, num_frames, recorded)


def _held(start: int, stride: int, num_frames: int, recorded: int) -> FrameNumbers:
    """Count frames from `start` on, staying at the last one."""
    return np.minimum(start + stride * np.arange(num_frames, dtype=np.int64), recorded - 1)


Sampling = Windows | Spread | RandomWindow | Segments
"""How frames are chosen. `Segments` is for testing; the others serve both."""
