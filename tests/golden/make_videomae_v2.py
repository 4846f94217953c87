"""Write videomae_v2.npz: small random models of OpenGVLab/VideoMAEv2, and what its own code says of a clip.

Usage: python tests/golden/make_videomae_v2.py PATH_TO_CHECKOUT

The checkout is of https://github.com/OpenGVLab/VideoMAEv2, at commit 29eab1e. It needs torch and numpy alone: the few
helpers that it takes from timm are stood in for below, none of which computes anything here.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

SHAPE = {"img_size": 32, "patch_size": 8, "tubelet_size": 2, "all_frames": 4, "mlp_ratio": 48 / 11, "qkv_bias": True}
SHAPE |= {"norm_layer": partial(nn.LayerNorm, eps=1e-6)}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TABLES = {"base": (1568, 768), "giant": (2048, 1408)}
ROWS = (0, 1, 14, 195, 196, 1000, 1567)


def stand_in_for_timm() -> None:
    """Put the names that the checkout imports from timm into place."""

    def drop_path(x: Tensor, *_: Any) -> Tensor:
        raise AssertionError("no path is dropped in a golden run")

    def trunc_normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0) -> Tensor:
        return nn.init.trunc_normal_(tensor, mean, std, a, b)

    names = {
        "timm": {},
        "timm.models": {},
        "timm.models.layers": {
            "drop_path": drop_path,
            "to_2tuple": lambda side: side if isinstance(side, tuple) else (side, side),
            "trunc_normal_": trunc_normal_,
        },
        "timm.models.registry": {"register_model": lambda build: build},
    }
    for name, held in names.items():
        module = ModuleType(name)
        module.__dict__.update(held)
        sys.modules[name] = module


def perturbed(model: nn.Module) -> nn.Module:
    """Move every parameter away from its start, so that none is neutral (a norm of ones, a bias of zeros)."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def normalised(video: np.ndarray) -> Tensor:
    """Turn uint8 `B T 3 H W` into what the source takes: normalised `B 3 T H W`."""
    pixels = (video / 255.0 - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
    return torch.from_numpy(pixels.astype(np.float32)).movedim(2, 1)


def outputs_of(blocks: nn.ModuleList) -> list[Tensor]:
    """Collect what each block gives, from now on."""
    outputs: list[Tensor] = []
    for block in blocks:
        block.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    return outputs


def finetuned(source: ModuleType, video: np.ndarray) -> dict[str, Tensor]:
    """Run a classifier: each block's tokens, the last ones normed one by one, and the norm of their mean."""
    model = perturbed(source.VisionTransformer(embed_dim=32, depth=4, num_heads=2, num_classes=5, **SHAPE))
    outputs = outputs_of(model.blocks)
    pooled = model.forward_features(normalised(video))
    said = {f"block_{number}": tokens for number, tokens in enumerate(outputs, start=1)}
    said |= {"normed": model.fc_norm(outputs[-1]), "pooled": pooled}
    return _named("finetuned", model, said)


def pretrained(source: ModuleType, video: np.ndarray) -> dict[str, Tensor]:
    """Run the encoder of a masked autoencoder with nothing masked: each block's tokens, and the normed ones."""
    sizes = {"encoder_embed_dim": 32, "encoder_depth": 4, "encoder_num_heads": 2, "decoder_depth": 1}
    sizes |= {"decoder_embed_dim": 12, "decoder_num_heads": 2, "decoder_num_classes": 3 * 2 * 8 * 8}
    model = perturbed(source.PretrainVisionTransformer(**sizes, **SHAPE))
    outputs = outputs_of(model.encoder.blocks)
    nothing = torch.zeros(len(video), model.encoder.patch_embed.num_patches, dtype=torch.bool)
    normed = model.encoder(normalised(video), nothing)
    said = {f"block_{number}": tokens for number, tokens in enumerate(outputs, start=1)}
    return _named("pretrained", model, said | {"normed": normed})


def _named(kind: str, model: nn.Module, said: dict[str, Tensor]) -> dict[str, Tensor]:
    state = {f"{kind}/state/{name}": value for name, value in model.state_dict().items()}
    return state | {f"{kind}/said/{name}": value for name, value in said.items()}


def main(checkout: Path) -> None:
    """Write the arrays beside this script."""
    stand_in_for_timm()
    sys.path.insert(0, str(checkout))
    from models import modeling_finetune, modeling_pretrain

    torch.manual_seed(0)
    video = np.random.default_rng(0).integers(0, 256, (2, 4, 3, 32, 32), dtype=np.uint8)
    with torch.no_grad():
        arrays = finetuned(modeling_finetune, video) | pretrained(modeling_pretrain, video)
    for name, (num_tokens, width) in TABLES.items():
        arrays[f"table/{name}"] = modeling_finetune.get_sinusoid_encoding_table(num_tokens, width)[0, list(ROWS)]
    plain = {name: value.numpy() for name, value in arrays.items()}
    np.savez_compressed(Path(__file__).with_suffix("").parent / "videomae_v2.npz", video=video, rows=ROWS, **plain)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
