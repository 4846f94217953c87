"""Keep decoded clips of another dataset on disk, for sets so small that they are seen again and again.

A clip of 16 frames of 224 pixels takes 2.4 MB, a hundred times what a film of it takes: 10,000 clips are 24 GB. In
return reading costs a copy. What is random about a clip (its start, crop and flip) is then drawn once for good.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fourd.datasets import video_files
from fourd.media import UnreadableVideo
from fourd.types import Batch, Dataset, DatasetConfig, Unreadable

_PIXELS, _CLIPS = "video.npy", "clips.json"


@dataclass(frozen=True)
class DecodedClipsConfig(DatasetConfig):
    """Describe clips that are decoded once.

    data: the dataset to take them from. folder: where they are kept. clips_per_item: clips drawn from each of its
    items, each with a start, a crop and a flip of its own. seed: of what is random about them.
    """

    data: DatasetConfig
    folder: str
    clips_per_item: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what draws nothing."""
        if self.clips_per_item < 1:
            raise ValueError(f"DecodedClipsConfig.clips_per_item is {self.clips_per_item}: expected 1 or more")

    def build(self) -> DecodedClips:
        """Decode every clip, or find them decoded."""
        return DecodedClips(self)


class DecodedClips(Dataset):
    """Give clips that were decoded before; what is drawn from `rng` is only the objective's number.

    A clip that cannot be decoded is left out and stands in `unreadable`.
    """

    def __init__(self, config: DecodedClipsConfig) -> None:
        """Open the folder, or fill it; raise ValueError where it holds the clips of something else."""
        self.folder = Path(config.folder).expanduser()
        source = config.data.build()
        described = f"{source.fingerprint} {len(source)} {config.clips_per_item} {config.seed} {config.data}"
        self.fingerprint = hashlib.sha256(described.encode()).hexdigest()[:16]
        if not self.folder.exists():
            _fill(self.folder, source, config, self.fingerprint)
        held = json.loads((self.folder / _CLIPS).read_text())
        if held["fingerprint"] != self.fingerprint:
            raise ValueError(f"DecodedClipsConfig.folder: {self.folder} holds other clips: delete it, or name another")
        self._clips: list[dict[str, Any]] = held["clips"]
        self.unreadable = source.unreadable + tuple(Unreadable(**lost) for lost in held["unreadable"])
        self.damaged = source.damaged
        self._open()

    def _open(self) -> None:
        self._video = np.load(self.folder / _PIXELS, mmap_mode="r", allow_pickle=False)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_video"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open()

    def __len__(self) -> int:
        """Count the clips."""
        return len(self._clips)

    def read(self, index: int, rng: np.random.Generator) -> Batch:
        """Copy clip `index`."""
        if not 0 <= index < len(self):
            raise IndexError(f"clip {index} of {self.folder}: expected 0 to {len(self) - 1}")
        clip = self._clips[index]
        return Batch(
            video=torch.from_numpy(self._video[index].copy())[None],
            time_s=torch.tensor([clip["time_s"]], dtype=torch.float32),
            key=(clip["key"],),
            group=(clip["group"],),
            seed=torch.tensor([int(rng.integers(np.iinfo(np.int64).max))]),
        )


def _fill(folder: Path, source: Dataset, config: DecodedClipsConfig, fingerprint: str) -> None:
    """Decode all clips into a folder aside, and put it into place when it is whole."""
    aside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    aside.mkdir(parents=True)
    try:
        _decode_all(aside, source, config, fingerprint)
        aside.rename(folder)
    except OSError:
        if not folder.exists():  # if it does, another process was first, with the same clips
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _decode_all(folder: Path, source: Dataset, config: DecodedClipsConfig, fingerprint: str) -> None:
    """Write the pixels of one clip after the other, then the list of them."""
    clips: list[dict[str, Any]] = []
    lost: list[dict[str, str]] = []
    pixels: np.memmap[Any, Any] | None = None
    num_clips = len(source) * config.clips_per_item
    for key, batch in _clips_of(source, config):
        if isinstance(batch, Unreadable):
            lost.append(vars(batch))
            continue
        if pixels is None:
            shape = (num_clips, *batch.video.shape[1:])
            pixels = np.lib.format.open_memmap(folder / _PIXELS, "w+", np.uint8, shape)  # type: ignore[no-untyped-call]
        pixels[len(clips)] = batch.video[0].numpy()
        clips.append({"key": key, "group": batch.group[0], "time_s": batch.time_s[0].tolist()})
    if pixels is None:
        raise ValueError(f"none of {num_clips} clips can be decoded; the first: {lost[:3]}")
    pixels.flush()
    described = {"fingerprint": fingerprint, "clips": clips, "unreadable": lost}
    with (folder / _CLIPS).open("w") as file:
        json.dump(described, file)
        file.flush()
        os.fsync(file.fileno())


def _clips_of(source: Dataset, config: DecodedClipsConfig) -> Iterator[tuple[str, Batch | Unreadable]]:
    """Draw the clips of each item under keys of their own, with progress and the time left."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    draws = [(item, number) for item in range(len(source)) for number in range(config.clips_per_item)]
    with Progress(*columns, console=Console(stderr=True)) as progress:
        for item, number in progress.track(draws, description="Decoding clips once"):
            rng = np.random.Generator(np.random.Philox(key=[config.seed, number], counter=[0, 0, 0, item]))
            try:
                batch = source.read(item, rng)
            except UnreadableVideo as error:
                yield "", Unreadable(error.path, error.reason)
            else:
                yield f"{batch.key[0]}#{number}", batch


def tiny() -> DecodedClipsConfig:
    """Describe decoded clips of the small film of `video_files`, for tests."""
    films = video_files.tiny()
    name = "tiny-decoded-" + hashlib.sha256(repr(films).encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"fourd-{getpass.getuser()}" / name
    return DecodedClipsConfig(films, str(folder), clips_per_item=3)
