"""Clips on disk: made once, in chunks that are written aside and renamed, and mapped into memory afterwards."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fourd.datasets.toy_world.clips import ToyClips, World, make_clips
from fourd.datasets.toy_world.scene import Array

CHUNK = 32
CLIPS_AT_ONCE = 16
_SMALLEST_SHARE = 4
"""Another process is started only if it gets this many chunks: starting one costs seconds."""
_COMPACT = {"depth": np.float16, "query_frame": np.int16, "labels": np.int8}


class ClipStore:
    """Give the stored clips of a world by their index; several stores of the same folder share the files."""

    def __init__(self, world: World, cache_dir: Path) -> None:
        """Say where the clips of a world lie, or will."""
        self.world, self.folder = world, cache_dir.expanduser() / "toy_world" / world.name
        self._open: dict[tuple[int, str], Array] = {}

    def read(self, index: int, field: str) -> Array:
        """Read one field of one clip; a copy, so that the caller may change it. A chunk that is not there is made."""
        chunk, place = divmod(index, CHUNK)
        if (chunk, field) not in self._open:
            folder = chunk_folder(self.folder, chunk)
            if not folder.is_dir():
                self.folder.mkdir(parents=True, exist_ok=True)
                make_chunk(self.world, self.folder, chunk)
            self._open[chunk, field] = np.load(folder / f"{field}.npy", mmap_mode="r")
        return np.array(self._open[chunk, field][place])

    def fill(self, first: int, count: int) -> None:
        """Make what is missing of clips `first` to `first + count`.

        A chunk is there in full or not at all, so a killed run goes on where it was. Processes that fill the same
        folder at once waste work and do no harm.
        """
        wanted = range(first // CHUNK, (first + count - 1) // CHUNK + 1)
        missing = [chunk for chunk in wanted if not chunk_folder(self.folder, chunk).is_dir()]
        if missing:
            self.folder.mkdir(parents=True, exist_ok=True)
            _make_missing(self.world, self.folder, missing)

    def __getstate__(self) -> dict[str, object]:
        """Travel to another process without the open files, which would be copied."""
        return {**vars(self), "_open": {}}


def chunk_folder(folder: Path, chunk: int) -> Path:
    """Name the folder of one chunk."""
    return folder / f"chunk-{chunk:06d}"


def _make_missing(world: World, folder: Path, missing: list[int]) -> None:
    num_processes = min(os.cpu_count() or 1, math.ceil(len(missing) / _SMALLEST_SHARE))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        progress.console.print(f"toy_world: making {len(missing) * CHUNK} clips in {folder}", soft_wrap=True)
        task = progress.add_task(f"chunks of {CHUNK} clips", total=len(missing))
        if num_processes == 1:
            for chunk in missing:
                make_chunk(world, folder, chunk)
                progress.advance(task)
            return
        with ProcessPoolExecutor(num_processes, get_context("spawn"), initializer=_use_one_thread) as pool:
            for done in as_completed([pool.submit(make_chunk, world, folder, chunk) for chunk in missing]):
                done.result()
                progress.advance(task)


def _use_one_thread() -> None:
    torch.set_num_threads(1)


def make_chunk(world: World, folder: Path, chunk: int) -> None:
    """Make one chunk beside its place, and move it there as a whole."""
    place = chunk_folder(folder, chunk)
    aside = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=folder))
    indices = range(chunk * CHUNK, (chunk + 1) * CHUNK)
    parts = [
        make_clips(world, indices[start : start + CLIPS_AT_ONCE], torch.device("cpu"))
        for start in range(0, CHUNK, CLIPS_AT_ONCE)
    ]
    for field in ToyClips.__dataclass_fields__:
        values = torch.cat([getattr(part, field) for part in parts]).numpy()
        np.save(aside / f"{field}.npy", values.astype(_COMPACT.get(field, values.dtype)))
    _settle(aside, place)


def _settle(aside: Path, place: Path) -> None:
    """Rename a finished folder; if another process was faster, its chunk has the same bytes and stays."""
    try:
        aside.rename(place)
    except OSError:
        if not place.is_dir():
            raise
        shutil.rmtree(aside)
