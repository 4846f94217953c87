"""VideoMAE v2: a plain ViT over 2x16x16 or 2x14x14 patches; our own code, since `transformers` does not hold it.

It differs from `VideoViT` in exact GELU, keys without a bias, a fixed table of positions, normalised colours and a
final norm. Source: OpenGVLab/VideoMAEv2, `models/modeling_finetune.py` and `models/modeling_pretrain.py` for the
definition and the names of the arrays, `run_class_finetuning.py` for the prefixes they come with,
`dataset/datasets.py` for the colours. The published weights are CC-BY-NC-4.0.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import pickle
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Shaped
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fourd.backbones._transformers import IMAGENET_MEAN, IMAGENET_STD, Colour, read_preprocessing
from fourd.layers import LAYER_NORM_EPS, MLP, Block, LayerNorm, SelfAttention
from fourd.tokens import Triple, grid_of, native_pixels, patchify, resample_positions
from fourd.types import Backbone, BackboneConfig, ClipShape, Features, FeatureShape, Interpolation, NativeInput

log = logging.getLogger(__name__)

CHECKPOINTS = {
    "videomae-v2-base": "OpenGVLab/VideoMAEv2-Base",
    "videomae-v2-large": "OpenGVLab/VideoMAEv2-Large",
    "videomae-v2-huge": "OpenGVLab/VideoMAEv2-Huge",
    "videomae-v2-giant": "OpenGVLab/VideoMAEv2-giant",
}
"""Short names of published checkpoints, and where they lie on the Hub."""
TRAINED_ON = {"videomae-v2-": ("kinetics", "ssv2")}
"""Datasets of ours that published weights saw: parts of its mixture of 1.35 million films. Source: arXiv 2303.16727."""

FILE_SUFFIXES = (".pth", ".pt", ".safetensors")
"""What a single file of published weights is called; those of the distilled models are only to be had like this."""

# ----------------------------------------------------------------------------- the model


class _Attention(SelfAttention):
    """Attend with a bias on queries and values alone."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__(width, num_heads)
        self.key = nn.Linear(width, width, bias=False)

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Fill with Xavier-uniform numbers, where query, key and value count as the one projection of the source."""
        bound = math.sqrt(6 / (4 * self.query.in_features))
        for projection in (self.query, self.key, self.value):
            nn.init.uniform_(projection.weight, -bound, bound, generator=generator)
        nn.init.xavier_uniform_(self.out.weight, generator=generator)
        for biased in (self.query, self.value, self.out):
            nn.init.zeros_(biased.bias)


class _MLP(MLP):
    """Widen, apply GELU exactly, narrow."""

    def forward(self, x: Float[Tensor, "*shape D"]) -> Float[Tensor, "*shape D"]:
        """Transform each token by itself."""
        return self.dense_out(F.gelu(self.dense_in(x)))


class _Block(Block):
    """Be our block with the attention and the MLP of VideoMAE."""

    def __init__(self, width: int, num_heads: int, mlp_width: int) -> None:
        super().__init__(width, num_heads, mlp_width)
        self.attention = _Attention(width, num_heads)
        self.mlp = _MLP(width, mlp_width)


def fixed_positions(num_tokens: int, width: int) -> Float[Tensor, "N D"]:
    """Tabulate sines (even columns) and cosines (odd) of each token's number, counted through the whole clip.

    Source: `get_sinusoid_encoding_table`; unlike `fourd.tokens.sincos_positions` it knows of no axes.
    """
    number = torch.arange(num_tokens, dtype=torch.float64, device="cpu")[:, None]
    column = torch.arange(width, device="cpu")
    angle = number / 10000.0 ** (2 * (column // 2).double() / width)
    return torch.where(column % 2 == 0, angle.sin(), angle.cos()).float()


class VideoMAEv2(Backbone):
    """Encode a clip; one of other than its native length and size by resampling the positions, if so configured.

    The source averages the tokens and then applies the norm of a finetuned model. Features are tokens, so here
    that norm is applied to each of them; the norm of a pretraining model always was.
    """

    positions: Tensor

    def __init__(self, config: VideoMAEv2Config) -> None:
        super().__init__()
        self.config = config
        self.grid = grid_of(config.num_frames, config.size, config.patch)
        self.patch_embedding = nn.Linear(3 * math.prod(config.patch), config.width)
        # kept in the state although it is no parameter, so that whoever loads the state has filled everything
        self.register_buffer("positions", torch.empty(math.prod(self.grid), config.width))
        self.blocks = nn.ModuleList(
            _Block(config.width, config.num_heads, config.mlp_width) for _ in range(config.depth)
        )
        self.final_norm = LayerNorm(config.width)

    @property
    def native_input(self) -> NativeInput:
        """Say which clips `forward` takes."""
        config = self.config
        return NativeInput(config.num_frames, config.size, config.patch, config.interpolation, config.native_size)

    def pixels(self, video: Shaped[Tensor, "B T 3 H W"]) -> Float[Tensor, "B T 3 h w"]:
        """Resize and normalise clips, in the precision of the weights; raise ValueError for what is not taken."""
        pixels = native_pixels(video, self.native_input)
        mean, std = (pixels.new_tensor(values)[:, None, None] for values in (self.config.mean, self.config.std))
        return ((pixels - mean) / std).to(self.patch_embedding.weight.dtype)

    def embed(self, pixels: Float[Tensor, "B T 3 h w"]) -> Float[Tensor, "B N D"]:
        """Embed patches with their positions."""
        positions = resample_positions(self.positions, self.grid, self._grid_of(pixels))
        patches = self.patch_embedding(patchify(pixels, self.config.patch))
        return patches + positions.to(patches.dtype)

    def forward(self, video: Shaped[Tensor, "B T 3 H W"], depths: Sequence[float]) -> tuple[Features, ...]:
        """Encode clips; depth d is the output of block `ceil(d * L)`, with the final norm at d = 1 alone."""
        wanted = [self.block_at(depth) for depth in depths]
        pixels = self.pixels(video)
        grid = self._grid_of(pixels)
        tokens = self.embed(pixels)
        kept: dict[int, Float[Tensor, "B N D"]] = {}
        for number, block in enumerate(self.blocks[: max(wanted, default=0)], start=1):
            tokens = block(tokens)
            if number in wanted:
                kept[number] = self.final_norm(tokens) if number == len(self.blocks) else tokens
        return tuple(Features(kept[number].unflatten(1, grid)) for number in wanted)

    def _grid_of(self, pixels: Float[Tensor, "B T 3 h w"]) -> Triple:
        return grid_of(pixels.shape[1], (pixels.shape[3], pixels.shape[4]), self.config.patch)

    def feature_shape(self, clip: ClipShape) -> FeatureShape:
        """Say which grid `forward` gives."""
        return FeatureShape(*self.native_input.grid(clip), self.config.width)

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Fill every parameter as the source's pretraining does, and the table of positions."""
        bound = self.patch_embedding.in_features**-0.5  # what torch gives the convolution of the source
        for parameter in self.patch_embedding.parameters():
            nn.init.uniform_(parameter, -bound, bound, generator=generator)
        self.positions.copy_(fixed_positions(*self.positions.shape))
        for block in self.blocks:
            cast(_Block, block).init_weights(generator)
        self.final_norm.reset_parameters()


