"""Our own files: a module's state and its config as safetensors, in one file or in a folder of shards."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fourd import provenance
from fourd.types import BackboneConfig, Config
from fourd.weights.compare import Shape, listed, require_same, shapes_of

MAX_SHARD_BYTES = 4 * 10**9
"""States larger than this are written in several files."""

CONFIG_NAME, WEIGHTS_NAME = "config.json", "model.safetensors"
SOURCE_NAME = "source.json"
INDEX_NAME = f"{WEIGHTS_NAME}.index.json"

_ADVICE = "Build the module from the config in the file (see read_config), or name the file that fits it."

# ----------------------------------------------------------------------------- writing


def save_module(module: nn.Module, path: Path | str, config_json: str) -> None:
    """Write a module's state with its config as one safetensors file.

    The same numbers give the same bytes. The file is written aside and renamed, so that `path` never
    holds half of it.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    save_weights(state, path, config_json)


def save_weights(state: Mapping[str, Tensor], path: Path | str, config_json: str) -> None:
    """Write a module's state, gathered on the host, as `save_module` does."""
    _write(state, Path(path), {"config": config_json})


def _write(state: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.touch()
        mode = aside.stat().st_mode
        try:
            save_file(dict(state), aside, metadata=dict(metadata))
        except SafetensorError as error:
            raise OSError(f"{path} cannot be written: {error}") from error
        aside.chmod(mode)  # save_file hides its file from everybody else
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def save_state(shapes: Mapping[str, Shape], read: Callable[[str], Tensor], folder: Path) -> None:
    """Write float32 tensors into a folder, shard by shard, holding no more than one shard at a time.

    read: gives the tensor of a name. The files are named as on the Hugging Face Hub: `model.safetensors`, or its
    shards and an index of them.
    """
    planned = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    plan = split_torch_state_dict_into_shards(planned, max_shard_size=MAX_SHARD_BYTES)
    for file_name, names in plan.filename_to_tensors.items():
        _write({name: read(name) for name in names}, folder / file_name, {"format": "pt"})
    if plan.is_sharded:
        provenance.write_json(folder / INDEX_NAME, {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename})


# ----------------------------------------------------------------------------- reading


class StoredState:
    """Look at the tensors of a safetensors file, or of a folder of shards, and map them into memory when asked."""

    def __init__(self, path: Path | str) -> None:
        """Read names and shapes; raise FileNotFoundError or ValueError where something is missing or damaged."""
        self.path = Path(path)
        self._file_of = self._list_folder() if self.path.is_dir() else self._list_file(self.path)
        self.shapes: dict[str, Shape] = {}
        for file in sorted(set(self._file_of.values())):
            with open_safetensors(file) as opened:
                held = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
            named = {name for name, place in self._file_of.items() if place == file}
            if named != held.keys():
                differing = listed(sorted(named ^ held.keys()))
                raise ValueError(
                    f"{file} and {INDEX_NAME} do not name the same arrays: {differing}. Download both again"
                )
            self.shapes |= held

    def _list_file(self, path: Path) -> dict[str, Path]:
        with open_safetensors(path) as opened:
            return dict.fromkeys(opened.keys(), path)

    def _list_folder(self) -> dict[str, Path]:
        index = self.path / INDEX_NAME
        if not index.is_file():
            return self._list_file(self.path / WEIGHTS_NAME)
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict):
            raise ValueError(f"{index} holds no weight_map; copy or download it again")
        return {name: self.path / Path(file).name for name, file in weight_map.items()}

    def read(self, name: str, dtype: torch.dtype | None = None) -> Tensor:
        """Map a tensor into memory; in another precision it is copied, and what was mapped is let go again."""
        with open_safetensors(self._file_of[name]) as opened:
            tensor: Tensor = opened.get_tensor(name)
        return tensor if dtype is None or not tensor.is_floating_point() else tensor.to(dtype)


def fill(module: nn.Module, stored: StoredState, prefix: str = "", dtype: torch.dtype | None = None) -> None:
    """Give a module on the meta device the stored tensors whose names begin with `prefix`, memory-mapped.

    dtype: of the parameters; buffers keep theirs, such as tables of frequencies that have to be exact. Raises
    ValueError listing what is missing, unexpected or of another shape. A module with buffers that no state holds is
    refused, since nothing would fill them.
    """
    shapes = {name.removeprefix(prefix): shape for name, shape in stored.shapes.items() if name.startswith(prefix)}
    state = module.state_dict()
    require_same(shapes, shapes_of(state), str(stored.path), _ADVICE)
    buffers = {name for name, _ in module.named_buffers()}
    if buffers - state.keys():
        raise ValueError(f"{type(module).__name__} has buffers no file holds: {listed(sorted(buffers - state.keys()))}")
    tensors = {name: stored.read(prefix + name, None if name in buffers else dtype) for name in state}
    module.load_state_dict(tensors, strict=True, assign=True)


