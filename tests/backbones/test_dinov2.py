"""DINOv2, with and without registers, against the rival's own code and its own image processor."""

import json
import logging

import numpy as np
import pytest
import torch
import transformers
from transformers.utils import logging as transformers_logging

from fourd import provenance
from fourd.backbones import dinov2
from fourd.types import ClipShape
from tests.backbones.rival_checkpoints import (
    DAMAGES,
    drop_array,
    edit_arrays,
    frame_errors,
    image_preprocessing,
    perturbed,
    write_checkpoint,
)
from tests.contracts.nouns import fill_with_nan, random_video

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SETTINGS = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 42, "patch_size": 14}
# As on the Hub: the table of positions is larger than the pictures, and a larger picture is cropped to their size.
PREPROCESSING = image_preprocessing((28, 28), MEAN, STD) | {
    **{"size": {"shortest_edge": 32}, "do_center_crop": True, "crop_size": {"height": 28, "width": 28}},
    "image_processor_type": "BitImageProcessor",
}
KINDS = {
    "plain": (transformers.Dinov2Model, {}),
    "gated": (transformers.Dinov2Model, {"use_swiglu_ffn": True}),
    "registers": (transformers.Dinov2WithRegistersModel, {"num_register_tokens": 3}),
}


@pytest.fixture(params=KINDS)
def rival(request, tmp_path):
    """The rival's own model, as it loads the checkpoint that the adapter loads."""
    kind, more = KINDS[request.param]
    model = perturbed(kind(kind.config_class(**SETTINGS, **more)))
    folder = write_checkpoint(tmp_path / "checkpoint", model, PREPROCESSING)
    return folder, kind.from_pretrained(folder).eval()


@pytest.fixture
def folder(tmp_path):
    model = perturbed(transformers.Dinov2Model(transformers.Dinov2Config(**SETTINGS)))
    return write_checkpoint(tmp_path / "checkpoint", model, PREPROCESSING)


@torch.no_grad()
@pytest.mark.parametrize("size", [(28, 28), (42, 42), (28, 70), (56, 42)])
def test_features_are_the_rivals_own(rival, size, record_property):
    folder, model = rival
    backbone = dinov2.from_checkpoint(folder, native_size=size == (28, 28))
    errors = frame_errors(backbone, model, random_video(2, ClipShape(3, *size)), (MEAN, STD))
    record_property("errors", errors)
    assert max(errors) < 1e-5


@torch.no_grad()
def test_the_final_norm_is_met_at_full_depth_alone(folder):
    backbone = dinov2.from_checkpoint(folder)
    video = random_video(1, ClipShape(2, 28, 28))
    last, before = backbone(video, (1.0, 2 / 3))
    backbone.final_norm.weight.zero_()
    last_without, before_without = backbone(video, (1.0, 2 / 3))
    assert torch.equal(before_without.grid, before.grid)
    assert not torch.equal(last_without.grid, last.grid)


@pytest.mark.parametrize(("resample", "size"), [(2, (60, 44)), (3, (60, 44)), (2, (20, 25)), (3, (20, 25))])
def test_resizing_is_that_of_the_image_processor(tmp_path, resample, size):
    """Whole frames, within one grey level of the 8-bit pictures that PIL makes.

    The noise keeps away from black and white, where PIL cuts a bicubic overshoot off after each of its two passes.
    """
    model = transformers.Dinov2Model(transformers.Dinov2Config(**SETTINGS))
    said = image_preprocessing((28, 42), MEAN, STD, resample)
    backbone = dinov2.from_checkpoint(write_checkpoint(tmp_path, model, said))
    video = 64 + random_video(1, ClipShape(2, *size)) // 2
    processor = transformers.BitImageProcessorPil(**said, do_center_crop=False)
    frames = [np.ascontiguousarray(frame.permute(1, 2, 0).numpy()) for frame in video[0]]
    expected = torch.from_numpy(np.stack(processor(frames, return_tensors="np")["pixel_values"]))
    grey_levels = (backbone.pixels(video)[0] - expected).abs() * torch.tensor(STD)[:, None, None] * 255
    assert grey_levels.max() < 1.5
    assert grey_levels.mean() < 0.5


def test_preprocessing_is_read_from_the_checkpoint(folder):
    config = dinov2.from_checkpoint(folder).config
    assert (config.size, config.mean, config.std, config.interpolation) == ((28, 28), MEAN, STD, "bicubic")
    said = image_preprocessing((42, 28), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), resample=2)
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    config = dinov2.from_checkpoint(folder).config
    assert (config.size, config.interpolation) == ((42, 28), "bilinear")
    assert (config.mean, config.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resample": None}, "resample is None"),
        ({"resample": 0}, "resample is 0"),
        ({"image_mean": None}, "image_mean is None; expected three numbers"),
        ({"image_std": [0.5]}, "image_std"),
        ({"rescale_factor": 1.0}, "rescaled by 1.0; expected rescale_factor 1/255"),
        ({"do_rescale": False}, "rescaled by None"),
        ({"do_center_crop": False, "size": {"longest_edge": 3}}, "size is {'longest_edge': 3}"),
    ],
)
def test_unclear_preprocessing_is_refused_by_field(folder, change, message):
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSING | change))
    with pytest.raises(ValueError, match=message) as error:
        dinov2.from_checkpoint(folder)
    assert str(folder / "preprocessor_config.json") in str(error.value)


