"""Weights on disk: the official arrays mapped to our modules, and our own files. Always strict.

Source: google-deepmind/representations4d for names and layouts. Its `.npz` files hold float32 arrays
under flat keys joined by `/`: a bare backbone under `params/`, or a depth model with the backbone
under `params/layers_0/` and its readout under `params/layers_2/`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fourd import provenance
from fourd.backbones.video_vit import VideoViTConfig
from fourd.readout import AttentionReadout

Shape = tuple[int, ...]

BARE_PREFIX = "params/"
BACKBONE_PREFIX = "params/layers_0/"
READOUT_PREFIX = "params/layers_2/"

_LISTED = 20
_RELEASED = "Expected a released 4DS model, downloaded whole and unchanged."

# ----------------------------------------------------------------------------- the official file


def read_npz(path: Path | str) -> dict[str, Tensor]:
    """Read every array of an `.npz` file.

    Raises ValueError, naming the array, for what released weights never hold: pickled objects, numbers
    that are not float32 or not finite, bytes that are damaged; and for a file that is no whole archive.
    """
    path = Path(path)
    _require_archive(path)
    with np.load(path, allow_pickle=False) as archive:
        return {name: torch.from_numpy(_read_array(archive, name, path)) for name in archive.files}


def _require_archive(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(2)
    if start != b"PK":
        raise ValueError(f"{path} is not an npz archive: it starts with {start!r}, expected b'PK'. {_RELEASED}")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is cut short: the table of arrays at its end is missing. Download it again.")


def _read_array(archive: np.lib.npyio.NpzFile, name: str, path: Path) -> np.ndarray:
    try:
        array = archive[name]
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: array {name!r} cannot be read: {error}. {_RELEASED}") from error
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{path}: {name!r} is not an array. {_RELEASED}")
    if array.dtype != np.float32:
        raise ValueError(f"{path}: array {name!r} has dtype {array.dtype}, expected float32. {_RELEASED}")
    num_bad = array.size - np.isfinite(array).sum()
    if num_bad:
        raise ValueError(f"{path}: array {name!r} has {num_bad} numbers that are not finite. {_RELEASED}")
    return array


# ----------------------------------------------------------------------------- from official names to ours


class _Rule(NamedTuple):
    """Name an official array and our parameter, and say how named axes move from one to the other."""

    official: str
    ours: str
    axes: str

    def shape(self, sizes: Mapping[str, int]) -> Shape:
        """Work out the official shape."""
        return tuple(sizes[axis] for axis in self.axes.split(" -> ")[0].split())


def video_vit_config(arrays: Mapping[str, Tensor]) -> VideoViTConfig:
    """Read the architecture of an official backbone from the shapes of its arrays."""
    prefix = _backbone_prefix(arrays)
    patch = _sizes(arrays, f"{prefix}encoder/patch_embedding/Conv_0/kernel", "pt ph pw c D")
    grid = _sizes(arrays, f"{prefix}encoder/posenc/embeddings", "t h w D")
    query = _sizes(arrays, f"{prefix}processor/layers_0/attention/query/kernel", "D heads d")
    mlp = _sizes(arrays, f"{prefix}processor/layers_0/mlp/dense_in/kernel", "D M")
    matches = (re.match(f"{prefix}processor/layers_([0-9]+)/", name) for name in arrays)
    return VideoViTConfig(
        width=patch["D"],
        depth=len({match[1] for match in matches if match}),
        num_heads=query["heads"],
        mlp_width=mlp["M"],
        patch=(patch["pt"], patch["ph"], patch["pw"]),
        num_frames=grid["t"] * patch["pt"],
        size=(grid["h"] * patch["ph"], grid["w"] * patch["pw"]),
    )


def video_vit_state(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Map an official backbone to the state of `video_vit_config(arrays).build()`.

    Raises ValueError naming every array that is missing, unexpected or of another shape; a depth
    model's readout is left to `attention_readout_state`.
    """
    config, prefix = video_vit_config(arrays), _backbone_prefix(arrays)
    grid = [pixels // side for pixels, side in zip((config.num_frames, *config.size), config.patch, strict=True)]
    sizes = dict(zip(("pt", "ph", "pw", "t", "h", "w"), (*config.patch, *grid), strict=True))
    sizes |= {"c": 3, "D": config.width, "M": config.mlp_width}
    sizes |= {"heads": config.num_heads, "d": config.width // config.num_heads}
    rest = READOUT_PREFIX if prefix == BACKBONE_PREFIX else None
    return _translate(_without(arrays, rest), _video_vit_rules(prefix, config.depth), sizes)


def attention_readout_state(arrays: Mapping[str, Tensor], readout: AttentionReadout) -> dict[str, Tensor]:
    """Map the readout of an official model to the state of `readout`, which says what is expected.

    Raises ValueError naming every array that is missing, unexpected or of another shape; the model's
    backbone is left to `video_vit_state`.
    """
    width = readout.key.out_features
    sizes = {"D": readout.key.in_features, "W": width, "mixed": width, "outputs": readout.head.out_features}
    sizes |= {"heads": readout.num_heads, "d": width // readout.num_heads, "T": readout.num_frames, "one": 1}
    if not readout.simple:
        sizes["M"] = readout.mlp.dense_in.out_features
    if hasattr(readout, "query"):
        sizes["Q"] = len(readout.query)
    else:
        sizes["asked"] = readout.query_projection.in_features
    return _translate(_without(arrays, BACKBONE_PREFIX), _readout_rules(READOUT_PREFIX, readout), sizes)


def _video_vit_rules(prefix: str, depth: int) -> list[_Rule]:
    rules = _dense(f"{prefix}encoder/patch_embedding/Conv_0", "patch_embedding", "pt ph pw c", "D")
    rules.append(_Rule(f"{prefix}encoder/posenc/embeddings", "positions", "t h w D -> (t h w) D"))
    for number in range(depth):
        rules += _block_rules(f"{prefix}processor/layers_{number}", f"blocks.{number}")
    return rules


def _block_rules(official: str, ours: str) -> list[_Rule]:
    rules = _norm(f"{official}/attention_norm", f"{ours}.attention_norm")
    for name in ("query", "key", "value"):
        rules += _dense(f"{official}/attention/{name}", f"{ours}.attention.{name}", "D", "heads d")
    rules += _dense(f"{official}/attention/out", f"{ours}.attention.out", "heads d", "D")
    rules += _norm(f"{official}/mlp_norm", f"{ours}.mlp_norm")
    rules += _dense(f"{official}/mlp/dense_in", f"{ours}.mlp.dense_in", "D", "M")
    return rules + _dense(f"{official}/mlp/dense_out", f"{ours}.mlp.dense_out", "M", "D")


# In the order of their creation, by which flax numbers them: without the first, `out` is `Dense_0`.
_READOUT_DENSES = {"query_projection": ("asked", "W"), "out": ("mixed", "W"), "head": ("W", "outputs")}


def _readout_rules(prefix: str, readout: AttentionReadout) -> list[_Rule]:
    has_bias = not readout.simple
    rules = _dense(f"{prefix}key_embedding", "key", "D", "heads d", has_bias)
    rules += _dense(f"{prefix}value_embedding", "value", "D", "heads d", has_bias)
    present = [name for name in _READOUT_DENSES if hasattr(readout, name)]
    for number, name in enumerate(present):
        rules += _dense(f"{prefix}Dense_{number}", name, *_READOUT_DENSES[name])
    if hasattr(readout, "query"):
        rules.append(_Rule(f"{prefix}query", "query", "Q heads d -> Q (heads d)"))
    if not readout.simple:
        rules += _norm(f"{prefix}LayerNorm_0", "feature_norm") + _norm(f"{prefix}LayerNorm_1", "mlp_norm", "W")
        rules.append(_Rule(f"{prefix}temporal_posenc/embeddings", "time_positions", "T one D -> (T one) D"))
        rules += _dense(f"{prefix}MLP_0/Dense_0", "mlp.dense_in", "W", "M")
        rules += _dense(f"{prefix}MLP_0/Dense_1", "mlp.dense_out", "M", "W")
    return rules


def _dense(official: str, ours: str, inputs: str, outputs: str, bias: bool = True) -> list[_Rule]:
    """Flatten inputs and outputs, and put outputs first, as torch does."""
    kernel = _Rule(f"{official}/kernel", f"{ours}.weight", f"{inputs} {outputs} -> ({outputs}) ({inputs})")
    return [kernel, _Rule(f"{official}/bias", f"{ours}.bias", f"{outputs} -> ({outputs})")] if bias else [kernel]


def _norm(official: str, ours: str, width: str = "D") -> list[_Rule]:
    pairs = (("scale", "weight"), ("bias", "bias"))
    return [_Rule(f"{official}/{theirs}", f"{ours}.{name}", f"{width} -> {width}") for theirs, name in pairs]


def _backbone_prefix(arrays: Iterable[str]) -> str:
    return BACKBONE_PREFIX if any(name.startswith(BACKBONE_PREFIX) for name in arrays) else BARE_PREFIX


def _without(arrays: Mapping[str, Tensor], prefix: str | None) -> dict[str, Tensor]:
    return {name: array for name, array in arrays.items() if prefix is None or not name.startswith(prefix)}


def _sizes(arrays: Mapping[str, Tensor], name: str, axes: str) -> dict[str, int]:
    if name not in arrays:
        raise ValueError(f"array {name!r} is missing, from which the architecture is read. {_RELEASED}")
    names, shape = axes.split(), tuple(arrays[name].shape)
    if len(names) != len(shape):
        raise ValueError(f"array {name!r} has shape {shape}, expected axes ({', '.join(names)}). {_RELEASED}")
    return dict(zip(names, shape, strict=True))


def _translate(arrays: Mapping[str, Tensor], rules: list[_Rule], sizes: Mapping[str, int]) -> dict[str, Tensor]:
    expected = {rule.official: rule.shape(sizes) for rule in rules}
    _require_same(_shapes(arrays), expected, "the arrays", _RELEASED)
    return {rule.ours: rearrange(arrays[rule.official], rule.axes).contiguous() for rule in rules}


# ----------------------------------------------------------------------------- our own file


def save_module(module: nn.Module, path: Path | str, config_json: str) -> None:
    """Write a module's state with its config as one safetensors file.

    The same numbers give the same bytes. The file is written aside and renamed, so that `path` never
    holds half of it.
    """
    path = Path(path)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.touch()
        mode = aside.stat().st_mode
        save_file(state, aside, metadata={"config": config_json})
        aside.chmod(mode)  # save_file hides its file from everybody else
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def load_module(module: nn.Module, path: Path | str) -> None:
    """Fill a module with what `save_module` wrote, in the module's own precision and on its device.

    Raises ValueError listing what is missing, unexpected or of another shape; nothing is loaded then.
    """
    state = module.state_dict()
    unready = [name for name, tensor in state.items() if tensor.is_meta]
    if unready:
        raise ValueError(f"{_listed(unready)} stand on the meta device: call to_empty(device=...) before loading")
    stored = _read_safetensors(path)
    advice = "Build the module from the config in the file (see read_config), or name the file that fits it."
    _require_same(_shapes(stored), _shapes(state), str(path), advice)
    _require_same_config(module, path)
    module.load_state_dict(stored, strict=True)


def _require_same_config(module: nn.Module, path: Path | str) -> None:
    """Refuse weights of a module that was configured otherwise, which shapes alone may not tell (heads).

    A file with an empty config says nothing, and is taken by its shapes.
    """
    if not hasattr(module, "config"):
        return
    stored, own = json.loads(read_config(path)), provenance.describe(module.config)
    if not stored:
        return
    differing = sorted(name for name in stored.keys() | own.keys() if stored.get(name) != own.get(name))
    if differing:
        values = "; ".join(f"{name} {stored.get(name)}, expected {own.get(name)}" for name in differing)
        raise ValueError(f"{path} holds weights of another config: {values}. Build the module as the file says.")


def read_config(path: Path | str) -> str:
    """Read the config that `save_module` stored beside the weights, as JSON."""
    with _open_safetensors(path) as file:
        metadata = file.metadata() or {}
    if "config" not in metadata:
        raise ValueError(f"{path} holds no config, only {sorted(metadata)}; expected a file written by save_module")
    return metadata["config"]


def sha256(path: Path | str) -> str:
    """Compute the SHA-256 of a file, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_safetensors(path: Path | str) -> dict[str, Tensor]:
    with _open_safetensors(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)


def _open_safetensors(path: Path | str) -> safe_open:
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}. Copy or download it again.") from error


# ----------------------------------------------------------------------------- comparing


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, Shape]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _require_same(found: Mapping[str, Shape], expected: Mapping[str, Shape], what: str, advice: str) -> None:
    shared = [name for name in expected if name in found and found[name] != expected[name]]
    problems = {
        "missing": [name for name in expected if name not in found],
        "unexpected": [name for name in found if name not in expected],
        "misshapen": [f"{name} {found[name]}, expected {expected[name]}" for name in shared],
    }
    lines = [f"  {len(names)} {kind}: {_listed(names)}" for kind, names in problems.items() if names]
    if lines:
        raise ValueError("\n".join([f"{what} and the module do not match:", *lines, advice]))


def _listed(names: list[str]) -> str:
    more = f", and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return "; ".join(names[:_LISTED]) + more
