"""Our own files: what is written comes back to the bit, and what does not fit is named."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fourd import provenance, weights
from fourd.backbones import video_vit
from fourd.backbones.video_vit import SIZES, VideoViTConfig
from fourd.objectives.simple_mae import SimpleMAEConfig
from fourd.weights import (
    load_module,
    read_config,
    save_module,
    sha256,
)

GOLDEN = Path(__file__).parents[1] / "golden"
PUBLISHED_MILLIONS = {"S": 22.8, "B": 88.0, "L": 306.3, "H": 634.7, "G": 1847.8, "e": 3810.9, "j": 21495.2}
QUERY_KERNEL = "processor/layers_2/attention/query/kernel"


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def tiny_backbone(seed: int = 0) -> nn.Module:
    backbone = video_vit.tiny().build()
    backbone.init_weights(torch.Generator().manual_seed(seed))
    return backbone


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


# ----------------------------------------------------------------------------- our own files


def test_a_saved_module_comes_back_bitwise_with_its_config(tmp_path):
    path = tmp_path / "model.safetensors"
    config = json.dumps(provenance.describe(tiny_backbone(0).config))
    save_module(tiny_backbone(0), path, config)
    loaded = tiny_backbone(1)
    assert not same(loaded, tiny_backbone(0))
    load_module(loaded, path)
    assert same(loaded, tiny_backbone(0))
    assert read_config(path) == config


def test_the_same_numbers_give_the_same_bytes(tmp_path):
    save_module(tiny_backbone(), tmp_path / "here", "{}")
    code = (
        "import torch; from fourd.backbones import video_vit; from fourd.weights import save_module;"
        "b = video_vit.tiny().build(); b.init_weights(torch.Generator().manual_seed(0));"
        f"save_module(b, {str(tmp_path / 'elsewhere')!r}, '{{}}')"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2], env=environment)
    assert (tmp_path / "here").read_bytes() == (tmp_path / "elsewhere").read_bytes()


def test_a_saved_file_is_as_readable_as_any_other(tmp_path):
    save_module(nn.Linear(1, 1), tmp_path / "model.safetensors", "{}")
    (tmp_path / "other").touch()
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_sha256_is_that_of_the_bytes(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"four dimensions" * 100_000)
    assert sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    def run_out_of_disk(tensors: object, target: Path, metadata: object) -> None:
        target.write_bytes(b"half of it")
        raise OSError("no space left")

    path = tmp_path / "model.safetensors"
    save_module(tiny_backbone(), path, "{}")
    before = sha256(path)
    monkeypatch.setattr(weights.files, "save_file", run_out_of_disk)
    with pytest.raises(OSError, match="no space left"):
        save_module(tiny_backbone(1), path, "{}")
    assert sha256(path) == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_module_without_memory_cannot_be_saved(tmp_path):
    with torch.device("meta"), pytest.raises(NotImplementedError, match="meta"):
        save_module(video_vit.tiny().build(), tmp_path / "model.safetensors", "{}")
    assert not list(tmp_path.iterdir())


def test_loading_lists_all_that_does_not_fit_and_loads_nothing(tmp_path):
    path = tmp_path / "model.safetensors"
    stored = nn.ModuleDict({"a": nn.Linear(2, 3), "b": nn.Linear(4, 4, bias=False)})
    save_module(stored, path, "{}")
    module = nn.ModuleDict({"a": nn.Linear(2, 5, bias=False), "c": nn.Linear(1, 1, bias=False)})
    before = module["a"].weight.detach().clone()
    with pytest.raises(ValueError, match=r"model\.safetensors and the module do not match") as error:
        load_module(module, path)
    for part in ("1 missing: c.weight", "2 unexpected: a.bias; b.weight", "a.weight (3, 2), expected (5, 2)", "Build "):
        assert part in str(error.value)
    assert torch.equal(module["a"].weight, before)


def test_a_long_list_of_problems_is_cut_and_counted(tmp_path):
    path = tmp_path / "model.safetensors"
    save_module(nn.Linear(1, 1), path, "{}")
    with pytest.raises(ValueError, match=r"67 missing: (?:\S+; ){19}\S+, and 47 more"):
        load_module(tiny_backbone(), path)


def test_loading_into_a_module_without_memory_is_an_error(tmp_path):
    path = tmp_path / "model.safetensors"
    save_module(tiny_backbone(), path, "{}")
    with torch.device("meta"):
        module = video_vit.tiny().build()
    with pytest.raises(ValueError, match="meta device: call to_empty"):
        load_module(module, path)


def test_a_damaged_file_and_one_without_config_say_so(tmp_path):
    path = tmp_path / "model.safetensors"
    save_module(nn.Linear(50, 50), path, "{}")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load_module(nn.Linear(50, 50), path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="holds no config"):
        read_config(path)


# ----------------------------------------------------------------------------- parameter counts


@pytest.mark.parametrize("name", SIZES)
def test_backbone_and_latents_count_as_published(name):
    with torch.device("meta"):
        objective = SimpleMAEConfig(SIZES[name]()).build()
    assert objective.latents.shape == (784, objective.backbone.config.width)
    assert round((count(objective.backbone) + objective.latents.numel()) / 1e6, 1) == PUBLISHED_MILLIONS[name]


@pytest.mark.parametrize(("name", "parameters"), [("B", 87_439_104), ("e", 3_809_464_064)])
def test_released_backbones_count_exactly(name, parameters):
    with torch.device("meta"):
        assert count(SIZES[name]().build()) == parameters


@pytest.mark.parametrize("name", ["B", "e"])
def test_sizes_build_at_256_pixels_too(name):
    config: VideoViTConfig = SIZES[name]().at(256)
    with torch.device("meta"):
        objective = SimpleMAEConfig(config).build()
        native = SIZES[name]().build()
    assert objective.backbone.grid == (8, 16, 16)
    assert len(objective.latents) == 4 * 16 * 16
    assert count(objective.backbone) - count(native) == (8 * 16 * 16 - 8 * 14 * 14) * config.width


def test_weights_of_another_config_are_refused_though_shapes_agree(tmp_path):
    path = tmp_path / "w.safetensors"
    two_heads = video_vit.tiny().build()
    two_heads.init_weights(torch.Generator().manual_seed(0))
    save_module(two_heads, path, json.dumps(provenance.describe(two_heads.config)))
    with pytest.raises(ValueError, match="num_heads 2, expected 4"):
        load_module(replace(video_vit.tiny(), num_heads=4).build(), path)
    load_module(video_vit.tiny().build(), path)
