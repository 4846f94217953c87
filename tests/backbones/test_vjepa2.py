"""V-JEPA 2 against the rival's own code, at its own grid and, with the tokens' places spelled out, at others."""

import copy
import json

import pytest
import torch
import transformers

from fourd import provenance
from fourd.backbones import vjepa2
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
    # a head is 26 wide: 8 numbers turn with each of frame, row and column, 2 with none
    **{"hidden_size": 52, "num_hidden_layers": 3, "num_attention_heads": 2, "mlp_ratio": 2.5},
    **{"crop_size": 32, "patch_size": 8, "frames_per_clip": 4, "tubelet_size": 2, "num_pooler_layers": 1},
    **{"pred_hidden_size": 16, "pred_num_hidden_layers": 1, "pred_num_attention_heads": 2},
}
PREPROCESSING = {
    **{"do_resize": True, "do_center_crop": True, "do_rescale": True, "do_normalize": True},
    **{"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}, "resample": 2},
    **{"image_mean": list(MEAN), "image_std": list(STD), "rescale_factor": RESCALE},
    "video_processor_type": "VJEPA2VideoProcessor",
}
KINDS = {"bare": transformers.VJEPA2Model, "with a head": transformers.VJEPA2ForVideoClassification}
NATIVE = ClipShape(4, 32, 32)
DEPTHS = (1 / 3, 2 / 3, 1.0)


def write(folder, kind="bare"):
    model = perturbed(KINDS[kind](transformers.VJEPA2Config(**SETTINGS)))
    return write_checkpoint(folder, model, PREPROCESSING, "video_preprocessor_config.json")


@pytest.fixture(params=KINDS)
def rival(request, tmp_path):
    """The rival's own model, as it loads the checkpoint that the adapter loads."""
    folder = write(tmp_path / "checkpoint", request.param)
    model = KINDS[request.param].from_pretrained(folder).eval()
    return folder, getattr(model, "vjepa2", model)


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "checkpoint")


def outputs_of(model, pixels):
    """Run the rival's own code: the tokens after each block but the last, and its features."""
    said = model(pixels, skip_predictor=True, output_hidden_states=True)
    return [*said.hidden_states[1:3], model.get_vision_features(pixels)]


def errors_of(backbone, expected, video):
    found = backbone(video, DEPTHS)
    return [relative_error(one.grid.flatten(1, 3), other) for one, other in zip(found, expected, strict=True)]


@torch.no_grad()
@pytest.mark.parametrize("num_frames", [4, 2, 8, 14])
def test_features_are_the_rivals_own(rival, num_frames):
    folder, model = rival
    video = random_video(2, ClipShape(num_frames, 32, 32))
    backbone = vjepa2.from_checkpoint(folder, native_size=num_frames == 4)
    errors = errors_of(backbone, outputs_of(model, normalised(video, MEAN, STD)), video)
    assert max(errors) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("side", [16, 48])
def test_another_square_is_that_of_a_rival_made_for_it(rival, side):
    folder, model = rival
    other = transformers.VJEPA2Model(transformers.VJEPA2Config(**(SETTINGS | {"crop_size": side}))).eval()
    other.load_state_dict(model.state_dict())
    video = random_video(2, ClipShape(6, side, side))
    backbone = vjepa2.from_checkpoint(folder, native_size=False)
    errors = errors_of(backbone, outputs_of(other, normalised(video, MEAN, STD)), video)
    assert max(errors) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(32, 48), (48, 32), (16, 64), (24, 24), (40, 56)])
def test_tokens_of_any_picture_have_their_own_frame_row_and_column(rival, height, width):
    """The rival's blocks, told with its mask of positions which tokens of a larger square these are, must agree.

    Left to itself the rival takes them for tokens of other frames and rows.
    """
    folder, model = rival
    side = 8
    square = transformers.VJEPA2Model(transformers.VJEPA2Config(**(SETTINGS | {"crop_size": 8 * side}))).eval()
    square.load_state_dict(model.state_dict())
    video = random_video(2, ClipShape(6, height, width))
    pixels = normalised(video, MEAN, STD)
    t, h, w = 3, height // 8, width // 8
    numbers = [f * side * side + row * side + column for f in range(t) for row in range(h) for column in range(w)]
    tokens, expected = square.encoder.embeddings(pixels), []
    for layer in square.encoder.layer:
        tokens = layer(tokens, torch.tensor([numbers, numbers]))[0]
        expected.append(tokens)
    expected[-1] = square.encoder.layernorm(tokens)
    backbone = vjepa2.from_checkpoint(folder, native_size=False)
    errors = errors_of(backbone, expected, video)
    assert max(errors) < 1e-5
    assert max(errors_of(backbone, outputs_of(model, pixels), video)) > 1e-2


def test_other_lengths_are_refused_by_default(folder):
    backbone = vjepa2.from_checkpoint(folder)
    with pytest.raises(ValueError, match="8 frames; this backbone takes 4"):
        backbone(random_video(1, ClipShape(8, 32, 32)), (1.0,))


