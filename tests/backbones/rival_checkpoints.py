"""Write tiny checkpoints of rivals with the rival's own code, damage them, and measure how far two outputs differ."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

RESCALE = 1 / 255
Arrays = dict[str, Tensor]


@torch.no_grad()
def perturbed(model: Any, scale: float = 0.2, seed: int = 0) -> Any:
    """Add noise to every parameter, so that no bias is 0, no norm or layer scale is 1, and no attention is even."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def write_checkpoint(
    folder: Path, model: nn.Module, preprocessing: Mapping[str, Any], name: str = "preprocessor_config.json"
) -> Path:
    """Write weights and `config.json` by the rival's own `save_pretrained`, and its preprocessing beside them."""
    model.save_pretrained(folder)
    (folder / name).write_text(json.dumps(preprocessing))
    return folder


def image_preprocessing(size: tuple[int, int], mean: Any, std: Any, resample: int = 3) -> dict[str, Any]:
    """Say what a `preprocessor_config.json` says; resample: 2 is bilinear, 3 is bicubic, as PIL numbers them."""
    return {
        **{"do_resize": True, "do_rescale": True, "do_normalize": True, "rescale_factor": RESCALE},
        **{"size": {"height": size[0], "width": size[1]}, "image_mean": list(mean), "image_std": list(std)},
        "resample": resample,
    }


def normalised(video: Tensor, mean: Any, std: Any) -> Tensor:
    """Normalise uint8 frames `... 3 H W`: divide by 255, take off the mean, divide by the deviation."""
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (mean, std))
    return (video.to(torch.float32) * RESCALE - mean) / std


# ----------------------------------------------------------------------------- damage


def edit_arrays(folder: Path, change: Callable[[Arrays], None]) -> Path:
    """Rewrite `model.safetensors` after `change` has edited its arrays in place."""
    path = folder / "model.safetensors"
    arrays = safetensors.torch.load_file(path)
    change(arrays)
    safetensors.torch.save_file(arrays, path, metadata={"format": "pt"})
    return folder


def rename_array(arrays: Arrays, name: str) -> None:
    """Call an array by another name."""
    arrays[name + "_renamed"] = arrays.pop(name)


def drop_array(arrays: Arrays, name: str) -> None:
    """Take an array away."""
    del arrays[name]


def reshape_array(arrays: Arrays, name: str) -> None:
    """Make an array one longer than it should be."""
    arrays[name] = torch.cat([arrays[name], arrays[name][:1]])


def spoil_array(arrays: Arrays, name: str) -> None:
    """Put one NaN into an array."""
    arrays[name].view(-1)[0] = torch.nan


DAMAGES = (rename_array, drop_array, reshape_array, spoil_array)
"""Ways to break one array; each is called as `damage(arrays, name)`, and a loader must refuse all of them by name."""


# ----------------------------------------------------------------------------- comparison


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Give the largest difference in units of the expected output's standard deviation."""
    assert actual.shape == expected.shape, f"{tuple(actual.shape)} is not {tuple(expected.shape)}"
    assert expected.std() > 1e-3, "the expected output is constant: it would prove nothing"
    return float((actual - expected).abs().max() / expected.std())


@torch.no_grad()
def frame_errors(backbone: Any, rival: Any, video: Tensor, colours: tuple[Any, Any], **options: Any) -> list[float]:
    """Compare an adapter with the image rival whose `forward(pixels, **options)` sees each frame by itself.

    The video has the size at which both look. Gives the error of every block but the last, then of the final output;
    tokens in front of the patches are dropped from the rival's.
    """
    num_blocks, (num_clips, num_frames) = len(backbone.blocks), video.shape[:2]
    seen = rival(normalised(video, *colours).flatten(0, 1), output_hidden_states=True, **options)
    ours = backbone(video, [number / num_blocks for number in range(1, num_blocks + 1)])
    errors = []
    for features, tokens in zip(ours, (*seen.hidden_states[1:num_blocks], seen.last_hidden_state), strict=True):
        h, w = features.grid.shape[2:4]
        expected = tokens[:, -h * w :].reshape(num_clips, num_frames, h, w, -1)
        errors.append(relative_error(features.grid, expected))
    return errors
