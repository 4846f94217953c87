"""Frozen features are computed once, for exactly these clips and weights, and read back clip by clip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fourd import encoded, loader, weights
from fourd.backbones import mean_pixel, video_vit
from fourd.datasets import video_files
from fourd.encoded import EncodedConfig, frozen_backbone
from fourd.video import UnreadableVideo
from tests.small_study import rng, world

CPU = torch.device("cpu")


@pytest.fixture
def config(tmp_path: Path) -> EncodedConfig:
    return EncodedConfig(
        world(0, 5), video_vit.tiny(), (0.5, 1.0), folder=str(tmp_path / "f"), precision="fp32", device="cpu"
    )


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the clips that a backbone sees."""
    seen: list[int] = []
    forward = video_vit.VideoViT.forward

    def counted(self, video, depths):
        seen.append(len(video))
        return forward(self, video, depths)

    monkeypatch.setattr(video_vit.VideoViT, "forward", counted)
    return seen


def test_features_are_those_of_the_backbone(config, monkeypatch):
    monkeypatch.setattr(encoded, "_BATCH_SIZE", 2)  # the last batch is a short one
    dataset, backbone = config.build(), frozen_backbone(config, CPU)
    assert len(dataset) == 5
    for index in range(5):
        batch = dataset.read(index, rng())
        assert torch.equal(batch.video, config.data.build().read(index, rng()).video)
        for found, expected in zip(batch.features, backbone(batch.video, config.depths), strict=True):
            assert found.grid.dtype == torch.float32
            torch.testing.assert_close(found.grid, expected.grid, rtol=2e-3, atol=2e-3)


def test_the_backbone_runs_once(config, runs):
    first = config.build()
    assert sum(runs) == 5
    second = config.build()
    assert sum(runs) == 5
    for index in range(5):
        one, other = (dataset.read(index, rng()).features for dataset in (first, second))
        assert all(torch.equal(a.grid, b.grid) for a, b in zip(one, other, strict=True))


def test_the_fingerprint_names_all_that_features_depend_on(config, tmp_path):
    paths = [tmp_path / f"{seed}.safetensors" for seed in (1, 2)]
    for seed, path in enumerate(paths):
        weights.save_module(frozen_backbone(replace(config, seed=seed), CPU), path, "{}")
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(paths[0].read_bytes())
    others = [
        replace(config, weights=str(paths[0])),
        replace(config, weights=str(paths[1])),
        replace(config, seed=1),
        replace(config, depths=(1.0,)),
        replace(config, depths=(1.0, 0.5)),
        replace(config, precision="bf16"),
        replace(config, backbone=mean_pixel.tiny()),
        replace(config, data=world(1, 5)),
        replace(config, data=world(0, 4)),
    ]
    prints = [fingerprint(other) for other in (config, *others)]
    assert len(set(prints)) == len(prints)
    assert fingerprint(replace(config, weights=str(copy))) == prints[1], "the same weights elsewhere are the same"
    assert fingerprint(replace(config, folder="elsewhere")) == prints[0]
    newer = config.data.build()
    newer.fingerprint = "made by a newer version"
    assert config.fingerprint(newer) != prints[0]


def fingerprint(config):
    return config.fingerprint(config.data.build())


def test_clips_that_depend_on_chance_are_refused(config):
    with pytest.raises(ValueError, match="depend on chance"):
        replace(config, data=video_files.tiny()).build()


def test_weights_are_taken_from_their_file(config, tmp_path):
    path = tmp_path / "w.safetensors"
    source = frozen_backbone(replace(config, seed=3), CPU)
    weights.save_module(source, path, "{}")
    taken = frozen_backbone(replace(config, weights=str(path)), CPU)
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), taken.parameters(), strict=True))
    assert not any(parameter.requires_grad for parameter in taken.parameters())
    assert not taken.training
    assert not torch.equal(next(source.parameters()), next(frozen_backbone(config, CPU).parameters()))


def test_what_was_interrupted_is_computed_again(config, runs, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(loader, "in_order", interrupted(loader.in_order))
        patch.setattr(encoded, "_BATCH_SIZE", 2)
        with pytest.raises(UnreadableVideo):
            config.build()
    half = sum(runs)
    dataset = config.build()
    assert sum(runs) == half + 5
    assert all(np.isfinite(array).all() for array in dataset.arrays)
    assert all(array.any(axis=(1, 2, 3, 4)).all() for array in dataset.arrays)


def interrupted(in_order):
    def broken(dataset, batch_size):
        yield next(in_order(dataset, batch_size))
        if batch_size > 1:
            raise UnreadableVideo("film", "gone")

    return broken


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e5])
def test_features_that_float16_cannot_hold_are_refused(config, monkeypatch, value):
    monkeypatch.setattr(video_vit.VideoViT, "forward", spoiled(video_vit.VideoViT.forward, value))
    with pytest.raises(ValueError, match="leave the range of float16"):
        config.build()
    assert not list(Path(config.folder).glob("*/config.json"))


def spoiled(forward, value):
    def broken(self, video, depths):
        features = forward(self, video, depths)
        features[0].grid[0, 0, 0, 0, 0] = value
        return features

    return broken


def test_progress_is_shown_on_a_terminal(config, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    config.build()
    assert "encode" in capsys.readouterr().err
