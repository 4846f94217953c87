"""DAVIS: masks are numbers of objects, beside their pictures, and what does not fit is told."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fourd.media import UnreadableVideo
from fourd.types import Batch
from tests.datasets.files import davis as files


def read(root: Path, index: int = 0, **changes: object) -> Batch:
    return replace(files.write(root), **changes).build().read(index, np.random.default_rng(0))


def test_masks_are_those_that_were_written(tmp_path: Path):
    for index, film in enumerate(files.STEPS):
        batch = read(tmp_path / film, index)
        (sample,) = batch.tasks
        assert batch.key == (f"davis/{film}",)
        assert torch.equal(sample.target.index[0], torch.from_numpy(files.masks(film)))
        assert torch.equal(sample.query.index, sample.target.index[:, :1])
        assert batch.video[0, 0, :, 10, 40].tolist() == pytest.approx(files.COLOURS[1], abs=12)


def test_masks_and_pictures_are_stretched_alike(tmp_path: Path):
    batch = read(tmp_path, size=(24, 192))
    mask = batch.tasks[0].target.index[0, 0]
    assert mask.shape == (24, 192)
    assert set(mask.unique().tolist()) == {0, 1, 2}
    assert mask[8, 90] == 1
    assert mask[8, 60] == 0


def test_a_film_without_all_masks_is_listed(tmp_path: Path):
    config = files.write(tmp_path)
    (tmp_path / "Annotations" / "480p" / "bike" / "00003.png").unlink()
    dataset = config.build()
    assert len(dataset) == 1
    assert "5 masks for 6 pictures" in dataset.unreadable[0].reason


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:40]), "not a picture that can be decoded"),
        (lambda path: Image.new("P", (10, 20)).save(path), "10, 20.* pixels, its picture has .96, 48"),
        (lambda path: Image.new("RGB", (96, 48)).save(path), "mode RGB, expected numbers of objects"),
    ],
)
def test_a_mask_that_is_none_is_told(tmp_path: Path, spoil, message: str):
    config = files.write(tmp_path)
    spoil(tmp_path / "Annotations" / "480p" / "bear" / "00002.png")
    with pytest.raises(UnreadableVideo, match=message) as error:
        config.build().read(0, np.random.default_rng(0))
    assert "00002.png" in str(error.value)


def test_without_its_list_it_is_not_there(tmp_path: Path):
    config = files.write(tmp_path)
    shutil.rmtree(tmp_path / "ImageSets")
    with pytest.raises(FileNotFoundError, match=r"val\.txt.*fourd data doctor davis"):
        config.build()
