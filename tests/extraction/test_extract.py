"""Files of features hold what encoding a whole film by hand gives, and say where they come from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors import safe_open

import fourd.extraction
from fourd import video
from fourd.extraction import ExtractConfig, extract
from fourd.feature_film import FeatureFilm
from fourd.windows import RULE
from tests.extraction.small import assert_close, backbone, features_of, film, frames_of, image_encoder, stored

FULL = {"dtype": "float32"}


@pytest.mark.parametrize("num_frames", [1, 4, 5, 23])
@pytest.mark.parametrize("overlap", [0, 2])
def test_a_film_of_any_length_gives_what_encoding_it_by_hand_gives(num_frames: int, overlap: int, tmp_path: Path):
    path, model = film(tmp_path / "a.mp4", num_frames), backbone()
    (entry,) = extract(path, tmp_path / "out", model, ExtractConfig(overlap=overlap, **FULL), batch_size=3)
    found = stored(tmp_path / "out", "a.mp4")
    assert found["features"].dtype == torch.float32
    assert_close(found["features"], features_of(frames_of(path), model, overlap))
    assert (entry.status, entry.num_frames, entry.t, entry.h, entry.w, entry.width) == (
        *("done", num_frames, -(-num_frames // 2)),
        *(4, 4, 32),
    )


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_a_turned_film_is_encoded_upright(rotation: int, tmp_path: Path):
    path, model = film(tmp_path / "a.mp4", 8, rotation=rotation), backbone()
    extract(path, tmp_path / "out", model, ExtractConfig(**FULL))
    assert_close(stored(tmp_path / "out", "a.mp4")["features"], features_of(frames_of(path), model))


def test_several_depths_are_stored_side_by_side(tmp_path: Path):
    path, model = film(tmp_path / "a.mp4", 9), backbone()
    extract(path, tmp_path / "out", model, ExtractConfig(depths=(1.0, 0.5), **FULL))
    found = stored(tmp_path / "out", "a.mp4")
    assert found.keys() == {"features@1.0", "features@0.5", "time_s", "frame_start_s", "frame_end_s"}
    for depth in (1.0, 0.5):
        assert_close(found[f"features@{depth}"], features_of(frames_of(path), model, depth=depth))


def test_pooling_averages_over_space_or_everything(tmp_path: Path):
    path, model = film(tmp_path / "a.mp4", 9), backbone()
    whole = features_of(frames_of(path), model)
    expected = {"none": whole, "space": whole.mean((1, 2)), "clip": whole.mean((0, 1, 2))}
    for pooling in expected:
        (entry,) = extract(path, tmp_path / pooling, model, ExtractConfig(pooling=pooling, **FULL))
        found = stored(tmp_path / pooling, "a.mp4")
        assert found["features"].shape == expected[pooling].shape
        assert_close(found["features"], expected[pooling])
        assert len(found["time_s"]) == (1 if pooling == "clip" else 5)
        assert entry.t == 5
    assert found["time_s"].item() == pytest.approx(np.mean(np.arange(9) / 25))
    assert (found["frame_start_s"].item(), found["frame_end_s"].item()) == (0, pytest.approx(8 / 25))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_features_are_stored_in_the_type_asked_for(dtype: str, tmp_path: Path):
    path, model = film(tmp_path / "a.mp4", 6), backbone()
    extract(path, tmp_path / "out", model, ExtractConfig(dtype=dtype))
    found = stored(tmp_path / "out", "a.mp4")["features"]
    assert found.dtype == getattr(torch, dtype)
    assert_close(
        found, features_of(frames_of(path), model), {"float16": 1e-3, "bfloat16": 1e-2, "float32": 1e-5}[dtype]
    )


def test_bf16_on_request(tmp_path: Path):
    path, model = film(tmp_path / "a.mp4", 6), backbone()
    extract(path, tmp_path / "out", model, ExtractConfig(precision="bf16", **FULL))
    found, expected = stored(tmp_path / "out", "a.mp4")["features"], features_of(frames_of(path), model)
    assert_close(found, expected, 5e-2)
    assert (found - expected).abs().max() > 1e-4


@pytest.mark.parametrize("pooling", ["none", "clip"])
def test_features_that_the_type_cannot_hold_are_an_error_that_names_the_video(pooling: str, tmp_path: Path):
    path, model = film(tmp_path / "a.mp4", 6), backbone()
    with torch.no_grad():
        model.positions.fill_(1e6)
    with pytest.raises(
        ValueError, match=r"a\.mp4 is unreadable: features reach 1e\+06, .*float16 cannot hold.*bfloat16"
    ):
        extract(path, tmp_path / "out", model, ExtractConfig(depths=(0.2,), pooling=pooling))
    assert not list((tmp_path / "out").rglob("*.safetensors"))
    assert not list((tmp_path / "out").rglob("*.part"))
    extract(path, tmp_path / "other", model, ExtractConfig(depths=(0.2,), dtype="bfloat16", pooling=pooling))


@pytest.mark.parametrize("pooling", ["none", "clip"])
def test_a_film_whose_features_do_not_fit_is_listed_and_the_others_are_done(pooling: str, tmp_path: Path):
    for name, level in (("a", 0), ("b", 255), ("c", 0)):
        film(
            tmp_path / f"in/{name}.mp4",
            12,
            picture=lambda _, size, level=level: np.full((*size[::-1], 3), level, np.uint8),
        )
    model = backbone()
    with torch.no_grad():
        model.patch_embedding.weight.fill_(1e5)
        model.patch_embedding.bias.zero_()
    entries = extract(tmp_path / "in", tmp_path / "out", model, ExtractConfig(depths=(0.2,), pooling=pooling))
    assert [entry.status.partition(",")[0] for entry in entries] == [
        "done",
        "unreadable: features reach 3.84e+07",
        "done",
    ]
    assert not list((tmp_path / "out").rglob("*.part"))
    assert not (tmp_path / "out/b.mp4.safetensors").exists()


def test_a_broken_backbone_is_told_from_an_overflow(tmp_path: Path):
    path, model = film(tmp_path / "a.mp4", 6), backbone()
    with torch.no_grad():
        model.positions.fill_(torch.nan)
    with pytest.raises(ValueError, match=r"a\.mp4 is unreadable: the backbone gives features that are not finite"):
        extract(path, tmp_path / "out", model)


def test_an_image_encoder_sees_each_frame(tmp_path: Path):
    path, model = film(tmp_path / "a.mp4", 21), image_encoder()
    extract(path, tmp_path / "out", model, ExtractConfig(**FULL))
    found = stored(tmp_path / "out", "a.mp4")
    expected = model(frames_of(path)[None], [0.95])[0].grid[0]
    assert_close(found["features"][..., :3], expected[..., :3])  # colours; what follows is the place in the clip
    assert torch.equal(found["frame_start_s"], found["frame_end_s"])


def test_an_image_gives_one_time_step(tmp_path: Path):
    picture = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    model = backbone()
    (entry,) = extract(tmp_path / "a.png", tmp_path / "out", model, ExtractConfig(**FULL))
    found = stored(tmp_path / "out", "a.png")
    assert_close(found["features"], features_of(torch.from_numpy(picture).permute(2, 0, 1)[None], model))
    assert found["time_s"].tolist() == [0.0]
    assert (entry.t, entry.num_frames, entry.fps) == (1, 1, None)


def test_a_file_says_where_it_comes_from(tmp_path: Path):
    path, out = film(tmp_path / "a.mp4", 9), tmp_path / "out"
    (entry,) = fourd.extract(path, out, backbone(), ExtractConfig(depths=(0.5, 0.95), pooling="space"))
    with safe_open(out / "a.mp4.safetensors", "pt") as file:
        metadata = file.metadata()
    row = json.loads(metadata["row"])
    assert (row["path"], row["source_bytes"], row["status"]) == (str(path), path.stat().st_size, "done")
    config = json.loads(metadata["config"])
    assert (config["depths"], config["pooling"], config["num_frames"]) == ([0.5, 0.95], "space", 4)
    assert metadata["rule"] == RULE
    assert json.loads(metadata["blocks"]) == [backbone().block_at(0.5), backbone().block_at(0.95)]
    assert "VideoViT" in metadata["backbone"]
    index = pq.read_table(out / "index.parquet")
    assert index.schema.metadata[b"rule"].decode() == RULE
    assert index.to_pylist()[0]["fps"] == pytest.approx(25)
    assert entry.num_bytes == (out / "a.mp4.safetensors").stat().st_size


@pytest.mark.parametrize("num_frames", [1, 9])
def test_a_film_of_the_features_stands_beside_them(num_frames: int, tmp_path: Path):
    path, out = film(tmp_path / "a.mp4", num_frames), tmp_path / "out"
    config = ExtractConfig(overlap=2, pooling="clip")
    extract(path, out, backbone(), config)
    assert not (out / "a.mp4.mp4").exists()
    extract(path, out, backbone(), config, film=FeatureFilm)
    info = video.probe(out / "a.mp4.mp4")
    assert info.num_frames == num_frames
    if num_frames > 1:
        assert info.duration_s == pytest.approx(num_frames / 25)
    made = (out / "a.mp4.mp4").stat().st_mtime_ns
    extract(path, out, backbone(), config, film=FeatureFilm)
    assert (out / "a.mp4.mp4").stat().st_mtime_ns == made
