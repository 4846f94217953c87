"""A released `.npz` becomes a folder of safetensors, once, so that every later load is memory-mapped.

The folder holds `config.json`, the weights, and `source.json`, which names the file they came from by its size,
time of change and SHA-256. It is written aside and renamed, so that it is never half there.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock
from torch import Tensor

from fourd import provenance
from fourd.backbones.video_vit import VideoViTConfig
from fourd.depth_model import DepthModelConfig
from fourd.readout import AttentionReadout, ReadoutSize
from fourd.tasks.depth import DepthConfig
from fourd.tokens import Triple, grid_of
from fourd.types import FeatureShape
from fourd.weights.compare import Shape
from fourd.weights.files import CONFIG_NAME, SOURCE_NAME, save_state, sha256
from fourd.weights.official import (
    NpzArrays,
    Rule,
    attention_readout_rules,
    has_readout,
    output_shape,
    readout_size,
    video_vit_config,
    video_vit_rules,
)

log = logging.getLogger(__name__)

BACKBONE, READOUT = "backbone.", "readout.readout."
"""Where the parts of a `DepthModel` have their parameters."""


@dataclass(frozen=True)
class ReleasedDepth:
    """Keep what the arrays of a depth model tell; where it reads and what an answer covers has to be said."""

    backbone: VideoViTConfig
    size: ReadoutSize
    num_queries: int
    num_outputs: int

    def model(self, readout_depth: float, output_patch: Triple) -> DepthModelConfig:
        """Describe the model; raise ValueError where the queries cannot answer for patches of this size."""
        t, h, w = grid_of(self.backbone.num_frames, self.backbone.size, output_patch)
        num_outputs = output_patch[0] * output_patch[1] * output_patch[2]
        if (t * h * w, num_outputs) != (self.num_queries, self.num_outputs):
            raise ValueError(
                f"output_patch is {output_patch}, which asks {t * h * w} queries for {num_outputs} numbers each; the "
                f"readout has {self.num_queries} queries of {self.num_outputs}. Name the patch it was trained with"
            )
        return DepthModelConfig(self.backbone, DepthConfig(size=self.size, output_patch=output_patch), readout_depth)

    def readout(self) -> AttentionReadout:
        """Build the readout alone, its parameters unset."""
        grid = self.backbone.build().grid
        features = FeatureShape(*grid, self.backbone.width)
        return AttentionReadout(features, self.size, self.num_outputs, num_queries=self.num_queries)


def converted(npz: Path, folder: Path) -> Path:
    """Convert a released file into `folder` unless that was done before, and return the folder.

    Raises ValueError where the file holds anything but a released model, OSError where there is no room.
    """
    if _identity_of(folder) == _identity(npz):
        return folder  # also where nothing can be written
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if _identity_of(folder) != _identity(npz):
            log.info("converting %s, once, to %s", npz, folder)
            _convert(npz, folder)
    return folder


def _identity(npz: Path) -> dict[str, int]:
    status = npz.stat()
    return {"num_bytes": status.st_size, "mtime_ns": status.st_mtime_ns}


def _identity_of(folder: Path) -> dict[str, int] | None:
    """Say which file a folder was made from; None where it was not made, or not to its end."""
    path = folder / SOURCE_NAME
    if not path.is_file():
        return None
    try:
        source = json.loads(path.read_text())
        return {name: source[name] for name in ("num_bytes", "mtime_ns")}
    except (ValueError, KeyError, TypeError):
        return None  # then it is made again


def _convert(npz: Path, folder: Path) -> None:
    for left in folder.parent.glob(f".{folder.name}.*"):  # by a process that was killed: this one holds the lock
        shutil.rmtree(left, ignore_errors=True)
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    aside.mkdir()
    try:
        with NpzArrays(npz) as arrays:
            config, rules = _plan(arrays)
            provenance.write_json(aside / CONFIG_NAME, provenance.describe(config))
            save_state({name: _shape(rule, arrays) for name, rule in rules.items()}, _reader(rules, arrays), aside)
        source = {"path": str(npz.resolve()), **_identity(npz), "sha256": sha256(npz)}
        provenance.write_json(aside / SOURCE_NAME, source)
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _plan(arrays: NpzArrays) -> tuple[VideoViTConfig | ReleasedDepth, dict[str, Rule]]:
    """Say what the arrays are, and from which array each parameter is taken."""
    config, rules = video_vit_config(arrays), video_vit_rules(arrays)
    if not has_readout(arrays):
        return config, {rule.ours: rule for rule in rules}
    released = ReleasedDepth(config, readout_size(arrays), *output_shape(arrays))
    with torch.device("meta"):
        readout = attention_readout_rules(arrays, released.readout())
    named = {BACKBONE + rule.ours: rule for rule in rules} | {READOUT + rule.ours: rule for rule in readout}
    return released, named


def _shape(rule: Rule, arrays: NpzArrays) -> Shape:
    return tuple(rule.arrange(torch.empty(arrays.shapes[rule.official], device="meta")).shape)


def _reader(rules: dict[str, Rule], arrays: NpzArrays) -> Callable[[str], Tensor]:
    return lambda name: rules[name].read(arrays)
