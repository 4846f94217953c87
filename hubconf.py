"""Let `torch.hub.load` find the encoders: the same calls as `fourd.load` and `fourd.load_depth`."""

from __future__ import annotations

import typing as _typing  # what has no underscore here and can be called is offered by torch.hub

import fourd as _fourd

# What torch.hub looks for before it calls anything; modules, not packages.
dependencies = [
    *("torch", "numpy", "einops", "jaxtyping", "safetensors", "huggingface_hub"),
    *("httpx2", "filelock", "rich", "matplotlib", "PIL"),
]


def load(source: str, **options: _typing.Any) -> _typing.Any:
    """Load an encoder: a published name, a file, a folder or a repository of the Hub (see `fourd.load`).

    options: `dtype` of the weights, `native_size`.
    """
    return _fourd.load(source, **options)


def load_depth(source: str, **options: _typing.Any) -> _typing.Any:
    """Load an encoder with its depth readout: `forward(video)` gives metres (see `fourd.load_depth`).

    options: `readout_depth`, `output_patch`, `dtype`.
    """
    return _fourd.load_depth(source, **options)
