"""The encoder and the readouts against numbers from the official JAX code, with random weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from einops import rearrange
from torch import Tensor

from fourd.backbones.video_vit import VideoViT, VideoViTConfig, feature_index
from fourd.readout import AttentionReadout, ReadoutSize
from fourd.tokens import cubic_resampling
from fourd.types import Features, FeatureShape
from fourd.weights import READOUT_PREFIX, attention_readout_state, read_npz, video_vit_config, video_vit_state

GOLDEN = Path(__file__).parent / "golden"
SMALL = VideoViTConfig(width=64, depth=4, num_heads=4, mlp_width=256, patch=(2, 8, 8), num_frames=8, size=(32, 32))
SIZE = ReadoutSize(width=64, num_heads=4, num_frames=8)
GRID = FeatureShape(4, 4, 4, 64)
TOLERANCE = 1e-5


def largest_error(ours: Tensor, official: Tensor) -> float:
    assert ours.shape == official.shape
    return float((ours - official).detach().abs().max())


def load_readout(readout: AttentionReadout, arrays: Mapping[str, Tensor]) -> AttentionReadout:
    readout.load_state_dict(attention_readout_state(arrays, readout), strict=True)
    return readout


@pytest.fixture(scope="module")
def params() -> dict[str, Tensor]:
    return read_npz(GOLDEN / "small_params.npz")


@pytest.fixture(scope="module")
def numbers() -> dict[str, Tensor]:
    return read_npz(GOLDEN / "small_io.npz")


@pytest.fixture(scope="module")
def encoder(params) -> VideoViT:
    backbone = video_vit_config(params).build()
    backbone.load_state_dict(video_vit_state(params), strict=True)
    return backbone


@pytest.fixture(scope="module")
def video(numbers) -> Tensor:
    return rearrange(numbers["video"], "b t h w c -> b t c h w")


@pytest.fixture(scope="module")
def variants() -> dict[str, Tensor]:
    return read_npz(GOLDEN / "readout_variants.npz")


def of_variant(arrays: Mapping[str, Tensor], letter: str) -> dict[str, Tensor]:
    prefix = f"{letter}/params/"
    return {READOUT_PREFIX + name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}


def test_the_architecture_is_read_from_the_arrays(params):
    assert video_vit_config(params) == SMALL


@pytest.mark.parametrize("with_grad", [False, True], ids=["fused-softmax", "explicit-softmax"])
def test_encoder_gives_the_official_list_of_features(encoder, video, numbers, with_grad):
    depths = [(index + 1) / (SMALL.depth + 1) for index in range(SMALL.depth + 1)]
    assert [feature_index(depth, SMALL.depth) for depth in depths] == [0, 1, 2, 3, 4]
    with torch.set_grad_enabled(with_grad):
        features = encoder(video, depths)
    for index, entry in enumerate(features):
        official = numbers[f"inter/layers_0/__call__/0/{index}"]
        assert largest_error(entry.grid.flatten(1, 3), official) < TOLERANCE, index


def test_each_block_gives_the_official_output(encoder, numbers):
    tokens = numbers["inter/layers_0/encoder/__call__/0"]
    for number, block in enumerate(encoder.blocks):
        tokens = block(tokens)
        assert largest_error(tokens, numbers[f"inter/layers_0/processor/layers_{number}/__call__/0"]) < TOLERANCE


@torch.no_grad()
def test_depth_readout_gives_the_official_depth(encoder, params, video, numbers):
    num_outputs = 2 * 4 * 4
    readout = load_readout(AttentionReadout(GRID, SIZE, num_outputs, num_queries=4 * 8 * 8), params)
    (features,) = encoder(video, [0.95])
    pattern = "b (t h w) (pt ph pw c) -> b (t pt) (h ph) (w pw) c"
    depth = rearrange(readout(features), pattern, t=4, h=8, w=8, pt=2, ph=4, pw=4)
    assert largest_error(depth, numbers["depth"]) < TOLERANCE


@torch.no_grad()
def test_readout_with_external_queries_gives_the_official_answers(variants):
    readout = load_readout(AttentionReadout(GRID, SIZE, 4, query_width=32), of_variant(variants, "q"))
    features = Features(rearrange(variants["feats"], "b t (h w) d -> b t h w d", h=4))
    assert largest_error(readout(features, variants["queries"]), variants["out_queries"]) < TOLERANCE


@torch.no_grad()
def test_simple_readout_gives_the_official_answer(variants):
    size = ReadoutSize(width=64, num_heads=4, simple=True)
    readout = AttentionReadout(FeatureShape(8, 4, 4, 64), size, 10, num_queries=1)
    features = Features(rearrange(variants["feats"], "b t (h w) d -> b t h w d", h=4))
    answer = load_readout(readout, of_variant(variants, "s"))(features)
    assert largest_error(answer[:, 0], variants["out_simple"]) < TOLERANCE


@pytest.mark.parametrize(("num_in", "num_out"), [(16, 8), (1, 16), (5, 13), (8, 16)])
def test_cubic_resampling_is_the_official_one(num_in, num_out):
    arrays = read_npz(GOLDEN / f"resize_{num_in}_{num_out}.npz")
    ours = torch.einsum("Tt,bthw->bThw", cubic_resampling(num_in, num_out), arrays["x"])
    assert largest_error(ours, arrays["cubic"]) < 1e-6
    if num_in > 1:  # a single frame is repeated by either method
        assert largest_error(ours, arrays["linear"]) > 1e-3
