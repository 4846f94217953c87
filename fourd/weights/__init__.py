"""Weights: the released arrays, our own files, checkpoints of rivals. Always strict, never half."""

from fourd.weights.files import load_module, read_config, save_module, save_weights, sha256
from fourd.weights.official import (
    READOUT_PREFIX,
    attention_readout_state,
    read_npz,
    video_vit_config,
    video_vit_state,
)

__all__ = [
    "READOUT_PREFIX",
    "attention_readout_state",
    "load_module",
    "read_config",
    "read_npz",
    "save_module",
    "save_weights",
    "sha256",
    "video_vit_config",
    "video_vit_state",
]
