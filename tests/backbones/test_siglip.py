"""SigLIP, and SigLIP 2 of fixed resolution, against the rival's own code and its own image processor."""

import json

import numpy as np
import pytest
import torch
import transformers

from fourd.backbones import siglip
from fourd.types import ClipShape
from tests.backbones.rival_checkpoints import (
    DAMAGES,
    edit_arrays,
    frame_errors,
    image_preprocessing,
    perturbed,
    write_checkpoint,
)
from tests.contracts.nouns import fill_with_nan, random_video

HALF = (0.5, 0.5, 0.5)
LAYERS = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
VISION = LAYERS | {"image_size": 32, "patch_size": 8}
TEXT = LAYERS | {"vocab_size": 10, "bos_token_id": 1, "eos_token_id": 2}
PREPROCESSING = image_preprocessing((32, 32), HALF, HALF)


def whole(folder, preprocessing=PREPROCESSING, **more):
    """A checkpoint as the Hub holds it, with a text tower."""
    config = transformers.SiglipConfig(vision_config=VISION | more, text_config=TEXT)
    return write_checkpoint(folder, perturbed(transformers.SiglipModel(config)), preprocessing)


def tower(folder, preprocessing=PREPROCESSING, **more):
    """A checkpoint of the vision tower alone."""
    config = transformers.SiglipVisionConfig(**VISION | more)
    return write_checkpoint(folder, perturbed(transformers.SiglipVisionModel(config)), preprocessing)


def rival_of(folder):
    """The rival's own vision tower, as its own code loads it, pooling head and all."""
    return transformers.SiglipVisionModel.from_pretrained(folder).eval()


FORMS = pytest.mark.parametrize(("form", "prefix"), [(whole, "vision_model."), (tower, "")], ids=["whole", "tower"])


@torch.no_grad()
@pytest.mark.parametrize("size", [(32, 32), (48, 48), (32, 72), (64, 16)])
@FORMS
def test_features_are_the_rivals_own(tmp_path, form, prefix, size, record_property):
    folder = form(tmp_path)
    backbone = siglip.from_checkpoint(folder, native_size=size == (32, 32))
    options = {} if size == (32, 32) else {"interpolate_pos_encoding": True}
    errors = frame_errors(backbone, rival_of(folder), random_video(2, ClipShape(3, *size)), (HALF, HALF), **options)
    record_property("errors", errors)
    assert max(errors) < 1e-5


@torch.no_grad()
def test_a_size_that_is_no_multiple_of_the_patch_gives_the_rivals_grid(tmp_path):
    """As at patch 14 and 384 pixels: the rival's tower sees whole patches, so the frame is resized to those."""
    folder = tower(tmp_path, image_preprocessing((35, 35), HALF, HALF), image_size=35)
    backbone, rival = siglip.from_checkpoint(folder), rival_of(folder)
    assert backbone.native_input.size == (32, 32)
    assert max(frame_errors(backbone, rival, random_video(1, ClipShape(2, 32, 32)), (HALF, HALF))) < 1e-5
    seen = rival(torch.rand(1, 3, 35, 35)).last_hidden_state
    shape = backbone.feature_shape(ClipShape(1, 35, 35))
    assert seen.shape[1:] == (shape.num_tokens, shape.width)


@FORMS
def test_the_pooling_head_and_the_text_tower_are_not_kept(tmp_path, form, prefix):
    backbone = siglip.from_checkpoint(form(tmp_path))
    names = {name for name, _ in backbone.named_parameters()}
    assert {name.partition(".")[0] for name in names} == {"blocks", "final_norm", "embeddings"}
    with torch.device("meta"):
        rival = transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**VISION, vision_use_head=False))
    assert len(names) == len(list(rival.parameters()))
    assert not any("head" in name for name in names)


@FORMS
@pytest.mark.parametrize(
    "name", ["embeddings.position_embedding.weight", "encoder.layers.1.self_attn.q_proj.bias", "post_layernorm.weight"]
)
@pytest.mark.parametrize("damage", DAMAGES)
def test_one_wrong_array_is_refused_by_name(tmp_path, form, prefix, damage, name):
    folder = edit_arrays(form(tmp_path), lambda arrays: damage(arrays, prefix + name))
    with pytest.raises(ValueError, match=name):
        siglip.from_checkpoint(folder)


