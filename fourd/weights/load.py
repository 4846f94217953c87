"""`fourd.load`: any encoder by name, by path or from the Hub, behind one contract."""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib
import os
import pkgutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

import fourd.backbones
from fourd import provenance
from fourd.depth_model import DepthModel, DepthModelConfig
from fourd.tokens import Triple
from fourd.types import Backbone, BackboneConfig
from fourd.weights.convert import BACKBONE, ReleasedDepth, converted
from fourd.weights.files import CONFIG_NAME, SOURCE_NAME, build_from, has_config, parse_json, read_config, read_json
from fourd.weights.published import PUBLISHED, fetch
from fourd.weights.snapshot import looks_like_repository, require_own_types, snapshot

Source = str | os.PathLike[str]


def load(source: Source, *, dtype: torch.dtype | None = None, native_size: bool = True) -> Backbone:
    """Load an encoder with its published or trained weights, ready to encode.

    source: a published name (see `names`), an official `.npz`, a `.safetensors` of a run, a folder of
    `save_pretrained` or of a rival's checkpoint, or a repository of the Hugging Face Hub (`owner/name`).
    dtype: of the weights; None keeps what is stored, and takes float32 for rivals. native_size: resize clips to the
    encoder's own size and refuse other lengths; False keeps the clips' and resamples the positions.
    Raises ValueError naming every array that is missing, extra, misshapen or not finite; nothing is loaded then.
    """
    path = locate(source)
    rival = _rival_of(path)
    if rival is not None:
        backbone: Backbone = rival.from_checkpoint(path, dtype or torch.float32, native_size)
        return backbone.eval()
    config = _config_at(path, trusted=not _is_from_hub(source))
    prefix = ""
    if isinstance(config, (DepthModelConfig, ReleasedDepth)):
        config, prefix = config.backbone, BACKBONE
    if not isinstance(config, BackboneConfig):
        raise ValueError(f"{path} holds a {type(config).__name__}; expected a backbone")
    loaded: Backbone = build_from(replace(config, native_size=native_size), path, prefix, dtype, _is_checked(path))
    return loaded


def load_depth(
    source: Source,
    *,
    readout_depth: float = 0.95,
    output_patch: Triple = (2, 8, 8),
    dtype: torch.dtype | None = None,
) -> DepthModel:
    """Load an encoder with its depth readout; `forward(video)` gives metres.

    source: "4ds-b-dist-e-depth", an official `.npz`, or a folder of `save_pretrained`. readout_depth, output_patch:
    what official arrays do not tell, at the published values: the fraction of depth that is read, and the frames,
    rows and columns that one answer covers; a folder knows its own. Raises as `load` does.
    """
    path = locate(source)
    config = _config_at(path, trusted=not _is_from_hub(source))
    if isinstance(config, ReleasedDepth):
        config = config.model(readout_depth, output_patch)
    if not isinstance(config, DepthModelConfig):
        raise ValueError(f"{source} holds a {type(config).__name__} without a depth readout; see fourd.load")
    model: DepthModel = build_from(config, path, "", dtype, _is_checked(path))
    return model


def names() -> dict[str, str]:
    """List the names that `load` knows, and where each model is published."""
    own = {name: published.url for name, published in PUBLISHED.items()}
    return own | {name: repository for rival in _rivals() for name, repository in rival.CHECKPOINTS.items()}


# ----------------------------------------------------------------------------- from a source to files


def cache_folder() -> Path:
    """Name the folder that keeps downloads and conversions: `$FOURD_CACHE/weights`, or `~/.cache/fourd/weights`."""
    return Path(os.environ.get("FOURD_CACHE") or Path.home() / ".cache" / "fourd") / "weights"


def _is_checked(path: Path) -> bool:
    """Say whether every number was found finite when the files were made, which is not looked for twice."""
    return path.resolve().is_relative_to(cache_folder().resolve()) and (path / SOURCE_NAME).is_file()


def locate(source: Source) -> Path:
    """Find the files of a source, downloading and converting them where that was not done before."""
    path = Path(source).expanduser()
    if path.exists():
        return _convert_local(path) if path.suffix == ".npz" else path
    name = os.fspath(source)
    if name in PUBLISHED:
        return _published(name)
    is_file_name = Path(name).suffix in (".npz", ".safetensors", ".pth", ".pt")
    repository = names().get(name, name if looks_like_repository(name) and not is_file_name else None)
    if repository is None:
        raise ValueError(_unknown(name))
    return snapshot(repository)


def _published(name: str) -> Path:
    npz = fetch(name, cache_folder())
    folder = converted(npz, npz.with_suffix(""))
    found = _config_at(folder, trusted=True)
    backbone = found.backbone if isinstance(found, ReleasedDepth) else found
    if backbone != PUBLISHED[name].backbone:
        raise ValueError(f"{npz} holds {backbone}; {name} is {PUBLISHED[name].backbone}. Delete it, and load again")
    return folder


def _convert_local(npz: Path) -> Path:
    place = hashlib.sha256(str(npz.resolve()).encode()).hexdigest()[:12]
    return converted(npz, cache_folder() / f"{npz.stem}-{place}")


def _is_from_hub(source: Source) -> bool:
    return not Path(source).expanduser().exists() and os.fspath(source) not in PUBLISHED


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name, names(), n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(close)}? " if close else ""
    return f"{name!r} is no file, no folder, no owner/repository and no known name. {hint}Known: {', '.join(names())}"


# ----------------------------------------------------------------------------- from files to a model


@functools.cache
def _rivals() -> tuple[ModuleType, ...]:
    """Find the plug-ins that bring published checkpoints of their own."""
    found = pkgutil.iter_modules(fourd.backbones.__path__, "fourd.backbones.")
    modules = (importlib.import_module(module.name) for module in found if "._" not in module.name)
    return tuple(module for module in modules if hasattr(module, "CHECKPOINTS"))


def _rival_of(path: Path) -> ModuleType | None:
    """Find whose checkpoint this is; None where it is one of ours."""
    config = _json(path / CONFIG_NAME) if path.is_dir() else None
    if (config is not None and "type" in config) or (path.suffix == ".safetensors" and has_config(path)):
        return None
    for rival in _rivals():
        if rival.recognises(config) if config is not None else path.suffix in getattr(rival, "FILE_SUFFIXES", ()):
            return rival
    if config is not None:
        kinds = ", ".join(sorted(rival.__name__.rpartition(".")[2] for rival in _rivals()))
        raise ValueError(f"{path / CONFIG_NAME}: model_type is {config.get('model_type')!r}; expected one of: {kinds}")
    return None


def _json(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path.parent} holds no {path.name}; expected a folder of save_pretrained, or a rival's"
        )
    return read_json(path)


def _config_at(path: Path, trusted: bool) -> Any:
    """Rebuild the config that stands with the weights; from elsewhere, none but our own types."""
    described = parse_json(read_config(path), path)
    if not trusted:
        require_own_types(described, path)
    return provenance.rebuild(described)
