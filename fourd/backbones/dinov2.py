"""DINOv2, with and without registers: an image encoder, applied to each frame.

Source: `transformers` (Dinov2Model, Dinov2WithRegistersModel), which holds the published checkpoints.
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
    RivalConfig,
    Settings,
    TransformersBackbone,
    build_model,
    config_of,
    load_model,
)
from fourd.types import NativeInput

CHECKPOINTS = {
    "dinov2-small": "facebook/dinov2-small",
    "dinov2-base": "facebook/dinov2-base",
    "dinov2-large": "facebook/dinov2-large",
    "dinov2-giant": "facebook/dinov2-giant",
    "dinov2-reg-small": "facebook/dinov2-with-registers-small",
    "dinov2-reg-base": "facebook/dinov2-with-registers-base",
    "dinov2-reg-large": "facebook/dinov2-with-registers-large",
    "dinov2-reg-giant": "facebook/dinov2-with-registers-giant",
}
"""Short names of published checkpoints, and where they lie on the Hub."""

_PLAIN, _WITH_REGISTERS = "Dinov2Model", "Dinov2WithRegistersModel"
_MODELS = {"dinov2": _PLAIN, "dinov2_with_registers": _WITH_REGISTERS}


class DINOv2(TransformersBackbone):
    """Encode each frame by itself; the class and register tokens are dropped."""

    def __init__(self, config: DINOv2Config, model: Any) -> None:
        """Take apart a Dinov2Model or Dinov2WithRegistersModel."""
        super().__init__(config, model.config, model.encoder.layer, model.layernorm)
        self.embeddings = model.embeddings
        self.num_prefix_tokens = 1 + getattr(model.config, "num_register_tokens", 0)

    @property
    def native_input(self) -> NativeInput:
        """Say which clips `forward` takes: frames of any number."""
        side = self.rival.patch_size
        config = self.config
        return NativeInput(None, config.size, (1, side, side), config.interpolation, config.native_size)

    def embed(self, pixels: Float[Tensor, "B T 3 h w"]) -> tuple[Tensor, Mapping[str, Any]]:
        """Embed every frame; the rival's own code resamples its positions to other sizes."""
        return self.embeddings(pixels.flatten(0, 1)), {}


@dataclass(frozen=True)
class DINOv2Config(RivalConfig):
    """Describe a DINOv2; `registers` says which of the two kinds."""

    registers: bool = False

    def build(self) -> DINOv2:
        """Build it with random weights."""
        return DINOv2(self, build_model(_WITH_REGISTERS if self.registers else _PLAIN, self.settings))


def recognises(config: Mapping[str, Any]) -> bool:
    """Tell from the configuration beside a checkpoint whether it is one of these."""
    return config.get("model_type") in _MODELS


def from_checkpoint(folder: Path, dtype: torch.dtype = torch.float32, native_size: bool = True) -> DINOv2:
    """Load a published checkpoint from a folder; raise ValueError where one array of it does not fit."""
    kind = json.loads((folder / "config.json").read_text())["model_type"]
    model = load_model(_MODELS[kind], folder, dtype)
    config = config_of(DINOv2Config, model.config, folder, native_size)
    return DINOv2(replace(config, registers=_MODELS[kind] == _WITH_REGISTERS), model)


def _described(width: int, depth: int, num_heads: int, **more: Any) -> DINOv2Config:
    sizes = {"hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": num_heads}
    settings: Settings = tuple(sorted((sizes | {"image_size": 518, "patch_size": 14} | more).items()))
    return DINOv2Config(settings, (224, 224), interpolation="bicubic")


def small() -> DINOv2Config:
    """Describe DINOv2 ViT-S/14, 22.1M parameters."""
    return _described(384, 12, 6)


def base() -> DINOv2Config:
    """Describe DINOv2 ViT-B/14, 86.6M parameters."""
    return _described(768, 12, 12)


def large() -> DINOv2Config:
    """Describe DINOv2 ViT-L/14, 304.4M parameters."""
    return _described(1024, 24, 16)


def giant() -> DINOv2Config:
    """Describe DINOv2 ViT-g/14, 1,136.5M parameters, with gated MLPs."""
    return _described(1536, 40, 24, use_swiglu_ffn=True)


def with_registers(config: DINOv2Config) -> DINOv2Config:
    """Add the four register tokens of "Vision transformers need registers" to a description."""
    return replace(config, registers=True)


def tiny() -> DINOv2Config:
    """Describe one that runs at once, for tests."""
    return replace(_described(32, 2, 2, image_size=28), size=(28, 28))
