"""Small corpora to check, and a check that keeps what it is told."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fourd.corpus.check import CheckConfig, Problem, Report, check, subjects_of
from fourd.datasets.video_shards import write_pieces
from fourd.index.build import build_index
from fourd.isolation import Limits
from tests.datasets.test_video_shards import encode
from tests.films import write_film


@dataclass(frozen=True)
class Checked:
    """Hold a report and all problems, which the report counts only."""

    report: Report
    problems: list[Problem]

    @property
    def reasons(self) -> dict[str, str]:
        """Give the reason of each key."""
        return {problem.key: problem.reason for problem in self.problems}


def checked(*paths: Path, limits: Limits | None = None, **config: Any) -> Checked:
    """Check with one worker, which is begun sooner than two."""
    found: list[Problem] = []
    subjects = subjects_of([str(path) for path in paths], limits)
    return Checked(check(subjects, CheckConfig(**{"num_workers": 1, **config}), limits, found.append), found)


def write_films_and_index(folder: Path, count: int = 4) -> Path:
    """Write films of 30 frames and more into `films`, with a text among them, and index them beside it."""
    films = folder / "films"
    films.mkdir()
    for number in range(count):
        write_film(films / f"{number}.mp4", 30 + number, index_first=True)
    (films / "notes.txt").write_text("mine")
    build_index([str(films)], folder / "films.parquet", num_workers=1)
    return folder / "films.parquet"


def write_prepared(folder: Path) -> Path:
    """Write a corpus of three pieces in one shard."""
    write_pieces(folder / "corpus", [encode(0), encode(50), encode(100)], num_frames=24)
    return folder / "corpus"


def flip(path: Path, place: int) -> None:
    """Change a byte, and not the time of change."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[place] ^= 0xFF
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
