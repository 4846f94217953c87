"""Writing checkpoints while training goes on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp

from fourd.checkpoint import manifest
from fourd.checkpoint.folder import candidates, make_private, path_of, require_private
from fourd.checkpoint.state import copied, quiet_alone
from fourd.parallel import Ranks

ItemT = TypeVar("ItemT")


class Saver:
    """Write a run's checkpoints, one at a time, in a thread; keep the newest few.

    Each is written into a folder aside, hashed, forced to the disk, renamed. What goes wrong in the thread is raised by
    the next call.
    """

    def __init__(self, directory: Path, ranks: Ranks, keep: int = 2) -> None:
        """Make the folder; raise PermissionError where others may write to it."""
        self.directory, self.ranks, self.keep = directory, ranks, keep
        make_private(directory)
        require_private(directory)
        # the thread has a channel of its own: what it sends must not mix with what the steps send
        self._group = ranks.new_host_group()
        self._thread = ThreadPoolExecutor(1, "checkpoint", ranks.take_device)
        self._underway: Future[None] | None = None

    def save(self, step: int, state: Mapping[str, Any], notes: Mapping[str, Any], replaces: bool = True) -> None:
        """Copy the state after `step` steps, and write it; wait for the one before if that is not yet done.

        state: as `state_of` gives it. notes: JSON values that the manifest keeps. replaces: older ones beyond those to
        be kept are deleted. All ranks call it.
        """
        self.wait()
        keep = self.keep if replaces else None
        self._underway = self._thread.submit(self._write, step, copied(state), dict(notes), keep)

    def wait(self) -> None:
        """Wait until what was begun is on the disk; raise what went wrong.

        Raises OSError, naming the checkpoint that is still there, where the disk is full or cannot be written.
        """
        if self._underway is not None:
            underway, self._underway = self._underway, None
            underway.result()

    def raise_failure(self) -> None:
        """Raise what went wrong with a checkpoint that is done with, without waiting for one that is not."""
        if self._underway is not None and self._underway.done():
            self.wait()

    def __enter__(self) -> Saver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish what was begun; an error of the loop is not hidden by one of the thread."""
        try:
            if kind is None:
                self.wait()
        finally:
            self._thread.shutdown(wait=True)

    def _write(self, step: int, state: dict[str, Any], notes: dict[str, Any], keep: int | None) -> None:
        final = path_of(self.directory, step)
        aside = final.with_name(f".{final.name}.tmp")
        try:
            self._all_do(lambda: self._clear(aside))
            with quiet_alone():
                dcp.save(state, checkpoint_id=aside, process_group=self._group, no_dist=self._group is None)
            digests = {name: digest for own in self._all_do(lambda: self._own_digests(aside)) for name, digest in own}
            content = {"step": step, "sha256": digests, "notes": notes} | self._versions()
            self._all_do(lambda: self._publish(aside, final, content, keep))
        except (OSError, dcp.api.CheckpointException) as error:
            if self.ranks.is_first:
                shutil.rmtree(aside, ignore_errors=True)
            raise OSError(self._say(step, error)) from error

    def _all_do(self, action: Callable[[], list[ItemT]]) -> list[list[ItemT]]:
        """Let every rank do something, and give what each found; where one could not, all raise its OSError."""
        try:
            outcome: tuple[list[ItemT], str] = action(), ""
        except OSError as error:
            if self._group is None:
                raise
            outcome = [], f"rank {self.ranks.rank}: {error}"
        outcomes: list[Any] = [outcome]
        if self._group is not None:
            outcomes = [None] * self.ranks.size
            dist.all_gather_object(outcomes, outcome, group=self._group)
        failures = [failure for _, failure in outcomes if failure]
        if failures:
            raise OSError(failures[0])
        return [found for found, _ in outcomes]

    def _clear(self, aside: Path) -> list[None]:
        if self.ranks.is_first and aside.exists():
            shutil.rmtree(aside)
        return []

    def _own_digests(self, aside: Path) -> list[tuple[str, str]]:
        """Hash the files that this rank wrote, and force them to the disk."""
        return [(path.name, _synced_digest(path)) for path in sorted(aside.iterdir()) if self._is_own(path)]

    def _is_own(self, path: Path) -> bool:
        """Tell the files of a rank by their names, `__RANK_NUMBER.distcp`; the first rank has all others."""
        named = path.name.removeprefix("__").partition("_")[0]
        return int(named) == self.ranks.rank if path.suffix == ".distcp" else self.ranks.is_first

    def _publish(self, aside: Path, final: Path, content: Mapping[str, Any], keep: int | None) -> list[None]:
        if not self.ranks.is_first:
            return []
        manifest.write(aside, content)
        aside.chmod(0o700)
        _sync_folder(aside)
        shutil.rmtree(final, ignore_errors=True)
        os.rename(aside, final)
        _sync_folder(self.directory)
        for old in candidates(self.directory)[keep:] if keep is not None else ():
            shutil.rmtree(old)
        return []

    def _versions(self) -> dict[str, Any]:
        return {"ranks": self.ranks.size, "torch": torch.__version__}

    def _say(self, step: int, error: BaseException) -> str:
        left = [path.name for path in candidates(self.directory)]
        kept = f"{left[0]} is there" if left else "there is none yet"
        return (
            f"the checkpoint of step {step} could not be written into {self.directory}: {error}. Of earlier ones, "
            f"{kept}. Make room there, or let it be written to, and give the same command again"
        )


def _synced_digest(path: Path) -> str:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return manifest.digest(path)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
