"""The folder of a run's checkpoints: which are there, which of them are whole, who may have written them."""

from __future__ import annotations

import logging
import os
import re
import shutil
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fourd.checkpoint import manifest
from fourd.parallel import Ranks

log = logging.getLogger(__name__)

_PREFIX = "step_"
_DIGITS = 8
_NAME = re.compile(rf"{_PREFIX}\d{{{_DIGITS},}}")


@dataclass(frozen=True)
class Found:
    """Name a checkpoint whose files are what its manifest says, and what the run noted in it."""

    path: Path
    step: int
    notes: Mapping[str, Any]


def path_of(directory: Path, step: int) -> Path:
    """Name the folder of the checkpoint after `step` steps."""
    return directory / f"{_PREFIX}{step:0{_DIGITS}d}"


def step_of(path: Path) -> int:
    """Read the step in a checkpoint's name."""
    return int(path.name.removeprefix(_PREFIX))


def candidates(directory: Path) -> list[Path]:
    """List what claims to be a checkpoint, the newest first; a copy under another name is none."""
    named = (path for path in directory.glob(f"{_PREFIX}*") if _NAME.fullmatch(path.name) and path.is_dir())
    return sorted(named, key=step_of, reverse=True)


def make_private(directory: Path) -> None:
    """Make the folder of checkpoints, for its owner alone."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    if directory.stat().st_uid == os.geteuid() and not directory.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        directory.chmod(0o700)  # others could read it; where they could write, that is told, not mended


def newest(directory: Path, ranks: Ranks, before: int | None = None) -> Found | None:
    """Find the newest checkpoint that is whole; None if there is none at all.

    before: look only at those of fewer steps. Every rank verifies a share of the files. Raises ValueError when all are
    damaged, PermissionError where others than the owner could have written them: reading one can run what it holds.
    """
    damaged: list[Path] = []
    for path in candidates(directory):
        if before is not None and step_of(path) >= before:
            continue
        require_private(directory, path)
        fault = _fault(path, ranks)
        if fault is None:
            ranks.first_does(lambda: _set_aside(damaged))
            return Found(path, step_of(path), manifest.read(path)["notes"])
        log.warning("checkpoint %s is damaged (%s): trying the one before", path, fault)
        damaged.append(path)
    if damaged:
        raise ValueError(
            f"every checkpoint in {directory} is damaged ({len(damaged)} of them): put one back from a copy, or start "
            "again in another --out; weights that a run has finished lie in its final/model.safetensors (--init)"
        )
    return None


def _set_aside(damaged: Sequence[Path]) -> None:
    """Keep what is damaged from being taken for a checkpoint again, and from counting among those that are kept."""
    for path in damaged:
        aside = path.with_name(f"damaged_{path.name}")
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)


def drop_after(directory: Path, step: int) -> None:
    """Delete the checkpoints of more than `step` steps."""
    for path in candidates(directory):
        if step_of(path) > step:
            shutil.rmtree(path)


def require_private(*folders: Path) -> None:
    """Raise PermissionError for a folder that is another user's, or that others may write to."""
    for folder in folders:
        found = folder.stat()
        if found.st_uid not in (os.geteuid(), 0):
            raise PermissionError(
                f"{folder} belongs to user {found.st_uid}, expected {os.geteuid()}: resuming can run what a checkpoint "
                "holds. Take over only final/*.safetensors of others' runs (--init)"
            )
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PermissionError(
                f"{folder} can be written to by others (mode {stat.S_IMODE(found.st_mode):o}): resuming can run what "
                f"a checkpoint holds. If nobody else wrote there: chmod -R go-w {folder}"
            )


def _fault(path: Path, ranks: Ranks) -> str | None:
    """Say what is wrong with a checkpoint, or None; the same on every rank."""
    faults = [fault for fault in ranks.gather(_fault_of_share(path, ranks)) if fault is not None]
    return faults[0] if faults else None


def _fault_of_share(path: Path, ranks: Ranks) -> str | None:
    try:
        content = manifest.read(path)
        digests: dict[str, str] = content["sha256"]
        if content["step"] != step_of(path):
            return f"it was written after step {content['step']}, as its manifest says"
    except (ValueError, OSError) as error:
        return str(error)
    for name in sorted(digests)[ranks.rank :: ranks.size]:
        if not (path / name).is_file():
            return f"{name} is missing"
        try:
            found = manifest.digest(path / name)
        except OSError as error:
            return f"{name} cannot be read: {error}"
        if found != digests[name]:
            return f"{name} has changed since it was written"
    return None
