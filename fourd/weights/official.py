"""The released 4DS arrays, mapped to our modules. Always strict.

Source: google-deepmind/representations4d for names and layouts. Its `.npz` files hold float32 arrays
under flat keys joined by `/`: a bare backbone under `params/`, or a depth model with the backbone
under `params/layers_0/` and its readout under `params/layers_2/`.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from fourd.backbones.video_vit import VideoViTConfig
from fourd.readout import AttentionReadout, ReadoutSize
from fourd.weights.compare import Shape, require_same, shapes_of

BARE_PREFIX = "params/"
BACKBONE_PREFIX = "params/layers_0/"
READOUT_PREFIX = "params/layers_2/"

_UNREADABLE = (ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)
"""What zipfile and numpy raise for damaged, encrypted or strangely compressed members."""

_RELEASED = "Expected a released 4DS model, downloaded whole and unchanged."

# ----------------------------------------------------------------------------- the file


class NpzArrays(Mapping[str, Tensor]):
    """Look at the arrays of an `.npz` file, and read each only when it is asked for.

    Raises ValueError, naming the array, for what released weights never hold: pickled objects, numbers
    that are not float32 or not finite, bytes that are damaged; and for a file that is no whole archive.
    """

    def __init__(self, path: Path | str) -> None:
        """Read the table of the archive and the shape of every array."""
        self.path = Path(path)
        _require_archive(self.path)
        with _opened(self.path) as archive:
            members = {member.removesuffix(".npy"): member for member in archive.namelist()}
            if len(members) < len(archive.namelist()):
                raise ValueError(f"{self.path} names an array twice. {_RELEASED}")
            self.shapes: dict[str, Shape] = {
                name: _read_shape(archive, member, name, self.path) for name, member in members.items()
            }
        self._archive = np.load(self.path, allow_pickle=False)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.shapes:
            raise KeyError(name)
        return torch.from_numpy(_read_array(self._archive, name, self.path))

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def __enter__(self) -> NpzArrays:
        return self

    def __exit__(self, *raised: object) -> None:
        self._archive.close()


def read_npz(path: Path | str) -> dict[str, Tensor]:
    """Read every array of an `.npz` file; see `NpzArrays` for what is refused."""
    with NpzArrays(path) as arrays:
        return dict(arrays)


def _require_archive(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(2)
    if start != b"PK":
        raise ValueError(f"{path} is not an npz archive: it starts with {start!r}, expected b'PK'. {_RELEASED}")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is cut short: the table of arrays at its end is missing. Download it again.")


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path}: its table of arrays is damaged ({error}). Download it again.") from error


def _read_shape(archive: zipfile.ZipFile, member: str, name: str, path: Path) -> Shape:
    """Read the header of an array, and refuse what is no array of float32."""
    try:
        with archive.open(member) as file:
            version = np.lib.format.read_magic(file)
            read_header = (
                np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = read_header(file)
    except _UNREADABLE as error:
        raise ValueError(f"{path}: {name!r} is not an array, or cannot be read: {error}. {_RELEASED}") from error
    if dtype.hasobject:
        raise ValueError(f"{path}: array {name!r} cannot be read: it is a pickled object. {_RELEASED}")
    if dtype != np.float32:
        raise ValueError(f"{path}: array {name!r} has dtype {dtype}, expected float32. {_RELEASED}")
    return tuple(shape)


def _read_array(archive: np.lib.npyio.NpzFile, name: str, path: Path) -> np.ndarray:
    try:
        array: np.ndarray = archive[name]
    except _UNREADABLE as error:
        raise ValueError(f"{path}: array {name!r} cannot be read: {error}. {_RELEASED}") from error
    num_bad = array.size - np.isfinite(array).sum()
    if num_bad:
        raise ValueError(f"{path}: array {name!r} has {num_bad} numbers that are not finite. {_RELEASED}")
    return array


def _shapes(arrays: Mapping[str, Tensor]) -> dict[str, Shape]:
    return arrays.shapes if isinstance(arrays, NpzArrays) else shapes_of(arrays)


# ----------------------------------------------------------------------------- what the shapes tell


def has_readout(arrays: Mapping[str, Tensor]) -> bool:
    """Tell a depth model from a bare backbone."""
    return any(name.startswith(READOUT_PREFIX) for name in arrays)


def video_vit_config(arrays: Mapping[str, Tensor]) -> VideoViTConfig:
    """Read the architecture of an official backbone from the shapes of its arrays."""
    prefix, shapes = _backbone_prefix(arrays), _shapes(arrays)
    patch = _sizes(shapes, f"{prefix}encoder/patch_embedding/Conv_0/kernel", "pt ph pw c D")
    grid = _sizes(shapes, f"{prefix}encoder/posenc/embeddings", "t h w D")
    query = _sizes(shapes, f"{prefix}processor/layers_0/attention/query/kernel", "D heads d")
    mlp = _sizes(shapes, f"{prefix}processor/layers_0/mlp/dense_in/kernel", "D M")
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


def readout_size(arrays: Mapping[str, Tensor]) -> ReadoutSize:
    """Read the size of an official depth readout from the shapes of its arrays."""
    shapes = _shapes(arrays)
    query = _sizes(shapes, f"{READOUT_PREFIX}query", "Q heads d")
    times = _sizes(shapes, f"{READOUT_PREFIX}temporal_posenc/embeddings", "T one D")
    return ReadoutSize(query["heads"] * query["d"], query["heads"], times["T"])


def output_shape(arrays: Mapping[str, Tensor]) -> tuple[int, int]:
    """Count the queries of an official depth readout, and the numbers that each gives."""
    shapes = _shapes(arrays)
    query = _sizes(shapes, f"{READOUT_PREFIX}query", "Q heads d")
    return query["Q"], _sizes(shapes, f"{READOUT_PREFIX}Dense_1/bias", "outputs")["outputs"]


def _sizes(shapes: Mapping[str, Shape], name: str, axes: str) -> dict[str, int]:
    if name not in shapes:
        raise ValueError(f"array {name!r} is missing, from which the architecture is read. {_RELEASED}")
    names, shape = axes.split(), shapes[name]
    if len(names) != len(shape) or 0 in shape:
        raise ValueError(f"array {name!r} has shape {shape}, expected axes ({', '.join(names)}). {_RELEASED}")
    return dict(zip(names, shape, strict=True))


def _backbone_prefix(arrays: Mapping[str, Tensor]) -> str:
    return BACKBONE_PREFIX if any(name.startswith(BACKBONE_PREFIX) for name in arrays) else BARE_PREFIX


# ----------------------------------------------------------------------------- from official names to ours


class Rule(NamedTuple):
    """Name an official array and our parameter, and say how named axes move from one to the other."""

    official: str
    ours: str
    axes: str

    def shape(self, sizes: Mapping[str, int]) -> Shape:
        """Work out the official shape."""
        return tuple(sizes[axis] for axis in self.axes.split(" -> ")[0].split())

    def arrange(self, array: Tensor) -> Tensor:
        """Bring an official array into our layout."""
        return rearrange(array, self.axes).contiguous()

    def read(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Read the array in our layout."""
        return self.arrange(arrays[self.official])


