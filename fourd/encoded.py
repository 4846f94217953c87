"""Frozen features, computed once per clip and kept on disk, as a dataset.

However many readouts, learning rates and steps follow, the backbone has run once.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock

from fourd import loader, provenance
from fourd.media import UnreadableVideo
from fourd.parallel import Precision, autocast, find_device, reproducible, to_device
from fourd.telemetry import StepProgress
from fourd.types import Backbone, BackboneConfig, Batch, Dataset, DatasetConfig, Features
from fourd.weights.starting import fill_backbone, identity

log = logging.getLogger(__name__)

_BATCH_SIZE = 32


class Encoded(Dataset):
    """Give the clips of a dataset with the features that a frozen backbone has for them."""

    def __init__(self, dataset: Dataset, arrays: list[np.ndarray], fingerprint: str) -> None:
        self.dataset, self.arrays = dataset, arrays
        self.unreadable, self.damaged, self.num_views = dataset.unreadable, dataset.damaged, dataset.num_views
        self.fingerprint = fingerprint

    def __len__(self) -> int:
        return len(self.dataset)

    def prepare(self, num_clips: int | None = None) -> None:
        """Prepare the clips; the features are there."""
        self.dataset.prepare(num_clips)

    def read(self, index: int, rng: np.random.Generator) -> Batch:
        """Read a clip and its features."""
        batch = self.dataset.read(index, rng)
        features = (Features(torch.from_numpy(array[index : index + 1].copy()).float()) for array in self.arrays)
        return dataclasses.replace(batch, features=tuple(features))


@dataclass(frozen=True)
class EncodedConfig(DatasetConfig):
    """Describe a dataset with a frozen backbone's features; its clips must not depend on chance."""

    data: DatasetConfig
    backbone: BackboneConfig
    depths: tuple[float, ...]
    weights: str = ""
    """Weights of the backbone, as `fourd.load` takes them; empty leaves it at random ones drawn from `seed`."""
    seed: int = 0
    folder: str = "features"
    precision: Precision = "bf16"
    device: str = "auto"

    def build(self) -> Encoded:
        """Open the features, or compute them first where they are not there yet."""
        dataset = self.data.build()
        _require_no_chance(dataset)
        fingerprint = self.fingerprint(dataset)
        folder = Path(self.folder) / fingerprint
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "encode.lock"):  # another process may want the same
            if not (folder / "config.json").exists():
                _encode(self, dataset, folder)
                provenance.write_json(folder / "config.json", provenance.describe(self))
        arrays = [np.load(_path(folder, number), mmap_mode="r") for number in range(len(self.depths))]
        return Encoded(dataset, arrays, fingerprint)

    def fingerprint(self, dataset: Dataset) -> str:
        """Name what the features depend on: clips, backbone, the very weights, precision."""
        seed = 0 if self.weights else self.seed
        described = provenance.describe(dataclasses.replace(self, folder="", weights="", device="", seed=seed))
        described["clips"] = dataset.fingerprint
        described["weights"] = identity(self.weights) if self.weights else "random"
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]


_NUM_TRIED = 8
_SEEDS_TRIED = (0, 1, 2)


def _require_no_chance(dataset: Dataset) -> None:
    """Refuse clips that are cropped, flipped or begun at random: features of one are not those of another.

    Looks at a few clips, spread over the dataset, each several times.
    """
    count = min(_NUM_TRIED, len(dataset))
    for index in (number * len(dataset) // count for number in range(count)):
        try:
            one, *others = (dataset.read(index, np.random.default_rng(seed)) for seed in _SEEDS_TRIED)
        except UnreadableVideo:
            continue  # encoding says which
        if any(not torch.equal(one.video, o.video) or not torch.equal(one.time_s, o.time_s) for o in others):
            raise ValueError(
                "the clips depend on chance (a random crop, start or flip): features can be kept for none. Run without "
                "keeping them"
            )


def _encode(config: EncodedConfig, dataset: Dataset, folder: Path) -> None:
    """Run the backbone over every clip, and write one array for each depth, in float16."""
    device = find_device(config.device)
    backbone = frozen_backbone(config, device)
    shape = backbone.feature_shape(next(loader.in_order(dataset, 1)).clip_shape)
    size = (len(dataset), shape.t, shape.h, shape.w, shape.width)
    asides = [_path(folder, n).with_suffix(".tmp") for n in range(len(config.depths))]
    arrays = [np.lib.format.open_memmap(aside, mode="w+", dtype=np.float16, shape=size) for aside in asides]
    done = 0
    with reproducible(device), StepProgress("encode", len(dataset)) as progress:
        for batch in loader.in_order(dataset, _BATCH_SIZE):
            with torch.no_grad(), autocast(device, config.precision):
                grids = backbone(to_device(batch, device).video, config.depths)
            for array, features in zip(arrays, grids, strict=True):
                array[done : done + len(batch.key)] = _as_float16(features)
            done += len(batch.key)
            progress.update(done, "clips")
    for number, (array, aside) in enumerate(zip(arrays, asides, strict=True)):
        array.flush()
        os.replace(aside, _path(folder, number))


def _as_float16(features: Features) -> np.ndarray:
    grid = features.grid.float().cpu()
    if not bool((grid.abs() < 65504).all()):
        raise ValueError("features are not finite or leave the range of float16: look at the backbone's weights")
    return grid.numpy().astype(np.float16)


def frozen_backbone(config: EncodedConfig, device: torch.device) -> Backbone:
    """Build the backbone with its weights."""
    backbone = config.backbone.build().to(device)
    backbone.init_weights(torch.Generator(device).manual_seed(config.seed))
    if config.weights:
        fill_backbone(backbone, config.weights)
    return backbone.eval().requires_grad_(False)


def _path(folder: Path, number: int) -> Path:
    return folder / f"depth_{number}.npy"
