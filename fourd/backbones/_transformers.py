"""What the rivals that Hugging Face `transformers` brings have in common: preprocessing, depth, strict loading.

An adapter runs the rival's own layers one after the other, so that features of any depth come out and
nothing runs for nothing. `transformers` is the extra `fourd[baselines]`; it is imported only when a rival is built.
"""

from __future__ import annotations

import importlib
import json
import logging
import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Shaped
from safetensors import SafetensorError
from torch import Tensor, nn

from fourd.tokens import Triple, native_pixels
from fourd.types import Backbone, BackboneConfig, ClipShape, Features, FeatureShape, Interpolation

Colour = tuple[float, float, float]
Settings = tuple[tuple[str, Any], ...]

IMAGENET_MEAN: Colour = (0.485, 0.456, 0.406)
IMAGENET_STD: Colour = (0.229, 0.224, 0.225)
HALF: Colour = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class RivalConfig(BackboneConfig):
    """Describe a rival.

    settings: what its own configuration says; what is not named has the default of `transformers`. size: (height,
    width) of its pictures; mean, std: of its colours, taken off and divided by; interpolation: how they were resized.

    The whole frame is resized to `size`. Many rivals resize to a little more and crop the middle, or keep the aspect
    and crop the sides; here nothing is cropped, because a dense task asks for every pixel of the frame. Of a
    checkpoint's preprocessing, colours and interpolation are kept as they are, and `size` is the one after its crop.
    """

    settings: Settings
    size: tuple[int, int]
    mean: Colour = IMAGENET_MEAN
    std: Colour = IMAGENET_STD
    interpolation: Interpolation = "bilinear"


class TransformersBackbone(Backbone):
    """Run a rival's own layers, and give the tokens of its patches at any depth."""

    num_prefix_tokens: int = 0
    """Tokens in front of the patches (class, registers), which are dropped."""

    def __init__(self, config: RivalConfig, rival: Any, blocks: nn.ModuleList, final_norm: nn.Module) -> None:
        """Take the parts of a `transformers` model; `rival` is its configuration."""
        super().__init__()
        self.config, self.rival = config, rival
        self.blocks, self.final_norm = blocks, final_norm

    @abstractmethod
    def embed(self, pixels: Float[Tensor, "B T 3 h w"]) -> tuple[Tensor, Mapping[str, Any]]:
        """Turn normalised pixels into tokens, and say what each block is told beside them."""

    def run_block(self, number: int, tokens: Tensor, context: Mapping[str, Any]) -> Tensor:
        """Pass block `number`, counted from 1."""
        output: Tensor = self.blocks[number - 1](tokens, **context)
        return output

    def to_grid(self, tokens: Tensor, num_clips: int, grid: Triple) -> Float[Tensor, "B t h w D"]:
        """Put the tokens of the patches in their places."""
        patches = tokens[:, self.num_prefix_tokens :]
        return patches.reshape(num_clips, *grid, patches.shape[-1])

    def pixels(self, video: Shaped[Tensor, "B T 3 H W"]) -> Float[Tensor, "B T 3 h w"]:
        """Resize and normalise clips as the rival's checkpoint says, in the precision of its weights."""
        pixels = native_pixels(video, self.native_input)
        mean, std = (pixels.new_tensor(values)[:, None, None] for values in (self.config.mean, self.config.std))
        return ((pixels - mean) / std).to(next(self.parameters()).dtype)

    def forward(self, video: Shaped[Tensor, "B T 3 H W"], depths: Sequence[float]) -> tuple[Features, ...]:
        """Encode clips; depth d is the output of block `ceil(d * L)`, with the rival's final norm at d = 1 alone."""
        wanted = [self.block_at(depth) for depth in depths]
        pixels = self.pixels(video)
        grid = self.native_input.grid(ClipShape(pixels.shape[1], pixels.shape[3], pixels.shape[4]))
        tokens, context = self.embed(pixels)
        kept: dict[int, Float[Tensor, "B t h w D"]] = {}
        for number in range(1, max(wanted, default=0) + 1):
            tokens = self.run_block(number, tokens, context)
            if number in wanted:
                output = self.final_norm(tokens) if number == len(self.blocks) else tokens
                kept[number] = self.to_grid(output, len(video), grid)
        return tuple(Features(kept[number]) for number in wanted)

    def feature_shape(self, clip: ClipShape) -> FeatureShape:
        """Say which grid `forward` gives."""
        return FeatureShape(*self.native_input.grid(clip), self.rival.hidden_size)

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Fill every parameter and buffer as the rival's own code does."""
        device = generator.device if generator is not None else "cpu"
        seed = int(torch.randint(2**62, (1,), generator=generator, device=device))
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.manual_seed(seed)
            fresh = self.config.build()
        values = (*fresh.parameters(), *fresh.buffers())
        for mine, new in zip((*self.parameters(), *self.buffers()), values, strict=True):
            mine.copy_(new)


