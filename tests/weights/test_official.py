"""The released arrays: how they are read, and what each becomes."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fourd.backbones import video_vit
from fourd.readout import AttentionReadout, ReadoutSize
from fourd.types import FeatureShape
from fourd.weights import (
    attention_readout_state,
    read_npz,
    video_vit_config,
    video_vit_state,
)
from tests.official_files import OFFICIAL_B

GOLDEN = Path(__file__).parents[1] / "golden"
PUBLISHED_MILLIONS = {"S": 22.8, "B": 88.0, "L": 306.3, "H": 634.7, "G": 1847.8, "e": 3810.9, "j": 21495.2}
QUERY_KERNEL = "processor/layers_2/attention/query/kernel"


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def tiny_backbone(seed: int = 0) -> nn.Module:
    backbone = video_vit.tiny().build()
    backbone.init_weights(torch.Generator().manual_seed(seed))
    return backbone


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


# ----------------------------------------------------------------------------- read_npz


def write_npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def test_read_npz_gives_back_every_array(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {"a/b": rng.random((2, 3), np.float32), "c": np.asfortranarray(rng.random((4, 5), np.float32))}
    read = read_npz(write_npz(tmp_path / "x.npz", **arrays))
    assert read.keys() == arrays.keys()
    assert all(np.array_equal(read[name].numpy(), array) for name, array in arrays.items())


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.array([{"a": 1}], dtype=object), "cannot be read.*pickle"),
        (np.zeros(3, np.float64), "float64, expected float32"),
        (np.zeros(3, ">f4"), ">f4, expected float32"),
        (np.zeros(3, np.float16), "float16, expected float32"),
        (np.array([0, np.nan, np.inf], np.float32), "2 numbers that are not finite"),
    ],
    ids=["pickled", "float64", "big-endian", "float16", "non-finite"],
)
def test_read_npz_names_the_array_it_refuses(tmp_path, bad, message):
    path = write_npz(tmp_path / "x.npz", good=np.ones(2, np.float32), rotten=bad)
    with pytest.raises(ValueError, match=f"(?s)x.npz: array 'rotten'.*{message}"):
        read_npz(path)


def test_read_npz_never_unpickles(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    path = write_npz(tmp_path / "x.npz", rotten=np.array([Bomb()], dtype=object))
    with pytest.raises(ValueError, match="rotten"):
        read_npz(path)
    assert not (tmp_path / "exploded").exists()


def test_read_npz_refuses_a_truncated_archive(tmp_path):
    path = write_npz(tmp_path / "x.npz", a=np.ones(1000, np.float32))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"x\.npz is cut short"):
        read_npz(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_read_npz_names_the_damaged_array(tmp_path, compressed):
    path = tmp_path / "x.npz"
    ramp = np.arange(1000, dtype=np.float32)
    (np.savez_compressed if compressed else np.savez)(path, fine=ramp, hurt=ramp)
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("hurt.npy")
    content = bytearray(path.read_bytes())
    content[member.header_offset + member.compress_size] ^= 0x10
    path.write_bytes(content)
    with pytest.raises(ValueError, match="array 'hurt' cannot be read"):
        read_npz(path)


def test_read_npz_refuses_what_is_no_archive(tmp_path):
    path = tmp_path / "x.npz"
    np.save(path.with_suffix(".npy"), np.ones(3, np.float32))
    path.with_suffix(".npy").rename(path)
    with pytest.raises(ValueError, match=r"x\.npz is not an npz archive: it starts with"):
        read_npz(path)


def test_read_npz_refuses_a_member_that_is_no_array(tmp_path):
    path = write_npz(tmp_path / "x.npz", a=np.ones(3, np.float32))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ValueError, match=r"'readme\.txt' is not an array"):
        read_npz(path)


# ----------------------------------------------------------------------------- the mapping


@pytest.fixture(scope="module")
def official() -> dict[str, Tensor]:
    return read_npz(GOLDEN / "small_params.npz")


def bare(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = "params/layers_0/"
    return {"params/" + name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}


def small_readout(**changes: bool) -> AttentionReadout:
    size = ReadoutSize(width=64, num_heads=4, num_frames=8, **changes)
    return AttentionReadout(FeatureShape(4, 4, 4, 64), size, num_outputs=32, num_queries=256)


def test_both_prefixes_give_the_same_backbone(official):
    short = bare(official)
    assert video_vit_config(short) == video_vit_config(official)
    one, other = video_vit_state(short), video_vit_state(official)
    assert one.keys() == other.keys() == video_vit_config(official).build().state_dict().keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_every_number_of_the_file_lands_in_one_of_the_modules(official):
    state = [*video_vit_state(official).values(), *attention_readout_state(official, small_readout()).values()]
    given, taken = (torch.cat([a.flatten() for a in arrays]).sort().values for arrays in (official.values(), state))
    assert torch.equal(given, taken)


@pytest.mark.parametrize("prefix", ["params/", "params/layers_0/"])
def test_missing_extra_and_misshapen_arrays_are_all_named(official, prefix):
    arrays = {prefix + name.removeprefix("params/"): array for name, array in bare(official).items()}
    del arrays[f"{prefix}processor/layers_1/mlp_norm/scale"]
    arrays[f"{prefix}latent_posenc/embeddings"] = torch.zeros(4, 4, 4, 64)
    arrays[f"{prefix}{QUERY_KERNEL}"] = torch.zeros(64, 64)
    with pytest.raises(ValueError, match="do not match") as error:
        video_vit_state(arrays)
    assert f"1 missing: {prefix}processor/layers_1/mlp_norm/scale\n" in str(error.value)
    assert f"1 unexpected: {prefix}latent_posenc/embeddings\n" in str(error.value)
    assert f"1 misshapen: {prefix}{QUERY_KERNEL} (64, 64), expected (64, 4, 16)\n" in str(error.value)


def test_a_lost_block_is_noticed(official):
    arrays = {name: array for name, array in official.items() if "processor/layers_2/" not in name}
    with pytest.raises(ValueError, match=r"16 missing: params/layers_0/processor/layers_2/"):
        video_vit_state(arrays)


def test_arrays_of_neither_part_are_refused(official):
    stray = {**official, "opt_state/mu": torch.zeros(1)}
    with pytest.raises(ValueError, match="1 unexpected: opt_state/mu"):
        video_vit_state(stray)
    with pytest.raises(ValueError, match="1 unexpected: opt_state/mu"):
        attention_readout_state(stray, small_readout())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder/posenc/embeddings": None}, "encoder/posenc/embeddings' is missing"),
        ({"encoder/posenc/embeddings": torch.zeros(64, 64)}, r"has shape \(64, 64\), expected axes \(t, h, w, D\)"),
    ],
)
def test_an_architecture_that_cannot_be_read_is_an_error(official, change, message):
    arrays = {name: array for name, array in (bare(official) | prefixed(change)).items() if array is not None}
    with pytest.raises(ValueError, match=message):
        video_vit_config(arrays)


def prefixed(arrays: dict[str, Tensor | None]) -> dict[str, Tensor | None]:
    return {f"params/{name}": array for name, array in arrays.items()}


def test_a_readout_of_another_kind_is_refused(official):
    with pytest.raises(ValueError, match=r"unexpected: .*LayerNorm_0"):
        attention_readout_state(official, small_readout(simple=True))
    external = AttentionReadout(FeatureShape(8, 4, 4, 64), ReadoutSize(64, 4), 32, query_width=64)
    with pytest.raises(ValueError, match="do not match") as error:
        attention_readout_state(official, external)
    assert "2 missing: params/layers_2/Dense_2/kernel; params/layers_2/Dense_2/bias\n" in str(error.value)
    assert "1 unexpected: params/layers_2/query\n" in str(error.value)


def test_an_official_b_with_its_depth_readout_maps_completely():
    arrays = {name: torch.empty(shape, device="meta") for name, shape in OFFICIAL_B.items()}
    assert sum(array.numel() for array in arrays.values()) == 105_026_944
    assert video_vit_config(arrays) == video_vit.base()
    shapes = {name: array.shape for name, array in video_vit_state(arrays).items()}
    with torch.device("meta"):
        backbone = video_vit.base().build()
        readout = AttentionReadout(FeatureShape(8, 14, 14, 768), ReadoutSize(num_frames=16), 128, num_queries=6272)
    assert shapes == {name: tensor.shape for name, tensor in backbone.state_dict().items()}
    assert count(readout) == 17_587_840
    assert attention_readout_state(arrays, readout).keys() == readout.state_dict().keys()
