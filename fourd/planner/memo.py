"""Measurements that were made before, kept on disk: a step measured once is never measured again."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

import fourd
from fourd.flops import StepFlop
from fourd.parallel.settings import Recompute
from fourd.planner.flops import counted_flop
from fourd.planner.ledger import Peak, peak_of
from fourd.planner.measure import Layout, measure
from fourd.provenance import describe, write_json
from fourd.types import ObjectiveConfig

log = logging.getLogger(__name__)


def folder() -> Path:
    """Name the folder that keeps measurements: `$FOURD_CACHE/plan`, or `~/.cache/fourd/plan`."""
    return Path(os.environ.get("FOURD_CACHE") or Path.home() / ".cache" / "fourd") / "plan"


def memory_of(config: ObjectiveConfig, layout: Layout, *clips: int) -> dict[int, Peak]:
    """Give what a step with so many clips in a part takes at most, for each of some numbers of clips.

    What was measured before is read from the disk; the rest is measured in one go.
    """
    paths = {count: _path(config, layout, f"{count} clips") for count in clips}
    missing = [count for count, path in paths.items() if not path.exists()]
    if missing:
        _tell(layout, missing)
        for count, book in measure(config, layout, missing).items():
            _keep(paths[count], asdict(peak_of(book)))
    return {count: Peak(**json.loads(path.read_text())) for count, path in paths.items()}


def flop_of(config: ObjectiveConfig, recompute: Recompute) -> StepFlop:
    """Give the operations of a forward and backward pass, those computed twice included."""
    path = _path(config, None, f"operations, recompute {recompute}")
    if not path.exists():
        _keep(path, asdict(StepFlop.counted(lambda clips: counted_flop(config, recompute, clips))))
    return StepFlop(**json.loads(path.read_text()))


def _tell(layout: Layout, clips: Sequence[int]) -> None:
    laid = layout.parallel
    log.info(
        "measuring: %d ranks, shard %d, recompute %s, %s of %s clips",
        layout.gpus,
        laid.shard or min(layout.per_node, layout.gpus),
        laid.recompute,
        "one part" if laid.parts == 1 else "parts",
        " and ".join(map(str, clips)),
    )


def _keep(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, value)


def _path(config: ObjectiveConfig, layout: Layout | None, what: str) -> Path:
    """Name the file of a measurement by all that it depends on, the code that runs included."""
    laid = asdict(layout) if layout is not None else {}
    if layout is not None:
        # parts beyond the second repeat it, and nothing is compiled
        laid["parallel"] |= {"parts": min(layout.parallel.parts, 2), "compile": "no"}
    said = [describe(config), laid, what, torch.__version__, _code(tuple(sorted(_modules(config))))]
    return folder() / f"{hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]}.json"


def _modules(config: Any) -> set[str]:
    """Name the modules in which a config's parts are defined."""
    if isinstance(config, (tuple, list)):
        return {name for part in config for name in _modules(part)}
    if not is_dataclass(config) or isinstance(config, type):
        return set()
    parts = (getattr(config, field.name) for field in fields(config))
    return {type(config).__module__, *(name for part in parts for name in _modules(part))}


@cache
def _code(modules: tuple[str, ...]) -> str:
    """Hash the sources that a step runs, and those that watch it."""
    root = Path(fourd.__file__).parent
    files = {Path(sys.modules[name].__file__ or fourd.__file__) for name in modules} | set(root.glob("*.py"))
    for part in ("backbones", "objectives", "parallel"):
        files.update((root / part).glob("*.py"))
    files.update(root / "planner" / f"{name}.py" for name in ("flops", "ledger", "measure", "watching"))
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.read_bytes())
    return digest.hexdigest()
