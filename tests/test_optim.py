"""The learning rate along a run, who decays, who learns slower, and a step that is not applied."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from fourd.layers import LayerNorm
from fourd.optim import OptimConfig, build_optimizer, learning_rate, set_learning_rate

CONFIG = OptimConfig(learning_rate=1.0, end_learning_rate=0.1, warmup_steps=10)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.1),
        (4, 0.5),
        (9, 1.0),
        (10, 1.0),
        (35, 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 4))),
        (60, 0.55),
        (110, 0.1),
        (500, 0.1),
    ],
)
def test_the_rate_rises_along_a_line_and_falls_along_a_cosine(step, expected):
    assert learning_rate(CONFIG, step, 110) == pytest.approx(expected)


def test_without_warmup_it_starts_at_the_top():
    config = OptimConfig(learning_rate=2.0, warmup_steps=0)
    assert learning_rate(config, 0, 10) == 2.0
    assert 0 < learning_rate(config, 9, 10) < 0.1


def test_a_warmup_takes_a_tenth_of_the_run_at_most():
    config = OptimConfig(learning_rate=1.0, warmup_steps=10_000)
    assert learning_rate(config, 9, 100) == learning_rate(config, 10, 100) == 1.0
    assert learning_rate(config, 0, 3) == 1.0, "too short a run has none, and divides by nothing"


class Small(nn.Module):
    """Hold one of each kind of parameter, in the backbone and outside."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.ModuleDict({"linear": nn.Linear(2, 2), "norm": LayerNorm(2)})
        self.backbone_like = nn.Linear(2, 2)
        self.conv = nn.Conv3d(1, 1, 1)
        self.embedding = nn.Embedding(2, 2)
        self.table = nn.Parameter(torch.zeros(2, 2))
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


def settings_of(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, tuple[float, float]]:
    """Give each parameter's decay and learning rate."""
    names = {parameter: name for name, parameter in module.named_parameters()}
    groups = optimizer.param_groups
    return {names[p]: (group["weight_decay"], group["lr"]) for group in groups for p in group["params"]}


def test_only_kernels_decay_and_only_the_backbone_learns_slower():
    module = Small()
    optimizer = build_optimizer(module, OptimConfig(weight_decay=0.2, backbone_multiplier=0.5))
    set_learning_rate(optimizer, 0.1)
    assert settings_of(module, optimizer) == {
        "backbone.linear.weight": (0.2, 0.05),
        "backbone.linear.bias": (0.0, 0.05),
        "backbone.norm.weight": (0.0, 0.05),
        "backbone.norm.bias": (0.0, 0.05),
        "backbone_like.weight": (0.2, 0.1),
        "backbone_like.bias": (0.0, 0.1),
        "conv.weight": (0.2, 0.1),
        "conv.bias": (0.0, 0.1),
        "embedding.weight": (0.0, 0.1),
        "table": (0.0, 0.1),
    }


def test_the_update_is_that_of_adamw():
    """One step of AdamW on a gradient moves by the rate times its sign, and decays by rate times decay."""
    module = nn.Linear(2, 1)
    before = module.weight.detach().clone()
    optimizer = build_optimizer(module, OptimConfig(weight_decay=0.5))
    set_learning_rate(optimizer, 0.01)
    module.weight.grad, module.bias.grad = torch.tensor([[3.0, -0.2]]), torch.tensor([1.0])
    optimizer.step()
    expected = before * (1 - 0.01 * 0.5) - 0.01 * torch.tensor([[1.0, -1.0]])
    torch.testing.assert_close(module.weight.detach(), expected, rtol=1e-5, atol=1e-6)


def test_a_step_that_is_flagged_leaves_weights_moments_and_counts():
    module = nn.Linear(2, 1)
    optimizer = build_optimizer(module, OptimConfig())

    def step(gradient: float, flag: float) -> list[torch.Tensor]:
        module.weight.grad, module.bias.grad = torch.full((1, 2), gradient), torch.full((1,), gradient)
        optimizer.found_inf = torch.tensor(flag)
        optimizer.step()
        numbers = [module.weight, module.bias, *optimizer.state[module.weight].values()]
        return [number.detach().clone() for number in numbers]

    before = step(1.0, 0.0)
    after = step(math.nan, 1.0)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert not torch.equal(step(1.0, 0.0)[0], before[0])