def test_missing_preprocessing_is_named(folder):
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"preprocessor_config\.json.*download"):
        dinov2.from_checkpoint(folder)


@pytest.mark.parametrize("name", ["embeddings.register_tokens", "encoder.layer.1.norm1.weight", "layernorm.bias"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_one_wrong_array_is_refused_by_name(tmp_path, damage, name):
    model = perturbed(transformers.Dinov2WithRegistersModel(transformers.Dinov2WithRegistersConfig(**SETTINGS)))
    folder = write_checkpoint(tmp_path / "checkpoint", model, PREPROCESSING)
    edit_arrays(folder, lambda arrays: damage(arrays, name))
    with pytest.raises(ValueError, match=name):
        dinov2.from_checkpoint(folder)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    "name", ["encoder.layer.1.mlp.weights_in.weight", "encoder.layer.2.attention.attention.key.bias"]
)
def test_one_wrong_array_under_a_name_of_the_hub_is_refused(tmp_path, damage, name):
    """The Hub's arrays have older names, which the rival's code translates."""
    model = perturbed(transformers.Dinov2Model(transformers.Dinov2Config(**SETTINGS, use_swiglu_ffn=True)))
    folder = write_checkpoint(tmp_path / "checkpoint", model, PREPROCESSING)
    edit_arrays(folder, lambda arrays: damage(arrays, name))
    with pytest.raises(ValueError, match=name.rpartition(".")[0][:15]):
        dinov2.from_checkpoint(folder)


def test_a_file_cut_short_is_refused_by_name(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"cannot be read.*download") as error:
        dinov2.from_checkpoint(folder)
    assert str(folder) in str(error.value)


def test_an_array_too_many_is_refused(folder):
    edit_arrays(folder, lambda arrays: arrays.update(surplus=torch.zeros(2)))
    with pytest.raises(ValueError, match="1 unexpected: surplus"):
        dinov2.from_checkpoint(folder)


def test_everything_wrong_is_listed_at_once(folder):
    edit_arrays(folder, lambda arrays: [drop_array(arrays, f"encoder.layer.{i}.norm1.weight") for i in range(3)])
    with pytest.raises(ValueError, match=r"3 missing: encoder\.layer\.0.*encoder\.layer\.2") as error:
        dinov2.from_checkpoint(folder)
    assert str(folder) in str(error.value)


@torch.no_grad()
def test_half_precision(folder):
    backbone = dinov2.from_checkpoint(folder, torch.bfloat16)
    video = random_video(1, ClipShape(2, 30, 40))
    (half,) = backbone(video, (1.0,))
    (full,) = dinov2.from_checkpoint(folder)(video, (1.0,))
    assert half.grid.dtype == torch.bfloat16
    assert (half.grid - full.grid).abs().max() < 0.1 * full.grid.std()


@torch.no_grad()
def test_a_config_rebuilt_from_json_describes_the_same_model(rival):
    """What a run stores is enough to build the model anew and to fill it."""
    folder, _ = rival
    loaded = dinov2.from_checkpoint(folder)
    config = provenance.rebuild(json.loads(json.dumps(provenance.describe(loaded.config))))
    assert config == loaded.config
    rebuilt = config.build().eval()
    fill_with_nan(rebuilt)
    rebuilt.load_state_dict(loaded.state_dict(), strict=True)
    video = random_video(1, ClipShape(2, 30, 40))
    for one, other in zip(rebuilt(video, (0.5, 1.0)), loaded(video, (0.5, 1.0)), strict=True):
        assert torch.equal(one.grid, other.grid)


def test_loading_is_silent_and_leaves_the_users_logging_alone(folder, capfd):
    levels = []
    previous = transformers_logging.set_tqdm_hook(None)
    for level in (logging.INFO, logging.ERROR):
        transformers_logging.set_verbosity(level)
        dinov2.from_checkpoint(folder)
        levels.append(transformers_logging.get_verbosity())
    transformers_logging.set_verbosity_warning()
    assert levels == [logging.INFO, logging.ERROR]
    assert transformers_logging.is_progress_bar_enabled()
    assert transformers_logging.set_tqdm_hook(previous) is None
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("config", "num_parameters"),
    [
        (dinov2.small(), 22_056_576),
        (dinov2.base(), 86_580_480),
        (dinov2.large(), 304_368_640),
        (dinov2.giant(), 1_136_480_768),
        (dinov2.with_registers(dinov2.base()), 86_580_480 + 4 * 768),
    ],
)
def test_named_sizes_have_the_published_number_of_parameters(config, num_parameters):
    with torch.device("meta"):
        backbone = config.build()
    assert sum(parameter.numel() for parameter in backbone.parameters()) == num_parameters
    shape = backbone.feature_shape(ClipShape(5, 100, 200))
    assert (shape.t, shape.h, shape.w) == (5, 16, 16)


@pytest.mark.parametrize(
    ("config", "known"),
    [
        ({"model_type": "dinov2"}, True),
        ({"model_type": "dinov2_with_registers"}, True),
        ({"model_type": "dinov3_vit"}, False),
        ({}, False),
    ],
)
def test_its_checkpoints_are_told_apart(config, known):
    assert dinov2.recognises(config) is known
