"""The loss of VideoMAE's pretraining by `transformers`, fed as it asks to be."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from fourd.backbones.video_vit import VideoViTConfig
from fourd.tokens import Triple, grid_of
from fourd.types import Batch

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""What its loss takes off again: it has to be fed colours that are normalised so (ImageNet's)."""


class VideoMAEStep(nn.Module):
    """Hold the model, the clips it learns and what is hidden of them; called without anything, it gives the loss.

    The encoder has the size of `backbone`; the decoder is its own (narrow, four blocks, normalised targets), or, with
    `same_decoder`, two blocks of the encoder's width over plain pixels. Normalising the colours is not part of a step.
    Raises ImportError where transformers is missing.
    """

    def __init__(
        self, backbone: VideoViTConfig, clips: Batch, *, mask_ratio: float, same_decoder: bool, seed: int
    ) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.model = _build(backbone, same_decoder)
        self.register_buffer("pixels", _normalised(clips.video), persistent=False)
        grid = grid_of(backbone.num_frames, backbone.size, backbone.patch)
        self.register_buffer("hidden", tube_mask(len(clips.key), grid, mask_ratio), persistent=False)

    def forward(self) -> Tensor:
        """Compute the loss of all clips."""
        loss: Tensor = self.model(self.pixels, bool_masked_pos=self.hidden).loss
        return loss


def _build(backbone: VideoViTConfig, same_decoder: bool) -> Any:
    try:
        from transformers import VideoMAEConfig, VideoMAEForPreTraining
    except ImportError as error:
        raise ImportError(
            f"the bench runs beside transformers' VideoMAE, which cannot be imported ({error}): "
            "pip install 'fourd[baselines]'"
        ) from error
    options: dict[str, Any] = {"attn_implementation": "sdpa"}
    same = {
        "decoder_hidden_size": backbone.width,
        "decoder_num_hidden_layers": 2,
        "decoder_num_attention_heads": backbone.num_heads,
        "decoder_intermediate_size": backbone.mlp_width,
        "norm_pix_loss": False,
    }
    if same_decoder:
        options |= same
    config = VideoMAEConfig(
        image_size=backbone.size[0],
        patch_size=backbone.patch[1],
        num_frames=backbone.num_frames,
        tubelet_size=backbone.patch[0],
        hidden_size=backbone.width,
        num_hidden_layers=backbone.depth,
        num_attention_heads=backbone.num_heads,
        intermediate_size=backbone.mlp_width,
        **options,
    )
    return VideoMAEForPreTraining(config).train()


def _normalised(video: Tensor) -> Tensor:
    mean, std = (torch.tensor(numbers, device=video.device).view(3, 1, 1) for numbers in (_MEAN, _STD))
    return (video.float() / 255 - mean) / std


def tube_mask(num_clips: int, grid: Triple, mask_ratio: float) -> Bool[Tensor, "B N"]:
    """Hide the same places at all times, other ones in each clip: every clip keeps as many, as the model asks for."""
    places = grid[1] * grid[2]
    kept = max(round(places * (1 - mask_ratio)), 1)
    order = torch.rand(num_clips, places).argsort(dim=1)
    hidden = torch.ones(num_clips, places, dtype=torch.bool).scatter(1, order[:, :kept], False)
    return hidden.repeat(1, grid[0])
