"""What is laid around a model's blocks: recomputation, compilation, sharding, in this order."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from fourd.parallel.devices import Precision
from fourd.parallel.settings import ParallelConfig, Recompute

BLOCKS = "blocks"
_ENTRANCES = ("pictures", "predict", "clip_features")
"""Methods of objectives, beside `forward`, that need gathered weights."""

_SHAPES = 64
"""Graphs that compiled blocks may have, which share one code: beyond them blocks would run as they are written."""

_aten = torch.ops.aten
_DEAR = {
    _aten.mm.default,
    _aten.addmm.default,
    _aten.bmm.default,
    _aten._scaled_dot_product_flash_attention.default,
    _aten._scaled_dot_product_efficient_attention.default,
    _aten._scaled_dot_product_cudnn_attention.default,
    _aten._scaled_dot_product_flash_attention_for_cpu.default,
}


def transformer_blocks(module: nn.Module) -> list[nn.Module]:
    """Find the blocks of the backbones in a module: what stands in a list named `blocks`."""
    lists = [found for name, found in module.named_modules() if name.rpartition(".")[2] == BLOCKS]
    return [block for found in lists if isinstance(found, nn.ModuleList) for block in found]


def arrange(
    module: nn.Module, config: ParallelConfig, mesh: DeviceMesh | None, precision: Precision, device: torch.device
) -> None:
    """Lay a module's blocks, and the module itself, over the ranks of a mesh, in place.

    The names of parameters stay what they were. mesh: as `Ranks.mesh` gives it; None shards nothing.
    """
    blocks = transformer_blocks(module)
    for block in blocks:
        if config.recompute != "none":
            _recompute(block, config.recompute)
        if config.compile == "yes" or (config.compile == "auto" and device.type == "cuda"):
            torch._dynamo.config.recompile_limit = _SHAPES  # type: ignore[attr-defined]
            block.compile()
    if mesh is not None:
        _shard(module, blocks, config, mesh, precision)


def _recompute(block: nn.Module, what: Recompute) -> None:
    """Put recomputation around a block's forward pass; the module, and so its parameters' names, stay."""
    contexts: dict[str, Any] = {"context_fn": _keep_dear_products} if what == "selective" else {}
    forward: Callable[..., Any] = block.forward

    @functools.wraps(forward)
    def recomputed(*arguments: Any, **named: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*arguments, **named)
        return checkpoint(forward, *arguments, use_reentrant=False, **contexts, **named)

    block.forward = recomputed  # type: ignore[method-assign]


def _keep_dear_products() -> Any:
    return create_selective_checkpoint_contexts(_policy)


def _policy(_context: Any, func: Any, *_arguments: Any, **_named: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if func in _DEAR else CheckpointPolicy.PREFER_RECOMPUTE


def _shard(
    module: nn.Module, blocks: list[nn.Module], config: ParallelConfig, mesh: DeviceMesh, precision: Precision
) -> None:
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if precision == "bf16" else None,
        reduce_dtype=torch.bfloat16 if config.reduce == "bf16" else torch.float32,
        cast_forward_inputs=False,  # autocast decides what is rounded: pixels are not
    )
    for block in blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy, reshard_after_forward=config.reshard)
    fully_shard(module, mesh=mesh, mp_policy=policy)
    for name in _ENTRANCES:
        if hasattr(module, name):
            register_fsdp_forward_method(module, name)