@dataclass(frozen=True)
class VideoMAEv2Config(BackboneConfig):
    """Describe a VideoMAE v2. mean, std: of the colours, taken off and divided by."""

    width: int
    depth: int
    num_heads: int
    mlp_width: int
    patch: Triple = (2, 16, 16)
    num_frames: int = 16
    size: tuple[int, int] = (224, 224)
    mean: Colour = IMAGENET_MEAN
    std: Colour = IMAGENET_STD
    interpolation: Interpolation = "bilinear"

    def build(self) -> VideoMAEv2:
        """Build the encoder, its parameters unset."""
        return VideoMAEv2(self)


def small() -> VideoMAEv2Config:
    """Describe ViT-S/16, 21.9M parameters: the smaller of the two distilled models."""
    return VideoMAEv2Config(width=384, depth=12, num_heads=6, mlp_width=1536)


def base() -> VideoMAEv2Config:
    """Describe ViT-B/16, 86.2M parameters."""
    return VideoMAEv2Config(width=768, depth=12, num_heads=12, mlp_width=3072)


def large() -> VideoMAEv2Config:
    """Describe ViT-L/16, 303.9M parameters."""
    return VideoMAEv2Config(width=1024, depth=24, num_heads=16, mlp_width=4096)


def huge() -> VideoMAEv2Config:
    """Describe ViT-H/16, 631.6M parameters."""
    return VideoMAEv2Config(width=1280, depth=32, num_heads=16, mlp_width=5120)