# ----------------------------------------------------------------------------- building and loading


def transformers() -> Any:
    """Import the library; raise ImportError saying how to get it."""
    try:
        return importlib.import_module("transformers")
    except ModuleNotFoundError as error:
        raise ImportError(
            "this backbone needs Hugging Face transformers: python -m pip install 'fourd[baselines]'"
        ) from error


def build_model(model: str, settings: Settings) -> Any:
    """Build a model of `transformers` from the name of its class, with the library's own random weights."""
    kind = getattr(transformers(), model)
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in settings}
    _require_plain(plain, "settings")
    plain["attn_implementation"] = _attention_of(kind)
    return _with_kept_buffers(kind(kind.config_class(**plain)))


def load_model(model: str, folder: Path, dtype: torch.dtype, left_out: Sequence[str] = (), **changes: Any) -> Any:
    """Load a checkpoint by the rival's own code, and refuse one that does not fit it to the last array.

    left_out: beginnings of names of arrays that this model has no use for (decoders, predictors, heads, text
    towers); whether they are there, and what they hold, is not asked.
    changes: settings that differ from the checkpoint's own (a head that is not built).
    Raises ValueError naming the arrays that are missing, unexpected, misshapen or not finite.
    """
    kind = getattr(transformers(), model)
    how = {"dtype": dtype, "local_files_only": True, "ignore_mismatched_sizes": True, "output_loading_info": True}
    _require_plain(_read_json(folder / "config.json"), str(folder / "config.json"))
    how["attn_implementation"] = _attention_of(kind)
    with _quiet_transformers(), _naming(folder):
        loaded, info = kind.from_pretrained(folder, **how, **changes)
    problems = {
        "missing": sorted(info["missing_keys"]),
        "unexpected": sorted(info["unexpected_keys"]),
        "misshapen": sorted(_say_shapes(*entry) for entry in info["mismatched_keys"]),
        "not finite": [name for name, value in loaded.named_parameters() if not bool(value.isfinite().all())],
    }
    asked = {problem: [n for n in names if not n.startswith(tuple(left_out))] for problem, names in problems.items()}
    lines = [f"  {len(names)} {problem}: {'; '.join(names[:10])}" for problem, names in asked.items() if names]
    lines += [f"  {message}" for message in info.get("error_msgs") or ()]
    if lines:
        advice = "Download the checkpoint again, or load another one."
        raise ValueError("\n".join([f"{folder}: the checkpoint and {model} do not match:", *lines, advice]))
    return _with_kept_buffers(loaded)


def _attention_of(kind: Any) -> str:
    """Choose torch's own attention where the rival allows it; a checkpoint is not asked."""
    return "sdpa" if getattr(kind, "_supports_sdpa", False) else "eager"


def _require_plain(said: Mapping[str, Any], where: str) -> None:
    """Refuse a description that chooses other code than the rival's own layers."""
    chosen = [name for name in _CHOOSES_CODE if said.get(name)]
    if chosen:
        raise ValueError(f"{where}: {', '.join(chosen)} would choose the code that runs; expected plain weights")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); download it again") from error


@contextmanager
def _naming(folder: Path) -> Iterator[None]:
    try:
        yield
    except SafetensorError as error:
        raise ValueError(f"{folder}: its weights cannot be read ({error}); download them again") from error


def _say_shapes(name: str, found: Sequence[int], expected: Sequence[int]) -> str:
    return f"{name} is {tuple(found)}, expected {tuple(expected)}"


def _with_kept_buffers(model: nn.Module) -> nn.Module:
    """Let a state dict hold every buffer, so that a model made without memory is whole once its state is loaded."""
    for module in model.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            module.register_buffer(name, buffer, persistent=True)
    return model


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keep the library's progress bars and report of loading away: `load_model` says by itself what is wrong."""
    set_hook = importlib.import_module("transformers.utils.logging").set_tqdm_hook
    logger = logging.getLogger("transformers")
    level, hook = logger.level, set_hook(_without_bar)
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
        set_hook(hook)


