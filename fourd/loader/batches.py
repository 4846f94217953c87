"""From positions to batches: read, replace what cannot be decoded, and gather, in worker processes or without."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.utils.data
from torch import Tensor

from fourd.loader.order import Draw, Order
from fourd.loader.shuffle import Shuffle
from fourd.media import UnreadableVideo
from fourd.storage import StorageError
from fourd.types import Batch, Dataset, Unreadable, concatenate, map_tensors

_MAX_SUBSTITUTES = 16
_NONE = -1


@dataclass(frozen=True)
class Quarantined:
    """Name a clip that could not be decoded, why, and which clip was shown in its place."""

    path: str
    reason: str
    substitute: str


@dataclass(frozen=True)
class Loaded:
    """Hold a batch, and what had to be replaced to fill it."""

    batch: Batch
    replaced: tuple[Quarantined, ...] = ()

    def pin_memory(self) -> Loaded:
        """Lay the batch into memory that a GPU reads by itself; torch's reader calls this."""
        return replace(self, batch=map_tensors(Tensor.pin_memory, self.batch))


@dataclass(frozen=True)
class _Failed:
    """Bring the message of what stops the run out of a worker process, where exceptions lose theirs."""

    message: str
    kind: type[Exception] = StorageError


class _Positions(torch.utils.data.Dataset[Loaded | _Failed]):
    """Read what stands at a position of a run."""

    def __init__(self, dataset: Dataset, order: Order, batch_size: int, num_workers: int = 0) -> None:
        self.dataset, self.order, self.batch_size = dataset, order, batch_size
        # which clip each worker reads, in memory that outlives it: a worker that dies cannot say it
        self.being_read = torch.full((num_workers,), _NONE, dtype=torch.int64).share_memory_()
        self.pids = torch.full((num_workers,), _NONE, dtype=torch.int64).share_memory_()

    def __getitem__(self, position: int) -> Loaded | _Failed:
        draw = self.order.draw(position)
        try:
            return self._read(draw)
        except OSError as error:  # it says nothing of the clip: no reason to show another one
            return _Failed(f"step {position // self.batch_size + 1}: clip {draw.index} cannot be read: {error}")

    def _read(self, wanted: Draw) -> Loaded | _Failed:
        lost: dict[int, UnreadableVideo] = {}
        for attempt in range(_MAX_SUBSTITUTES):
            index = (self.order.substitute(wanted, attempt) if attempt else wanted).index
            if index in lost:
                continue
            try:
                with self._noting(index):
                    batch = self.dataset.read(index, wanted.rng())
            except UnreadableVideo as error:
                lost[index] = error
            else:
                return Loaded(batch, tuple(Quarantined(str(e.path), e.reason, batch.key[0]) for e in lost.values()))
        reasons = "; ".join(f"{error.path}: {error.reason}" for error in list(lost.values())[:3])
        return _Failed(f"{len(lost)} clips in a row cannot be decoded ({reasons}, ...): check the videos", ValueError)

    @contextmanager
    def _noting(self, index: int) -> Iterator[None]:
        worker = torch.utils.data.get_worker_info()
        if worker is not None:
            self.being_read[worker.id] = index
        try:
            yield
        finally:
            if worker is not None:
                self.being_read[worker.id] = _NONE


def _collate(items: list[Loaded | _Failed]) -> Loaded | _Failed:
    for item in items:
        if isinstance(item, _Failed):
            return item
    whole = [item for item in items if isinstance(item, Loaded)]
    return Loaded(concatenate([item.batch for item in whole]), tuple(lost for item in whole for lost in item.replaced))


