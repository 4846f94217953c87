"""The folder of a prepared corpus: what lies where, and how a file comes into being at once or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

_PER_FOLDER = 1000
"""Files in one folder; file systems get slow with many more."""

_PATIENCE_S = 5.0
"""How long a lock may outlive its owner: a process that was just begun when its parent was killed still holds it."""


@dataclass(frozen=True)
class CorpusFolder:
    """Know the files of a corpus. `work` is there only until it is complete."""

    out: Path

    @property
    def work(self) -> Path:
        """Name the folder of what is not yet done."""
        return self.out / "work"

    @property
    def description(self) -> Path:
        """Name the file that says what the corpus is, which is written last."""
        return self.out / "prepare.json"

    @property
    def lock(self) -> Path:
        """Name the file that keeps a second run out."""
        return self.work / "lock"

    @property
    def claim(self) -> Path:
        """Name the file that says what is being done here."""
        return self.work / "claim.json"

    @property
    def films(self) -> Path:
        """Name the index of the films, where it was made here."""
        return self.out / "films.parquet"

    @property
    def selection(self) -> Path:
        """Name the list of the pieces that are kept."""
        return self.work / "selection.parquet"

    def item(self, number: int, suffix: str) -> Path:
        """Name a file of a work item; its rows, which are written last, end in .parquet."""
        return self.work / "items" / f"{number // _PER_FOLDER:04d}" / f"{number:07d}{suffix}"

    def shard(self, name: str) -> Path:
        """Name a shard."""
        return self.out / shard_path(name)

    def shard_rows(self, name: str) -> Path:
        """Name the rows of a shard, which are written after it."""
        return self.work / "rows" / f"{name}.parquet"


def shard_path(name: str) -> str:
    """Name a shard by its path from the corpus's folder."""
    return f"shards/{name}.tar"


@contextmanager
def scratch(folder: CorpusFolder) -> Iterator[Path]:
    """Give a new folder to write in, on the file system of the corpus; it is gone afterwards."""
    parent = folder.work / "scratch"
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, ignore_cleanup_errors=True) as path:
        yield Path(path)


def commit(aside: Path, path: Path) -> None:
    """Give a file that was written aside its name, once its bytes are on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for opened in (aside, aside.parent):
        _sync(opened)
    os.replace(aside, path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def commit_json(folder: CorpusFolder, path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON, all of it or nothing."""
    with scratch(folder) as place:
        aside = place / "new.json"
        aside.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")
        commit(aside, path)


@contextmanager
def locked(folder: CorpusFolder) -> Iterator[None]:
    """Keep a second run out of a folder; raise ValueError where one is at work in it."""
    lock = FileLock(folder.lock)
    while not lock.is_locked:
        folder.work.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=_PATIENCE_S)
        except Timeout as error:
            raise ValueError(
                f"another fourd data prepare is at work in {folder.out}: wait for it, or end it"
            ) from error
        except FileNotFoundError:
            continue  # the other one finished, and removed the folder
    try:
        yield
    finally:
        lock.release()


def take(folder: CorpusFolder, task: Mapping[str, Any]) -> None:
    """Take a folder for a task, or take the task up again; raise ValueError where the folder is another's.

    task: all that the result depends on, as JSON.
    """
    _require_same(folder.description, task)
    _require_same(folder.claim, task)
    if folder.claim.exists() or folder.description.exists():
        return
    strange = sorted(path.name for path in folder.out.iterdir() if path != folder.work)
    if strange:
        found = ", ".join(strange[:4])
        raise ValueError(f"--out {folder.out} holds {found}, which fourd data prepare did not make: name a new folder")
    commit_json(folder, folder.claim, task)


def _require_same(path: Path, task: Mapping[str, Any]) -> None:
    if not path.exists():
        return
    earlier = json.loads(path.read_text())
    differing = [found for name in task for found in _differences(earlier.get(name), task[name], name)]
    if differing:
        raise ValueError(
            f"{path.parent if path.name == 'prepare.json' else path.parent.parent} was begun with other options: "
            f"{'; '.join(differing[:4])}. Use the same options to go on, give another --out, or delete the folder"
        )


def _differences(earlier: Any, now: Any, path: str) -> list[str]:
    """Say at which dotted paths two descriptions differ, and how."""
    if isinstance(earlier, dict) and isinstance(now, dict):
        names = sorted(earlier.keys() | now.keys())
        return [found for name in names for found in _differences(earlier.get(name), now.get(name), f"{path}.{name}")]
    return [] if earlier == now else [f"{path} was {earlier!r}, now {now!r}"]


def remove_work(folder: CorpusFolder) -> None:
    """Remove what a finished corpus does not need; the lock goes last, so that only one run removes the rest.

    A run that waits for the lock then makes a new one, finds the corpus finished, and removes what is left.
    """
    with suppress(FileNotFoundError):  # that other run was here first
        for path in sorted(folder.work.iterdir(), key=lambda path: path == folder.lock):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        try:
            folder.work.rmdir()
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
