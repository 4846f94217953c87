"""SigLIP, and SigLIP 2 of fixed resolution: the vision tower of an image-text model, applied to each frame.

Source: `transformers` (SiglipVisionModel), which holds the published checkpoints of both. The text tower is left out,
and so is the attention pooling of the vision tower, which gives one vector per image.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from fourd.backbones._transformers import (
    HALF,
    RivalConfig,
    Settings,
    TransformersBackbone,
    build_model,
    config_of,
    load_model,
)
from fourd.types import Interpolation, NativeInput

CHECKPOINTS = {
    "siglip-base": "google/siglip-base-patch16-224",
    "siglip-large": "google/siglip-large-patch16-256",
    "siglip-so400m": "google/siglip-so400m-patch14-224",
    "siglip2-base": "google/siglip2-base-patch16-224",
    "siglip2-large": "google/siglip2-large-patch16-256",
    "siglip2-so400m": "google/siglip2-so400m-patch14-224",
    "siglip2-giant": "google/siglip2-giant-opt-patch16-256",
}
"""Short names of published checkpoints, and where they lie on the Hub."""

_MODEL = "SiglipVisionModel"
_FIXED_SIZE = ("siglip", "siglip_vision_model")
_VARIABLE_SIZE = ("siglip2", "siglip2_vision_model")
_LEFT_OUT = ("text_model.", "logit_scale", "logit_bias", "head.", "vision_model.head.")


class SigLIP(TransformersBackbone):
    """Encode each frame by itself; it has no tokens but those of its patches."""

    def __init__(self, config: SigLIPConfig, model: Any) -> None:
        """Take apart a SiglipVisionModel without its pooling head."""
        super().__init__(config, model.config, model.encoder.layers, model.post_layernorm)
        self.embeddings = model.embeddings

    @property
    def native_input(self) -> NativeInput:
        """Say which clips `forward` takes: frames of any number."""
        side = self.rival.patch_size
        config = self.config
        return NativeInput(None, config.size, (1, side, side), config.interpolation, config.native_size)

    def embed(self, pixels: Float[Tensor, "B T 3 h w"]) -> tuple[Tensor, Mapping[str, Any]]:
        """Embed every frame; the rival's own code resamples its positions to other sizes."""
        tokens = self.embeddings(pixels.flatten(0, 1), interpolate_pos_encoding=True)
        return tokens, {"attention_mask": None}


@dataclass(frozen=True)
class SigLIPConfig(RivalConfig):
    """Describe the vision tower of a SigLIP, or of a SigLIP 2 of fixed resolution."""

    def build(self) -> SigLIP:
        """Build it with random weights."""
        return SigLIP(self, build_model(_MODEL, (*self.settings, ("vision_use_head", False))))


def recognises(config: Mapping[str, Any]) -> bool:
    """Tell from the configuration beside a checkpoint whether it is a SigLIP, loadable or not."""
    return config.get("model_type") in (*_FIXED_SIZE, *_VARIABLE_SIZE)


def from_checkpoint(folder: Path, dtype: torch.dtype = torch.float32, native_size: bool = True) -> SigLIP:
    """Load a published checkpoint from a folder: a whole SiglipModel, or a SiglipVisionModel.

    Raises ValueError where one array of the vision tower does not fit, and for a checkpoint of variable resolution.
    """
    path = folder / "config.json"
    kind = json.loads(path.read_text())["model_type"]
    if kind not in _FIXED_SIZE:
        raise ValueError(
            f"{path}: model_type is {kind}, a SigLIP 2 of variable resolution (NaFlex), whose tokens make no fixed "
            f"grid; load a checkpoint of fixed resolution: {CHECKPOINTS['siglip2-base']} instead of "
            f"google/siglip2-base-patch16-naflex, google/siglip2-so400m-patch16-256 instead of "
            f"google/siglip2-so400m-patch16-naflex"
        )
    model = load_model(_MODEL, folder, dtype, left_out=_LEFT_OUT, vision_use_head=False)
    config = config_of(SigLIPConfig, model.config, folder, native_size)
    return SigLIP(replace(config, size=_whole_patches(config.size, model.config.patch_size)), model)


def _whole_patches(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Round a size down to whole patches.

    At patch 14 and 384 pixels the rival leaves the last 6 rows and columns of the resized picture unseen and has
    positions for 27 x 27 patches; the whole frame, resized to 378 pixels, gives the same 27 x 27.
    """
    height, width = size
    return height - height % side, width - width % side


def _described(
    width: int, depth: int, num_heads: int, mlp_width: int, size: int, patch: int, how: Interpolation = "bicubic"
) -> SigLIPConfig:
    sizes = {"hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": num_heads}
    rest = {"intermediate_size": mlp_width, "image_size": size, "patch_size": patch, "vision_use_head": False}
    settings: Settings = tuple(sorted((sizes | rest).items()))
    return SigLIPConfig(settings, (size, size), mean=HALF, std=HALF, interpolation=how)


def base() -> SigLIPConfig:
    """Describe the tower of SigLIP B/16 at 224 pixels, 85.8M parameters."""
    return _described(768, 12, 12, 3072, size=224, patch=16)


def large() -> SigLIPConfig:
    """Describe the tower of SigLIP L/16 at 256 pixels, 303.4M parameters."""
    return _described(1024, 24, 16, 4096, size=256, patch=16)


def so400m() -> SigLIPConfig:
    """Describe the tower of SigLIP So400m/14 at 224 pixels, 412.4M parameters."""
    return _described(1152, 27, 16, 4304, size=224, patch=14)


def giant() -> SigLIPConfig:
    """Describe the tower of SigLIP 2 g-opt/16 at 256 pixels, 1,134.8M parameters."""
    return _described(1536, 40, 16, 6144, size=256, patch=16, how="bilinear")


def siglip2(config: SigLIPConfig) -> SigLIPConfig:
    """Turn the description of a SigLIP into that of the SigLIP 2 of its size, whose pictures are resized bilinearly."""
    return replace(config, interpolation="bilinear")


def tiny() -> SigLIPConfig:
    """Describe one that runs at once, for tests."""
    return _described(32, 2, 2, 64, size=32, patch=8)
