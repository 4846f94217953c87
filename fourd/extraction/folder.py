"""A folder of features: whose it is, what it holds already, and one process at a time that writes to it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fourd import provenance, run_folder
from fourd.datasets.video_files import EXTENSIONS
from fourd.extraction.config import ExtractConfig
from fourd.extraction.files import ASIDE_SUFFIX, read_metadata
from fourd.extraction.index import INDEX_NAME, UNREADABLE, Entry, Index
from fourd.extraction.inputs import IMAGE_EXTENSIONS, Source, sample_sha256
from fourd.types import Backbone
from fourd.windows import RULE

_VERSION = "1"
"""Of what decides over features beside config and backbone: fitting, windows, times. Another one is never mixed in."""

_OURS_ASIDE = (
    f".safetensors{ASIDE_SUFFIX}",
    *(f"{suffix}.mp4{ASIDE_SUFFIX}" for suffix in (*EXTENSIONS, *IMAGE_EXTENSIONS)),
)
"""How the names end of what this package writes aside."""


class FeatureFolder:
    """Know which inputs are done, and keep the index."""

    def __init__(self, out: Path, config: ExtractConfig, backbone: Backbone) -> None:
        """Take the folder; raise ValueError naming what differs if it holds features of another config or backbone."""
        self.out = out
        inputs = identity(backbone)
        run_folder.claim(out, config, inputs=inputs)
        described = json.dumps({"config": provenance.describe(config), **inputs}, sort_keys=True)
        self.config_sha256 = hashlib.sha256(described.encode()).hexdigest()
        self.about = {
            "config": json.dumps(provenance.describe(config)),
            **inputs,
            "config_sha256": self.config_sha256,
            "blocks": json.dumps([backbone.block_at(depth) for depth in config.depths]),
            "rule": RULE,
        }
        self._clean()
        self.index = Index(out, self.about)
        for entry in list(self.index.entries.values()):
            if entry.has_features and not self.path_of(entry.key).exists():
                del self.index.entries[entry.key]
        self._keys = {entry.path: entry.key for entry in self.index.entries.values() if entry.has_features}

    def path_of(self, key: str) -> Path:
        """Name the file of features of an input."""
        return self.out / f"{key}.safetensors"

    def film_of(self, key: str) -> Path:
        """Name the film of an input's features."""
        return self.out / f"{key}.mp4"

    def as_known(self, source: Source) -> Source:
        """Give an input the key under which its features are there already, whatever else was named then."""
        key = self._keys.get(source.path)
        return source if key is None else dataclasses.replace(source, key=key)

    def done(self, source: Source) -> Entry | None:
        """Find the row of an input whose features are there; None where they are missing or of an earlier state of it.

        Raises ValueError where the key has been given to another input, or to features of another config.
        """
        stored = self._stored(source.key)
        earlier = stored or self.index.entries.get(source.key)
        if earlier is None:
            return None
        same = (earlier.source_bytes, earlier.source_mtime_ns) == (source.num_bytes, source.mtime_ns)
        if earlier.path != source.path and not (same and earlier.source_sample == sample_sha256(source.path)):
            raise ValueError(
                f"{self.out}: {source.key} is {earlier.path} already, and not {source.path}: name another --out"
            )
        return dataclasses.replace(stored, path=source.path) if stored and same else None

    def _stored(self, key: str) -> Entry | None:
        """Read the row in a file of features; None where there is none, or not a whole one."""
        path = self.path_of(key)
        metadata = read_metadata(path) if path.exists() else None
        if metadata is None:
            return None
        if metadata.get("config_sha256") != self.config_sha256:
            raise ValueError(f"{path} holds features of another config or backbone: delete it, or name another --out")
        try:
            row = Entry(**json.loads(metadata["row"]))
        except (KeyError, TypeError, ValueError):
            return None  # no row of this version: it is done again
        return dataclasses.replace(row, num_bytes=path.stat().st_size) if row.key == key else None

    def refuse(self, source: Source, reason: str) -> None:
        """List an input that cannot be read; features of an earlier state of it do not stay."""
        self.path_of(source.key).unlink(missing_ok=True)
        status = f"{UNREADABLE}: {reason}"
        sizes: dict[str, Any] = {"source_bytes": source.num_bytes, "source_mtime_ns": source.mtime_ns}
        self.index.add(Entry(source.key, source.path, status, **sizes))

    def _clean(self) -> None:
        """Remove what an earlier call was writing when it was killed."""
        for folder, below, names in os.walk(self.out):
            # a folder of features within this one is somebody else's
            below[:] = [name for name in below if not (Path(folder) / name / INDEX_NAME).exists()]
            for name in names:
                if name.startswith(".") and name.endswith(_OURS_ASIDE):
                    (Path(folder) / name).unlink()


def identity(backbone: Backbone) -> Mapping[str, str]:
    """Say which backbone it is: its config where it has one, its class, what it takes, and a hash of its weights."""
    config = getattr(backbone, "config", None)
    described = provenance.describe(config) if dataclasses.is_dataclass(config) else None
    kind = f"{type(backbone).__module__}:{type(backbone).__qualname__}"
    whole = {"kind": kind, "config": described, "native_input": provenance.describe(backbone.native_input)}
    return {
        "extraction": _VERSION,
        "backbone": json.dumps(whole, sort_keys=True),
        "weights_sha256": weights_sha256(backbone),
    }


def weights_sha256(backbone: Backbone) -> str:
    """Hash the names, types and values of all weights."""
    digest = hashlib.sha256()
    for name, value in sorted(backbone.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
