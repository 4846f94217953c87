"""DAVIS: masks are numbers of objects, beside their pictures, and what does not fit is told."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fourd.doctor.examine import ExamineConfig, examine
from fourd.doctor.readers import find_reader
from fourd.media import UnreadableVideo
from fourd.types import Batch
from tests.datasets.files import davis as files


def read(root: Path, index: int = 0, **changes: object) -> Batch:
    return replace(files.write(root), **changes).build().read(index, np.random.default_rng(0))


def test_masks_are_those_that_were_written(tmp_path: Path):
    for index, film in enumerate(files.STEPS):
        batch = read(tmp_path / film, index)
        (sample,) = batch.tasks
        assert batch.key == (f"davis/{film}/0",)
        assert torch.equal(sample.target.index[0], torch.from_numpy(files.masks(film)))
        assert torch.equal(sample.query.index, sample.target.index[:, :1])
        assert batch.video[0, 0, :, 10, 40].tolist() == pytest.approx(files.COLOURS[1], abs=12)


def test_pictures_and_the_query_are_stretched_alike_and_the_target_is_as_it_is_kept(tmp_path: Path):
    batch = read(tmp_path, size=(24, 192))
    (sample,) = batch.tasks
    assert batch.video.shape == (1, files.NUM_FRAMES, 3, 24, 192)
    assert sample.target.index.shape == (1, files.NUM_FRAMES, files.HEIGHT, files.WIDTH)
    mask = sample.query.index[0, 0]
    assert mask.shape == (24, 192)
    assert set(mask.unique().tolist()) == {0, 1, 2}
    assert mask[8, 90] == 1
    assert mask[8, 60] == 0
    assert batch.video[0, 0, :, 8, 90].tolist() == pytest.approx(files.COLOURS[1], abs=12)


def test_the_folder_of_the_archive_may_stand_between(tmp_path: Path):
    config = files.write(tmp_path / "DAVIS")
    dataset = replace(config, root=str(tmp_path)).build()
    assert [recording.key for recording in dataset.recordings] == list(files.STEPS)
    assert dataset.read(1, np.random.default_rng(0)).group == ("davis/bike",)


def test_a_film_with_a_gap_is_listed(tmp_path: Path):
    config = files.write(tmp_path)
    for part, ending in (("JPEGImages", "jpg"), ("Annotations", "png")):
        (tmp_path / part / "480p" / "bear" / f"00002.{ending}").unlink()
    (lost,) = config.build().unreadable
    assert "5 pictures, expected 00000.jpg and so on without a gap" in lost.reason


def test_crops_and_flips_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="expected whole pictures"):
        replace(files.write(tmp_path), flip=True)


def test_the_doctor_examines_it(tmp_path: Path):
    files.write(tmp_path)
    report = examine(find_reader("davis"), tmp_path, ("val",), ExamineConfig())
    (split,) = report.splits
    assert split.counts is not None
    assert (split.counts.num_found, split.counts.official, split.counts.clips) == (
        2,
        30,
        ("davis/bear/0", "davis/bike/0"),
    )


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
        (lambda path: Image.new("L", (96, 48), 255).save(path), "found 255, expected numbers of objects"),
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
