"""Load clips at their own size, and let every check look at them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from fourd.datasets import FrameNumbers, Labelled, LabelledConfig, LabelledDataset, Recording
from fourd.doctor.checks import CHECKS
from fourd.doctor.findings import Expected, Finding


@dataclass(frozen=True)
class Clip:
    """Name a clip of a recording, by its number there."""

    recording: Recording
    number: int


@dataclass(frozen=True, eq=False)
class Look:
    """Hold what was found in one clip; loaded: None where it could not be loaded, for the reason `error`."""

    key: str
    frames: Int64[np.ndarray, " T"]
    loaded: Labelled | None
    findings: tuple[Finding, ...] = ()
    error: str = ""


def choose(recordings: Sequence[Recording], config: LabelledConfig, num_clips: int | None, seed: int) -> list[Clip]:
    """Choose clips: all of them for None, otherwise spread over the recordings, as many of each as can be.

    The same seed chooses the same clips of the same recordings.
    """
    counts = [config.sampling.count(recording.num_frames, config.num_frames) for recording in recordings]
    usable = [(recording, count) for recording, count in zip(recordings, counts, strict=True) if count]
    if num_clips is None or num_clips >= sum(counts):
        return [Clip(recording, number) for recording, count in usable for number in range(count)]
    rng = np.random.default_rng(seed)
    orders = {at: iter(rng.permutation(usable[at][1]).tolist()) for at in rng.permutation(len(usable)).tolist()}
    chosen: list[Clip] = []
    while len(chosen) < num_clips:
        for at, order in orders.items():
            number = next(order, None)
            if number is not None and len(chosen) < num_clips:
                chosen.append(Clip(usable[at][0], number))
    return chosen


def look_at(
    dataset: LabelledDataset, config: LabelledConfig, clips: Sequence[Clip], expected: Expected, seed: int
) -> Iterator[Look]:
    """Load clips one after the other, with the last frame of their recording, and check them."""
    seen: set[str] = set()
    for number, clip in enumerate(clips):
        rng = np.random.default_rng((seed, number))
        frames = config.sampling.frames(clip.recording.num_frames, config.num_frames, clip.number, rng)
        key = f"{dataset.name}/{clip.recording.key}/{clip.number}"
        is_first = clip.recording.key not in seen
        seen.add(clip.recording.key)
        yield _look(dataset, clip.recording, np.unique(frames), key, expected, with_end=is_first)


def _look(
    dataset: LabelledDataset,
    recording: Recording,
    frames: FrameNumbers,
    key: str,
    expected: Expected,
    with_end: bool,
) -> Look:
    end = np.array([recording.num_frames - 1], np.int64)
    at = frames
    try:
        loaded = dataset.load(recording, frames)
        if with_end:
            at = end
            dataset.load(recording, end)
    except Exception as error:  # a doctor outlives its patient: every kind is told with its name
        return Look(key, frames, None, error=f"frames {at[0]} to {at[-1]} of {recording.num_frames}: {_told(error)}")
    findings = (check(loaded, expected) for check in CHECKS)
    return Look(key, frames, loaded, tuple(finding for finding in findings if finding is not None))


def _told(error: Exception) -> str:
    return str(error) if type(error).__name__ == "UnreadableVideo" else f"{type(error).__name__}: {error}"