def video_vit_rules(arrays: Mapping[str, Tensor]) -> list[Rule]:
    """Say from which array each parameter of `video_vit_config(arrays).build()` is taken.

    Raises ValueError naming every array that is missing, unexpected or of another shape; a depth
    model's readout is left to `attention_readout_rules`.
    """
    config, prefix = video_vit_config(arrays), _backbone_prefix(arrays)
    grid = [pixels // side for pixels, side in zip((config.num_frames, *config.size), config.patch, strict=True)]
    sizes = dict(zip(("pt", "ph", "pw", "t", "h", "w"), (*config.patch, *grid), strict=True))
    sizes |= {"c": 3, "D": config.width, "M": config.mlp_width}
    sizes |= {"heads": config.num_heads, "d": config.width // config.num_heads}
    rest = READOUT_PREFIX if prefix == BACKBONE_PREFIX else None
    return _checked(_video_vit_rules(prefix, config.depth), _without(arrays, rest), sizes)


def attention_readout_rules(arrays: Mapping[str, Tensor], readout: AttentionReadout) -> list[Rule]:
    """Say from which array each parameter of `readout` is taken, which itself says what is expected.

    Raises ValueError naming every array that is missing, unexpected or of another shape; the model's
    backbone is left to `video_vit_rules`.
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
    return _checked(_readout_rules(READOUT_PREFIX, readout), _without(arrays, BACKBONE_PREFIX), sizes)


def video_vit_state(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Map an official backbone to the state of `video_vit_config(arrays).build()`."""
    return {rule.ours: rule.read(arrays) for rule in video_vit_rules(arrays)}


def attention_readout_state(arrays: Mapping[str, Tensor], readout: AttentionReadout) -> dict[str, Tensor]:
    """Map the readout of an official model to the state of `readout`."""
    return {rule.ours: rule.read(arrays) for rule in attention_readout_rules(arrays, readout)}


def _checked(rules: list[Rule], found: Mapping[str, Shape], sizes: Mapping[str, int]) -> list[Rule]:
    require_same(found, {rule.official: rule.shape(sizes) for rule in rules}, "the arrays", _RELEASED)
    return rules


def _without(arrays: Mapping[str, Tensor], prefix: str | None) -> dict[str, Shape]:
    return {name: shape for name, shape in _shapes(arrays).items() if prefix is None or not name.startswith(prefix)}


def _video_vit_rules(prefix: str, depth: int) -> list[Rule]:
    rules = _dense(f"{prefix}encoder/patch_embedding/Conv_0", "patch_embedding", "pt ph pw c", "D")
    rules.append(Rule(f"{prefix}encoder/posenc/embeddings", "positions", "t h w D -> (t h w) D"))
    for number in range(depth):
        rules += _block_rules(f"{prefix}processor/layers_{number}", f"blocks.{number}")
    return rules


def _block_rules(official: str, ours: str) -> list[Rule]:
    rules = _norm(f"{official}/attention_norm", f"{ours}.attention_norm")
    for name in ("query", "key", "value"):
        rules += _dense(f"{official}/attention/{name}", f"{ours}.attention.{name}", "D", "heads d")
    rules += _dense(f"{official}/attention/out", f"{ours}.attention.out", "heads d", "D")
    rules += _norm(f"{official}/mlp_norm", f"{ours}.mlp_norm")
    rules += _dense(f"{official}/mlp/dense_in", f"{ours}.mlp.dense_in", "D", "M")
    return rules + _dense(f"{official}/mlp/dense_out", f"{ours}.mlp.dense_out", "M", "D")


# In the order of their creation, by which flax numbers them: without the first, `out` is `Dense_0`.
_READOUT_DENSES = {"query_projection": ("asked", "W"), "out": ("mixed", "W"), "head": ("W", "outputs")}


def _readout_rules(prefix: str, readout: AttentionReadout) -> list[Rule]:
    has_bias = not readout.simple
    rules = _dense(f"{prefix}key_embedding", "key", "D", "heads d", has_bias)
    rules += _dense(f"{prefix}value_embedding", "value", "D", "heads d", has_bias)
    present = [name for name in _READOUT_DENSES if hasattr(readout, name)]
    for number, name in enumerate(present):
        rules += _dense(f"{prefix}Dense_{number}", name, *_READOUT_DENSES[name])
    if hasattr(readout, "query"):
        rules.append(Rule(f"{prefix}query", "query", "Q heads d -> Q (heads d)"))
    if not readout.simple:
        rules += _norm(f"{prefix}LayerNorm_0", "feature_norm") + _norm(f"{prefix}LayerNorm_1", "mlp_norm", "W")
        rules.append(Rule(f"{prefix}temporal_posenc/embeddings", "time_positions", "T one D -> (T one) D"))
        rules += _dense(f"{prefix}MLP_0/Dense_0", "mlp.dense_in", "W", "M")
        rules += _dense(f"{prefix}MLP_0/Dense_1", "mlp.dense_out", "M", "W")
    return rules


def _dense(official: str, ours: str, inputs: str, outputs: str, bias: bool = True) -> list[Rule]:
    """Flatten inputs and outputs, and put outputs first, as torch does."""
    kernel = Rule(f"{official}/kernel", f"{ours}.weight", f"{inputs} {outputs} -> ({outputs}) ({inputs})")
    return [kernel, Rule(f"{official}/bias", f"{ours}.bias", f"{outputs} -> ({outputs})")] if bias else [kernel]


def _norm(official: str, ours: str, width: str = "D") -> list[Rule]:
    pairs = (("scale", "weight"), ("bias", "bias"))
    return [Rule(f"{official}/{theirs}", f"{ours}.{name}", f"{width} -> {width}") for theirs, name in pairs]