def giant() -> VideoMAEv2Config:
    """Describe ViT-g/14, 1,011.6M parameters; its MLP is 48/11 times as wide as its tokens."""
    return VideoMAEv2Config(width=1408, depth=40, num_heads=16, mlp_width=6144, patch=(2, 14, 14))


def tiny() -> VideoMAEv2Config:
    """Describe one that runs at once, for tests; its MLP is 48/11 times as wide as its tokens, rounded down."""
    return VideoMAEv2Config(32, 4, 2, 139, patch=(2, 8, 8), num_frames=4, size=(32, 32))


SIZES = {"S": small, "B": base, "L": large, "H": huge, "g": giant}

# ----------------------------------------------------------------------------- published weights

State = Mapping[str, Tensor]
Shape = tuple[int, ...]

_BY_WIDTH = {config.width: config for config in (tiny(), *(size() for size in SIZES.values()))}


def recognises(config: Mapping[str, Any]) -> bool:
    """Tell from the configuration beside a checkpoint whether it is one of these; all sizes go by the name of one."""
    return str(config.get("model_type", "")).startswith("VideoMAEv2")


def from_checkpoint(path: Path, dtype: torch.dtype = torch.float32, native_size: bool = True) -> VideoMAEv2:
    """Load published weights: a folder of the Hub, a `.safetensors`, or a `.pth` or `.pt` that holds nothing else.

    Width, depth, patch and MLP are read from the arrays; heads, frames and size from `config.json` where it stands
    beside them, else from the published size of that width. Heads, decoders and mask tokens are left out and logged.
    Raises ValueError naming each array that is missing, unexpected, misshapen or not finite; nothing is loaded then.
    """
    state = _without_prefixes(path, _read(path))
    config = _described(path, state)
    _require_fixed_positions(path, state.pop("pos_embed", None), config)
    expected = _expected(config, "norm" if "fc_norm.weight" not in state and "norm.weight" in state else "fc_norm")
    _require_fits(path, state, expected)
    arrays = {name: value.to(dtype) for name, value in _arranged(state, expected).items()}
    with torch.device("meta"):
        backbone = replace(config, native_size=native_size).build()
    arrays["positions"] = fixed_positions(*backbone.positions.shape).to(dtype)
    backbone.load_state_dict(arrays, strict=True, assign=True)
    return backbone


# ----------------------------------------------------------------------------- from files to named arrays


def _read(path: Path) -> State:
    """Map the arrays of a checkpoint into memory, under the names they are stored with."""
    if path.is_dir():
        path = path / "model.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected model.safetensors in a folder, or a file of weights")
    if path.suffix in (".pth", ".pt"):
        return _read_pickle(path)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}. Copy or download it again") from error


def _read_pickle(path: Path) -> State:
    """Read a file of `torch.save` without running code that it may hold, and log which file it was."""
    with path.open("rb") as file:
        log.info("%s has SHA-256 %s", path, hashlib.file_digest(file, "sha256").hexdigest())
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"{path} is damaged, or holds more than weights, which is refused because unpickling runs code, or is in "
            "the format of before torch 1.6. Download it again, or, where you trust it, load it with torch and save "
            "its tensors as .safetensors"
        ) from error
    held = stored if isinstance(stored, Mapping) else {}
    state = next((held[key] for key in ("model", "module") if isinstance(held.get(key), Mapping)), held)
    wrong = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if wrong or not state:
        raise ValueError(
            f"{path} holds {wrong[:10] or 'nothing'}; expected named tensors, alone or under model or module"
        )
    return cast(State, state)


