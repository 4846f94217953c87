"""V-JEPA 2: a ViT over 2x16x16 patches that turns queries and keys by each token's frame, row and column.

Source: `transformers` (VJEPA2Model), which holds the published checkpoints. The predictor of the pretraining is
neither kept nor run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
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
from fourd.tokens import Triple, grid_of
from fourd.types import NativeInput

CHECKPOINTS = {
    "vjepa2-vitl": "facebook/vjepa2-vitl-fpc64-256",
    "vjepa2-vith": "facebook/vjepa2-vith-fpc64-256",
    "vjepa2-vitg": "facebook/vjepa2-vitg-fpc64-256",
    "vjepa2-vitg-384": "facebook/vjepa2-vitg-fpc64-384",
    "vjepa2-vitl-ssv2": "facebook/vjepa2-vitl-fpc16-256-ssv2",
    "vjepa2-vitg-384-ssv2": "facebook/vjepa2-vitg-fpc64-384-ssv2",
}
"""Short names of published checkpoints, and where they lie on the Hub.

Those that end in `ssv2` come with a head that was trained with the labels of Something-Something v2 on top of the
frozen encoder; the head is left out.
"""
TRAINED_ON = {"vjepa2-": ("kinetics", "ssv2")}
"""Datasets of ours that published weights saw: parts of its 22 million films. Source: arXiv 2506.09985."""

_MODEL = "VJEPA2Model"
_LEFT_OUT = ("predictor.", "pooler.", "classifier.")

Places = tuple[Int[Tensor, " N"], Int[Tensor, " N"], Int[Tensor, " N"]]


class VJEPA2(TransformersBackbone):
    """Encode a clip; of other lengths and sizes too, if so configured, with each token's true place."""

    def __init__(self, config: VJEPA2Config, model: Any) -> None:
        """Take apart a VJEPA2Model; its predictor is dropped."""
        encoder = model.encoder
        super().__init__(config, model.config, encoder.layer, encoder.layernorm)
        self.embeddings = encoder.embeddings
        for block in encoder.layer:
            block.attention.get_position_ids = _places_as_given

    @property
    def native_input(self) -> NativeInput:
        """Say which clips `forward` takes."""
        config = self.config
        return NativeInput(
            self.rival.frames_per_clip, config.size, self._patch, config.interpolation, config.native_size
        )

    def embed(self, pixels: Float[Tensor, "B T 3 h w"]) -> tuple[Tensor, Mapping[str, Any]]:
        """Embed the patches, and say where each of them is."""
        grid = grid_of(pixels.shape[1], (pixels.shape[3], pixels.shape[4]), self._patch)
        return self.embeddings(pixels), {"position_mask": _places(grid, pixels.device)}

    def run_block(self, number: int, tokens: Tensor, context: Mapping[str, Any]) -> Tensor:
        """Pass block `number`; the rival's block gives its attention beside the tokens."""
        output: Tensor = self.blocks[number - 1](tokens, **context)[0]
        return output

    @property
    def _patch(self) -> Triple:
        return self.rival.tubelet_size, self.rival.patch_size, self.rival.patch_size


def _places(grid: Triple, device: torch.device) -> Places:
    """Give each token's frame, row and column, in the order of the tokens."""
    axes = (torch.arange(length, device=device) for length in grid)
    frame, row, column = (axis.flatten() for axis in torch.meshgrid(*axes, indexing="ij"))
    return frame, row, column


def _places_as_given(tokens: Tensor, masks: Places) -> Places:
    """Take the tokens' places as they come with them.

    The rival counts them out on its native grid of rows and columns, so that with other pictures a token would be
    taken for one of another frame and row. On its native grid the two agree to the bit.
    """
    return masks


@dataclass(frozen=True)
class VJEPA2Config(RivalConfig):
    """Describe a V-JEPA 2."""

    def build(self) -> VJEPA2:
        """Build it with random weights."""
        return VJEPA2(self, build_model(_MODEL, self.settings))


def recognises(config: Mapping[str, Any]) -> bool:
    """Tell from the configuration beside a checkpoint whether it is one of these."""
    return config.get("model_type") == "vjepa2"


def from_checkpoint(folder: Path, dtype: torch.dtype = torch.float32, native_size: bool = True) -> VJEPA2:
    """Load a published checkpoint from a folder; raise ValueError where one array of its encoder does not fit.

    The predictor, and the pooler and classifier of a checkpoint with a head, are left out.
    """
    model = load_model(_MODEL, folder, dtype, _LEFT_OUT)
    config = config_of(VJEPA2Config, model.config, folder, native_size)
    require_size(config, model.config.crop_size, folder)
    return VJEPA2(config, model)


def _described(width: int, depth: int, num_heads: int, **more: Any) -> VJEPA2Config:
    sizes = {"hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": num_heads}
    settings: Settings = tuple(sorted((sizes | more).items()))
    return VJEPA2Config(settings, (256, 256))


def large() -> VJEPA2Config:
    """Describe V-JEPA 2 ViT-L/16, 303.9M parameters."""
    return _described(1024, 24, 16)


def huge() -> VJEPA2Config:
    """Describe V-JEPA 2 ViT-H/16, 631.6M parameters."""
    return _described(1280, 32, 16)


def giant() -> VJEPA2Config:
    """Describe V-JEPA 2 ViT-g/16, 1,012.2M parameters."""
    return _described(1408, 40, 22, mlp_ratio=48 / 11)


def tiny() -> VJEPA2Config:
    """Describe one that runs at once, for tests."""
    predictor = {"pred_hidden_size": 16, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}
    small = _described(32, 2, 2, patch_size=8, crop_size=32, frames_per_clip=4, **predictor)
    return replace(small, size=(32, 32))
