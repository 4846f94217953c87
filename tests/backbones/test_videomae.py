"""VideoMAE, self-supervised and finetuned, against the rival's own code."""

import json
from dataclasses import replace

import pytest
import torch
import transformers

from fourd import provenance
from fourd.backbones import videomae
from fourd.tokens import resample_positions
from fourd.types import ClipShape, NativeInput
from tests.backbones.rival_checkpoints import (
    DAMAGES,
    RESCALE,
    edit_arrays,
    normalised,
    perturbed,
    relative_error,
    write_checkpoint,
)
from tests.contracts.nouns import fill_with_nan, random_video

MEAN, STD = (0.48, 0.46, 0.41), (0.23, 0.22, 0.24)
SETTINGS = {
    **{"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48},
    **{"image_size": 32, "patch_size": 8, "num_frames": 4, "tubelet_size": 2},
    **{"decoder_hidden_size": 16, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2},
    "decoder_intermediate_size": 24,
}
PREPROCESSING = {
    **{"do_resize": True, "do_center_crop": True, "do_rescale": True, "do_normalize": True},
    **{"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}, "resample": 2},
    **{"image_mean": list(MEAN), "image_std": list(STD), "rescale_factor": RESCALE},
    "image_processor_type": "VideoMAEImageProcessor",
}
KINDS = {
    "self-supervised": (transformers.VideoMAEForPreTraining, {"use_mean_pooling": False}),
    "finetuned": (transformers.VideoMAEForVideoClassification, {"use_mean_pooling": True, "num_labels": 5}),
    "bare": (transformers.VideoMAEModel, {"use_mean_pooling": False}),
}
NATIVE = ClipShape(4, 32, 32)
Q_BIAS = "videomae.encoder.layer.1.attention.attention.q_bias"


def write(folder, kind="self-supervised"):
    model, more = KINDS[kind]
    return write_checkpoint(folder, perturbed(model(transformers.VideoMAEConfig(**SETTINGS, **more))), PREPROCESSING)


@pytest.fixture(params=KINDS)
def rival(request, tmp_path):
    """The rival's own model, as it loads the checkpoint that the adapter loads."""
    folder = write(tmp_path / "checkpoint", request.param)
    return folder, KINDS[request.param][0].from_pretrained(folder).eval()


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "checkpoint")


def outputs_of(model, pixels):
    """Run the rival's own code: the tokens after each block, and those after the norm that it ends with."""
    encoder = getattr(model, "videomae", model)
    said = encoder(pixels, output_hidden_states=True)
    final = model.fc_norm(said.last_hidden_state) if encoder.layernorm is None else said.last_hidden_state
    return [*said.hidden_states[1:3], final]


def errors_of(backbone, expected, video):
    found = backbone(video, (1 / 3, 2 / 3, 1.0))
    return [relative_error(one.grid.flatten(1, 3), other) for one, other in zip(found, expected, strict=True)]


@torch.no_grad()
@pytest.mark.parametrize("native_size", [True, False])
def test_features_are_the_rivals_own(rival, native_size):
    folder, model = rival
    video = random_video(2, NATIVE)
    backbone = videomae.from_checkpoint(folder, native_size=native_size)
    errors = errors_of(backbone, outputs_of(model, normalised(video, MEAN, STD)), video)
    assert max(errors) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("clip", [ClipShape(8, 32, 32), ClipShape(2, 48, 48), ClipShape(6, 24, 64)])
def test_other_clips_meet_the_rivals_table_resampled(rival, clip):
    """The rival has a table for one grid alone: a rival of the other size, given the resampled table, must agree."""
    folder, model = rival
    size = {"image_size": [clip.height, clip.width], "num_frames": clip.num_frames}
    other = type(model)(transformers.VideoMAEConfig(**(model.config.to_dict() | size))).eval()
    other.load_state_dict(model.state_dict())
    grid = (clip.num_frames // 2, clip.height // 8, clip.width // 8)
    native, larger = (getattr(kind, "videomae", kind).embeddings for kind in (model, other))
    larger.position_embeddings = resample_positions(native.position_embeddings[0], (2, 4, 4), grid)[None]
    video = random_video(2, clip)
    backbone = videomae.from_checkpoint(folder, native_size=False)
    assert backbone.native_input.grid(clip) == grid
    errors = errors_of(backbone, outputs_of(other, normalised(video, MEAN, STD)), video)
    assert max(errors) < 1e-5


def test_other_lengths_are_refused_by_default(folder):
    backbone = videomae.from_checkpoint(folder)
    with pytest.raises(ValueError, match="8 frames; this backbone takes 4"):
        backbone(random_video(1, ClipShape(8, 32, 32)), (1.0,))


@torch.no_grad()
@pytest.mark.parametrize("moved", [False, True])
def test_half_precision_is_the_rivals_own(rival, moved):
    """Both when loaded and when moved there later, with the table of positions that is no parameter of the rival."""
    folder, model = rival
    loaded = videomae.from_checkpoint(folder, torch.float32 if moved else torch.bfloat16)
    video = random_video(1, NATIVE)
    expected = outputs_of(model.to(torch.bfloat16), normalised(video, MEAN, STD).to(torch.bfloat16))
    found = loaded.to(torch.bfloat16)(video, (1 / 3, 2 / 3, 1.0))
    for one, other in zip(found, expected, strict=True):
        assert one.grid.dtype == torch.bfloat16
        assert torch.equal(one.grid.flatten(1, 3), other)


@torch.no_grad()
def test_half_precision_takes_other_clips(folder):
    video = random_video(1, ClipShape(6, 24, 64))
    (half,) = videomae.from_checkpoint(folder, torch.bfloat16, native_size=False)(video, (1.0,))
    (full,) = videomae.from_checkpoint(folder, native_size=False)(video, (1.0,))
    assert (half.grid - full.grid).abs().max() < 0.1 * full.grid.std()


def test_preprocessing_is_read_from_the_checkpoint(folder):
    backbone = videomae.from_checkpoint(folder)
    assert backbone.native_input == NativeInput(4, (32, 32), (2, 8, 8), "bilinear", True)
    assert (backbone.config.mean, backbone.config.std) == (MEAN, STD)
    old = {"size": 32, "resample": 3, "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(old))
    config = videomae.from_checkpoint(folder).config
    assert (config.size, config.interpolation, config.mean[0], config.std[0]) == ((32, 32), "bicubic", 0.5, 0.25)


def test_preprocessing_for_another_size_is_refused(folder):
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSING | {"crop_size": 40}))
    with pytest.raises(ValueError, match=r"pictures of \(40, 40\), but config.json says \(32, 32\)"):
        videomae.from_checkpoint(folder)


@pytest.mark.parametrize(
    ("name", "reported"),
    [
        (Q_BIAS, "encoder.layer.1.attention.attention.query.bias"),
        ("videomae.encoder.layer.2.attention.attention.v_bias", "encoder.layer.2.attention.attention.value.bias"),
        ("videomae.encoder.layer.0.attention.attention.key.weight", "encoder.layer.0.attention.attention.key.weight"),
        ("videomae.embeddings.patch_embeddings.projection.bias", "embeddings.patch_embeddings.projection.bias"),
        ("videomae.layernorm.weight", "layernorm.weight"),
    ],
)
@pytest.mark.parametrize("damage", DAMAGES)
def test_one_wrong_array_is_refused_by_name(folder, damage, name, reported):
    edit_arrays(folder, lambda arrays: damage(arrays, name))
    with pytest.raises(ValueError, match=reported):
        videomae.from_checkpoint(folder)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_wrong_norm_of_a_finetuned_head_is_refused(tmp_path, damage):
    folder = write(tmp_path / "checkpoint", "finetuned")
    edit_arrays(folder, lambda arrays: damage(arrays, "fc_norm.bias"))
    with pytest.raises(ValueError, match=r"fc_norm\.bias"):
        videomae.from_checkpoint(folder)


def test_a_finetuned_encoder_without_its_head_is_refused(tmp_path):
    model = perturbed(transformers.VideoMAEModel(transformers.VideoMAEConfig(**SETTINGS, use_mean_pooling=True)))
    folder = write_checkpoint(tmp_path / "checkpoint", model, PREPROCESSING)
    with pytest.raises(ValueError, match=r"2 missing: fc_norm\.bias; fc_norm\.weight"):
        videomae.from_checkpoint(folder)


def test_positions_move_and_are_saved_with_the_model(folder):
    backbone = videomae.from_checkpoint(folder)
    assert torch.equal(backbone.state_dict()["positions"], backbone.positions)
    assert backbone.positions.dtype == torch.float32
    assert backbone.to("meta").positions.is_meta


@torch.no_grad()
@pytest.mark.parametrize("kind", ["self-supervised", "finetuned"])
def test_decoder_and_classifier_are_not_asked_for(tmp_path, kind):
    folder = write(tmp_path / "checkpoint", kind)
    video = random_video(1, NATIVE)
    (before,) = videomae.from_checkpoint(folder)(video, (1.0,))
    edit_arrays(folder, lambda arrays: [arrays.pop(n) for n in list(arrays) if not n.startswith(("videomae.", "fc_"))])
    backbone = videomae.from_checkpoint(folder)
    assert torch.equal(backbone(video, (1.0,))[0].grid, before.grid)
    assert not [name for name in backbone.state_dict() if "decoder" in name or "classifier" in name]


@torch.no_grad()
def test_biases_under_either_name_are_the_same(folder):
    """Published checkpoints say q_bias, and so does what the library saves; its own modules say query.bias."""
    video = random_video(1, NATIVE)
    (before,) = videomae.from_checkpoint(folder)(video, (1.0,))

    def rename(arrays):
        for name in [name for name in arrays if "attention.q_bias" in name or "attention.v_bias" in name]:
            renamed = name.replace("q_bias", "query.bias").replace("v_bias", "value.bias")
            arrays[renamed] = arrays.pop(name)
        assert Q_BIAS.replace("q_bias", "query.bias") in arrays

    edit_arrays(folder, rename)
    assert torch.equal(videomae.from_checkpoint(folder)(video, (1.0,))[0].grid, before.grid)


def test_an_unknown_prefix_is_refused(folder):
    edit_arrays(folder, lambda arrays: [arrays.update({f"model.{n}": arrays.pop(n)}) for n in list(arrays)])
    with pytest.raises(ValueError, match=r"missing: embeddings\.patch_embeddings") as error:
        videomae.from_checkpoint(folder)
    assert "unexpected: model." in str(error.value)


@torch.no_grad()
def test_a_config_rebuilt_from_json_describes_the_same_model(rival):
    folder, _ = rival
    loaded = videomae.from_checkpoint(folder, native_size=False)
    config = provenance.rebuild(json.loads(json.dumps(provenance.describe(loaded.config))))
    assert config == loaded.config
    rebuilt = config.build().eval()
    fill_with_nan(rebuilt)
    rebuilt.load_state_dict(loaded.state_dict(), strict=True)
    video = random_video(1, ClipShape(6, 24, 64))
    for one, other in zip(rebuilt(video, (0.5, 1.0)), loaded(video, (0.5, 1.0)), strict=True):
        assert torch.equal(one.grid, other.grid)


@pytest.mark.parametrize(
    ("config", "num_parameters"),
    [(videomae.base(), 86_227_200), (videomae.large(), 303_860_736), (videomae.huge(), 631_607_040)],
)
def test_named_sizes_have_their_number_of_parameters(config, num_parameters):
    """Counted with a small table of positions, which is no parameter and takes seconds to fill."""
    assert config.size == (224, 224)
    small = replace(config, settings=(*config.settings, ("image_size", 16), ("num_frames", 2)), size=(16, 16))
    with torch.device("meta"):
        backbone = small.build()
    assert sum(parameter.numel() for parameter in backbone.parameters()) == num_parameters


@pytest.mark.parametrize(("kind", "known"), [("videomae", True), ("VideoMAEv2_Base", False), (None, False)])
def test_its_checkpoints_are_told_apart(kind, known):
    assert videomae.recognises({"model_type": kind}) is known
