"""DINOv3 against the rival's own code; its image processor resizes in floating point, as PIL does in mode F."""

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from fourd.backbones import dinov3
from fourd.types import ClipShape
from tests.backbones.rival_checkpoints import (
    DAMAGES,
    edit_arrays,
    frame_errors,
    image_preprocessing,
    normalised,
    perturbed,
    write_checkpoint,
)
from tests.contracts.nouns import random_video

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SETTINGS = {
    **{"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48},
    **{"image_size": 32, "patch_size": 16, "num_register_tokens": 4},
}
# As on the Hub, where what does not apply is null.
PREPROCESSING = image_preprocessing((32, 32), MEAN, STD, resample=2) | {
    **{"crop_size": None, "do_center_crop": None, "do_convert_rgb": None, "data_format": "channels_first"},
    "image_processor_type": "DINOv3ViTImageProcessorFast",
}
KINDS = {
    "plain": {},
    "gated": {"use_gated_mlp": True, "hidden_act": "silu", "query_bias": False, "value_bias": False},
    "key bias, no registers": {"key_bias": True, "num_register_tokens": 0},
}


def written(folder, **more):
    model = perturbed(transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**SETTINGS | more)))
    return write_checkpoint(folder, model, PREPROCESSING)


@torch.no_grad()
@pytest.mark.parametrize("size", [(32, 32), (48, 48), (32, 80), (64, 16)])
@pytest.mark.parametrize("kind", KINDS)
def test_features_are_the_rivals_own(tmp_path, kind, size, record_property):
    folder = written(tmp_path, **KINDS[kind])
    model = transformers.DINOv3ViTModel.from_pretrained(folder).eval()
    backbone = dinov3.from_checkpoint(folder, native_size=size == (32, 32))
    errors = frame_errors(backbone, model, random_video(2, ClipShape(3, *size)), (MEAN, STD))
    record_property("errors", errors)
    assert max(errors) < 1e-5


@pytest.mark.parametrize("size", [(70, 53), (20, 25)])
def test_frames_are_resized_and_normalised_as_the_rival_does(tmp_path, size):
    """Rescaled, resized with antialiasing in floating point, normalised, in this order."""
    video = random_video(1, ClipShape(2, *size))
    backbone = dinov3.from_checkpoint(written(tmp_path))
    planes = [Image.fromarray(plane.float().numpy()) for plane in video[0].flatten(0, 1)]
    resized = np.stack([np.asarray(plane.resize((32, 32), Image.Resampling.BILINEAR)) for plane in planes])
    expected = normalised(torch.from_numpy(resized).reshape(1, 2, 3, 32, 32), MEAN, STD)
    torch.testing.assert_close(backbone.pixels(video), expected, atol=1e-5, rtol=0)


def test_preprocessing_is_read_from_the_checkpoint(tmp_path):
    config = dinov3.from_checkpoint(written(tmp_path)).config
    assert (config.size, config.mean, config.std, config.interpolation) == ((32, 32), MEAN, STD, "bilinear")


@pytest.mark.parametrize("name", ["embeddings.cls_token", "layer.1.attention.k_proj.weight", "norm.bias"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_one_wrong_array_is_refused_by_name(tmp_path, damage, name):
    folder = edit_arrays(written(tmp_path), lambda arrays: damage(arrays, name))
    with pytest.raises(ValueError, match=name):
        dinov3.from_checkpoint(folder)


def test_a_bias_that_the_settings_deny_is_refused(tmp_path):
    folder = written(tmp_path)
    edit_arrays(folder, lambda arrays: arrays.update({"layer.0.attention.k_proj.bias": torch.zeros(32)}))
    with pytest.raises(ValueError, match=r"1 unexpected: .*layer\.0\.attention\.k_proj\.bias"):
        dinov3.from_checkpoint(folder)


@torch.no_grad()
def test_half_precision(tmp_path):
    folder = written(tmp_path)
    backbone = dinov3.from_checkpoint(folder, torch.bfloat16)
    assert backbone.rope_embeddings.inv_freq.dtype == torch.float32, "angles need more than bfloat16 holds"
    video = random_video(1, ClipShape(2, 40, 30))
    (half,) = backbone(video, (1.0,))
    (full,) = dinov3.from_checkpoint(folder)(video, (1.0,))
    assert half.grid.dtype == torch.bfloat16
    assert (half.grid - full.grid).abs().max() < 0.1 * full.grid.std()


@torch.no_grad()
def test_the_state_holds_the_frequencies(tmp_path):
    """A model made without memory and filled from a state is whole: the rival itself would not save them."""
    loaded = dinov3.from_checkpoint(written(tmp_path))
    with torch.device("meta"):
        empty = loaded.config.build().eval()
    assert {name for name, _ in empty.named_buffers()} <= set(empty.state_dict())
    empty.load_state_dict(loaded.state_dict(), assign=True)
    video = random_video(1, ClipShape(2, 40, 30))
    for one, other in zip(empty(video, (0.5, 1.0)), loaded(video, (0.5, 1.0)), strict=True):
        assert torch.equal(one.grid, other.grid)


@pytest.mark.parametrize(
    ("config", "num_parameters"),
    [
        (dinov3.small(), 21_596_544),
        (dinov3.small_plus(), 28_692_864),
        (dinov3.base(), 85_660_416),
        (dinov3.large(), 303_129_600),
        (dinov3.huge_plus(), 840_592_640),
        (dinov3.size_7b(), 6_716_035_072),
    ],
)
def test_named_sizes_have_the_published_number_of_parameters(config, num_parameters):
    with torch.device("meta"):
        backbone = config.build()
    assert sum(parameter.numel() for parameter in backbone.parameters()) == num_parameters
    shape = backbone.feature_shape(ClipShape(5, 100, 200))
    assert (shape.t, shape.h, shape.w) == (5, 14, 14)


@pytest.mark.parametrize(
    ("config", "known"),
    [({"model_type": "dinov3_vit"}, True), ({"model_type": "dinov3_convnext"}, False), ({}, False)],
)
def test_its_checkpoints_are_told_apart(config, known):
    assert dinov3.recognises(config) is known