@pytest.mark.parametrize("name", ["vision_model.head.probe", "text_model.head.weight", "logit_scale"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_left_out_is_not_asked_for(tmp_path, damage, name):
    folder = edit_arrays(whole(tmp_path), lambda arrays: damage(arrays, name))
    assert not siglip.from_checkpoint(folder).config.settings.count(("vision_use_head", True))


@FORMS
def test_an_array_too_many_is_refused(tmp_path, form, prefix):
    more = {prefix + "encoder.layers.3.layer_norm1.bias": torch.zeros(32)}
    folder = edit_arrays(form(tmp_path), lambda arrays: arrays.update(more))
    with pytest.raises(ValueError, match=r"1 unexpected: .*encoder\.layers\.3\.layer_norm1\.bias"):
        siglip.from_checkpoint(folder)


@pytest.mark.parametrize(("resample", "size"), [(2, (60, 44)), (3, (60, 44)), (2, (20, 25)), (3, (20, 25))])
def test_resizing_is_that_of_the_image_processor(tmp_path, resample, size):
    """SigLIP's pictures were resized bicubically, those of SigLIP 2 bilinearly: the checkpoint says which.

    The noise keeps away from black and white, where PIL cuts a bicubic overshoot off after each of its two passes.
    """
    said = image_preprocessing((32, 32), HALF, HALF, resample)
    backbone = siglip.from_checkpoint(tower(tmp_path, said))
    video = 64 + random_video(1, ClipShape(2, *size)) // 2
    frames = [np.ascontiguousarray(frame.permute(1, 2, 0).numpy()) for frame in video[0]]
    seen = transformers.SiglipImageProcessorPil(**said)(frames, return_tensors="np")["pixel_values"]
    grey_levels = (backbone.pixels(video)[0] - torch.from_numpy(np.stack(seen))).abs() * 0.5 * 255
    assert grey_levels.max() < 1.5
    assert grey_levels.mean() < 0.5


@pytest.mark.parametrize("kind", ["siglip2", "siglip2_vision_model"])
def test_variable_resolution_is_refused_with_the_checkpoint_to_take_instead(tmp_path, kind):
    settings = LAYERS | {"num_patches": 16, "patch_size": 8}
    model = transformers.Siglip2VisionModel(transformers.Siglip2VisionConfig(**settings))
    folder = write_checkpoint(tmp_path, model, PREPROCESSING)
    described = json.loads((folder / "config.json").read_text()) | {"model_type": kind}
    (folder / "config.json").write_text(json.dumps(described))
    assert siglip.recognises(described)
    with pytest.raises(ValueError, match=r"NaFlex.*google/siglip2-base-patch16-224.*siglip2-so400m-patch16-256"):
        siglip.from_checkpoint(folder)


@torch.no_grad()
@pytest.mark.parametrize("native_size", [True, False])
def test_half_precision(tmp_path, native_size):
    folder = whole(tmp_path)
    video = random_video(1, ClipShape(2, 48, 40))
    (half,) = siglip.from_checkpoint(folder, torch.bfloat16, native_size)(video, (1.0,))
    (full,) = siglip.from_checkpoint(folder, native_size=native_size)(video, (1.0,))
    assert half.grid.dtype == torch.bfloat16
    assert (half.grid - full.grid).abs().max() < 0.1 * full.grid.std()


def test_init_weights_numbers_the_positions():
    """The rival looks positions up by a buffer of whole numbers, which is filled as the parameters are."""
    backbone = siglip.tiny().build()
    fill_with_nan(backbone)
    backbone.init_weights(torch.Generator().manual_seed(0))
    assert backbone.embeddings.position_ids.tolist() == [list(range(16))]
    assert "embeddings.position_ids" in backbone.state_dict()


@torch.no_grad()
def test_a_model_without_memory_is_whole_once_filled(tmp_path):
    loaded = siglip.from_checkpoint(whole(tmp_path))
    with torch.device("meta"):
        empty = loaded.config.build().eval()
    empty.load_state_dict(loaded.state_dict(), assign=True)
    video = random_video(1, ClipShape(2, 40, 30))
    for one, other in zip(empty(video, (0.5, 1.0)), loaded(video, (0.5, 1.0)), strict=True):
        assert torch.equal(one.grid, other.grid)


@pytest.mark.parametrize(
    ("config", "num_parameters", "grid"),
    [
        (siglip.base(), 85_797_120, 14),
        (siglip.large(), 303_361_024, 16),
        (siglip.so400m(), 412_442_352, 16),
        (siglip.giant(), 1_134_838_272, 16),
        (siglip.siglip2(siglip.base()), 85_797_120, 14),
    ],
)
def test_named_sizes(config, num_parameters, grid):
    with torch.device("meta"):
        backbone = config.build()
    assert sum(parameter.numel() for parameter in backbone.parameters()) == num_parameters
    shape = backbone.feature_shape(ClipShape(5, 100, 200))
    assert (shape.t, shape.h, shape.w) == (5, grid, grid)


@pytest.mark.parametrize(
    ("config", "known"),
    [
        ({"model_type": "siglip"}, True),
        ({"model_type": "siglip_vision_model"}, True),
        ({"model_type": "siglip_text_model"}, False),
        ({}, False),
    ],
)
def test_its_checkpoints_are_told_apart(config, known):
    assert siglip.recognises(config) is known