_PREFIX = re.compile(r"^(?:(?:_orig_mod|module|model|backbone|encoder)\.)*")
_LEFT_OUT = re.compile(r"^(?:decoder|encoder_to_decoder|head)\.|^mask_token$")


def _without_prefixes(path: Path, stored: State) -> dict[str, Tensor]:
    """Name the encoder's arrays as the source does; leave out, and log, what is not the encoder's."""
    state: dict[str, Tensor] = {}
    left_out = []
    for name, value in stored.items():
        bare = _PREFIX.sub("", name)
        if bare in state:
            raise ValueError(f"{path}: {name} is a second {bare}; expected one encoder in a file")
        if _LEFT_OUT.match(bare):
            left_out.append(bare)
        else:
            state[bare] = value
    if left_out:
        log.info("%s: %d arrays are not the encoder's and left out: %s", path, len(left_out), "; ".join(left_out))
    return state


# ----------------------------------------------------------------------------- from arrays to a description

_ALWAYS: dict[str, Any] = {"in_chans": 3, "qkv_bias": True, "layer_norm_eps": LAYER_NORM_EPS, "cos_attn": False}
_ALWAYS |= {"use_learnable_pos_emb": False, "init_values": 0, "qk_scale": None}


def _described(path: Path, state: State) -> VideoMAEv2Config:
    """Read the architecture from the arrays, and from the files beside them what arrays do not tell."""
    width, _, *patch = _shape_of(path, state, "patch_embed.proj.weight", 5)
    mlp_width, _ = _shape_of(path, state, "blocks.0.mlp.fc1.weight", 2)
    blocks = [int(found[1]) for found in (re.match(r"blocks\.(\d+)\.", name) for name in state) if found]
    known = _BY_WIDTH.get(width)
    if known is None:
        raise ValueError(
            f"{path}: its width is {width}, whose number of heads is not known; expected one of {sorted(_BY_WIDTH)}"
        )
    t, h, w = patch
    found = replace(known, depth=1 + max(blocks), mlp_width=mlp_width, patch=(t, h, w))
    if found != known:
        log.warning("%s holds %s; the published model of that width is %s", path, found, known)
    return _with_files_beside(path, found) if path.is_dir() else found


def _shape_of(path: Path, state: State, name: str, num_axes: int) -> Shape:
    shape = tuple(state[name].shape) if name in state else None
    if shape is None or len(shape) != num_axes:
        raise ValueError(f"{path}: {name} is {shape or 'missing'}; expected {num_axes} axes, as VideoMAE v2 has")
    return shape


def _with_files_beside(folder: Path, config: VideoMAEv2Config) -> VideoMAEv2Config:
    """Take heads, frames, size and colours from the files of the Hub; refuse settings that make another model."""
    if (folder / "preprocessor_config.json").is_file():
        config = replace(config, **read_preprocessing(folder))
    path = folder / "config.json"
    said: Mapping[str, Any] = json.loads(path.read_text()).get("model_config", {}) if path.is_file() else {}
    own = {"embed_dim": config.width, "depth": config.depth}
    own |= {"tubelet_size": config.patch[0], "patch_size": config.patch[1]}
    wrong = [
        f"{name} is {said[name]}, expected {value}"
        for name, value in (_ALWAYS | own).items()
        if said.get(name, value) != value
    ]
    if wrong:
        raise ValueError(f"{path} describes another model than its arrays: {'; '.join(wrong)}")
    size = said.get("img_size", config.size)
    return replace(
        config,
        num_heads=said.get("num_heads", config.num_heads),
        num_frames=said.get("num_frames", config.num_frames),
        size=(size, size) if isinstance(size, int) else tuple(size),
    )


# ----------------------------------------------------------------------------- strict comparison and translation


