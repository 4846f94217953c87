"""Backbones whose own code does not run here, or not by itself, against arrays that it once gave.

The arrays are committed in `tests/golden` of a checkout: small models with random weights, a clip, and the answer.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from safetensors.torch import save_file
from torch import Tensor

import fourd
from fourd.backbones import videomae_v2
from fourd.backbones.windowed_vit import by_windows
from fourd.weights import read_npz, video_vit_config, video_vit_state

GOLDEN = Path(fourd.__file__).parents[1] / "tests" / "golden"

Compared = tuple[Tensor, Tensor]
"""What the adapter gives, and what the public code gave."""


def compare(backbone: str) -> Compared | None:
    """Run a small model of a backbone on the committed clip; None where no arrays of its public code are at hand."""
    if backbone not in _REFERENCES or not GOLDEN.is_dir():
        return None
    with torch.inference_mode():
        return _REFERENCES[backbone]()


def _video_vit() -> Compared:
    arrays, video, expected = _committed_4ds()
    backbone = video_vit_config(arrays).build().eval()
    backbone.load_state_dict(video_vit_state(arrays), strict=True)
    (features,) = backbone(video, (1.0,))
    return features.grid.flatten(1, 3), expected


def _windowed_vit() -> Compared:
    """Run the clip twice in one longer clip: each window is to answer what the public code gave for it alone."""
    arrays, video, expected = _committed_4ds()
    backbone = by_windows(video_vit_config(arrays)).build().eval()
    backbone.load_state_dict(video_vit_state(arrays), strict=True)
    (features,) = backbone(torch.cat((video, video), dim=1), (1.0,))
    return features.grid.flatten(1, 3), torch.cat((expected, expected), dim=1)


def _committed_4ds() -> tuple[Mapping[str, Tensor], Tensor, Tensor]:
    """Give the arrays of a small 4DS model, a clip `B T C H W`, and its last features `B N D`."""
    arrays, numbers = read_npz(GOLDEN / "small_params.npz"), read_npz(GOLDEN / "small_io.npz")
    last = len(video_vit_config(arrays).build().blocks)
    video = rearrange(numbers["video"], "b t h w c -> b t c h w")
    return arrays, video, numbers[f"inter/layers_0/__call__/0/{last}"]


def _videomae_v2() -> Compared:
    prefix = "finetuned/state/"
    with np.load(GOLDEN / "videomae_v2.npz") as archive:
        state = {name.removeprefix(prefix): archive[name] for name in archive if name.startswith(prefix)}
        video, expected = torch.from_numpy(archive["video"]), torch.from_numpy(archive["finetuned/said/normed"])
    encoder = {name: torch.from_numpy(array) for name, array in state.items() if not name.startswith("head.")}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_file(encoder, path)
        backbone = videomae_v2.from_checkpoint(path).eval()
        (features,) = backbone(video, (1.0,))
    return features.grid.flatten(1, 3), expected


_REFERENCES: Mapping[str, Callable[[], Compared]] = {
    "video_vit": _video_vit,
    "windowed_vit": _windowed_vit,
    "videomae_v2": _videomae_v2,
}

WHY_NOT_RUN: Mapping[str, str] = {
    "video_vit": "the public code of 4DS is JAX and is not run here",
    "windowed_vit": "windowed_vit is video_vit, given one window after the other",
    "videomae_v2": "the public code of VideoMAE v2 is run from a checkout alone: --videomae-v2 PATH",
    "mean_pixel": "mean_pixel is our own floor, and nothing is learned in it",
}
"""Why a backbone has no speed of its own code."""
