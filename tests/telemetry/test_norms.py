"""Norms of weights and of updates, from the optimiser's state, are those of the real difference of a step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from fourd.optim import OptimConfig, build_optimizer, set_learning_rate
from fourd.telemetry import layer_group, layer_norms

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
TWO_RANKS = Path(__file__).with_name("norms_of_two_ranks.py")


class Model(nn.Module):
    """Have a parameter of each kind: with decay and without, of a backbone, frozen, never used."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.ModuleDict({"blocks": nn.ModuleList(nn.Linear(6, 6) for _ in range(2))})
        self.norm = nn.LayerNorm(6)
        self.mask_token = nn.Parameter(torch.randn(6))
        self.frozen = nn.Linear(6, 6).requires_grad_(False)
        self.unused = nn.Linear(6, 6)

    def forward(self, x):
        for block in self.backbone["blocks"]:
            x = block(x + self.mask_token)
        return self.frozen(self.norm(x)).square().mean()


def trained(device, num_steps, **optim):
    """Take steps with rates that change; give the weights before the last."""
    model = Model().to(device)
    optimizer = build_optimizer(model, OptimConfig(backbone_multiplier=0.5, **optim))
    for step in range(num_steps):
        set_learning_rate(optimizer, 1e-3 * (step + 1))
        before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        optimizer.zero_grad()
        model(torch.randn(4, 6, device=device)).backward()
        optimizer.step()
    return model, optimizer, before


def norm_of(tensors):
    return float(sum(tensor.detach().double().square().sum() for tensor in tensors).sqrt())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("weight_decay", [0.0, 3.0])
@pytest.mark.parametrize("num_steps", [1, 3])
def test_norms_are_those_of_the_real_step(device, weight_decay, num_steps):
    model, optimizer, before = trained(device, num_steps, weight_decay=weight_decay)
    told = layer_norms(model, optimizer).read()
    groups = {layer_group(name) for name in before}
    assert groups == {"backbone.blocks.0", "backbone.blocks.1", "norm", "mask_token", "frozen", "unused"}
    assert set(told) == {f"{kind}/{group}" for kind in ("weight_norm", "update_norm") for group in groups}
    after = dict(model.named_parameters())
    for group in groups:
        names = [name for name in before if layer_group(name) == group]
        assert told[f"weight_norm/{group}"] == pytest.approx(norm_of(after[name] for name in names), rel=1e-5)
        update = norm_of(after[name] - before[name] for name in names)
        assert told[f"update_norm/{group}"] == pytest.approx(update, rel=1e-3)
        assert (update > 0) == (group not in ("frozen", "unused"))


def test_a_step_that_was_left_out_has_no_update():
    model, optimizer, _ = trained("cpu", 2)
    moved = layer_norms(model, optimizer).read()
    optimizer.found_inf = torch.tensor(1.0)
    optimizer.step()
    told = layer_norms(model, optimizer).read()
    assert moved["update_norm/norm"] > 0
    assert all(value == 0 for name, value in told.items() if name.startswith("update_norm/"))
    assert told["weight_norm/norm"] == moved["weight_norm/norm"]


def test_a_first_step_that_was_left_out_gives_numbers():
    model = Model()
    optimizer = build_optimizer(model, OptimConfig())
    model(torch.full((4, 6), torch.nan)).backward()
    optimizer.found_inf = torch.tensor(1.0)
    optimizer.step()
    told = layer_norms(model, optimizer).read()
    assert told["weight_norm/norm"] == pytest.approx(6**0.5)
    assert told["update_norm/norm"] == 0


def test_a_rate_of_nothing_moves_nothing():
    model, optimizer, _ = trained("cpu", 2, weight_decay=3.0)
    set_learning_rate(optimizer, 0.0)
    optimizer.step()
    told = layer_norms(model, optimizer).read()
    assert all(value == 0 for name, value in told.items() if name.startswith("update_norm/"))


def test_nothing_is_changed_by_looking():
    model, optimizer, _ = trained("cpu", 2)
    weights = [parameter.detach().clone() for parameter in model.parameters()]
    state = [value.clone() for kept in optimizer.state.values() for value in kept.values()]
    layer_norms(model, optimizer)
    assert all(map(torch.equal, weights, model.parameters()))
    assert all(map(torch.equal, state, [value for kept in optimizer.state.values() for value in kept.values()]))


def test_another_optimiser_is_refused():
    model = Model()
    for optimizer in (torch.optim.SGD(model.parameters()), torch.optim.Adam(model.parameters())):
        with pytest.raises(ValueError, match=f"found {type(optimizer).__name__}"):
            layer_norms(model, optimizer)
    with pytest.raises(ValueError, match="found AdamW with amsgrad"):
        layer_norms(model, torch.optim.AdamW(model.parameters(), amsgrad=True))


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("backbone.blocks.3.attention.query.weight", "backbone.blocks.3"),
        ("backbone.blocks.12.mlp.0.bias", "backbone.blocks.12"),
        ("backbone.patch_embedding.weight", "backbone.patch_embedding"),
        ("backbone.positions", "backbone.positions"),
        ("readout.attention.key.weight", "readout.attention"),
        ("head.weight", "head"),
        ("mask_token", "mask_token"),
        ("weight", "weight"),
    ],
)
def test_a_parameter_is_counted_with_its_layer(name, group):
    assert layer_group(name) == group


def test_norms_of_shards_are_those_of_the_whole(tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(TWO_RANKS.parents[2])}
    command = [sys.executable, str(TWO_RANKS), str(tmp_path)]
    said = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=120).stdout
    results = [json.loads(line) for line in said.splitlines()]
    assert [mesh for mesh, _, _ in results] == ["shard", "replicas", "both"]
    for mesh, told, real in results:
        assert told == pytest.approx(real, rel=1e-3), mesh
        assert {layer for layer in "012" if real[f"update_norm/{layer}"] > 0} == {"0", "1"}