def _expected(config: VideoMAEv2Config, norm: str) -> dict[str, tuple[str, Shape]]:
    """List the arrays of a checkpoint: published name, our name, published shape."""
    w, hidden = config.width, config.mlp_width
    block: dict[str, tuple[str, Shape]] = {
        "norm1.weight": ("attention_norm.weight", (w,)),
        "norm1.bias": ("attention_norm.bias", (w,)),
        "attn.q_bias": ("attention.query.bias", (w,)),
        "attn.v_bias": ("attention.value.bias", (w,)),
        "attn.qkv.weight": (f"attention.{_FUSED}.weight", (3 * w, w)),
        "attn.proj.weight": ("attention.out.weight", (w, w)),
        "attn.proj.bias": ("attention.out.bias", (w,)),
        "norm2.weight": ("mlp_norm.weight", (w,)),
        "norm2.bias": ("mlp_norm.bias", (w,)),
        "mlp.fc1.weight": ("mlp.dense_in.weight", (hidden, w)),
        "mlp.fc1.bias": ("mlp.dense_in.bias", (hidden,)),
        "mlp.fc2.weight": ("mlp.dense_out.weight", (w, hidden)),
        "mlp.fc2.bias": ("mlp.dense_out.bias", (w,)),
    }
    return {
        "patch_embed.proj.weight": ("patch_embedding.weight", (w, 3, *config.patch)),
        "patch_embed.proj.bias": ("patch_embedding.bias", (w,)),
        **{
            f"blocks.{number}.{name}": (f"blocks.{number}.{ours}", shape)
            for number in range(config.depth)
            for name, (ours, shape) in block.items()
        },
        f"{norm}.weight": ("final_norm.weight", (w,)),
        f"{norm}.bias": ("final_norm.bias", (w,)),
    }


_FUSED = "query+key+value"


def _require_fits(path: Path, state: State, expected: Mapping[str, tuple[str, Shape]]) -> None:
    """Raise ValueError naming every array that is missing, unexpected, of another shape or not of finite numbers."""
    shared = [name for name in expected if name in state]
    shapes = [(name, tuple(state[name].shape), expected[name][1]) for name in shared]
    problems = {
        "missing": [name for name in expected if name not in state],
        "unexpected": [name for name in state if name not in expected],
        "misshapen": [f"{name} {found}, expected {wanted}" for name, found, wanted in shapes if found != wanted],
        "not of finite numbers": [name for name in shared if not _is_finite(state[name])],
    }
    lines = [f"  {len(names)} {kind}: {'; '.join(names[:20])}" for kind, names in problems.items() if names]
    if lines:
        raise ValueError("\n".join([f"{path} and VideoMAE v2 do not match:", *lines]))


def _is_finite(value: Tensor) -> bool:
    return value.is_floating_point() and bool(value.isfinite().all())


def _require_fixed_positions(path: Path, stored: Tensor | None, config: VideoMAEv2Config) -> None:
    """Refuse a table of positions that is not the fixed one, which is not loaded but computed."""
    if stored is None:
        return
    table = fixed_positions(math.prod(grid_of(config.num_frames, config.size, config.patch)), config.width)
    found = stored.squeeze(0).float()
    if found.shape != table.shape or not torch.allclose(found, table, rtol=0, atol=1e-2):  # it may be in half precision
        raise ValueError(
            f"{path}: pos_embed, of shape {tuple(stored.shape)}, is not the fixed table of {tuple(table.shape)}; "
            "models with learned positions, or of another size or length, are not supported"
        )


def _arranged(state: State, expected: Mapping[str, tuple[str, Shape]]) -> dict[str, Tensor]:
    """Give the arrays our names, split the fused projection, and turn the convolution into a product of patches."""
    arrays: dict[str, Tensor] = {}
    for name, (ours, shape) in expected.items():
        if _FUSED in ours:
            parts = zip(_FUSED.split("+"), state[name].chunk(3), strict=True)
            arrays |= {ours.replace(_FUSED, part): rows for part, rows in parts}
        elif len(shape) == 5:
            arrays[ours] = rearrange(state[name], "d c t h w -> d (t h w c)")
        else:
            arrays[ours] = state[name]
    return arrays