def batches(
    dataset: Dataset,
    batch_size: int,
    seed: int,
    steps: Sequence[int],
    num_workers: int = 0,
    *,
    shuffle: Shuffle | None = None,
    rank: int = 0,
    world: int = 1,
    micro: int = 1,
    timeout_s: float = 0.0,
    pinned: bool = False,
) -> Batches:
    """Give the batch of each step in `steps`, read ahead by worker processes when there are any.

    batch_size: clips of all ranks together; a rank gets its share of the slots of every step, in order. micro: give a
    rank's share in so many parts, one after the other, for gradients that are added up. timeout_s: end the run where
    a worker gives nothing for so long; 0 waits forever. pinned: lay batches into memory that a GPU reads by itself.
    Nothing but (seed, step, slot) says what a slot holds.
    Raises: StorageError where a clip cannot be read for no fault of its own; TimeoutError and ChildProcessError,
    naming the clips that were being read, where a worker hangs or dies; ValueError where 16 draws in a row cannot be
    decoded, or a rank or a part would get no clip.
    """
    if not 0 <= rank < world <= batch_size:
        raise ValueError(f"rank {rank} of {world} in batches of {batch_size}: expected rank < world <= batch_size")
    if not 1 <= micro <= batch_size // world:
        raise ValueError(f"micro is {micro}: expected 1 to the clips of a rank, {batch_size // world}")
    dataset.prepare()
    positions = _Positions(dataset, Order(dataset.corpora, seed, shuffle), batch_size, num_workers)
    slots = _Slots(batch_size, steps, rank, world, micro)
    reader = torch.utils.data.DataLoader(
        positions,
        batch_sampler=slots,
        collate_fn=_collate,
        num_workers=num_workers,
        multiprocessing_context="spawn" if num_workers else None,
        timeout=timeout_s if num_workers else 0.0,
        pin_memory=pinned,
        worker_init_fn=_leave_signals_to_the_trainer if num_workers else None,
    )
    return Batches(iter(reader), timeout_s, positions)


def _leave_signals_to_the_trainer(worker: int) -> None:
    """Go on reading when a scheduler signals all processes of a run: the trainer saves, and ends its workers."""
    info: Any = torch.utils.data.get_worker_info()
    info.dataset.pids[worker] = os.getpid()
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def once(dataset: Dataset, batch_size: int, num_clips: int, seed: int = 0) -> Iterator[Loaded]:
    """Give the first clips of a run, read in this process, the last batch as short as it comes; raise as `batches`."""
    return (loaded for _, loaded in shared(dataset, batch_size, num_clips, rank=0, world=1, seed=seed))


def shared(
    dataset: Dataset, batch_size: int, num_clips: int, rank: int, world: int, seed: int = 0
) -> Iterator[tuple[bool, Loaded]]:
    """Give a rank's share of the first clips of a run, in as many batches as other ranks get, as `once` does.

    Each comes with whether it counts: a rank that has no clips left is given the first one, which does not.
    """
    dataset.prepare()
    positions = _Positions(dataset, Order(dataset.corpora, seed), batch_size)
    own = _part(range(num_clips), rank, world)
    starts = range(0, math.ceil(num_clips / world), batch_size)
    parts = [own[start : start + batch_size] for start in starts]
    read = Batches((_collate([positions[place] for place in part or [0]]) for part in parts), 0.0, positions)
    return zip(map(bool, parts), read, strict=True)


@dataclass(frozen=True)
class _Slots:
    """List the positions that a rank reads together, made as they are asked for: a run may have millions of steps."""

    batch_size: int
    steps: Sequence[int]
    rank: int
    world: int
    micro: int

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            whole = range(step * self.batch_size, (step + 1) * self.batch_size)
            own = _part(whole, self.rank, self.world)
            yield from (list(_part(own, number, self.micro)) for number in range(self.micro))

    def __len__(self) -> int:
        return len(self.steps) * self.micro


