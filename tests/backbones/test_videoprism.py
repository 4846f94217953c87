"""VideoPrism against the rival's own code, in its spatial and in its temporal stage."""

import json

import pytest
import torch
import transformers

from fourd import provenance
from fourd.backbones import videoprism
from fourd.types import ClipShape, NativeInput
from tests.backbones.rival_checkpoints import (
    DAMAGES,
    RESCALE,
    edit_arrays,
    perturbed,
    relative_error,
    write_checkpoint,
)
from tests.contracts.nouns import fill_with_nan, random_video

SETTINGS = {
    **{"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48, "image_size": 54, "num_frames": 4},
    **{"num_spatial_layers": 3, "num_temporal_layers": 2, "num_auxiliary_layers": 1},
    "attn_logit_softcapping": 0.5,  # low, so that it acts on the small logits of a tiny model
}
# As on the Hub: the file of LlavaOnevisionVideoProcessor, with colours that are not used.
PREPROCESSING = {
    **{"do_resize": True, "do_center_crop": None, "do_rescale": True, "do_normalize": False, "do_convert_rgb": True},
    **{"size": {"height": 54, "width": 54}, "crop_size": None, "resample": 3, "rescale_factor": RESCALE},
    **{"image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28], "num_frames": 16},
    **{"default_to_square": False, "video_processor_type": "LlavaOnevisionVideoProcessor"},
}
KINDS = {
    "bare": transformers.VideoPrismVisionModel,
    "with a pooler": transformers.VideoPrismVideoModel,
    "with a classifier": transformers.VideoPrismForVideoClassification,
}
NATIVE = ClipShape(4, 54, 54)
DEPTHS = (1 / 5, 2 / 5, 3 / 5, 4 / 5, 1.0)


def write(folder, kind="bare"):
    model = perturbed(KINDS[kind](transformers.VideoPrismVisionConfig(**SETTINGS)))
    return write_checkpoint(folder, model, PREPROCESSING, "video_preprocessor_config.json")


@pytest.fixture(params=KINDS)
def rival(request, tmp_path):
    """The rival's own model, as it loads the checkpoint that the adapter loads."""
    folder = write(tmp_path / "checkpoint", request.param)
    model = KINDS[request.param].from_pretrained(folder).eval()
    return folder, getattr(model, "vision_model", model)


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "checkpoint")


def grids_of(model, pixels, grid):
    """Run the rival's own code, and lay its tokens out: spatial by frame, temporal by place, the last by clip."""
    said = model(pixels, interpolate_pos_encoding=True, output_hidden_states=True)
    (num_clips, num_frames), (t, h, w) = pixels.shape[:2], grid
    spatial = [tokens.reshape(num_clips, t, h, w, -1) for tokens in said.hidden_states[1:4]]
    temporal = said.hidden_states[4].reshape(num_clips, h, w, num_frames, -1).permute(0, 3, 1, 2, 4)
    return [*spatial, temporal, said.last_hidden_state.reshape(num_clips, t, h, w, -1)]


@torch.no_grad()
@pytest.mark.parametrize(
    "clip", [NATIVE, ClipShape(7, 54, 54), ClipShape(2, 54, 54), ClipShape(9, 72, 36), ClipShape(4, 18, 162)]
)
def test_features_are_the_rivals_own(rival, clip):
    """Other sizes and lengths too, 1 x 9 patches instead of 3 x 3 among them."""
    folder, model = rival
    video = random_video(2, clip)
    backbone = videoprism.from_checkpoint(folder, native_size=clip == NATIVE)
    expected = grids_of(model, video.float() * RESCALE, (clip.num_frames, clip.height // 18, clip.width // 18))
    found = backbone(video, DEPTHS)
    errors = [relative_error(one.grid, other) for one, other in zip(found, expected, strict=True)]
    assert max(errors) < 1e-5


@torch.no_grad()
def test_the_soft_cap_acts(folder):
    video = random_video(1, NATIVE)
    (capped,) = videoprism.from_checkpoint(folder)(video, (1.0,))
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(said | {"attn_logit_softcapping": 50.0}))
    (free,) = videoprism.from_checkpoint(folder)(video, (1.0,))
    assert relative_error(capped.grid, free.grid) > 0.01


def test_other_lengths_are_refused_by_default(folder):
    backbone = videoprism.from_checkpoint(folder)
    with pytest.raises(ValueError, match="8 frames; this backbone takes 4"):
        backbone(random_video(1, ClipShape(8, 54, 54)), (1.0,))


@torch.no_grad()
@pytest.mark.parametrize("moved", [False, True])
def test_half_precision_is_the_rivals_own(rival, moved):
    folder, model = rival
    loaded = videoprism.from_checkpoint(folder, torch.float32 if moved else torch.bfloat16)
    video = random_video(1, NATIVE)
    expected = grids_of(model.to(torch.bfloat16), (video.float() * RESCALE).to(torch.bfloat16), (4, 3, 3))
    for one, other in zip(loaded.to(torch.bfloat16)(video, DEPTHS), expected, strict=True):
        assert one.grid.dtype == torch.bfloat16
        assert relative_error(one.grid.float(), other.float()) < 0.02


@torch.no_grad()
def test_half_precision_takes_other_clips(folder):
    """The rival's own code cannot on a CPU, where its interpolation has no such kernel."""
    video = random_video(1, ClipShape(9, 72, 36))
    (half,) = videoprism.from_checkpoint(folder, torch.bfloat16, native_size=False)(video, (1.0,))
    (full,) = videoprism.from_checkpoint(folder, native_size=False)(video, (1.0,))
    assert half.grid.dtype == torch.bfloat16
    assert (half.grid - full.grid).abs().max() < 0.1 * full.grid.std()


def test_preprocessing_is_read_from_the_checkpoint(folder):
    backbone = videoprism.from_checkpoint(folder)
    assert backbone.native_input == NativeInput(4, (54, 54), (1, 18, 18), "bicubic", True)
    assert (backbone.config.mean, backbone.config.std) == ((0.0,) * 3, (1.0,) * 3)
    said = PREPROCESSING | {"do_normalize": True, "resample": 2}
    (folder / "video_preprocessor_config.json").write_text(json.dumps(said))
    config = videoprism.from_checkpoint(folder).config
    assert (config.interpolation, config.mean, config.std) == ("bilinear", (0.48, 0.46, 0.41), (0.27, 0.26, 0.28))


def test_preprocessing_for_another_size_is_refused(folder):
    said = PREPROCESSING | {"size": {"height": 72, "width": 72}}
    (folder / "video_preprocessor_config.json").write_text(json.dumps(said))
    with pytest.raises(ValueError, match=r"pictures of \(72, 72\), but config.json says \(54, 54\)"):
        videoprism.from_checkpoint(folder)


@pytest.mark.parametrize("kind", ["bare", "with a classifier"])
@pytest.mark.parametrize(
    "name",
    [
        "spatial_embeddings.position_embeddings",
        "temporal_embeddings.position_embeddings",
        "spatial_layers.2.attention.q_proj.bias",
        "temporal_layers.1.mlp.fc2.weight",
        "layernorm1.weight",
        "layernorm2.bias",
    ],
)
@pytest.mark.parametrize("damage", DAMAGES)
def test_one_wrong_array_is_refused_by_name(tmp_path, damage, name, kind):
    folder = write(tmp_path / "checkpoint", kind)
    edit_arrays(folder, lambda arrays: damage(arrays, name if kind == "bare" else f"vision_model.{name}"))
    with pytest.raises(ValueError, match=name):
        videoprism.from_checkpoint(folder)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["with a pooler", "with a classifier"])
def test_what_stands_on_the_encoder_is_neither_asked_for_nor_kept(tmp_path, kind):
    folder = write(tmp_path / "checkpoint", kind)
    video = random_video(1, NATIVE)
    (before,) = videoprism.from_checkpoint(folder)(video, (1.0,))
    edit_arrays(folder, lambda arrays: [arrays.pop(n) for n in list(arrays) if not n.startswith("vision_model.")])
    backbone = videoprism.from_checkpoint(folder)
    assert torch.equal(backbone(video, (1.0,))[0].grid, before.grid)
    named = ("spatial_embeddings.", "temporal_embeddings.", "spatial_norm.", "blocks.", "final_norm.")
    assert all(name.startswith(named) for name in backbone.state_dict())


def test_an_unknown_prefix_is_refused(folder):
    edit_arrays(folder, lambda arrays: [arrays.update({f"video.{n}": arrays.pop(n)}) for n in list(arrays)])
    with pytest.raises(ValueError, match=r"missing: layernorm1\.bias") as error:
        videoprism.from_checkpoint(folder)
    assert "unexpected: video." in str(error.value)


@torch.no_grad()
def test_a_config_rebuilt_from_json_describes_the_same_model(rival):
    folder, _ = rival
    loaded = videoprism.from_checkpoint(folder, native_size=False)
    config = provenance.rebuild(json.loads(json.dumps(provenance.describe(loaded.config))))
    assert config == loaded.config
    rebuilt = config.build().eval()
    fill_with_nan(rebuilt)
    rebuilt.load_state_dict(loaded.state_dict(), strict=True)
    video = random_video(1, ClipShape(6, 36, 72))
    for one, other in zip(rebuilt(video, DEPTHS), loaded(video, DEPTHS), strict=True):
        assert torch.equal(one.grid, other.grid)


@pytest.mark.parametrize(
    ("config", "num_parameters", "num_frames"),
    [(videoprism.base(), 114_365_184, 16), (videoprism.large(), 353_965_056, 8)],
)
def test_named_sizes_have_the_published_number_of_parameters(config, num_parameters, num_frames):
    with torch.device("meta"):
        backbone = config.build()
    assert sum(parameter.numel() for parameter in backbone.parameters()) == num_parameters
    shape = backbone.feature_shape(ClipShape(num_frames, 100, 200))
    assert (shape.t, shape.h, shape.w) == (num_frames, 16, 16)


@pytest.mark.parametrize(
    ("kind", "known"), [("videoprism_vision_model", True), ("videoprism", False), ("vivit", False), (None, False)]
)
def test_its_checkpoints_are_told_apart(kind, known):
    assert videoprism.recognises({"model_type": kind}) is known