def build_from(
    config: Config[Any], path: Path, prefix: str = "", dtype: torch.dtype | None = None, is_checked: bool = False
) -> Any:
    """Build a module with the weights that are stored at `path`, ready to be used: see `fill`.

    is_checked: that all numbers are finite is known. Raises ValueError as `fill` and `require_finite` do.
    """
    with torch.device("meta"):
        module: Any = config.build()
    fill(module, StoredState(path), prefix, dtype)
    if not is_checked:
        require_finite(module, path)
    return module.eval()


def require_finite(module: nn.Module, source: Path | str) -> None:
    """Raise ValueError naming the arrays of a module that hold numbers that are not finite."""
    bad = [name for name, value in module.state_dict().items() if not bool(value.isfinite().all())]
    if bad:
        raise ValueError(f"{source}: {len(bad)} arrays hold numbers that are not finite: {listed(bad)}")


def load_module(module: nn.Module, path: Path | str) -> None:
    """Fill a module with what `save_module` wrote, in the module's own precision and on its device.

    Raises ValueError listing what is missing, unexpected or of another shape; nothing is loaded then.
    """
    state = module.state_dict()
    unready = [name for name, tensor in state.items() if tensor.is_meta]
    if unready:
        raise ValueError(f"{listed(unready)} stand on the meta device: call to_empty(device=...) before loading")
    stored = StoredState(path)
    require_same(stored.shapes, shapes_of(state), str(path), _ADVICE)
    _require_same_config(module, path)
    module.load_state_dict({name: stored.read(name) for name in state}, strict=True)


def _of_parameters(config: Any) -> Any:
    return getattr(config, "parameters_of", config)


def _require_same_config(module: nn.Module, path: Path | str) -> None:
    """Refuse weights of a module that was configured otherwise, which shapes alone may not tell (heads).

    A file with an empty config says nothing, and is taken by its shapes. Whether clips are resized is no
    matter of the weights, nor whether a config says by `parameters_of` that its weights are those of another.
    """
    config: Any = _of_parameters(getattr(module, "config", None))
    stored = _of_parameters(provenance.rebuild(json.loads(read_config(path)) or None))
    if config is None or stored is None:
        return
    if isinstance(config, BackboneConfig) and isinstance(stored, BackboneConfig):
        stored = replace(stored, native_size=config.native_size)
    found, own = provenance.describe(stored), provenance.describe(config)
    differing = sorted(name for name in found.keys() | own.keys() if found.get(name) != own.get(name))
    if differing:
        values = "; ".join(f"{name} {found.get(name)}, expected {own.get(name)}" for name in differing)
        raise ValueError(f"{path} holds weights of another config: {values}. Build the module as the file says.")


def read_config(path: Path | str) -> str:
    """Read the config that stands with the weights, in the file or beside it in a folder, as JSON."""
    path = Path(path)
    if path.is_dir():
        return (path / CONFIG_NAME).read_text()
    with open_safetensors(path) as file:
        metadata = file.metadata() or {}
    if "config" not in metadata:
        raise ValueError(f"{path} holds no config, only {sorted(metadata)}; expected a file written by save_module")
    return str(metadata["config"])


def has_config(path: Path) -> bool:
    """Tell whether a safetensors file says what it holds, as those of `save_module` do."""
    with open_safetensors(path) as file:
        return "config" in (file.metadata() or {})


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raise ValueError naming the file where it is none."""
    return parse_json(path.read_text(), path)


def parse_json(text: str, path: Path) -> dict[str, Any]:
    """Read a JSON object that came from a file."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path} holds what is not JSON ({error}); copy or download it again") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds a JSON {type(found).__name__}, expected an object; copy or download it again")
    return found


def sha256(path: Path | str) -> str:
    """Compute the SHA-256 of a file, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_safetensors(path: Path | str) -> safe_open:
    """Open a file; raise FileNotFoundError or ValueError where it is missing or not whole."""
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}. Copy or download it again.") from error
