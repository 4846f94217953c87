"""What every dataset must keep. Each check takes a plug-in module, which exports `tiny()`."""

from __future__ import annotations

import atexit
import functools
import importlib
import shutil
import tempfile
from pathlib import Path
from typing import Protocol

import numpy as np

from fourd.types import Batch, Dataset, DatasetConfig, concatenate
from tests.contracts.nouns import assert_close, tensors_in

MOST_CLIPS = 8  # as many as are looked at, for speed


class DatasetPlugin(Protocol):
    """A module that exports a dataset."""

    __name__: str


def tiny(plugin: DatasetPlugin) -> DatasetConfig:
    """Describe a dataset that reads a clip within a second on a CPU.

    A module exports `tiny()`. One that reads files which it cannot make exports `ABOUT` and `base(root)` instead, and
    `tests/datasets/files/` holds a module of its name that writes a small copy.
    """
    return small_copy(plugin.__name__.rpartition(".")[2]) if hasattr(plugin, "ABOUT") else plugin.tiny()  # type: ignore[attr-defined]


@functools.cache
def small_copy(reader: str) -> DatasetConfig:
    """Write a small copy of a dataset in its exact format, once for all tests of a process."""
    folder = tempfile.mkdtemp(prefix=f"fourd-tests-{reader}-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    config: DatasetConfig = importlib.import_module(f"tests.datasets.files.{reader}").write(Path(folder) / "root")
    return config


def read(dataset: Dataset, index: int, seed: int = 0) -> Batch:
    """Read a clip with seeded random numbers."""
    return dataset.read(index, np.random.default_rng(seed))


def first_clips(dataset: Dataset, seed: int = 0) -> list[Batch]:
    """Read a few clips."""
    return [read(dataset, index, seed) for index in range(min(len(dataset), MOST_CLIPS))]


def assert_identical(one: Batch, other: Batch) -> None:
    """Compare every bit and every name."""
    assert (one.key, one.group) == (other.key, other.group)
    assert_close(one, other, tolerance=0)


def describes_a_dataset(plugin: DatasetPlugin) -> None:
    """`tiny()` gives a DatasetConfig that builds a Dataset with clips in it."""
    config = tiny(plugin)
    assert isinstance(config, DatasetConfig)
    assert config == tiny(plugin), "two calls of tiny() differ: a config must compare by its values"
    dataset = config.build()
    assert isinstance(dataset, Dataset)
    assert len(dataset) > 0


def reads_the_same_clip_again(plugin: DatasetPlugin) -> None:
    """A clip depends on its number and on the random numbers given, not on what was read before."""
    dataset = tiny(plugin).build()
    last = len(dataset) - 1
    first = read(dataset, last, seed=7)
    read(dataset, 0, seed=1)
    assert_identical(read(dataset, last, seed=7), first)
    assert_identical(read(tiny(plugin).build(), last, seed=7), first)


def leaves_global_random_numbers_alone(plugin: DatasetPlugin) -> None:
    """Reading neither depends on numpy's global random numbers nor moves them."""
    dataset = tiny(plugin).build()
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    first = read(dataset, 0)
    assert (np.random.get_state()[1] == before).all()
    np.random.seed(2)
    assert_identical(read(dataset, 0), first)


def gives_batches_of_one(plugin: DatasetPlugin) -> None:
    """Every clip is a batch of one whose parts agree with each other."""
    for batch in first_clips(tiny(plugin).build()):
        assert isinstance(batch, Batch)
        assert len(batch.key) == len(batch.group) == 1
        assert {len(tensor) for tensor in tensors_in(batch)} == {1}
        assert batch.video.shape[2] == 3
        assert batch.time_s.shape == batch.video.shape[:2]
        assert (batch.time_s.diff(dim=1) > 0).all(), "time_s must increase from frame to frame"


def joins_into_batches(plugin: DatasetPlugin) -> None:
    """Clips of one dataset have one shape, so that they can be joined."""
    clips = first_clips(tiny(plugin).build())
    assert len(concatenate(clips).key) == len(clips)


def names_clips_for_good(plugin: DatasetPlugin) -> None:
    """A clip's key is its own, and does not depend on the random numbers."""
    dataset = tiny(plugin).build()
    keys = [batch.key[0] for batch in first_clips(dataset)]
    assert all(keys), "a key is empty"
    assert len(set(keys)) == len(keys), "two clips share a key"
    assert [(b.key, b.group) for b in first_clips(dataset, seed=1)] == [(b.key, b.group) for b in first_clips(dataset)]


def stays_on_the_cpu(plugin: DatasetPlugin) -> None:
    """All tensors are on the CPU: the loader moves them."""
    assert {tensor.device.type for tensor in tensors_in(read(tiny(plugin).build(), 0))} == {"cpu"}


CHECKS = (
    describes_a_dataset,
    reads_the_same_clip_again,
    leaves_global_random_numbers_alone,
    gives_batches_of_one,
    joins_into_batches,
    names_clips_for_good,
    stays_on_the_cpu,
)
