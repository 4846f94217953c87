"""VideoMAE: a plain ViT over 2x16x16 patches, with a fixed table of positions.

Source: `transformers` (VideoMAEModel, VideoMAEForVideoClassification), which holds the published checkpoints.
Version 2 is another file, because `transformers` does not have it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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
    require_size,
)
from fourd.tokens import Triple, resample_positions
from fourd.types import NativeInput

CHECKPOINTS = {
    "videomae-base": "MCG-NJU/videomae-base",
    "videomae-large": "MCG-NJU/videomae-large",
    "videomae-base-ssv2": "MCG-NJU/videomae-base-ssv2",
    "videomae-small-k400": "MCG-NJU/videomae-small-finetuned-kinetics",
    "videomae-base-k400": "MCG-NJU/videomae-base-finetuned-kinetics",
    "videomae-large-k400": "MCG-NJU/videomae-large-finetuned-kinetics",
    "videomae-huge-k400": "MCG-NJU/videomae-huge-finetuned-kinetics",
}
"""Short names of published checkpoints, and where they lie on the Hub.

The first three are self-supervised, on Kinetics-400 or on Something-Something v2; those that end in `k400` were
finetuned with the labels of Kinetics-400.
"""
TRAINED_ON = {"videomae-": ("kinetics",), "videomae-base-ssv2": ("ssv2",)}
"""Datasets of ours that published weights saw, by how their names begin. Source: the models' cards on the Hub."""

_SELF_SUPERVISED, _FINETUNED = "VideoMAEModel", "VideoMAEForVideoClassification"
_LEFT_OUT = ("decoder.", "encoder_to_decoder.", "mask_token", "classifier.")


class VideoMAE(TransformersBackbone):
    """Encode a clip; one of other than its native length and size by resampling the positions, if so configured.

    A finetuned model averages its tokens and then applies a norm, which stands with the head. Features are tokens,
    so here that norm is applied to each of them at d = 1. A self-supervised model always did so.
    """

    positions: Tensor

    def __init__(self, config: VideoMAEConfig, model: Any) -> None:
        """Take apart a VideoMAEModel or a VideoMAEForVideoClassification."""
        encoder = getattr(model, "videomae", model)
        final_norm = encoder.layernorm if encoder.layernorm is not None else model.fc_norm
        super().__init__(config, model.config, encoder.encoder.layer, final_norm)
        self.projection = encoder.embeddings.patch_embeddings.projection
        # a buffer in the state, since a plain tensor would neither move with the model nor be loaded into one
        # that was made without memory
        table = encoder.embeddings.position_embeddings.squeeze(0)
        self.register_buffer("positions", table.to(self.projection.weight.device))

    @property
    def native_input(self) -> NativeInput:
        """Say which clips `forward` takes."""
        config = self.config
        return NativeInput(self.rival.num_frames, config.size, self._patch, config.interpolation, config.native_size)

    def embed(self, pixels: Float[Tensor, "B T 3 h w"]) -> tuple[Tensor, Mapping[str, Any]]:
        """Embed the patches with their positions, which the rival's own code has for one grid alone."""
        patches = self.projection(pixels.transpose(1, 2))
        t, h, w = patches.shape[2:]
        positions = resample_positions(self.positions.float(), self._table_grid, (t, h, w))
        return patches.flatten(2).transpose(1, 2) + positions.to(patches.dtype), {}

    @property
    def _patch(self) -> Triple:
        return (self.rival.tubelet_size, *_pair(self.rival.patch_size))

    @property
    def _table_grid(self) -> Triple:
        extent = (self.rival.num_frames, *_pair(self.rival.image_size))
        t, h, w = (length // side for length, side in zip(extent, self._patch, strict=True))
        return t, h, w


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


@dataclass(frozen=True)
class VideoMAEConfig(RivalConfig):
    """Describe a VideoMAE; its setting `use_mean_pooling` tells finetuned models from self-supervised ones."""

    def build(self) -> VideoMAE:
        """Build it with random weights."""
        return VideoMAE(self, build_model(_kind_of(dict(self.settings)), self.settings))


def _kind_of(settings: Mapping[str, Any]) -> str:
    """Tell which class of `transformers` holds the final norm; it takes models for finetuned ones by default."""
    return _FINETUNED if settings.get("use_mean_pooling", True) else _SELF_SUPERVISED


def recognises(config: Mapping[str, Any]) -> bool:
    """Tell from the configuration beside a checkpoint whether it is one of these."""
    return config.get("model_type") == "videomae"


def from_checkpoint(folder: Path, dtype: torch.dtype = torch.float32, native_size: bool = True) -> VideoMAE:
    """Load a published checkpoint from a folder; raise ValueError where one array of it does not fit.

    The decoder of a self-supervised checkpoint and the classifier of a finetuned one are left out. A finetuned one
    that lacks its head lacks its final norm, and is refused.
    """
    kind = _kind_of(json.loads((folder / "config.json").read_text()))
    model = load_model(kind, folder, dtype, _LEFT_OUT)
    config = config_of(VideoMAEConfig, model.config, folder, native_size)
    require_size(config, model.config.image_size, folder)
    return VideoMAE(config, model)


def _described(width: int, depth: int, num_heads: int, **more: Any) -> VideoMAEConfig:
    sizes = {"hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": num_heads}
    settings = sizes | {"intermediate_size": 4 * width, "use_mean_pooling": False} | more
    described: Settings = tuple(sorted(settings.items()))
    return VideoMAEConfig(described, (224, 224))


def base() -> VideoMAEConfig:
    """Describe VideoMAE ViT-B/16, 86.2M parameters."""
    return _described(768, 12, 12)


def large() -> VideoMAEConfig:
    """Describe VideoMAE ViT-L/16, 303.9M parameters."""
    return _described(1024, 24, 16)


def huge() -> VideoMAEConfig:
    """Describe VideoMAE ViT-H/16, 631.6M parameters."""
    return _described(1280, 32, 16)


def toy() -> VideoMAEConfig:
    """Describe one of the size of the demo's encoder, for its clips; not a published size."""
    return replace(_described(192, 6, 3, image_size=32, num_frames=8, patch_size=8), size=(32, 32))


def tiny() -> VideoMAEConfig:
    """Describe one that runs at once, for tests."""
    return replace(_described(32, 2, 2, image_size=32, num_frames=4), size=(32, 32))
