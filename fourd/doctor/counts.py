"""What a split holds beside what it should hold, and the list of clips that can be had from it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from fourd.datasets import LabelledConfig, LabelledDataset, Recording
from fourd.types import Unreadable


@dataclass(frozen=True)
class Counts:
    """Count a split. num_found: as official lists count, where a recording may be a part of what is listed.

    official: None where the number is not known. too_short: recordings that give no clip. clips: keys, in the order in
    which they are hashed.
    """

    official: int | None
    num_found: int
    num_recordings: int
    num_frames: int
    unreadable: tuple[Unreadable, ...]
    damaged: tuple[Unreadable, ...]
    too_short: tuple[Unreadable, ...]
    clips: tuple[str, ...]

    @property
    def num_missing(self) -> int:
        """Count what the official lists have and this copy does not."""
        return max((self.official or 0) - self.num_found, 0)

    @property
    def clips_sha256(self) -> str:
        """Name the list of clips, as an evaluation on it does: SHA-256 of the sorted keys, one a line."""
        return hashlib.sha256("\n".join(self.clips).encode()).hexdigest()


def count(dataset: LabelledDataset, config: LabelledConfig, official: int | None) -> Counts:
    """Count what a dataset found; config: how clips are cut, which says what is too short."""
    recordings = dataset.recordings
    num_clips = _clips_of_each(recordings, config)
    left_out = _clips_of_each(recordings, dataset.config).count(0)  # a dataset lists its own short ones last
    usable = [recording for recording, clips in zip(recordings, num_clips, strict=True) if clips]
    return Counts(
        official=official,
        num_found=len({_listed_name(recording) for recording in recordings}),
        num_recordings=len(usable),
        num_frames=sum(recording.num_frames for recording in usable),
        unreadable=dataset.unreadable[: len(dataset.unreadable) - left_out],
        damaged=dataset.damaged,
        too_short=tuple(
            Unreadable(f"{dataset.name}/{recording.key}", f"{recording.num_frames} frames, too few for a clip")
            for recording, clips in zip(recordings, num_clips, strict=True)
            if not clips
        ),
        clips=clip_keys(dataset.name, recordings, num_clips, config.num_views),
    )


def _clips_of_each(recordings: Sequence[Recording], config: LabelledConfig) -> list[int]:
    return [config.sampling.count(recording.num_frames, config.num_frames) for recording in recordings]


def clip_keys(name: str, recordings: Sequence[Recording], num_clips: Sequence[int], num_views: int) -> tuple[str, ...]:
    """Name all clips, sorted; of a clip's views, the first."""
    view = "/view0" if num_views > 1 else ""
    pairs = zip(recordings, num_clips, strict=True)
    return tuple(sorted(f"{name}/{recording.key}/{clip}{view}" for recording, count in pairs for clip in range(count)))


def _listed_name(recording: Recording) -> str:
    """Name what a list counts: a scan of which recordings are stretches, or a drive of which they are cameras."""
    if not recording.key.startswith(recording.group):
        return recording.key
    rest = recording.key[len(recording.group) :]
    return recording.group + rest.partition("/")[0]