def _without_bar(bar: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    return bar(*args, **(options | {"disable": True}))


_CHOOSES_CODE = ("attn_implementation", "quantization_config", "experts_implementation", "use_kernels")
"""Settings by which a download would choose the code that runs."""
_NOT_SETTINGS = {
    *("architectures", "dtype", "torch_dtype", "id2label", "label2id", "transformers_version", "model_type"),
    *("out_features", "out_indices", "stage_names", "problem_type", "return_dict", "tie_word_embeddings"),
    *("chunk_size_feed_forward", "is_encoder_decoder", "output_attentions", "output_hidden_states"),
    *("auto_map", *_CHOOSES_CODE),
}


def settings_of(rival: Any) -> Settings:
    """List what a configuration of `transformers` says, defaults too: another version may have others."""
    return tuple(
        (name, tuple(value) if isinstance(value, list) else value)
        for name, value in sorted(rival.to_dict().items())
        if name not in _NOT_SETTINGS and not name.startswith("_") and not isinstance(value, dict)
    )


ConfigT = TypeVar("ConfigT", bound=RivalConfig)


def config_of(kind: type[ConfigT], rival: Any, folder: Path, native_size: bool) -> ConfigT:
    """Describe a loaded checkpoint: its configuration, and the preprocessing that stands beside it."""
    return kind(settings=settings_of(rival), **read_preprocessing(folder), native_size=native_size)


def require_size(config: RivalConfig, expected: int | Sequence[int], folder: Path) -> None:
    """Refuse a checkpoint whose preprocessing makes pictures of another size than its positions are for."""
    height, width = (expected, expected) if isinstance(expected, int) else expected
    if config.size != (height, width):
        raise ValueError(
            f"{folder}: the preprocessing makes pictures of {config.size}, but config.json says {(height, width)}; "
            "one of the two files is of another checkpoint. Download both again"
        )


_PREPROCESSING_FILES = ("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")
_INTERPOLATIONS: Mapping[int, Interpolation] = {2: "bilinear", 3: "bicubic"}  # as PIL numbers them


def read_preprocessing(folder: Path) -> dict[str, Any]:
    """Read size, colours and interpolation from the file that a checkpoint brings; never guess them."""
    path = next((folder / name for name in _PREPROCESSING_FILES if (folder / name).is_file()), None)
    if path is None:
        names = ", ".join(_PREPROCESSING_FILES)
        raise FileNotFoundError(f"{folder} holds none of {names}: download one with the weights")
    said = _read_json(path)
    said = said.get("image_processor") or said.get("video_processor") or said
    rescale = said.get("rescale_factor", 1 / 255) if said.get("do_rescale", True) else None
    if not isinstance(rescale, (int, float)) or abs(rescale * 255 - 1) > 1e-6:
        raise ValueError(f"{path}: pixels are rescaled by {rescale}; expected rescale_factor 1/255")
    normalises = said.get("do_normalize", True)
    resample = said.get("resample")
    if resample not in _INTERPOLATIONS:
        raise ValueError(f"{path}: resample is {resample}; expected one of {dict(_INTERPOLATIONS)}")
    return {
        "size": _read_size(path, said),
        "mean": _colour(path, said, "image_mean") if normalises else (0.0, 0.0, 0.0),
        "std": _colour(path, said, "image_std") if normalises else (1.0, 1.0, 1.0),
        "interpolation": _INTERPOLATIONS[resample],
    }


def _read_size(path: Path, said: Mapping[str, Any]) -> tuple[int, int]:
    """Take the size after cropping, which is what the rival sees."""
    cropped = said.get("crop_size") if said.get("do_center_crop", "crop_size" in said) else None
    size = cropped or said.get("size")
    if isinstance(size, int):
        return size, size
    if isinstance(size, Mapping) and "height" in size:
        return int(size["height"]), int(size["width"])
    if isinstance(size, Mapping) and "shortest_edge" in size:
        return int(size["shortest_edge"]), int(size["shortest_edge"])
    raise ValueError(f"{path}: size is {size}; expected a number, height and width, or shortest_edge")


def _colour(path: Path, said: Mapping[str, Any], name: str) -> Colour:
    values = said.get(name)
    if not isinstance(values, Sequence) or len(values) != 3:
        raise ValueError(f"{path}: {name} is {values}; expected three numbers")
    red, green, blue = (float(value) for value in values)
    if not all(math.isfinite(value) for value in (red, green, blue)) or (name == "image_std" and 0 in values):
        raise ValueError(f"{path}: {name} is {values}; expected finite numbers, and no deviation of 0")
    return red, green, blue
