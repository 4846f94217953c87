"""The rivals' own code around the weights of an adapter: what an adapter is measured against, in error and in speed.

A rival's complete model is built from the adapter's settings and filled from its state, so that nothing of the
adapter is run or shared. What an adapter does not keep (a predictor, a classifier) stays random and is not run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fourd.backbones import _own_videomae_v2
from fourd.backbones._transformers import Settings, TransformersBackbone, build_model
from fourd.backbones.dinov2 import DINOv2, DINOv2Config
from fourd.backbones.dinov3 import DINOv3
from fourd.backbones.siglip import SigLIP
from fourd.backbones.videomae import VideoMAE
from fourd.backbones.videomae_v2 import VideoMAEv2
from fourd.backbones.videoprism import VideoPrism
from fourd.backbones.vjepa2 import VJEPA2
from fourd.types import Backbone, ClipShape

_NOT_RUN = ("predictor.", "classifier.")

OwnCode = Callable[[Tensor], Tensor]
"""Called as `own(pixels)`: normalised `B T 3 h w`, as the adapter's `pixels` gives them; the answer is `B t h w D`."""


def own_code(backbone: Backbone, videomae_v2: Path | None = None) -> OwnCode | None:
    """Give the rival's own code with the weights that an adapter has now; None where there is none to be run here.

    videomae_v2: a checkout of the public code of VideoMAE v2, which `transformers` does not hold.
    """
    if isinstance(backbone, VideoMAEv2) and videomae_v2 is not None:
        return _own_videomae_v2.own_code(backbone, videomae_v2)
    build = _OWN_CODE.get(type(backbone))
    return None if build is None else build(backbone)


def _own_model(backbone: TransformersBackbone, model: str, more: Settings = ()) -> Any:
    """Build the rival's own model and fill it, array by array, with an adapter's weights.

    Which of the adapter's arrays is which of the rival's is told by an adapter taken from a model without memory:
    once it holds the weights, so does that model, under the rival's names.
    """
    settings = (*backbone.config.settings, *more)
    kind: Any = type(backbone)
    with torch.device("meta"):
        named = build_model(model, settings)
        adapter = kind(backbone.config, named)
    adapter.load_state_dict(backbone.state_dict(), assign=True)
    arrays = {name: value for name, value in named.state_dict().items() if not value.is_meta}
    own = build_model(model, settings)
    unfilled, _ = own.load_state_dict(arrays, strict=False)
    wrong = [name for name in unfilled if not name.startswith(_NOT_RUN)]
    if wrong:
        raise RuntimeError(f"{type(backbone).__name__} has no weights for {wrong[:10]} of {model}, which runs them")
    return own.to(next(backbone.parameters())).eval()


def _image_encoder(model: str, **options: Any) -> Callable[[Any], OwnCode]:
    """Run a rival over every frame by itself; the tokens in front of the patches are dropped."""

    def build(backbone: TransformersBackbone) -> OwnCode:
        own = _own_model(backbone, model)

        def run(pixels: Tensor) -> Tensor:
            tokens = own(pixel_values=pixels.flatten(0, 1), **options).last_hidden_state
            return _as_grid(tokens[:, backbone.num_prefix_tokens :], pixels, backbone)

        return run

    return build


def _dinov2(backbone: DINOv2) -> OwnCode:
    assert isinstance(backbone.config, DINOv2Config)
    model = "Dinov2WithRegistersModel" if backbone.config.registers else "Dinov2Model"
    return _image_encoder(model)(backbone)


def _siglip(backbone: SigLIP) -> OwnCode:
    own = _own_model(backbone, "SiglipVisionModel", (("vision_use_head", False),))

    def run(pixels: Tensor) -> Tensor:
        tokens = own(pixel_values=pixels.flatten(0, 1), interpolate_pos_encoding=True).last_hidden_state
        return _as_grid(tokens, pixels, backbone)

    return run


def _videomae(backbone: VideoMAE) -> OwnCode:
    """Run the whole model; of a finetuned one the norm that comes after the mean is applied to every token."""
    self_supervised = not dict(backbone.config.settings).get("use_mean_pooling", True)
    own = _own_model(backbone, "VideoMAEModel" if self_supervised else "VideoMAEForVideoClassification")
    encoder, norm = (own, torch.nn.Identity()) if self_supervised else (own.videomae, own.fc_norm)
    rival = backbone.rival

    def run(pixels: Tensor) -> Tensor:
        if pixels.shape[1] != rival.num_frames:
            found = f"{pixels.shape[1]} frames; it takes {rival.num_frames} alone"
            raise ValueError(
                f"VideoMAE's own code cannot be compared at {found}. Leave VideoMAE out, or its frames as is"
            )
        return _as_grid(norm(encoder(pixel_values=pixels).last_hidden_state), pixels, backbone)

    return run


def _vjepa2(backbone: VJEPA2) -> OwnCode:
    """Run the encoder alone: left to its defaults the rival runs its predictor too."""
    own = _own_model(backbone, "VJEPA2Model")
    return lambda pixels: _as_grid(
        own(pixel_values_videos=pixels, skip_predictor=True).last_hidden_state, pixels, backbone
    )


def _videoprism(backbone: VideoPrism) -> OwnCode:
    """Run the model with the attention that has the soft cap of its source; the library's faster ones lack it."""
    own = _own_model(backbone, "VideoPrismVisionModel")
    own.set_attn_implementation("eager")
    resample = not backbone.config.native_size
    return lambda pixels: _as_grid(
        own(pixel_values_videos=pixels, interpolate_pos_encoding=resample).last_hidden_state, pixels, backbone
    )


def _as_grid(tokens: Tensor, pixels: Tensor, backbone: Backbone) -> Tensor:
    """Put tokens, in order of frames, rows and columns, in their places."""
    grid = backbone.native_input.grid(ClipShape(pixels.shape[1], pixels.shape[3], pixels.shape[4]))
    return tokens.reshape(len(pixels), *grid, tokens.shape[-1])


_OWN_CODE: Mapping[type[Backbone], Callable[[Any], OwnCode]] = {
    DINOv2: _dinov2,
    DINOv3: _image_encoder("DINOv3ViTModel"),
    SigLIP: _siglip,
    VideoMAE: _videomae,
    VideoPrism: _videoprism,
    VJEPA2: _vjepa2,
}
