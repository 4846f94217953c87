"""`torch.hub` finds the encoders in a checkout, without an installation."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import fourd
from fourd.backbones import video_vit
from fourd.depth_model import DepthModelConfig
from fourd.readout import ReadoutSize
from fourd.tasks.depth import DepthConfig

ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path) -> Path:
    backbone = video_vit.tiny().build()
    backbone.init_weights()
    return fourd.save_pretrained(backbone, tmp_path / "model")


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


@pytest.fixture(scope="module")
def hubconf():
    specification = importlib.util.spec_from_file_location("hubconf", ROOT / "hubconf.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_hub_offers_these_calls_and_no_others(hubconf):
    offered = [name for name, value in vars(hubconf).items() if callable(value) and not name.startswith("_")]
    assert offered == ["load", "load_depth"]
    assert all(getattr(hubconf, name).__doc__ for name in offered)


def test_the_hub_loads_a_saved_encoder(folder):
    loaded = torch.hub.load(str(ROOT), "load", str(folder), source="local", native_size=False)
    assert loaded.config == replace(video_vit.tiny(), native_size=False)
    assert same(loaded, fourd.load(folder))


def test_the_hub_loads_a_saved_depth_model(tmp_path):
    readout = DepthConfig(size=ReadoutSize(32, 2, 4), output_patch=(2, 8, 8))
    model = DepthModelConfig(video_vit.tiny(), readout, 0.5).build()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    folder = fourd.save_pretrained(model, tmp_path / "depth")
    assert same(torch.hub.load(str(ROOT), "load_depth", str(folder), source="local"), model)


def test_all_that_loading_imports_is_named_and_no_more(hubconf, folder):
    code = (
        "import sys, torch\n"
        f"torch.hub.load({str(ROOT)!r}, 'load', {str(folder)!r}, source='local')\n"
        "print([m.__file__ for name, m in sys.modules.items() if name.partition('.')[0] == 'fourd'])"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=folder)
    files = ast.literal_eval(answer.stdout.splitlines()[-1])
    assert str(ROOT / "fourd/weights/load.py") in files
    imported = {name for file in files for name in packages_imported_by(Path(file))}
    assert set(hubconf.dependencies) == imported - sys.stdlib_module_names - {"fourd"}


def packages_imported_by(file: Path) -> set[str]:
    """Name what a module imports as soon as it is itself imported."""
    found = set()
    for statement in ast.parse(file.read_text()).body:
        if isinstance(statement, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in statement.names}
        if isinstance(statement, ast.ImportFrom):
            found.add(statement.module.partition(".")[0])
    return found
