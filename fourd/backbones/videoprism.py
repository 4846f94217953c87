"""VideoPrism: spatial blocks, which look at each frame, then temporal blocks, which look at each place.

Source: `transformers` (VideoPrismVisionModel), which holds the published checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fourd.backbones._transformers import (
    RivalConfig,
    Settings,
    TransformersBackbone,
    build_model,
    config_of,
    load_model,
    require_size,
)
from fourd.types import NativeInput

CHECKPOINTS = {
    "videoprism-base": "google/videoprism-base-f16r288@2be2ef51d0d611d0fadf21a6d1470a4ad4af9249",
    "videoprism-large": "google/videoprism-large-f8r288@2e20e540e1cb89e734e2f2477590b7f8197250ca",
}
"""Short names of published checkpoints, and where they lie on the Hub.

Weights that `transformers` reads are not on the main branch, which has Flax's alone; they are in pull requests,
whose commits are named here.
"""

_MODEL = "VideoPrismVisionModel"
_LEFT_OUT = ("auxiliary_layers.", "head.", "head_layernorm.", "classifier.")


class VideoPrism(TransformersBackbone):
    """Encode a clip; one of other than its native length and size by resampling the positions, if so configured.

    Between blocks the tokens are `B T (h w) D`, one time step per frame. The norm between the two stages belongs to
    the first temporal block: a depth that ends with the spatial blocks gives their output as it is.
    """

    def __init__(self, config: VideoPrismConfig, model: Any) -> None:
        """Take apart a VideoPrismVisionModel."""
        model.set_attn_implementation("eager")  # the others lack the soft cap on attention logits
        blocks = nn.ModuleList([*model.spatial_layers, *model.temporal_layers])
        super().__init__(config, model.config, blocks, model.layernorm2)
        self.spatial_embeddings, self.temporal_embeddings = model.spatial_embeddings, model.temporal_embeddings
        self.spatial_norm = model.layernorm1

    @property
    def native_input(self) -> NativeInput:
        """Say which clips `forward` takes."""
        config, (frames, height, width) = self.config, self.rival.tubelet_size
        return NativeInput(
            self.rival.num_frames, config.size, (frames, height, width), config.interpolation, config.native_size
        )

    def embed(self, pixels: Float[Tensor, "B T 3 h w"]) -> tuple[Tensor, Mapping[str, Any]]:
        """Embed the patches of every frame with their places in it."""
        _, height, width = self.rival.tubelet_size
        grid = (pixels.shape[3] // height, pixels.shape[4] // width)
        embeddings = self.spatial_embeddings
        patches = embeddings.patch_embeddings(pixels, interpolate_pos_encoding=True)
        tokens = embeddings.dropout(patches + _places(embeddings.position_embeddings, grid).to(patches.dtype))
        return tokens.unflatten(0, pixels.shape[:2]), {}

    def run_block(self, number: int, tokens: Tensor, context: Mapping[str, Any]) -> Tensor:
        """Pass block `number`, over the tokens of each frame or, in the temporal stage, of each place."""
        block, first_temporal = self.blocks[number - 1], self.rival.num_spatial_layers + 1
        if number < first_temporal:
            return block(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])
        by_place = tokens.transpose(1, 2)
        if number == first_temporal:
            by_place = self._embed_frames(by_place)
        return block(by_place.flatten(0, 1)).unflatten(0, by_place.shape[:2]).transpose(1, 2)

    def _embed_frames(self, tokens: Float[Tensor, "B N T D"]) -> Float[Tensor, "B N T D"]:
        """Norm the output of the spatial stage, and add each frame's position."""
        embeddings = self.temporal_embeddings
        frames = _frames(embeddings.position_embeddings, tokens.shape[2]).to(tokens.dtype)
        output: Tensor = embeddings.dropout(self.spatial_norm(tokens) + frames)
        return output


def _places(table: Float[Tensor, "1 N D"], grid: tuple[int, int]) -> Float[Tensor, "1 M D"]:
    """Resample the positions of a square of patches to another grid, as the rival does, but in full precision."""
    side = round(table.shape[1] ** 0.5)
    if grid == (side, side):
        return table
    square = table.float().unflatten(1, (side, side)).movedim(-1, 1)
    return F.interpolate(square, size=grid, mode="bilinear", antialias=True).flatten(2).transpose(1, 2)


def _frames(table: Float[Tensor, "1 T D"], num_frames: int) -> Float[Tensor, "1 t D"]:
    """Resample the positions of frames to another length, as the rival does, but in full precision."""
    if num_frames == table.shape[1]:
        return table
    size = (num_frames, table.shape[2])
    return F.interpolate(table.float()[:, None], size=size, mode="bilinear", antialias=True).squeeze(1)


@dataclass(frozen=True)
class VideoPrismConfig(RivalConfig):
    """Describe a VideoPrism."""

    def build(self) -> VideoPrism:
        """Build it with random weights."""
        return VideoPrism(self, build_model(_MODEL, self.settings))


def recognises(config: Mapping[str, Any]) -> bool:
    """Tell from the configuration beside a checkpoint whether it is one of these: those with a text tower are not."""
    return config.get("model_type") == "videoprism_vision_model"


def from_checkpoint(folder: Path, dtype: torch.dtype = torch.float32, native_size: bool = True) -> VideoPrism:
    """Load a published checkpoint from a folder; raise ValueError where one array of its encoder does not fit.

    What stands on top of the encoder (auxiliary layers, pooling head, classifier) is left out.
    """
    model = load_model(_MODEL, folder, dtype, _LEFT_OUT)
    config = config_of(VideoPrismConfig, model.config, folder, native_size)
    require_size(config, model.config.image_size, folder)
    return VideoPrism(config, model)


def _described(width: int, depth: int, num_heads: int, num_frames: int, **more: Any) -> VideoPrismConfig:
    sizes = {"hidden_size": width, "num_spatial_layers": depth, "num_attention_heads": num_heads}
    settings = sizes | {"intermediate_size": 4 * width, "num_frames": num_frames} | more
    described: Settings = tuple(sorted(settings.items()))
    plain = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return VideoPrismConfig(described, (288, 288), *plain, interpolation="bicubic")


def base() -> VideoPrismConfig:
    """Describe VideoPrism-B: 12 spatial and 4 temporal blocks, 114.4M parameters, 16 frames."""
    return _described(768, 12, 12, num_frames=16)


def large() -> VideoPrismConfig:
    """Describe VideoPrism-L: 24 spatial and 4 temporal blocks, 354.0M parameters, 8 frames."""
    return _described(1024, 24, 16, num_frames=8)


def tiny() -> VideoPrismConfig:
    """Describe one that runs at once, for tests."""
    small = _described(32, 2, 2, num_frames=4, image_size=36, num_temporal_layers=2)
    return replace(small, size=(36, 36))
