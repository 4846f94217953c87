"""Kinetics: clips are found by their names, classes numbered by the alphabet, and films told from clips."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fourd.datasets import RandomWindow, kinetics
from fourd.datasets.kinetics import Kinetics, KineticsConfig
from fourd.media import UnreadableVideo
from fourd.types import Batch
from tests.datasets.files import kinetics as files
from tests.films import read_number, write_film

TRAIN = tuple(clip for clip in files.CLIPS if clip.split == "train")
VAL = tuple(clip for clip in files.CLIPS if clip.split == "val")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> KineticsConfig:
    return files.write(tmp_path_factory.mktemp("kinetics") / "root")


@pytest.fixture
def config(written: KineticsConfig, tmp_path: Path) -> KineticsConfig:
    """Copy the fixture, so that a test may break it."""
    return replace(written, root=str(shutil.copytree(written.root, tmp_path / "root")))


def first(dataset: Kinetics, index: int = 0) -> Batch:
    return dataset.read(index, np.random.default_rng(0))


def labels(dataset: Kinetics) -> dict[str, int]:
    found = (int(first(dataset, index).tasks[0].target.index) for index in range(len(dataset)))
    return {recording.key: label for recording, label in zip(dataset.recordings, found, strict=True)}


def film(config: KineticsConfig, clip: files.Clip) -> Path:
    return Path(config.root) / clip.folder / f"{clip.name}.mp4"


def edit_list(config: KineticsConfig, number: int, line: str) -> None:
    """Replace a line of the training list, counted from 1."""
    path = Path(config.root) / "annotations" / "train.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[: number - 1], line, *lines[number:]]) + "\n")


# ----------------------------------------------------------------------------- what is read


@pytest.mark.parametrize(("split", "clips"), [("train", TRAIN), ("val", VAL)])
def test_clips_have_the_label_length_and_film_of_their_line(written, split, clips):
    dataset = replace(written, split=split).build()
    assert labels(dataset) == {clip.name: clip.label for clip in clips}
    assert [r.num_frames for r in dataset.recordings] == [clip.num_frames for clip in clips]
    assert [r.group for r in dataset.recordings] == [clip.youtube_id for clip in clips]
    assert not dataset.unreadable


def test_frames_are_those_that_were_asked_for(written: KineticsConfig):
    batch = first(replace(written, num_frames=5, sampling=RandomWindow(3)).build(), 1)
    shown = [read_number(frame.permute(1, 2, 0).numpy()) for frame in batch.video[0]]
    assert shown == [shown[0] + 3 * number for number in range(5)]
    torch.testing.assert_close(batch.time_s[0], torch.tensor(shown) / files.FPS, atol=1e-4, rtol=0)
    assert batch.key == ("kinetics/-abcDEF_12__000100_000110/0",)
    assert batch.group == ("kinetics/-abcDEF_12_",)


def test_clips_of_one_film_are_of_one_portion(written: KineticsConfig):
    groups = {}
    for portion in ("learn", "choose"):
        try:
            groups[portion] = {r.group for r in replace(written, portion=portion).build().recordings}
        except ValueError:  # of three films, one in ten may be none
            groups[portion] = set()
    assert groups["learn"] | groups["choose"] == {clip.youtube_id for clip in TRAIN}
    assert not groups["learn"] & groups["choose"]


def test_classes_are_numbered_by_the_alphabet_of_all_splits(config: KineticsConfig):
    assert kinetics.class_names(config.root, 3) == files.CLASSES
    (Path(config.root) / "annotations" / "train.csv").unlink()
    with pytest.raises(UnreadableVideo, match=r"val.csv: column 'label': found 2 classes, expected 3"):
        kinetics.class_names(config.root, 3)
    with pytest.raises(FileNotFoundError, match=r"val\.csv"):
        kinetics.class_names(str(Path(config.root) / "train"), 3)


@pytest.mark.parametrize(("describe", "classes"), [("k400", 400), ("k600", 600), ("k700", 700), ("base", 700)])
def test_factories_describe_their_version(describe: str, classes: int):
    config = getattr(kinetics, describe)("somewhere")
    assert config == KineticsConfig(root="somewhere", split="val", classes=classes, tasks=("action",))
    assert getattr(kinetics, describe)("somewhere", "train").split == "train"
    with pytest.raises(ValueError, match="split: found 'validation'; expected train, val, test"):
        getattr(kinetics, describe)("somewhere", "validation")


def test_lists_of_one_version_are_told_from_those_of_another(config: KineticsConfig):
    root = Path(config.root)
    (root / "annotations").rename(root / "kinetics3_2020")
    files.write_list(root / "annotations" / "kinetics_400_train.csv", "val")
    (root / "kinetics3_2020" / "val.csv").rename(root / "kinetics3_2020" / "validate.csv")
    assert labels(config.build()) == {clip.name: clip.label for clip in TRAIN}
    assert labels(replace(config, split="val").build()) == {clip.name: clip.label for clip in VAL}


def test_a_replacement_counts_before_the_film_that_it_replaces(config: KineticsConfig):
    root = Path(config.root)
    replaced, own = VAL
    for clip, folder in ((replaced, "replacement_for_corrupted"), (own, "another")):
        (root / folder).mkdir()
        write_film(root / folder / f"{clip.name}.mp4", 13, size=(files.WIDTH, files.HEIGHT))
    lengths = {r.key: r.num_frames for r in replace(config, split="val").build().recordings}
    assert lengths == {replaced.name: 13, own.name: own.num_frames}


def test_lists_of_paths_are_read(config: KineticsConfig):
    root = Path(config.root)
    lines = [f"{clip.folder}/{clip.name}.mp4 {clip.label}".removeprefix("/") for clip in TRAIN]
    (root / "paths.csv").write_text("\n".join([*lines, "train/none.mp4 3"]))
    dataset = replace(config, film_list="paths.csv").build()
    assert labels(dataset) == {clip.name: clip.label for clip in TRAIN}
    assert [r.group for r in dataset.recordings] == [clip.youtube_id for clip in TRAIN]
    (lost,) = dataset.unreadable
    assert lost.path.endswith("paths.csv:5")
    assert "a label from 0 to 2" in lost.reason
    official = config.build()
    assert [r.identity for r in dataset.recordings] == [r.identity for r in official.recordings]
    shutil.rmtree(root / "annotations")
    (root / "paths.csv").rename(root / "train.csv")
    assert len(config.build()) == 4
    with pytest.raises(FileNotFoundError, match="found no"):
        kinetics.class_names(config.root, 3)
    (root / "train.csv").rename(root / "val.csv")
    with pytest.raises(FileNotFoundError, match="do not name classes"):
        kinetics.class_names(config.root, 3)


def test_films_that_lists_share_are_told(config: KineticsConfig, tmp_path: Path):
    train = Path(config.root) / "annotations" / "train.csv"
    val = tmp_path / "val.csv"
    shared = "-abcDEF_12_"
    val.write_text(f"{files.HEADER}\nabseiling,{shared},3,13,val\nzumba,another____,0,10,val\n")
    assert kinetics.shared_films(train, val) == (shared,)
    assert kinetics.shared_films(train, Path(config.root) / "annotations" / "val.csv") == ()
    paths = tmp_path / "paths.csv"
    paths.write_text("a/zzzz_0-A_b__000500_000510.mp4 0\na/-abcDEF_12__000003_000013.mp4 1\n")
    assert kinetics.shared_films(str(train), str(paths)) == (shared, "zzzz_0-A_b_")


# ----------------------------------------------------------------------------- broken copies


def test_missing_and_undecodable_films_are_listed_and_never_replaced(config: KineticsConfig):
    gone, broken, *kept = TRAIN
    film(config, gone).unlink()
    film(config, broken).write_bytes(b"")
    dataset = config.build()
    assert [r.key for r in dataset.recordings] == [clip.name for clip in kept]
    reasons = {Path(lost.path).stem: lost.reason for lost in dataset.unreadable}
    assert set(reasons) == {gone.name, broken.name}
    assert "no such film" in reasons[gone.name]
    assert len(dataset) + len(dataset.unreadable) == len(TRAIN)


BROKEN_LINES = {
    "another split": ("abseiling,-abcDEF_12_,100,110,val", "column 'split': found 'val', expected train"),
    "no time": ("abseiling,-abcDEF_12_,100,,train", "column 'time_end': found nothing"),
    "cut off": ("abseiling,-abc", "column 'time_start': found nothing; was the list cut off"),
    "words for a time": ("abseiling,-abcDEF_12_,soon,110,train", "column 'time_start': found 'soon', expected seconds"),
    "an endless time": ("abseiling,-abcDEF_12_,inf,110,train", "column 'time_start': found 'inf'"),
    "a path for an id": ("abseiling,../../x,100,110,train", "column 'youtube_id': found '../../x'"),
}


@pytest.mark.parametrize("case", BROKEN_LINES)
def test_broken_lines_are_listed_with_their_column(config: KineticsConfig, case: str):
    line, reason = BROKEN_LINES[case]
    edit_list(config, 3, line)
    dataset = config.build()
    assert len(dataset) == 3
    (lost,) = dataset.unreadable
    assert lost.path.endswith("train.csv:3")
    assert re.search(reason, lost.reason)


def test_a_list_without_labels_is_refused(config: KineticsConfig):
    path = Path(config.root) / "annotations" / "test.csv"
    path.write_text("youtube_id,time_start,time_end,split\nval_val_val,12,22,test\n")
    with pytest.raises(ValueError, match=r"test.csv: no column label.*split without labels"):
        replace(config, split="test").build()
    path.unlink()
    with pytest.raises(FileNotFoundError, match="expected the list of split 'test'"):
        replace(config, split="test").build()


def test_lists_of_another_version_are_refused(config: KineticsConfig):
    with pytest.raises(ValueError, match="found 3 classes, expected 700"):
        replace(config, classes=700).build()


def test_a_list_that_is_no_text_is_named(config: KineticsConfig):
    path = Path(config.root) / "annotations" / "train.csv"
    path.write_bytes(path.read_bytes()[:60] + b"\xff\xfe\x80" + path.read_bytes()[60:])
    with pytest.raises(ValueError, match=r"train.csv: not a text in UTF-8"):
        config.build()
    path.write_text(f'{files.HEADER}\n"' + "x" * 200_000)
    with pytest.raises(ValueError, match=r"train.csv: not CSV"):
        config.build()
