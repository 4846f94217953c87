"""What becomes of one input: its tokens in a file of features with their times, and a row of the index."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from fourd.extraction.config import ExtractConfig
from fourd.extraction.encoding import Encoded, as_stored
from fourd.extraction.files import GrowingFile, TensorPlan
from fourd.extraction.index import DAMAGED, DONE, Entry
from fourd.extraction.inputs import sample_sha256
from fourd.extraction.reading import Chosen, End, average_rate
from fourd.types import FeatureShape

TIME_NAMES = ("time_s", "frame_start_s", "frame_end_s")
"""Tensors of a file of features: mean, first and last time stamp of each time step's frames, in seconds."""

_LONGEST_PROBLEM = 500


@runtime_checkable
class Film(Protocol):
    """Draw features beside their frames, in constant memory, as `fourd.feature_film.FeatureFilm` does."""

    def add(self, frames: UInt8[Tensor, "T 3 H W"], grid: Float[Tensor, "t h w D"]) -> None:
        """Take the next token steps with the frames that they cover."""

    def close(self) -> None:
        """Write what is left, and give the film its name."""

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Forget the film where something was raised."""


class Writer:
    """Write the features of one input as they come."""

    def __init__(
        self,
        chosen: Chosen,
        shape: FeatureShape,
        config: ExtractConfig,
        patch: int,
        path: Path,
        about: Mapping[str, str],
        film: Film | None = None,
    ) -> None:
        """Begin the file at `path`. shape: of a window's tokens; about: what the file shall say of itself, as text."""
        self.chosen, self.shape, self.config, self.patch = chosen, shape, config, patch
        self.film, self._about = film, dict(about)
        num_steps = 1 if config.pooling == "clip" else -(-len(chosen.times_s) // patch)
        grid = (shape.h, shape.w) if config.pooling == "none" else ()
        stored = TensorPlan(getattr(torch, config.dtype), (num_steps, *grid, shape.width))
        times = TensorPlan(torch.float64, (num_steps,))
        plans = dict.fromkeys(TIME_NAMES, times) | dict.fromkeys(config.tensor_names, stored)
        self.file = GrowingFile(path, plans, self._room_for_header())
        self._sums = [torch.zeros(shape.width, dtype=torch.float64) for _ in config.depths]
        self._num_steps = 0

    def add(self, encoded: Encoded) -> int:
        """Take the tokens of the next window, and say how many frames they cover."""
        self._num_steps += encoded.piece.window.num_kept
        for number, tokens in enumerate(encoded.tokens):
            if self.config.pooling == "clip":
                self._sums[number] += tokens.double().sum(0)
            else:
                self.file.append(self.config.tensor_names[number], tokens)
        frames = self._covered(encoded)
        if self.film is not None:
            assert encoded.grid is not None  # the encoder was told to keep it
            self.film.add(encoded.piece.window.clip[frames], encoded.grid)
        return len(frames)

    def finish(self, end: End) -> Entry:
        """Write the times, give the file its name, and make the row."""
        if self.config.pooling == "clip":
            for name, total in zip(self.config.tensor_names, self._sums, strict=True):
                mean = (total / self._num_steps).float()
                self.file.append(name, as_stored(mean, self.config.dtype)[None])
        patch = end.num_frames if self.config.pooling == "clip" else self.patch
        for name, times in zip(TIME_NAMES, step_times(self.chosen.times_s[: end.num_frames], patch), strict=True):
            self.file.append(name, torch.from_numpy(times))
        entry = self._entry(end)
        whole = frozenset(self.config.tensor_names if self.config.pooling == "clip" else ())
        self.file.finish({"row": entry.to_json(), **self._about}, whole)
        if self.film is not None:
            self.film.close()
        return replace(entry, num_bytes=self.file.path.stat().st_size)

    def discard(self) -> None:
        """Forget what was written."""
        self.file.discard()
        if self.film is not None:
            self.film.__exit__(InterruptedError)

    def _covered(self, encoded: Encoded) -> list[int]:
        """Say where in its window the frames are which the kept steps cover; one that is repeated counts once."""
        window = encoded.piece.window
        places = range(window.kept.start * self.patch, window.kept.stop * self.patch)
        return [place for place in places if place == places[0] or window.frames[place] > window.frames[place - 1]]

    def _entry(self, end: End) -> Entry:
        """Make the row of this input."""
        times_s, source, problem = self.chosen.times_s[: end.num_frames], self.chosen.source, end.problem
        return Entry(
            key=source.key,
            path=source.path,
            status=f"{DAMAGED}: {problem[:_LONGEST_PROBLEM]}" if problem else DONE,
            num_frames=end.num_frames,
            t=self._num_steps,
            h=self.shape.h,
            w=self.shape.w,
            width=self.shape.width,
            first_s=float(times_s[0]),
            last_s=float(times_s[-1]),
            fps=average_rate(times_s),
            source_bytes=source.num_bytes,
            source_mtime_ns=source.mtime_ns,
            source_sample=sample_sha256(source.path),
        )

    def _room_for_header(self) -> int:
        """Leave room for a header, whatever may be wrong with the input: text grows sixfold where it is escaped."""
        known = json.dumps([self._about, self.chosen.source.key, self.chosen.source.path])
        return 2 * len(known) + 12 * _LONGEST_PROBLEM + 256 * (len(self.config.depths) + 8)


Times = Float[np.ndarray, " t"]


def step_times(times_s: Float[np.ndarray, " N"], patch: int) -> tuple[Times, Times, Times]:
    """Give the mean, the first and the last time stamp of the frames of each token step; the last may cover fewer."""
    starts = np.arange(0, len(times_s), patch)
    ends = np.minimum(starts + patch, len(times_s))
    return np.add.reduceat(times_s, starts) / (ends - starts), times_s[starts], times_s[ends - 1]
