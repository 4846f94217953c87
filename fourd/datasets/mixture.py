"""Train on several corpora at once, each as often as its weight says."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from fourd.datasets import video_files
from fourd.media import UnreadableVideo
from fourd.types import Batch, Corpus, Dataset, DatasetConfig, Unreadable


@dataclass(frozen=True)
class Part:
    """Name a corpus of a mixture. weight: how often its clips are shown beside those of the others."""

    name: str
    data: DatasetConfig
    weight: float = 1.0


@dataclass(frozen=True)
class MixtureConfig(DatasetConfig):
    """Describe a mixture of corpora.

    Of every 10,000 clips that a run reads, each corpus gives its share by weight, to the clip, and at no time is it a
    whole clip before or behind; passes are counted over each corpus by itself, and within one no clip comes twice.
    Not from the paper.
    """

    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        """Refuse parts without a name of their own or without weight."""
        names = [part.name for part in self.parts]
        if not names or len(set(names)) < len(names) or "" in names:
            raise ValueError(f"MixtureConfig.parts are named {names}: expected one or more names, each once")
        for part in self.parts:
            if not 0 < part.weight < float("inf"):
                raise ValueError(f"MixtureConfig.parts: {part.name} weighs {part.weight}: expected more than 0")

    def build(self) -> Mixture:
        """Build every part."""
        return Mixture(self)


class Mixture(Dataset):
    """Give the clips of all parts, one part after the other; keys and groups begin with the part's name."""

    def __init__(self, config: MixtureConfig) -> None:
        """Build every part."""
        self._names = [part.name for part in config.parts]
        self._weights = [part.weight for part in config.parts]
        self._parts = [part.data.build() for part in config.parts]
        if empty := [name for name, part in zip(self._names, self._parts, strict=True) if not len(part)]:
            raise ValueError(f"MixtureConfig.parts: {', '.join(empty)} without any clip: leave out what is empty")
        self._ends = np.cumsum([len(part) for part in self._parts])
        self.unreadable = self._named("unreadable")
        self.damaged = self._named("damaged")
        prints = [(name, part.fingerprint) for name, part in zip(self._names, self._parts, strict=True)]
        self.fingerprint = hashlib.sha256(repr(prints).encode()).hexdigest()[:16]

    def _named(self, field: str) -> tuple[Unreadable, ...]:
        parts = zip(self._names, self._parts, strict=True)
        return tuple(
            Unreadable(f"{name}/{item.path}", item.reason) for name, part in parts for item in getattr(part, field)
        )

    @property
    def corpora(self) -> tuple[Corpus, ...]:
        """Say how many clips each part has, and how much it weighs."""
        return tuple(Corpus(len(part), weight) for part, weight in zip(self._parts, self._weights, strict=True))

    def __len__(self) -> int:
        """Count the clips of all parts."""
        return int(self._ends[-1])

    def prepare(self, num_clips: int | None = None) -> None:
        """Prepare every part."""
        for part in self._parts:
            part.prepare(num_clips)

    def read(self, index: int, rng: np.random.Generator) -> Batch:
        """Read a clip from the part that has it; raise what that part raises, with the part's name."""
        if not 0 <= index < len(self):
            raise IndexError(f"clip {index} of a mixture: expected 0 to {len(self) - 1}")
        number = int(np.searchsorted(self._ends, index, side="right"))
        part, name = self._parts[number], self._names[number]
        try:
            batch = part.read(index - int(self._ends[number]) + len(part), rng)
        except UnreadableVideo as error:
            raise UnreadableVideo(f"{name}/{error.path}", error.reason) from error
        key, group = (tuple(f"{name}/{word}" for word in words) for words in (batch.key, batch.group))
        return replace(batch, key=key, group=group)


def tiny() -> MixtureConfig:
    """Describe a mixture of the small film with itself, for tests."""
    return MixtureConfig((Part("more", video_files.tiny(), 3.0), Part("less", video_files.tiny(), 1.0)))
