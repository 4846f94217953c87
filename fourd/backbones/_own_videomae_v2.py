"""VideoMAE v2's public code, run from a checkout of OpenGVLab/VideoMAEv2, around the weights of our module.

The checkout needs torch and numpy alone: the few helpers that it takes from timm, none of which computes anything in
evaluation, are stood in for while it is imported.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from fourd.backbones.videomae_v2 import VideoMAEv2
from fourd.layers import LAYER_NORM_EPS

_FILE = Path("models") / "modeling_finetune.py"


def own_code(backbone: VideoMAEv2, checkout: Path) -> Callable[[Tensor], Tensor]:
    """Give the public code with a backbone's weights: normalised `B T 3 h w` in, `B t h w D` out.

    The whole model runs; since it averages its tokens before its norm, the norm is also applied to each of them.
    Raises FileNotFoundError where `checkout` is none.
    """
    config = backbone.config
    own: Any = _import(checkout).VisionTransformer(
        **{"img_size": config.size[0], "patch_size": config.patch[1], "tubelet_size": config.patch[0]},
        **{"embed_dim": config.width, "depth": config.depth, "num_heads": config.num_heads, "num_classes": 1},
        **{"mlp_ratio": (config.mlp_width + 0.5) / config.width, "all_frames": config.num_frames, "qkv_bias": True},
        norm_layer=partial(nn.LayerNorm, eps=LAYER_NORM_EPS),
    )
    unfilled, unknown = own.load_state_dict(_published_state(backbone), strict=False)
    if set(unfilled) - {"head.weight", "head.bias"} or unknown:
        raise RuntimeError(f"{checkout / _FILE}: arrays without weights {unfilled}, weights without arrays {unknown}")
    own.to(backbone.patch_embedding.weight).eval()
    outputs: list[Tensor] = []
    own.blocks[-1].register_forward_hook(lambda _module, _inputs, output: outputs.append(output))

    def run(pixels: Tensor) -> Tensor:
        own(pixels.transpose(1, 2))
        tokens: Tensor = own.fc_norm(outputs.pop())
        return tokens.unflatten(1, backbone.grid)

    return run


def _published_state(backbone: VideoMAEv2) -> dict[str, Tensor]:
    """Give the weights the names and shapes of the public code."""
    ours, (pt, ph, pw) = backbone.state_dict(), backbone.config.patch
    patches = rearrange(ours["patch_embedding.weight"], "D (pt ph pw c) -> D c pt ph pw", pt=pt, ph=ph, pw=pw)
    state = {"patch_embed.proj.weight": patches, "patch_embed.proj.bias": ours["patch_embedding.bias"]}
    state |= {f"fc_norm.{kind}": ours[f"final_norm.{kind}"] for kind in ("weight", "bias")}
    for number in range(len(backbone.blocks)):
        block, published = f"blocks.{number}", {"attention.out": "attn.proj", "attention_norm": "norm1"}
        published |= {"mlp_norm": "norm2", "mlp.dense_in": "mlp.fc1", "mlp.dense_out": "mlp.fc2"}
        for our_name, name in published.items():
            state |= {f"{block}.{name}.{kind}": ours[f"{block}.{our_name}.{kind}"] for kind in ("weight", "bias")}
        fused = [ours[f"{block}.attention.{part}.weight"] for part in ("query", "key", "value")]
        state[f"{block}.attn.qkv.weight"] = torch.cat(fused)
        for part in ("query", "value"):
            state[f"{block}.attn.{part[0]}_bias"] = ours[f"{block}.attention.{part}.bias"]
    return state


def _import(checkout: Path) -> ModuleType:
    """Import the file that defines the model, and nothing around it."""
    path = checkout / _FILE
    spec = importlib.util.spec_from_file_location("_videomae_v2_own_code", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected a checkout of github.com/OpenGVLab/VideoMAEv2")
    module = importlib.util.module_from_spec(spec)
    with _without_timm():
        spec.loader.exec_module(module)
    return module


@contextmanager
def _without_timm() -> Iterator[None]:
    """Put names in place of those that are imported from timm."""
    helpers = {"drop_path": _never, "to_2tuple": _pair, "trunc_normal_": nn.init.trunc_normal_}
    names: dict[str, dict[str, Any]] = {"timm": {}, "timm.models": {}, "timm.models.layers": helpers}
    names["timm.models.registry"] = {"register_model": lambda build: build}
    before = {name: sys.modules.get(name) for name in names}
    for name, held in names.items():
        sys.modules[name] = ModuleType(name)
        vars(sys.modules[name]).update(held)
    try:
        yield
    finally:
        for name, module in before.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module


def _never(*_: object) -> Tensor:
    raise AssertionError("no path is dropped in evaluation")


def _pair(side: int | tuple[int, int]) -> tuple[int, int]:
    return side if isinstance(side, tuple) else (side, side)
