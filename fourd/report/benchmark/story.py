"""What a report of a benchmark says that no row says."""

from __future__ import annotations

from dataclasses import dataclass

from fourd.results import Average


@dataclass(frozen=True)
class EntryStory:
    """Tell of one column: what is asked of which data, and which figure stands for it.

    num_clips_note: how many clips there are, or why there are none. clips_sha256: of the sorted list of their keys.
    """

    name: str
    title: str
    dataset: str
    headline_metric: str
    average: Average
    question: str
    num_clips_note: str
    clips_sha256: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class ContenderStory:
    """Tell of one line: the columns `backbone` and `weights` of its rows, and what stands behind them.

    display_name: always carries the source of the weights. contaminated: entries whose test data the published
    weights were trained on.
    """

    backbone: str
    weights: str
    use: str
    display_name: str
    num_parameters: int
    source_of_weights: str
    is_random: bool
    pretraining_data: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    contaminated: tuple[str, ...] = ()


@dataclass(frozen=True)
class BenchmarkStory:
    """Tell of a benchmark. table_depth: the fraction of depth that frozen figures of the table are read at."""

    title: str
    suite: str
    protocol: tuple[tuple[str, str], ...]
    entries: tuple[EntryStory, ...]
    contenders: tuple[ContenderStory, ...]
    table_depth: float
    command: str
    machine: str
    commit: str
    notes: tuple[str, ...] = ()
