"""Starting from weights that exist: whatever `fourd.load` takes, filled into a backbone that stands already."""

from __future__ import annotations

import hashlib
from pathlib import Path

from torch import nn

from fourd.types import Backbone
from fourd.weights.compare import require_same, shapes_of
from fourd.weights.files import has_config, load_module, sha256
from fourd.weights.load import Source, load, locate


def identity(source: Source) -> str:
    """Name the very weights of a source, in hexadecimal: what changes when a number of them does.

    Of a file it is its SHA-256, of a folder that of its files' names and digests.
    """
    path = locate(source)
    if path.is_file():
        return sha256(path)
    files = sorted(file for file in path.iterdir() if file.suffix in (".safetensors", ".bin", ".json", ".npz"))
    return hashlib.sha256("".join(f"{file.name} {sha256(file)}\n" for file in files).encode()).hexdigest()


def fill_backbone(backbone: nn.Module, source: Source) -> None:
    """Fill a backbone with the weights of a source, in its own precision and on its device.

    Raises ValueError where they are of another config or shape; nothing is loaded then.
    """
    path = locate(source)
    if path.suffix == ".safetensors" and has_config(path):
        load_module(backbone, path)
        return
    keeps_size = isinstance(backbone, Backbone) and not backbone.native_input.fixed
    loaded = load(source, native_size=not keeps_size)
    state = loaded.state_dict()
    require_same(shapes_of(state), shapes_of(backbone.state_dict()), str(path), "name the backbone that it is of")
    backbone.load_state_dict(state, strict=True)


def require_weights(source: Source) -> None:
    """Raise FileNotFoundError or ValueError where a source is neither a file nor a name that is known."""
    path = Path(source).expanduser()
    if path.suffix in (".safetensors", ".npz") and not path.is_file():
        raise FileNotFoundError(f"init: there is no file {path}; expected a run's final/model.safetensors")
