"""VideoMAE v2 against its own code's numbers, and every way in which its published files can come or be bad."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import fourd
from fourd.backbones import videomae_v2
from fourd.backbones.videomae_v2 import VideoMAEv2, fixed_positions, from_checkpoint, recognises
from fourd.tokens import resample_positions
from fourd.types import ClipShape

GOLDEN = Path(__file__).parents[1] / "golden" / "videomae_v2.npz"
DEPTHS = (0.25, 0.5, 0.75, 1.0)
HUB_CONFIG = {
    "model_type": "VideoMAEv2_Base",
    "model_config": {
        **{"img_size": 32, "patch_size": 8, "in_chans": 3, "num_classes": 0, "embed_dim": 32, "depth": 4},
        **{"num_heads": 2, "mlp_ratio": 48 / 11, "qkv_bias": True, "qk_scale": None, "layer_norm_eps": 1e-6},
        **{"init_values": 0.0, "use_learnable_pos_emb": False, "tubelet_size": 2, "use_mean_pooling": True},
        **{"num_frames": 4, "cos_attn": False},
    },
}
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    with np.load(GOLDEN) as archive:
        return {name: torch.from_numpy(array) for name, array in archive.items()}


def part(golden: dict[str, Tensor], prefix: str) -> State:
    return {name.removeprefix(prefix): value for name, value in golden.items() if name.startswith(prefix)}


@pytest.fixture
def state(golden) -> State:
    """The encoder of the finetuned model, under its published names."""
    return {name: value for name, value in part(golden, "finetuned/state/").items() if not name.startswith("head.")}


def write_hub(folder: Path, state: State, config: dict[str, Any] = HUB_CONFIG) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file({f"model.{name}": value for name, value in state.items()}, folder / "model.safetensors")
    return folder


def write_pth(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def write_safetensors(path: Path, state: State) -> Path:
    save_file(state, path)
    return path


@torch.no_grad()
def features(backbone: VideoMAEv2, video: Tensor, depths: tuple[float, ...] = DEPTHS) -> list[Tensor]:
    return [said.grid.flatten(1, 3) for said in backbone.eval()(video, depths)]


def error(found: Tensor, expected: Tensor) -> float:
    """The largest difference, in standard deviations of what is expected."""
    return float((found - expected).abs().max() / expected.std())


# ----------------------------------------------------------------------------- against the source's own numbers


@pytest.mark.parametrize("kind", ["finetuned", "pretrained"])
@pytest.mark.parametrize("form", ["hub", "safetensors", "pth"])
def test_features_equal_those_of_the_source(golden, kind, form, tmp_path):
    state, said = part(golden, f"{kind}/state/"), part(golden, f"{kind}/said/")
    write = {
        "hub": lambda: write_hub(tmp_path / "hub", state),
        "safetensors": lambda: write_safetensors(tmp_path / "x.safetensors", state),
        "pth": lambda: write_pth(tmp_path / "x.pth", {"module": state}),
    }[form]
    found = features(from_checkpoint(write()), golden["video"])
    for number, tokens in enumerate(found[:-1], start=1):
        assert error(tokens, said[f"block_{number}"]) < 1e-5
    assert error(found[-1], said["normed"]) < 1e-5


@torch.no_grad()
def test_norm_of_the_mean_equals_the_feature_of_the_source(golden, state, tmp_path):
    backbone = from_checkpoint(write_hub(tmp_path / "hub", state)).eval()
    outputs = []
    backbone.blocks[-1].register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    (normed,) = features(backbone, golden["video"], (1.0,))
    said = part(golden, "finetuned/said/")
    assert error(outputs[0], said["block_4"]) < 1e-5
    assert error(backbone.final_norm(outputs[0].mean(dim=1)), said["pooled"]) < 1e-5
    assert error(normed.mean(dim=1), said["pooled"]) > 1e-2, "the two orders give the same: this test checks nothing"


@pytest.mark.parametrize("size", [videomae_v2.base, videomae_v2.giant], ids=["base", "giant"])
def test_positions_equal_those_of_the_source(golden, size):
    config = size()
    num_tokens = math.prod((config.num_frames // 2, *(side // config.patch[1] for side in config.size)))
    table = fixed_positions(num_tokens, config.width)
    assert torch.equal(table[golden["rows"]], golden[f"table/{size.__name__}"])


# ----------------------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("size", "millions"),
    [("small", 21.9), ("base", 86.2), ("large", 303.9), ("huge", 631.6), ("giant", 1011.6)],
)
def test_size_has_as_many_parameters_as_it_says(size, millions):
    describe = getattr(videomae_v2, size)
    with torch.device("meta"):
        backbone = describe().build()
    assert sum(parameter.numel() for parameter in backbone.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)
    assert f"{millions:,}M parameters" in describe.__doc__
    assert backbone.feature_shape(ClipShape(16, 300, 500)).num_tokens == (2048 if size == "giant" else 1568)


def test_state_holds_the_positions(state, tmp_path):
    backbone = from_checkpoint(write_hub(tmp_path / "hub", state))
    assert not {name for name, _ in backbone.named_buffers()} - backbone.state_dict().keys()
    assert "positions" not in dict(backbone.named_parameters())


# ----------------------------------------------------------------------------- the forms that files come in


def test_checkpoints_are_recognised_by_their_configuration():
    assert recognises(HUB_CONFIG)
    assert not recognises({"model_type": "videomae"})
    assert not recognises({})


@pytest.mark.parametrize(
    ("prefix", "wrapper"),
    [
        ("", None),
        ("", "model"),
        ("module.", "module"),
        ("encoder.", "model"),
        ("_orig_mod.", "model"),
        ("backbone.", "module"),
        ("module.encoder.", None),
        ("model.encoder.", "model"),
    ],
)
def test_prefix_and_wrapper_are_taken_off(golden, state, prefix, wrapper, tmp_path):
    named = {f"{prefix}{name}": value for name, value in state.items()}
    path = write_pth(tmp_path / "x.pth", {wrapper: named, "epoch": 7} if wrapper else named)
    direct = from_checkpoint(write_hub(tmp_path / "hub", state))
    assert torch.equal(features(from_checkpoint(path), golden["video"])[-1], features(direct, golden["video"])[-1])


def test_pt_is_read_like_pth(state, tmp_path):
    assert isinstance(from_checkpoint(write_pth(tmp_path / "x.pt", state)), VideoMAEv2)


def test_what_is_left_out_is_logged(golden, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    state = part(golden, "pretrained/state/")
    from_checkpoint(write_pth(tmp_path / "x.pth", {"model": state}))
    left_out = [name for name in state if not name.startswith("encoder.")]
    assert f"{len(left_out)} arrays are not the encoder's" in caplog.text
    assert all(name in caplog.text for name in left_out)


def test_hash_of_a_pth_is_logged(state, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    path = write_pth(tmp_path / "x.pth", state)
    from_checkpoint(path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() in caplog.text


def test_half_precision_is_read_into_the_precision_asked_for(golden, state, tmp_path):
    path = write_pth(tmp_path / "x.pth", {"module": {name: value.half() for name, value in state.items()}})
    backbone = from_checkpoint(path)
    assert {tensor.dtype for tensor in backbone.state_dict().values()} == {torch.float32}
    assert error(features(backbone, golden["video"])[-1], golden["finetuned/said/normed"]) < 0.02


def test_bfloat16_weights_give_nearly_the_same(golden, state, tmp_path):
    backbone = from_checkpoint(write_hub(tmp_path / "hub", state), torch.bfloat16)
    assert {tensor.dtype for tensor in backbone.state_dict().values()} == {torch.bfloat16}
    tokens = features(backbone, golden["video"])[-1]
    assert tokens.dtype == torch.bfloat16
    assert error(tokens.float(), golden["finetuned/said/normed"]) < 0.2


def test_a_model_of_another_depth_is_taken_with_a_warning(golden, state, tmp_path, caplog):
    shallow = {name: value for name, value in state.items() if not name.startswith("blocks.3.")}
    backbone = from_checkpoint(write_pth(tmp_path / "x.pth", shallow))
    assert len(backbone.blocks) == 3
    assert "depth=3" in caplog.text
    (tokens,) = features(backbone, golden["video"], (0.5,))
    assert error(tokens, golden["finetuned/said/block_2"]) < 1e-5


# ----------------------------------------------------------------------------- what a folder says beside its arrays


def with_settings(**settings: Any) -> dict[str, Any]:
    return {**HUB_CONFIG, "model_config": {**HUB_CONFIG["model_config"], **settings}}


def test_folder_says_heads_frames_and_size(state, tmp_path):
    folder = write_hub(tmp_path / "hub", state, with_settings(num_heads=4, num_frames=6, img_size=48))
    config = from_checkpoint(folder).config
    assert (config.num_heads, config.num_frames, config.size) == (4, 6, (48, 48))


def test_folder_says_the_colours(state, tmp_path):
    folder = write_hub(tmp_path / "hub", state)
    assert from_checkpoint(folder).config == videomae_v2.tiny()
    said = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.1, 0.2, 0.3], "size": 32, "resample": 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    config = from_checkpoint(folder).config
    assert (config.mean, config.std, config.interpolation) == ((0.5, 0.4, 0.3), (0.1, 0.2, 0.3), "bicubic")


@pytest.mark.parametrize(
    "settings",
    [{"cos_attn": True}, {"depth": 5}, {"patch_size": 16}, {"layer_norm_eps": 1e-5}, {"qk_scale": 0.5}],
    ids=lambda settings: next(iter(settings)),
)
def test_folder_that_describes_another_model_is_refused(state, settings, tmp_path):
    ((name, value),) = settings.items()
    with pytest.raises(ValueError, match=rf"config\.json.*{name} is {value}, expected"):
        from_checkpoint(write_hub(tmp_path / "hub", state, with_settings(**settings)))


# ----------------------------------------------------------------------------- what is refused


def spoil(state: State, name: str, how: str) -> State:
    spoiled = dict(state)
    value = spoiled.pop(name)
    if how == "renamed":
        return spoiled | {f"{name}_": value}
    if how == "misshapen":
        return spoiled | {name: value[..., :-1].contiguous()}
    if how == "nan":
        return spoiled | {name: value.index_fill(0, torch.tensor([1]), torch.nan)}
    if how == "integers":
        return spoiled | {name: value.long()}
    assert how == "missing"
    return spoiled


@pytest.mark.parametrize("how", ["renamed", "missing", "misshapen", "nan", "integers"])
@pytest.mark.parametrize(
    "name", ["blocks.2.attn.q_bias", "blocks.0.attn.qkv.weight", "patch_embed.proj.bias", "fc_norm.weight"]
)
def test_spoiled_array_is_named(state, name, how, tmp_path):
    said = {
        "renamed": rf"1 missing: {name}\n.*1 unexpected: {name}_",
        "missing": f"1 missing: {name}",
        "misshapen": f"1 misshapen: {name}",
        "nan": f"1 not of finite numbers: {name}",
        "integers": f"1 not of finite numbers: {name}",
    }[how]
    with pytest.raises(ValueError, match=said):
        from_checkpoint(write_hub(tmp_path / "hub", spoil(state, name, how)))


@pytest.mark.parametrize("name", ["patch_embed.proj.weight", "blocks.0.mlp.fc1.weight"])
def test_array_that_tells_the_size_is_missed(state, name, tmp_path):
    with pytest.raises(ValueError, match=f"{name} is missing"):
        from_checkpoint(write_hub(tmp_path / "hub", spoil(state, name, "missing")))
    with pytest.raises(ValueError, match=rf"{name} is \({len(state[name])},\)"):
        from_checkpoint(write_pth(tmp_path / "x.pth", state | {name: state[name].flatten(1)[:, 0]}))


def test_two_norms_are_refused(state, tmp_path):
    with pytest.raises(ValueError, match=r"1 unexpected: norm\.weight"):
        from_checkpoint(write_hub(tmp_path / "hub", state | {"norm.weight": torch.ones(32)}))


def test_two_encoders_are_refused(state, tmp_path):
    twice = state | {f"encoder.{name}": value for name, value in state.items()}
    with pytest.raises(ValueError, match=r"encoder\.patch_embed\.proj\.weight is a second"):
        from_checkpoint(write_pth(tmp_path / "x.pth", twice))


def test_unknown_width_is_refused(state, tmp_path):
    wide = state | {"patch_embed.proj.weight": torch.zeros(40, 3, 2, 8, 8)}
    with pytest.raises(ValueError, match=r"width is 40.*\[32, 384, 768, 1024, 1280, 1408\]"):
        from_checkpoint(write_hub(tmp_path / "hub", wide))


def test_fixed_positions_may_be_stored_and_learned_ones_may_not(state, tmp_path):
    table = fixed_positions(32, 32)[None]
    assert from_checkpoint(write_pth(tmp_path / "x.pth", state | {"pos_embed": table.half()}))
    for wrong in (table + 0.1, fixed_positions(64, 32)[None], table.fill_(torch.nan)):
        with pytest.raises(ValueError, match=f"pos_embed, of shape .*{wrong.shape[1]}, 32.*not the fixed table"):
            from_checkpoint(write_pth(tmp_path / "y.pth", state | {"pos_embed": wrong}))


@pytest.mark.parametrize(
    "content",
    [{"model": {}, "args": argparse.Namespace(lr=1)}, [1, 2], torch.zeros(3), {"model": {"a": 1}}, {}],
    ids=["object", "list", "tensor", "number", "empty"],
)
def test_pth_that_holds_more_or_less_than_weights_is_refused(content, tmp_path):
    path = write_pth(tmp_path / "x.pth", content)
    with pytest.raises(ValueError, match=r"x\.pth (holds|is damaged, or holds more than weights)"):
        from_checkpoint(path)


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.witness,)


def test_pickled_code_is_refused_and_not_run(state, tmp_path):
    path = write_pth(tmp_path / "x.pth", {"model": state, "trap": Trap(tmp_path / "sprung")})
    with pytest.raises(ValueError, match="unpickling runs code"):
        from_checkpoint(path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_file_that_was_cut_off_is_refused(state, name, share, tmp_path):
    path = tmp_path / name
    (write_pth if name.endswith("pth") else write_safetensors)(path, state)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ValueError, match=r"x\.(pth is damaged|safetensors is not a whole)"):
        from_checkpoint(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors does not exist"):
        from_checkpoint(tmp_path)


# ----------------------------------------------------------------------------- other lengths and sizes


def test_other_length_and_size_resample_the_positions(golden, state, tmp_path):
    path = write_hub(tmp_path / "hub", state)
    video = torch.nn.functional.interpolate(golden["video"][0].float() / 255, size=(48, 64), mode="bilinear")
    video = torch.cat([video, video])[None]
    with pytest.raises(ValueError, match="8 frames"):
        from_checkpoint(path)(video, (1.0,))
    free = from_checkpoint(path, native_size=False)
    (tokens,) = features(free, video, (1.0,))
    assert tokens.shape == (1, 4 * 6 * 8, 32)
    larger = replace(free.config, num_frames=8, size=(48, 64), native_size=True).build()
    positions = resample_positions(fixed_positions(32, 32), (2, 4, 4), (4, 6, 8))
    larger.load_state_dict(free.state_dict() | {"positions": positions})
    (expected,) = features(larger, video, (1.0,))
    assert error(tokens, expected) < 1e-6


def test_native_clips_give_the_same_either_way(golden, state, tmp_path):
    path = write_hub(tmp_path / "hub", state)
    fixed, free = (from_checkpoint(path, native_size=native) for native in (True, False))
    assert not free.native_input.fixed
    for one, other in zip(features(fixed, golden["video"]), features(free, golden["video"]), strict=True):
        assert torch.equal(one, other)


def test_a_saved_one_runs_in_bfloat16(tmp_path):
    backbone = videomae_v2.tiny().build()
    backbone.init_weights()
    folder = fourd.save_pretrained(backbone, tmp_path / "saved")
    native = backbone.native_input
    clip = torch.rand(1, native.num_frames, 3, *native.size)
    (features,) = fourd.load(folder, dtype=torch.bfloat16)(clip, (1.0,))
    assert features.grid.dtype == torch.bfloat16
