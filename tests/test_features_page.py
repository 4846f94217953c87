"""The page on features: every code block of it runs as it stands, on small models and a real film."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import fourd
from fourd import provenance, weights
from fourd.backbones.video_vit import VideoViTConfig
from fourd.cli import main
from fourd.depth_model import DepthModelConfig
from fourd.objectives.simple_mae import SimpleMAEConfig
from fourd.readout import ReadoutSize
from fourd.tasks.depth import DepthConfig
from fourd.trainer import fit
from tests.films import write_film
from tests.small_runs import ClipsConfig, run

PAGE = Path(__file__).parents[1] / "docs" / "features.md"
BLOCKS = dict(re.findall(r"## ([^\n#]*)\n[^#]*?```python\n(.*?)```", PAGE.read_text(), re.DOTALL))
SMALL = VideoViTConfig(32, 4, 2, 64, num_frames=16, size=(32, 32))
OF_NOISE = VideoViTConfig(12, 1, 2, 24, patch=(1, 2, 2), num_frames=2, size=(4, 4))
OBJECTIVE = SimpleMAEConfig(OF_NOISE, mask_ratio=0.5, decoder_patch=(1, 2, 2), num_decoder_blocks=1)


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    """Stand in a folder with a film, a picture, a run, and small models under the published names."""
    monkeypatch.chdir(tmp_path)
    write_film(tmp_path / "film.mp4", num_frames=50)
    Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save("picture.png")
    backbone = SMALL.build()
    backbone.init_weights(torch.Generator().manual_seed(0))
    file = tmp_path / "small.safetensors"
    weights.save_module(backbone, file, json.dumps(provenance.describe(SMALL)))
    depth = DepthModelConfig(SMALL, DepthConfig(size=ReadoutSize(16, 2, 16))).build()
    depth.backbone.init_weights()
    depth.readout.init_weights()
    fourd.save_pretrained(depth, tmp_path / "depth")
    places = {"4ds-b-dist-e": file, "4ds-b-dist-e-depth": tmp_path / "depth"}
    load, load_depth = fourd.load, fourd.load_depth
    monkeypatch.setattr(fourd, "load", lambda name, **how: load(places.get(name, name), **how), raising=False)
    monkeypatch.setattr(fourd, "load_depth", lambda name: load_depth(places[name]), raising=False)
    return tmp_path


def run_block(title: str) -> SimpleNamespace:
    names: dict[str, object] = {}
    exec(BLOCKS[title], names)
    return SimpleNamespace(**names)


def test_every_block_of_the_page_is_run_below():
    assert PAGE.read_text().count("```python") == len(BLOCKS) + 1  # and the first, which only loads
    tested = re.findall(r'run_block\("(.*?)"\)', Path(__file__).read_text())
    assert set(tested) == set(BLOCKS)


def test_one_vector_per_video(workplace):
    vector = run_block("One vector per video").vector
    assert vector.shape == (32,)
    assert vector.isfinite().all()


def test_dense_maps(workplace):
    found = run_block("Dense maps")
    assert found.middle.grid.shape == found.late.grid.shape == (1, 8, 2, 2, 32)


def test_a_clip_longer_than_the_encoders_own(workplace):
    assert run_block("A clip longer than the encoder's own").features.grid.shape == (1, 25, 2, 2, 32)


def test_a_single_image(workplace):
    assert run_block("A single image").one_map.shape == (1, 2, 2, 32)


def test_a_camera(workplace):
    assert run_block("A camera").newest.shape == (1, 4, 2, 2, 32)


def test_depth_in_metres(workplace):
    assert run_block("Depth in metres").depth.metres.shape == (1, 16, 32, 32)


def test_what_is_shared_comes_back(workplace):
    trained = fit(run(OBJECTIVE, ClipsConfig()), workplace / "runs/mine").backbone
    again = run_block("Share what you trained").again
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), trained.parameters(), strict=True))
    assert "runs/mine" not in (workplace / "my-encoder/README.md").read_text()


def test_the_command_of_the_page_runs(workplace, monkeypatch):
    (workplace / "films").mkdir()
    (workplace / "more").mkdir()
    write_film(workplace / "films/a.mp4", num_frames=50)
    write_film(workplace / "more/clip.mp4", num_frames=50)
    commands = re.findall(r"^fourd extract (.*)$", PAGE.read_text(), re.MULTILINE)
    assert commands
    for command in commands:
        monkeypatch.setattr(sys, "argv", ["fourd", "extract", *command.split(), "--backbone", "small.safetensors"])
        main()
    assert (workplace / "features/films/a.mp4.safetensors").is_file()
