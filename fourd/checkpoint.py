"""Checkpoints that are either whole or absent: written aside, hashed, renamed, verified before use."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.optim import Optimizer

from fourd.provenance import write_json

log = logging.getLogger(__name__)

_MANIFEST = "manifest.json"
_OPTIONS = StateDictOptions(ignore_frozen_params=True, strict=False)


def save(directory: Path, step: int, objective: nn.Module, optimizer: Optimizer, keep: int = 2) -> Path:
    """Write the trainable state after `step` steps, then drop all but the `keep` newest."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    final, aside = directory / f"step_{step:08d}", directory / f".step_{step:08d}.tmp"
    shutil.rmtree(aside, ignore_errors=True)
    with _alone():
        dcp.save(_state(objective, optimizer), checkpoint_id=aside, no_dist=True)
    hashes = {path.name: _sha256(path) for path in sorted(aside.iterdir())}
    write_json(aside / _MANIFEST, {"step": step, "sha256": hashes})
    _sync(aside)
    shutil.rmtree(final, ignore_errors=True)
    os.rename(aside, final)
    for old in _candidates(directory)[keep:]:
        shutil.rmtree(old)
    return final


def newest(directory: Path) -> tuple[Path, int] | None:
    """Find the newest checkpoint whose files are what its manifest says, and its step; None if there is none."""
    for path in _candidates(directory):
        fault = _fault(path)
        if fault is None:
            return path, int(path.name.removeprefix("step_"))
        log.warning("checkpoint %s is damaged (%s): trying the one before", path, fault)
    if _candidates(directory):
        raise ValueError(f"every checkpoint in {directory} is damaged: restore one, or delete the run to start again")
    return None


def restore(path: Path, objective: nn.Module, optimizer: Optimizer) -> None:
    """Put a checkpoint's numbers back into the objective and the optimiser, in place."""
    state = _state(objective, optimizer)
    stored = dcp.FileSystemReader(path).read_metadata().state_dict_metadata
    moments = state["optimizer"]["state"]
    for name in [name for name in moments if f"optimizer.state.{name}.step" not in stored]:
        del moments[name]  # a parameter that never had a gradient has no moments yet
    with _alone():
        dcp.load(state, checkpoint_id=path, no_dist=True)
    set_state_dict(
        objective, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"], options=_OPTIONS
    )


@contextmanager
def _alone() -> Iterator[None]:
    """Keep torch from warning that a single process is a single process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def _state(objective: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    model, optim = get_state_dict(objective, optimizer, options=_OPTIONS)
    return {"model": model, "optimizer": optim}


def _candidates(directory: Path) -> list[Path]:
    return sorted(directory.glob("step_*"), reverse=True)


def _fault(path: Path) -> str | None:
    """Say what is wrong with a checkpoint, or None."""
    if not (path / _MANIFEST).exists():
        return f"no {_MANIFEST}"
    try:
        hashes = json.loads((path / _MANIFEST).read_text())["sha256"]
    except (ValueError, KeyError) as error:
        return f"{_MANIFEST} is not what was written: {error!r}"
    for name, expected in hashes.items():
        if not (path / name).exists():
            return f"{name} is missing"
        if _sha256(path / name) != expected:
            return f"{name} has changed since it was written"
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(directory: Path) -> None:
    """Force a folder's files to the disk, so that a rename never outruns them."""
    for path in (*directory.iterdir(), directory):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