@torch.no_grad()
@pytest.mark.parametrize("moved", [False, True])
def test_half_precision_is_the_rivals_own(rival, moved):
    folder, model = rival
    loaded = vjepa2.from_checkpoint(folder, torch.float32 if moved else torch.bfloat16)
    video = random_video(1, NATIVE)
    expected = outputs_of(model.to(torch.bfloat16), normalised(video, MEAN, STD).to(torch.bfloat16))
    for one, other in zip(loaded.to(torch.bfloat16)(video, DEPTHS), expected, strict=True):
        assert one.grid.dtype == torch.bfloat16
        assert torch.equal(one.grid.flatten(1, 3), other)


def test_preprocessing_is_read_from_the_checkpoint(folder):
    backbone = vjepa2.from_checkpoint(folder)
    assert backbone.native_input == NativeInput(4, (32, 32), (2, 8, 8), "bilinear", True)
    assert (backbone.config.mean, backbone.config.std) == (MEAN, STD)
    said = PREPROCESSING | {"crop_size": 32, "resample": 3, "image_mean": [0.5, 0.4, 0.3]}
    (folder / "video_preprocessor_config.json").write_text(json.dumps(said))
    config = vjepa2.from_checkpoint(folder).config
    assert (config.size, config.interpolation, config.mean) == ((32, 32), "bicubic", (0.5, 0.4, 0.3))


def test_preprocessing_for_another_size_is_refused(folder):
    (folder / "video_preprocessor_config.json").write_text(json.dumps(PREPROCESSING | {"crop_size": 48}))
    with pytest.raises(ValueError, match=r"pictures of \(48, 48\), but config.json says \(32, 32\)"):
        vjepa2.from_checkpoint(folder)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name",
    [
        "encoder.embeddings.patch_embeddings.proj.weight",
        "encoder.layer.1.attention.query.bias",
        "encoder.layer.2.norm2.weight",
        "encoder.layernorm.bias",
    ],
)
@pytest.mark.parametrize("damage", DAMAGES)
def test_one_wrong_array_is_refused_by_name(tmp_path, damage, name, kind):
    folder = write(tmp_path / "checkpoint", kind)
    edit_arrays(folder, lambda arrays: damage(arrays, name if kind == "bare" else f"vjepa2.{name}"))
    with pytest.raises(ValueError, match=name):
        vjepa2.from_checkpoint(folder)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_predictor_and_head_are_neither_asked_for_nor_kept(tmp_path, kind):
    folder = write(tmp_path / "checkpoint", kind)
    video = random_video(1, NATIVE)
    (before,) = vjepa2.from_checkpoint(folder)(video, (1.0,))
    edit_arrays(folder, lambda arrays: [arrays.pop(name) for name in list(arrays) if "encoder." not in name])
    backbone = vjepa2.from_checkpoint(folder)
    assert torch.equal(backbone(video, (1.0,))[0].grid, before.grid)
    named = ("embeddings.", "blocks.", "final_norm.")
    assert all(name.startswith(named) for name in backbone.state_dict())


def test_an_unknown_prefix_is_refused(folder):
    edit_arrays(folder, lambda arrays: [arrays.update({f"model.{n}": arrays.pop(n)}) for n in list(arrays)])
    with pytest.raises(ValueError, match=r"missing: encoder\.embeddings\.patch_embeddings") as error:
        vjepa2.from_checkpoint(folder)
    assert "unexpected: model." in str(error.value)


@torch.no_grad()
def test_a_config_rebuilt_from_json_describes_the_same_model(rival):
    folder, _ = rival
    loaded = vjepa2.from_checkpoint(folder, native_size=False)
    config = provenance.rebuild(json.loads(json.dumps(provenance.describe(loaded.config))))
    assert config == loaded.config
    rebuilt = config.build().eval()
    fill_with_nan(rebuilt)
    rebuilt.load_state_dict(loaded.state_dict(), strict=True)
    video = random_video(1, ClipShape(6, 24, 48))
    for one, other in zip(rebuilt(video, DEPTHS), loaded(video, DEPTHS), strict=True):
        assert torch.equal(one.grid, other.grid)


@torch.no_grad()
def test_a_copy_has_the_same_places(folder):
    backbone = vjepa2.from_checkpoint(folder, native_size=False)
    video = random_video(1, ClipShape(6, 24, 48))
    for one, other in zip(copy.deepcopy(backbone)(video, DEPTHS), backbone(video, DEPTHS), strict=True):
        assert torch.equal(one.grid, other.grid)


@pytest.mark.parametrize(
    ("config", "num_parameters"),
    [(vjepa2.large(), 303_885_312), (vjepa2.huge(), 631_648_000), (vjepa2.giant(), 1_012_173_952)],
)
def test_named_sizes_have_their_number_of_parameters(config, num_parameters):
    with torch.device("meta"):
        backbone = config.build()
    assert sum(parameter.numel() for parameter in backbone.parameters()) == num_parameters
    shape = backbone.feature_shape(ClipShape(64, 100, 200))
    assert (shape.t, shape.h, shape.w) == (32, 16, 16)


@pytest.mark.parametrize(("kind", "known"), [("vjepa2", True), ("vjepa", False), (None, False)])
def test_its_checkpoints_are_told_apart(kind, known):
    assert vjepa2.recognises({"model_type": kind}) is known
