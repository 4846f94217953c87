"""DINOv3 vision transformers: an image encoder with rotary positions, applied to each frame.

Source: `transformers` (DINOv3ViTModel), which holds the published checkpoints; they are gated on the Hub. In training
mode the rival scales its positions by a random factor (`pos_embed_rescale`); in evaluation nothing is random.
"""

from __future__ import annotations

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
    "dinov3-vits16": "facebook/dinov3-vits16-pretrain-lvd1689m",
    "dinov3-vits16plus": "facebook/dinov3-vits16plus-pretrain-lvd1689m",
    "dinov3-vitb16": "facebook/dinov3-vitb16-pretrain-lvd1689m",
    "dinov3-vitl16": "facebook/dinov3-vitl16-pretrain-lvd1689m",
    "dinov3-vith16plus": "facebook/dinov3-vith16plus-pretrain-lvd1689m",
    "dinov3-vit7b16": "facebook/dinov3-vit7b16-pretrain-lvd1689m",
}
"""Short names of published checkpoints, and where they lie on the Hub."""

_MODEL = "DINOv3ViTModel"


class DINOv3(TransformersBackbone):
    """Encode each frame by itself; the class and register tokens are dropped."""

    def __init__(self, config: DINOv3Config, model: Any) -> None:
        """Take apart a DINOv3ViTModel."""
        super().__init__(config, model.config, model.model.layer, model.norm)
        self.embeddings, self.rope_embeddings = model.embeddings, model.rope_embeddings
        self.num_prefix_tokens = 1 + model.config.num_register_tokens

    @property
    def native_input(self) -> NativeInput:
        """Say which clips `forward` takes: frames of any number."""
        side = self.rival.patch_size
        config = self.config
        return NativeInput(None, config.size, (1, side, side), config.interpolation, config.native_size)

    def embed(self, pixels: Float[Tensor, "B T 3 h w"]) -> tuple[Tensor, Mapping[str, Any]]:
        """Embed every frame, and turn the places of its patches into angles, whatever its size."""
        frames = pixels.flatten(0, 1)
        return self.embeddings(frames), {"position_embeddings": self.rope_embeddings(frames)}


@dataclass(frozen=True)
class DINOv3Config(RivalConfig):
    """Describe a DINOv3 vision transformer."""

    def build(self) -> DINOv3:
        """Build it with random weights."""
        return DINOv3(self, build_model(_MODEL, self.settings))


def recognises(config: Mapping[str, Any]) -> bool:
    """Tell from the configuration beside a checkpoint whether it is one of these; the ConvNeXt ones are not."""
    return config.get("model_type") == "dinov3_vit"


def from_checkpoint(folder: Path, dtype: torch.dtype = torch.float32, native_size: bool = True) -> DINOv3:
    """Load a published checkpoint from a folder; raise ValueError where one array of it does not fit."""
    model = load_model(_MODEL, folder, dtype)
    return DINOv3(config_of(DINOv3Config, model.config, folder, native_size), model)


def _described(width: int, depth: int, num_heads: int, mlp_width: int, **more: Any) -> DINOv3Config:
    sizes = {"hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": num_heads}
    rest = {"intermediate_size": mlp_width, "patch_size": 16, "num_register_tokens": 4}
    settings: Settings = tuple(sorted((sizes | rest | more).items()))
    return DINOv3Config(settings, (224, 224), interpolation="bilinear")


_GATED: Mapping[str, Any] = {"use_gated_mlp": True, "hidden_act": "silu"}


def small() -> DINOv3Config:
    """Describe DINOv3 ViT-S/16, 21.6M parameters."""
    return _described(384, 12, 6, 1536)


def small_plus() -> DINOv3Config:
    """Describe DINOv3 ViT-S+/16, 28.7M parameters, with gated MLPs."""
    return _described(384, 12, 6, 1536, **_GATED)


def base() -> DINOv3Config:
    """Describe DINOv3 ViT-B/16, 85.7M parameters."""
    return _described(768, 12, 12, 3072)


def large() -> DINOv3Config:
    """Describe DINOv3 ViT-L/16, 303.1M parameters."""
    return _described(1024, 24, 16, 4096)


def huge_plus() -> DINOv3Config:
    """Describe DINOv3 ViT-H+/16, 840.6M parameters, with gated MLPs."""
    return _described(1280, 32, 20, 5120, **_GATED)


def size_7b() -> DINOv3Config:
    """Describe DINOv3 ViT-7B/16, 6,716.0M parameters, with gated MLPs and no bias on queries and values."""
    return _described(4096, 40, 32, 8192, **_GATED, query_bias=False, value_bias=False)


def toy() -> DINOv3Config:
    """Describe one of the size of the demo's encoder, for its clips; not a published size."""
    return replace(_described(192, 6, 3, 768, patch_size=8), size=(32, 32))


def tiny() -> DINOv3Config:
    """Describe one that runs at once, for tests."""
    return replace(_described(32, 2, 2, 64), size=(32, 32))
