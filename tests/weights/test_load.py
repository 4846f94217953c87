"""`fourd.load` and `fourd.load_depth`: official files, our own, folders, rivals; and every way a file can be bad."""

from __future__ import annotations

import json
import logging
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from einops import rearrange
from torch import Tensor

import fourd
from fourd.backbones import dinov2, video_vit
from fourd.backbones.video_vit import VideoViT
from fourd.weights import convert, files, official, save_module, snapshot
from fourd.weights import load as loading
from tests.official_files import OFFICIAL_B

GOLDEN = Path(__file__).parents[1] / "golden"
SMALL = GOLDEN / "small_params.npz"
QUERY_KERNEL = "params/layers_0/processor/layers_2/attention/query/kernel"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FOURD_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    with np.load(SMALL) as archive:
        return dict(archive)


@pytest.fixture(scope="module")
def numbers() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "small_io.npz") as archive:
        return dict(archive)


@pytest.fixture(scope="module")
def video(numbers) -> Tensor:
    return torch.from_numpy(rearrange(numbers["video"], "b t h w c -> b t c h w"))


def write(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    np.savez(path, **arrays)
    return path


def bare(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Leave the backbone alone, under the names of a backbone file."""
    old, new = official.BACKBONE_PREFIX, official.BARE_PREFIX
    return {new + name.removeprefix(old): array for name, array in arrays.items() if name.startswith(old)}


# ----------------------------------------------------------------------------- the official files


def test_the_depth_model_answers_as_the_official_code(video, numbers):
    model = fourd.load_depth(SMALL, output_patch=(2, 4, 4))
    with torch.no_grad():
        depth = model(video)
    expected = torch.from_numpy(numbers["depth"]).squeeze(-1)
    assert (depth.metres - expected).abs().max() < 1e-5
    assert torch.equal(depth.valid, depth.metres > 0)


@pytest.mark.parametrize("prefix", ["depth file", "backbone file"])
def test_both_prefixes_give_the_official_features(tmp_path, prefix, arrays, video, numbers):
    path = SMALL if prefix == "depth file" else write(tmp_path / "bare.npz", bare(arrays))
    backbone = fourd.load(path)
    assert isinstance(backbone, VideoViT)
    with torch.no_grad():
        (features,) = backbone(video, (0.95,))
    expected = torch.from_numpy(numbers["inter/layers_0/__call__/0/3"])  # the official list has 5 entries
    assert (features.grid.flatten(1, 3) - expected).abs().max() < 1e-5


def test_uint8_and_other_sizes_are_brought_to_the_native_input(video):
    backbone = fourd.load(SMALL)
    as_bytes = (video * 255).round().byte()
    with torch.no_grad():
        (features,) = backbone(as_bytes, (0.95,))
        (same,) = backbone(as_bytes.float() / 255, (0.95,))
        (larger,) = backbone(torch.nn.functional.interpolate(as_bytes, (8, 3, 48, 40)[1:]), (0.95,))
    assert torch.equal(features.grid, same.grid)
    assert larger.grid.shape == features.grid.shape


def test_native_size_false_resamples_and_changes_nothing_at_the_native_size(video):
    backbone, free = fourd.load(SMALL), fourd.load(SMALL, native_size=False)
    with torch.no_grad():
        assert torch.equal(free(video, (0.95,))[0].grid, backbone(video, (0.95,))[0].grid)
        (larger,) = free(torch.rand(1, 12, 3, 48, 40), (0.95,))
    assert larger.grid.shape == (1, 6, 6, 5, 64)
    with pytest.raises(ValueError, match="clips have 12 frames; this backbone takes 8"):
        backbone(torch.rand(1, 12, 3, 48, 40), (0.95,))


def test_weights_in_bfloat16_on_request(video):
    backbone = fourd.load(SMALL, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in backbone.parameters()} == {torch.bfloat16}
    exact = fourd.load(SMALL)
    with torch.no_grad():
        (features,), (expected,) = backbone(video, (0.95,)), exact(video, (0.95,))
    assert features.grid.dtype == torch.bfloat16
    assert (features.grid.float() - expected.grid).abs().max() < 0.1 * expected.grid.std()


def test_a_loaded_model_is_ready_to_encode_and_can_be_trained():
    backbone = fourd.load(SMALL)
    assert not backbone.training
    assert all(parameter.requires_grad and not parameter.is_meta for parameter in backbone.parameters())
    before = files.sha256(SMALL)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.zero_()  # what is mapped from the file is a copy of one's own
    assert any(parameter.any() for parameter in fourd.load(SMALL).parameters())
    assert files.sha256(SMALL) == before


# ----------------------------------------------------------------------------- converting once


def test_the_second_load_maps_what_the_first_converted(tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    path = write(tmp_path / "x.npz", dict(np.load(SMALL)))
    fourd.load(path)
    assert caplog.text.count("converting") == 1
    source = json.loads(next((tmp_path / "cache").rglob("source.json")).read_text())
    assert source["sha256"] == files.sha256(path)
    monkeypatch.setattr(convert, "NpzArrays", None)  # the official file is not read again
    fourd.load(path)
    fourd.load_depth(path, output_patch=(2, 4, 4))
    assert caplog.text.count("converting") == 1


def test_a_changed_file_is_converted_again(tmp_path, arrays):
    path = write(tmp_path / "x.npz", arrays)
    first = fourd.load(path)
    write(path, {name: array * 2 for name, array in arrays.items()})
    second = fourd.load(path)
    assert torch.equal(second.positions, first.positions * 2)


def test_large_states_are_written_in_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_SHARD_BYTES", 100_000)
    whole = fourd.load(SMALL)
    folder = next((tmp_path / "cache").rglob("config.json")).parent
    assert len(list(folder.glob("model-*-of-*.safetensors"))) > 3
    again = fourd.load(folder)
    assert all(torch.equal(whole.state_dict()[name], value) for name, value in again.state_dict().items())
    next(folder.glob("model-00002-*")).unlink()
    with pytest.raises(FileNotFoundError, match="model-00002"):
        fourd.load(folder)


def test_a_conversion_that_fails_leaves_nothing(tmp_path, arrays):
    path = write(tmp_path / "x.npz", arrays | {QUERY_KERNEL: np.full_like(arrays[QUERY_KERNEL], np.nan)})
    with pytest.raises(ValueError, match="not finite"):
        fourd.load(path)
    left = [file for file in (tmp_path / "cache").rglob("*") if file.is_file() and file.suffix != ".lock"]
    assert left == []


# ----------------------------------------------------------------------------- files that are bad


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_byte(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        place = archive.getinfo(QUERY_KERNEL + ".npy").header_offset + 1000
    content = bytearray(path.read_bytes())
    content[place] ^= 0xFF
    path.write_bytes(content)


def pickled(array: np.ndarray) -> np.ndarray:
    return np.array([{"a": array.shape}], dtype=object)


Change = Callable[[np.ndarray], np.ndarray]
BAD_ARRAYS: dict[str, tuple[Change | None, str]] = {
    "missing": (None, f"1 missing: {QUERY_KERNEL}"),
    "misshapen": (lambda a: a[:-1], rf"1 misshapen: {QUERY_KERNEL} \(63, 4, 16\), expected \(64, 4, 16\)"),
    "not finite": (lambda a: np.where(a == a.flat[7], np.nan, a), f"{QUERY_KERNEL}' has 1 numbers that are not finite"),
    "float64": (lambda a: a.astype(np.float64), f"{QUERY_KERNEL}' has dtype float64, expected float32"),
    "pickled": (pickled, f"{QUERY_KERNEL}' cannot be read: it is a pickled object"),
}


@pytest.mark.parametrize("loader", [fourd.load, lambda path: fourd.load_depth(path, output_patch=(2, 4, 4))])
@pytest.mark.parametrize(("change", "message"), BAD_ARRAYS.values(), ids=BAD_ARRAYS)
def test_a_bad_array_is_named(tmp_path, arrays, change, message, loader):
    broken = dict(arrays)
    if change is None:
        del broken[QUERY_KERNEL]
    else:
        broken[QUERY_KERNEL] = change(broken[QUERY_KERNEL])
    with pytest.raises(ValueError, match=message):
        loader(write(tmp_path / "bad.npz", broken))


def test_an_extra_array_is_named(tmp_path, arrays):
    extra = {"params/layers_0/encoder/more": np.zeros(3, np.float32)}
    with pytest.raises(ValueError, match="1 unexpected: params/layers_0/encoder/more"):
        fourd.load(write(tmp_path / "bad.npz", arrays | extra))


@pytest.mark.parametrize(
    ("damage", "message"),
    [(cut, "is cut short"), (flip_a_byte, f"'{QUERY_KERNEL}' cannot be read: Bad CRC-32")],
    ids=["truncated", "a flipped byte"],
)
def test_a_damaged_file_says_so(tmp_path, arrays, damage, message):
    path = write(tmp_path / "bad.npz", arrays)
    damage(path)
    with pytest.raises(ValueError, match=message):
        fourd.load(path)


def test_an_output_patch_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"output_patch is \(2, 8, 8\), which asks 64 .*has 256 queries of 32"):
        fourd.load_depth(SMALL)


def test_a_backbone_has_no_depth(tmp_path, arrays):
    with pytest.raises(ValueError, match="VideoViTConfig without a depth readout"):
        fourd.load_depth(write(tmp_path / "bare.npz", bare(arrays)))


# ----------------------------------------------------------------------------- the published size


def b_arrays() -> dict[str, np.ndarray]:
    """Make random weights in the layout of the released depth file of size B."""
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape, np.float32) * 0.02 for name, shape in OFFICIAL_B.items()}


def test_the_released_size_loads_under_both_prefixes_and_runs(tmp_path):
    whole = b_arrays()
    path = write(tmp_path / "b_depth.npz", whole)
    from_depth, from_bare = fourd.load(path), fourd.load(write(tmp_path / "b.npz", bare(whole)))
    assert sum(p.numel() for p in from_bare.parameters()) == 87_439_104
    assert from_bare.config == video_vit.base()
    assert all(torch.equal(a, b) for a, b in zip(from_depth.parameters(), from_bare.parameters(), strict=True))
    model = fourd.load_depth(path)
    assert sum(p.numel() for p in model.parameters()) == 105_026_944
    with torch.no_grad():
        depth = model(torch.randint(0, 256, (1, 16, 3, 224, 224), dtype=torch.uint8))
    assert depth.metres.shape == (1, 16, 224, 224)
    assert depth.metres.isfinite().all()


# ----------------------------------------------------------------------------- our own files, rivals, names


def test_a_file_of_a_run_is_loaded_by_its_own_config(tmp_path):
    backbone = video_vit.tiny().build()
    backbone.init_weights(torch.Generator().manual_seed(0))
    save_module(backbone, tmp_path / "model.safetensors", json.dumps(loading.provenance.describe(backbone.config)))
    loaded = fourd.load(tmp_path / "model.safetensors", native_size=False)
    assert loaded.config == replace(video_vit.tiny(), native_size=False)
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), backbone.parameters(), strict=True))


def test_a_number_that_is_not_finite_in_a_file_of_ours_is_named(tmp_path):
    backbone = video_vit.tiny().build()
    backbone.init_weights()
    with torch.no_grad():
        backbone.positions[0, 0] = torch.inf
    save_module(backbone, tmp_path / "model.safetensors", json.dumps(loading.provenance.describe(backbone.config)))
    with pytest.raises(ValueError, match=r"1 arrays hold numbers that are not finite: positions"):
        fourd.load(tmp_path / "model.safetensors")


def test_a_checkpoint_of_a_rival_is_recognised(tmp_path):
    import transformers

    config = transformers.Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    transformers.Dinov2Model(config).save_pretrained(tmp_path / "dino")
    preprocessing = {"size": {"shortest_edge": 28}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 3}
    (tmp_path / "dino/preprocessor_config.json").write_text(json.dumps(preprocessing))
    assert isinstance(fourd.load(tmp_path / "dino"), dinov2.DINOv2)
    (tmp_path / "dino/config.json").write_text(json.dumps({"model_type": "resnet"}))
    with pytest.raises(ValueError, match=r"model_type is 'resnet'; expected one of: dinov2"):
        fourd.load(tmp_path / "dino")


def test_an_unknown_name_lists_those_that_are_close():
    with pytest.raises(ValueError, match=r"'dinov2-bas' is no file.*Did you mean dinov2-base"):
        fourd.load("dinov2-bas")


def test_every_name_is_told_apart():
    names = loading.names()
    assert {"4ds-b-dist-e", "4ds-e", "4ds-b-dist-e-depth", "dinov2-base"} <= names.keys()
    assert len(set(names.values())) == len(names)


def test_types_of_others_are_not_imported_for_a_download(tmp_path):
    with pytest.raises(ValueError, match="names os:path, code that is not part of a model of fourd"):
        snapshot.require_own_types({"type": "fourd.readout:ReadoutSize", "inner": [{"type": "os:path"}]}, tmp_path)
    with pytest.raises(ValueError, match=r"names fourd.datasets.video_files:VideoFilesConfig, code that is not part"):
        snapshot.require_own_types({"type": "fourd.datasets.video_files:VideoFilesConfig"}, tmp_path)


def test_a_shard_with_an_array_that_its_index_does_not_name_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_SHARD_BYTES", 100_000)
    fourd.load(SMALL)
    folder = next((tmp_path / "cache").rglob("config.json")).parent
    index = json.loads((folder / files.INDEX_NAME).read_text())
    del index["weight_map"]["backbone.positions"]
    (folder / files.INDEX_NAME).write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"do not name the same arrays: backbone.positions"):
        fourd.load(folder)


def test_a_folder_from_elsewhere_is_checked_though_it_looks_like_a_conversion(tmp_path):
    backbone = video_vit.tiny().build()
    backbone.init_weights()
    fourd.save_pretrained(backbone, tmp_path / "model")
    (tmp_path / "model" / files.SOURCE_NAME).write_text("{}")
    with torch.no_grad():
        backbone.positions[0, 0] = torch.nan
    files._write(dict(backbone.state_dict()), tmp_path / "model" / files.WEIGHTS_NAME, {"format": "pt"})
    with pytest.raises(ValueError, match="not finite: positions"):
        fourd.load(tmp_path / "model")


def test_what_a_killed_conversion_left_is_removed_by_the_next(tmp_path, arrays):
    path = write(tmp_path / "x.npz", arrays)
    fourd.load(path)
    folder = next((tmp_path / "cache").rglob("config.json")).parent
    left = folder.with_name(f".{folder.name}.12345")
    left.mkdir()
    write(path, {name: array * 2 for name, array in arrays.items()})
    fourd.load(path)
    assert not left.exists()


def test_a_conversion_that_is_there_is_read_where_nothing_can_be_written(tmp_path, monkeypatch):
    fourd.load(SMALL)

    def no_lock(*_: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(convert, "FileLock", no_lock)
    fourd.load(SMALL)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("config.json", "{", r"config\.json holds what is not JSON|holds what is not JSON"),
        ("config.json", "[]", "holds a JSON list, expected an object"),
    ],
)
def test_a_damaged_description_names_its_file(tmp_path, name, text, message):
    backbone = video_vit.tiny().build()
    backbone.init_weights()
    fourd.save_pretrained(backbone, tmp_path / "model")
    (tmp_path / "model" / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        fourd.load(tmp_path / "model")


def test_a_damaged_note_of_a_conversion_means_converting_again(tmp_path):
    fourd.load(SMALL)
    next((tmp_path / "cache").rglob("source.json")).write_text("{")
    fourd.load(SMALL)


def test_a_mistyped_path_is_not_looked_for_on_the_hub():
    with pytest.raises(ValueError, match=r"'weights/model\.npz' is no file"):
        fourd.load("weights/model.npz")


def test_a_checkpoint_may_not_choose_the_code_that_runs(tmp_path):
    import transformers

    config = transformers.Dinov2Config(hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
    transformers.Dinov2Model(config).save_pretrained(tmp_path)
    said = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(said | {"attn_implementation": "someone/kernels"}))
    with pytest.raises(ValueError, match="attn_implementation would choose the code that runs"):
        fourd.load(tmp_path)


def test_a_damaged_table_of_arrays_says_so(tmp_path, arrays):
    path = write(tmp_path / "bad.npz", arrays)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"PK\x01\x02", b"PK\x01\x09", 1))
    with pytest.raises(ValueError, match="its table of arrays is damaged"):
        fourd.load(path)
