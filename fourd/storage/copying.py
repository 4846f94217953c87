"""Copy a file from a store to this machine, once."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path, PurePosixPath

from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from fourd.storage.retrying import StorageError
from fourd.storage.store import Store

_AT_ONCE = 16 * 2**20


def local_copy(store: Store, path: str, folder: Path) -> Path:
    """Copy a file into a folder, unless this version of it is there, and give its place; shows the time left.

    Where the store tells of no version, it is copied each time: a changed file could not be told from the copy.
    Processes may ask for the same file at once: one copies, the others wait. Raises as `Store.read` does.
    """
    about = store.about(path)
    described = f"{store.address(path)}\n{about}"
    name = hashlib.sha256(described.encode()).hexdigest()[:32] + PurePosixPath(path).suffix
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{name}.lock"):
        if not about[1] or not (folder / name).exists():
            _copy(store, path, about, folder / name)
    return folder / name


def _copy(store: Store, path: str, about: tuple[int, str], target: Path) -> None:
    num_bytes, _ = about
    aside = target.with_name(f".{uuid.uuid4().hex}")
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    try:
        with aside.open("wb") as file, Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(f"Copying {store.address(path)}", total=num_bytes)
            for start in range(0, num_bytes, _AT_ONCE):
                file.write(store.read(path, start, min(start + _AT_ONCE, num_bytes)))
                progress.update(task, completed=file.tell())
        if store.about(path) != about:
            raise StorageError(f"{store.address(path)} changed while it was copied: try again when it is complete")
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
