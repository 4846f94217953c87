"""AdamW, who decays and who does not, and the learning rate along a run."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from fourd.types import Objective


@dataclass(frozen=True)
class OptimConfig:
    """Describe the optimiser. Of pretraining only AdamW is public: its numbers here are not from the paper."""

    learning_rate: float = 3e-4
    end_learning_rate: float = 0.0
    warmup_steps: int = 1000
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    """Largest gradient norm; 0 leaves gradients as they are."""
    backbone_multiplier: float = 1.0
    """Learn the backbone slower than the rest by this factor, as finetuning does."""

    def __post_init__(self) -> None:
        """Refuse numbers that no optimiser takes."""
        for name in ("learning_rate", "end_learning_rate", "warmup_steps", "weight_decay", "clip_norm"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"OptimConfig.{name} is {getattr(self, name)}: expected a number, 0 or more")


def learning_rate(config: OptimConfig, step: int, num_steps: int) -> float:
    """Rise linearly over the warm-up, then fall along a cosine to the end value.

    The warm-up takes a tenth of the run at most, so that a short try of a long recipe learns something.
    """
    warmup_steps = min(config.warmup_steps, num_steps // 10)
    if step < warmup_steps:
        return config.learning_rate * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(num_steps - warmup_steps, 1)
    share = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return config.end_learning_rate + (config.learning_rate - config.end_learning_rate) * share


def build_optimizer(module: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """Build AdamW over what is trainable; only the kernels of linear layers decay."""
    kernels = {id(layer.weight) for layer in module.modules() if isinstance(layer, (nn.Linear, nn.Conv3d, nn.Conv2d))}
    groups: dict[tuple[bool, bool, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            scale = module.learning_rate_scale(name) if isinstance(module, Objective) else 1.0
            group = (id(parameter) in kernels, name.startswith("backbone."), scale)
            groups.setdefault(group, []).append(parameter)
    described = [
        {
            "params": parameters,
            "weight_decay": config.weight_decay if decays else 0.0,
            "multiplier": scale * (config.backbone_multiplier if in_backbone else 1.0),
        }
        for (decays, in_backbone, scale), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]
    return torch.optim.AdamW(described, lr=config.learning_rate, betas=config.betas, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Set the rate of every group, each by its own multiplier."""
    for group in optimizer.param_groups:
        group["lr"] = value * group["multiplier"]
