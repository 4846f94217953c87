"""Parts of datasets: some clips spread over all, or the first of each corpus."""

from __future__ import annotations

import numpy as np

from fourd.types import Batch, Corpus, Dataset


class First(Dataset):
    """Give the first clips of each corpus, by which reading can be tried without preparing all."""

    def __init__(self, dataset: Dataset, num_clips: int) -> None:
        """Choose up to `num_clips` clips of each corpus."""
        self.dataset, self.num_clips = dataset, num_clips
        sizes = [min(num_clips, corpus.num_clips) for corpus in dataset.corpora]
        starts = np.cumsum([0, *(corpus.num_clips for corpus in dataset.corpora)])
        self._chosen = [int(start) + n for start, size in zip(starts, sizes, strict=False) for n in range(size)]
        self._corpora = tuple(Corpus(size, corpus.weight) for size, corpus in zip(sizes, dataset.corpora, strict=True))
        self.fingerprint = f"{dataset.fingerprint}/first{num_clips}"

    @property
    def corpora(self) -> tuple[Corpus, ...]:
        """Say how many clips each corpus has left, and how much it weighs."""
        return self._corpora

    def __len__(self) -> int:
        """Count the clips."""
        return len(self._chosen)

    def prepare(self, num_clips: int | None = None) -> None:
        """Prepare those clips."""
        self.dataset.prepare(self.num_clips if num_clips is None else min(num_clips, self.num_clips))

    def read(self, index: int, rng: np.random.Generator) -> Batch:
        """Read one of them."""
        return self.dataset.read(self._chosen[index], rng)


class Thinned(Dataset):
    """Give some of a dataset's clips, spread evenly over it, all views of each."""

    def __init__(self, dataset: Dataset, num_clips: int) -> None:
        """Choose `num_clips` clips, or all where there are no more."""
        self.dataset, self.num_views = dataset, dataset.num_views
        whole = len(dataset) // self.num_views
        self.chosen = [number * whole // min(num_clips, whole) for number in range(min(num_clips, whole))]
        self.fingerprint = f"{dataset.fingerprint}/spread{num_clips}"

    def __len__(self) -> int:
        """Count the clips, each view by itself."""
        return len(self.chosen) * self.num_views

    def prepare(self, num_clips: int | None = None) -> None:
        """Prepare all, among which the chosen ones are spread."""
        self.dataset.prepare()

    def read(self, index: int, rng: np.random.Generator) -> Batch:
        """Read a view of a chosen clip."""
        number, view = divmod(index, self.num_views)
        return self.dataset.read(self.chosen[number] * self.num_views + view, rng)