def _part(whole: range, number: int, of: int) -> range:
    return whole[len(whole) * number // of : len(whole) * (number + 1) // of]


class Batches(Iterator[Loaded]):
    """Give one batch after the other, and say what was being read where a worker hangs or dies."""

    def __init__(self, loaded: Iterator[Loaded | _Failed], timeout_s: float, positions: _Positions) -> None:
        """Take what gives batches; made by `batches`."""
        self._loaded, self._timeout_s, self._positions = loaded, timeout_s, positions

    def __next__(self) -> Loaded:
        with self.explaining():
            found = next(self._loaded)
        if isinstance(found, _Failed):
            raise found.kind(found.message)
        return found

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Name the clips being read when a worker dies; torch raises that wherever the main process happens to be.

        What ends the block by an error ends the workers too.
        """
        try:
            yield
        except StopIteration:
            raise
        except BaseException as error:
            self._end_workers()
            named = _named(error, self._timeout_s, self._positions)
            if named is error:
                raise
            raise named from error

    def _end_workers(self) -> None:
        """End the workers, also one that hangs: they do not listen to the signals that ask for it."""
        shut_down = getattr(self._loaded, "_shutdown_workers", None)  # no public name, and deleting comes too late
        if shut_down is None:
            return
        shut_down()
        workers = set(self._positions.pids.tolist())
        for child in multiprocessing.active_children():
            if child.pid in workers:
                child.kill()


def _named(error: BaseException, timeout_s: float, positions: _Positions) -> BaseException:
    """Say which clips were being read when a worker hung or died; give other errors as they are."""
    clips = ", ".join(str(index) for index in positions.being_read.tolist() if index != _NONE) or "none"
    text = str(error).strip()
    if isinstance(error, RuntimeError) and "timed out" in text:
        return TimeoutError(
            f"a worker of the loader gave nothing for {timeout_s:g} s: it hangs, or reading is slower than "
            f"worker_timeout_s allows. Clips being read (numbers in the dataset): {clips}"
        )
    # a worker that dies while it sends leaves half a message, which may be noticed before its death is
    half_sent = isinstance(error, (EOFError, ConnectionResetError)) and len(positions.pids)
    if half_sent or (isinstance(error, RuntimeError) and "DataLoader worker" in text):
        reason = "it was cut off while it sent a clip." if half_sent else text.splitlines()[0]
        return ChildProcessError(
            f"a worker of the loader died: {reason} Clips being read (numbers in the "
            f"dataset): {clips}. `fourd data check` finds films that crash a decoder, and takes them out"
        )
    return error


class _Clips(torch.utils.data.Dataset[Batch | Unreadable]):
    """Read whole clips, all their views, by number."""

    def __init__(self, dataset: Dataset, seed: int) -> None:
        self.dataset, self.seed = dataset, seed

    def __len__(self) -> int:
        return len(self.dataset) // self.dataset.num_views

    def __getitem__(self, number: int) -> Batch | Unreadable:
        views = range(number * self.dataset.num_views, (number + 1) * self.dataset.num_views)
        try:
            views_read = [self.dataset.read(index, Draw(index, 0, self.seed).rng()) for index in views]
        except UnreadableVideo as error:
            return Unreadable(str(error.path), error.reason)
        joined: Batch = concatenate(views_read)
        return joined


def in_order(
    dataset: Dataset,
    batch_size: int,
    seed: int = 0,
    num_workers: int = 0,
    unreadable: list[Unreadable] | None = None,
) -> Iterator[Batch]:
    """Give every clip once, in the dataset's own order, the last batch as short as it comes.

    No clip's views are parted. num_workers: processes that read ahead. unreadable: where to list what cannot be
    decoded, and is left out; by default the first such clip raises UnreadableVideo.
    """
    dataset.prepare()
    clips_at_once = max(1, batch_size // dataset.num_views)
    reader = torch.utils.data.DataLoader(
        _Clips(dataset, seed), clips_at_once, num_workers=num_workers, collate_fn=list, multiprocessing_context=None
    )
    for items in reader:
        lost = [item for item in items if isinstance(item, Unreadable)]
        if lost and unreadable is None:
            raise UnreadableVideo(lost[0].path, lost[0].reason)
        if unreadable is not None:
            unreadable += [item for item in lost if item not in unreadable]
        if len(lost) < len(items):
            yield concatenate([item for item in items if isinstance(item, Batch)])
