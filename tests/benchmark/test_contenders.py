"""Names on the command line become backbones with honest names."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fourd import provenance, weights
from fourd.backbones import video_vit, videomae
from fourd.benchmark.contenders import Contender, resolve
from fourd.types import BackboneConfig, ClipShape
from fourd.weights.starting import identity


def half_width() -> BackboneConfig:
    """Describe an encoder of somebody's own."""
    return video_vit.VideoViTConfig(16, 2, 2, 32, patch=(2, 8, 8), num_frames=4, size=(32, 32))


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    backbone = video_vit.tiny().build()
    backbone.init_weights(torch.Generator().manual_seed(3))
    path = tmp_path / "model=of-mine.safetensors"
    weights.save_module(backbone, path, json.dumps(provenance.describe(video_vit.tiny())))
    return path


def test_one_of_ours_has_random_weights_and_says_so():
    (found,) = resolve(["videomae:tiny"])
    assert (found.backbone, found.weights, found.is_random) == ("videomae:tiny", "random", True)
    assert found.config == videomae.tiny()
    assert found.num_parameters == sum(p.numel() for p in videomae.tiny().build().parameters())


def test_the_floor_needs_no_weights():
    (found,) = resolve(["mean_pixel:tiny"])
    assert (found.weights, found.is_random, found.num_parameters) == ("none", False, 0)


def test_a_file_is_named_by_what_it_holds_and_by_its_very_weights(trained: Path):
    (found,) = resolve([str(trained)])
    assert found.backbone == "video_vit:tiny"
    assert found.weights == f"pretrained {identity(trained)[:8]}"
    assert found.source == str(trained)


def test_a_label_renames_and_a_path_with_an_equals_sign_is_none(trained: Path):
    assert [c.backbone for c in resolve([f"mine={trained}", str(trained)])] == ["mine", "video_vit:tiny"]


def test_a_dotted_path_gives_a_config_of_ones_own():
    (found,) = resolve([f"{__name__}:half_width"])
    assert (found.backbone, found.weights) == ("half_width", "random")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["nothing-of-the-kind"], "not a published name .* such as videomae:base"),
        (["videomae:enormous"], "videomae has no size 'enormous'"),
        (["fourd.recipes.demo:demo"], "gives a StudyConfig; expected a BackboneConfig"),
        (["videomae:tiny", "videomae:tiny"], "several are called videomae:tiny random; give each its own name"),
        (["half=videomae:tiny", "half=vjepa2:tiny"], "several are called half random"),
    ],
)
def test_what_is_no_encoder_is_refused(asked: list[str], message: str):
    with pytest.raises(ValueError, match=message):
        resolve(asked)


def test_an_encoder_of_other_clips_is_fitted_and_says_so():
    (found,) = resolve(["videomae:tiny"])
    assert found.fitted_to(ClipShape(4, 64, 64)) == found
    fitted = found.fitted_to(ClipShape(8, 64, 64))
    assert not fitted.config.native_size
    assert "made for clips of 4 frames, measured on 8" in fitted.remarks[0]
    with torch.no_grad():
        backbone = fitted.config.build()
        backbone.init_weights(torch.Generator().manual_seed(0))
        (features,) = backbone(torch.zeros(1, 8, 3, 64, 64, dtype=torch.uint8), (1.0,))
    assert features.grid.shape[:4] == (1, 4, 4, 4)


def test_published_names_know_what_they_were_trained_on():
    from fourd.benchmark.contenders import _trained_on

    assert _trained_on(videomae, "videomae-base") == ("kinetics",)
    assert _trained_on(videomae, "videomae-base-ssv2") == ("ssv2",)
    assert _trained_on(video_vit, "4ds-e") == ()


def test_folders_of_contenders_are_plain_names():
    odd = Contender("my lab/enc:oder", "pretrained 1a2b", video_vit.tiny())
    assert odd.slug == "my-lab-enc-oder_pretrained-1a2b"
    assert replace(odd, weights="random").slug != odd.slug
