"""Compare norms of sharded layers with real differences, on two gloo ranks.

A program of its own: `python norms_of_two_ranks.py FOLDER` prints one JSON line for each mesh. What it needs is
imported once, before it forks: that is most of its time.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from fourd.optim import OptimConfig, build_optimizer, set_learning_rate
from fourd.telemetry import layer_group, layer_norms

MESHES = {"shard": ((2,), ("shard",)), "replicas": ((2, 1), ("replicate", "shard")), "both": ((1, 2), ("r", "s"))}


def differences(before, after):
    """Take the norms of whole weights and of their changes, group by group."""
    squares = {}
    for name, weight in after.items():
        for kind, tensor in (("weight_norm", weight), ("update_norm", weight - before[name])):
            key = f"{kind}/{layer_group(name)}"
            squares[key] = squares.get(key, 0.0) + float(tensor.double().square().sum())
    return {key: square**0.5 for key, square in squares.items()}


def whole(module):
    return {name: getattr(p, "full_tensor", lambda p=p: p)().detach().clone() for name, p in module.named_parameters()}


def compare(shape, names):
    torch.manual_seed(0)
    # 7 rows on two ranks: shards of different sizes
    module = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 7), nn.Linear(7, 1))
    mesh = init_device_mesh("cpu", shape, mesh_dim_names=names)
    for layer in module[:2]:
        fully_shard(layer, mesh=mesh)
    module[2].requires_grad_(False)
    fully_shard(module, mesh=mesh, ignored_params=set(module[2].parameters()))  # whole on every rank
    optimizer = build_optimizer(module, OptimConfig(weight_decay=2.0))
    for learning_rate in (1e-3, 2e-3):
        set_learning_rate(optimizer, learning_rate)
        module(torch.randn(4, 5)).square().mean().backward()
        before = whole(module)
        optimizer.step()
    return layer_norms(module, optimizer).read(), differences(before, whole(module))


def run(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for name, mesh in MESHES.items():
        told, real = compare(*mesh)
        if rank == 0:
            print(json.dumps([name, told, real]), flush=True)
    dist.destroy_process_group()


def main():
    child = os.fork()
    run(0 if child else 1, Path(sys.argv[1]))
    if child:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


if __name__ == "__main__":
    main()
