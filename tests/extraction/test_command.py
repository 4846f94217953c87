"""`fourd extract` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from fourd import provenance, weights
from fourd.cli import extract as command
from fourd.extraction import read_index
from tests.extraction.small import backbone, features_of, film, frames_of, stored


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Save the tiny encoder."""
    path, model = tmp_path / "tiny.safetensors", backbone()
    weights.save_module(model, path, json.dumps(provenance.describe(model.config)))
    return path


def test_the_command_writes_features_and_says_where(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    video = film(tmp_path / "videos" / "a.mp4", 9)
    (tmp_path / "videos" / "b.mp4").touch()
    out = tmp_path / "out"
    words = [tmp_path / "videos", "--out", out, "--backbone", saved, "--depths", 0.5, 1.0, "--overlap", 2]
    command.run([*map(str, words), "--dtype", "float32", "--device", "cpu", "--picture"])
    captured = capsys.readouterr()
    told = captured.out
    assert "extract: 100%, 2/2 inputs, " in captured.err
    assert f"left, to {out}" in captured.err
    assert "inputs:   1 done, 1 unreadable" in told
    assert f"index:    {out}/index.parquet" in told
    found = stored(out, "a.mp4")
    expected = features_of(frames_of(video), backbone(), overlap=2, depth=0.5)
    torch.testing.assert_close(found["features@0.5"], expected, atol=1e-5, rtol=1e-5)
    assert (out / "a.mp4.mp4").exists()
    assert [row.status for row in read_index(out / "index.parquet")] == ["done", "unreadable: empty file (0 bytes)"]


def test_a_backbone_without_a_native_size_keeps_the_aspect(saved: Path, tmp_path: Path):
    video = film(tmp_path / "a.mp4", 4, size=(96, 48))
    words = [video, "--out", tmp_path / "out", "--backbone", saved, "--no-native-size", "--fit", "keep"]
    command.run(list(map(str, words)))
    assert stored(tmp_path / "out", "a.mp4")["features"].shape == (2, 4, 8, 32)


def test_a_mistaken_name_is_told_before_weights_are_fetched(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"there is no .*a\.mp4"):
        command.run([str(tmp_path / "a.mp4"), "--out", str(tmp_path / "out"), "--backbone", "no such backbone"])


@pytest.mark.parametrize("words", [["a.mp4"], ["--out", "out"], ["a.mp4", "--out", "out", "--fit", "stretch"]])
def test_words_that_mean_nothing_are_an_error(words: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises((SystemExit, ValueError)):
        command.run(words)
