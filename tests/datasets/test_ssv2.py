"""Something-Something v2: classes come from templates, films from wherever they lie, nothing is left out unsaid."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fourd.datasets import Windows, ssv2
from fourd.datasets.ssv2 import Ssv2, Ssv2Config
from fourd.index import build
from fourd.loader import in_order
from fourd.media import UnreadableVideo
from fourd.types import Batch, Unreadable
from tests.datasets.files import ssv2 as files
from tests.films import read_number, truncate, write_film


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Ssv2Config:
    return files.write(tmp_path_factory.mktemp("ssv2") / "root")


@pytest.fixture
def config(written: Ssv2Config, tmp_path: Path) -> Ssv2Config:
    """Copy the fixture, so that a test may break it."""
    return replace(written, root=str(shutil.copytree(written.root, tmp_path / "root")))


def first(dataset: Ssv2, index: int = 0) -> Batch:
    return dataset.read(index, np.random.default_rng(0))


def numbers(batch: Batch) -> list[int]:
    return [read_number(frame.permute(1, 2, 0).numpy()) for frame in batch.video[0]]


def label(batch: Batch) -> int:
    return int(batch.tasks[0].target.index)


def labels(dataset: Ssv2) -> dict[str, int]:
    return {recording.key: label(first(dataset, index)) for index, recording in enumerate(dataset.recordings)}


def refusals(dataset: Ssv2) -> str:
    return "\n".join(f"{lost.path}: {lost.reason}" for lost in dataset.unreadable)


def change(config: Ssv2Config, name: str, edit: Callable[[Any], Any]) -> None:
    """Edit a JSON file of a copy."""
    path = Path(config.root) / "labels" / name
    told = json.loads(path.read_text())
    edit(told)
    path.write_text(json.dumps(told))


# ----------------------------------------------------------------------------- what is read


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_films_have_the_class_of_their_template_and_their_own_length(written: Ssv2Config, split: str):
    dataset = replace(written, split=split).build()
    assert labels(dataset) == {key: files.CLASS[key] for key in files.SPLIT[split]}
    assert {r.key: r.num_frames for r in dataset.recordings} == {k: files.NUM_FRAMES[k] for k in files.SPLIT[split]}
    assert not dataset.unreadable
    assert not dataset.damaged


def test_frames_are_those_that_were_asked_for(written: Ssv2Config):
    dataset = replace(written, sampling=Windows(2, hop=3)).build()
    clips = [first(dataset, index) for index in range(5)]  # 20 frames: windows of 7 from 0, 3, 6, 9 and 12
    assert [numbers(clip) for clip in clips] == [[start + 2 * n for n in range(4)] for start in range(0, 13, 3)]
    times = torch.tensor([numbers(clip) for clip in clips]) / files.FPS
    torch.testing.assert_close(torch.cat([clip.time_s for clip in clips]), times, atol=2e-3, rtol=0)
    assert clips[1].key == ("ssv2/78687/1",)
    assert clips[1].group == ("ssv2/78687",)
    assert clips[0].video.shape == (1, 4, 3, files.HEIGHT, files.WIDTH)


def test_a_short_film_repeats_its_last_frame(written: Ssv2Config):
    dataset = replace(written, num_frames=16).build()
    assert numbers(first(dataset, 2)) == [0, 1, 2, 3, 4, 5, 6, *[6] * 9]


def test_class_names_stand_in_the_order_of_their_numbers(written: Ssv2Config):
    names = ssv2.class_names(written.root)
    assert names == tuple(files.TEMPLATES[number].replace("[something]", "something") for number in range(4))
    with pytest.raises(FileNotFoundError, match=r"labels\.json or something-something-v2-labels\.json"):
        ssv2.class_names(str(Path(written.root) / files.FOLDER))


def test_mirroring_is_refused():
    with pytest.raises(ValueError, match="left and right tell classes apart"):
        Ssv2Config(root="anywhere", flip=True)


def test_base_describes_a_split():
    assert ssv2.base("somewhere") == Ssv2Config(root="somewhere", split="validation", tasks=("action",))
    assert ssv2.base("somewhere", "train").split == "train"


@pytest.mark.parametrize(
    ("folder", "lists"), [("videos", "."), (f"videos/{files.FOLDER}", "annotations"), (".", "labels")]
)
def test_films_and_lists_may_lie_elsewhere(written: Ssv2Config, tmp_path: Path, folder: str, lists: str):
    shutil.copytree(Path(written.root) / files.FOLDER, tmp_path / folder, dirs_exist_ok=True)
    files.write_lists(tmp_path / lists, prefix="something-something-v2-" if lists == "." else "")
    moved = replace(written, root=str(tmp_path)).build()
    assert moved.fingerprint == written.build().fingerprint
    assert [r.key for r in moved.recordings] == list(files.SPLIT["train"])


def test_transcoded_films_serve_where_the_originals_are_gone(config: Ssv2Config):
    folder = Path(config.root) / files.FOLDER
    (folder / "3201.webm").unlink()
    for key in ("3201", "42326"):
        write_film(folder / f"{key}.mp4", 18, size=(files.WIDTH, files.HEIGHT))
    dataset = config.build()
    assert {r.key: r.num_frames for r in dataset.recordings} == {"78687": 20, "3201": 18, "42326": 7}


def test_links_to_films_and_folders_are_followed(config: Ssv2Config, tmp_path: Path):
    folder = Path(config.root) / files.FOLDER
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "900.webm").rename(tmp_path / "blob")
    (tmp_path / "blob").rename(tmp_path / "blob.webm")
    (folder / "900.webm").symlink_to(tmp_path / "blob.webm")
    dataset = replace(config, split="validation").build()
    assert labels(dataset) == {"900": 3, "101": 0}


# ----------------------------------------------------------------------------- lists of paths


LINES = {
    "with spaces/78687.webm 2": ("78687", 2),
    "with spaces/3201.webm::0": ("3201", 0),
    '"with spaces/42326.webm" 1': ("42326", 1),
    "with::colons/900.webm 3": ("900", 3),
    "": None,
}


def test_lists_of_paths_are_read(config: Ssv2Config, tmp_path: Path):
    root = Path(config.root)
    (root / "with::colons").mkdir()
    (root / files.FOLDER / "900.webm").rename(root / "with::colons" / "900.webm")
    (root / files.FOLDER).rename(root / "with spaces")
    absolute = root / "with spaces" / "101.webm"
    (tmp_path / "my list.csv").write_text("\n".join([*LINES, f"{absolute} 0"]) + "\n")
    dataset = replace(config, film_list=str(tmp_path / "my list.csv")).build()
    assert labels(dataset) == dict(found for found in LINES.values() if found) | {"101": 0}
    shutil.rmtree(root / "labels")
    (root / "val.csv").write_text("with spaces/101.webm 0")
    assert labels(replace(config, split="validation").build()) == {"101": 0}


def test_lines_of_another_form_are_listed(config: Ssv2Config):
    lines = ["3201.webm", f"{files.FOLDER}/3201.webm -1", f"{files.FOLDER}/3201.webm 174", f"{files.FOLDER}/900.webm 3"]
    (Path(config.root) / "mine.csv").write_text("\n".join(lines))
    dataset = replace(config, film_list="mine.csv").build()
    assert [lost.path.rpartition("/")[2] for lost in dataset.unreadable] == ["mine.csv:1", "mine.csv:2", "mine.csv:3"]
    assert "found '3201.webm', expected `path label`, a label from 0 to 173" in refusals(dataset)
    assert labels(dataset) == {"900": 3}


def test_a_film_that_is_listed_twice_counts_once(config: Ssv2Config):
    change(config, "train.json", lambda told: told.append({**told[0], "template": files.TEMPLATES[3]}))
    dataset = config.build()
    assert labels(dataset)["78687"] == 2
    assert "78687.webm of class 2: list it once" in refusals(dataset)


# ----------------------------------------------------------------------------- broken copies


def test_films_that_cannot_be_had_are_listed_and_never_replaced(config: Ssv2Config):
    folder = Path(config.root) / files.FOLDER
    (folder / "3201.webm").unlink()
    (folder / "42326.webm").write_bytes(b"no film at all" * 100)
    dataset = config.build()
    assert [r.key for r in dataset.recordings] == ["78687"]
    reasons = {Path(lost.path).name: lost.reason for lost in dataset.unreadable}
    assert set(reasons) == {"3201.webm", "42326.webm"}
    assert "no such film, and the list names it" in reasons["3201.webm"]
    (folder / "78687.webm").unlink()
    with pytest.raises(ValueError, match=r"no clip of split 'train'.*78687.webm: no such film"):
        config.build()


def test_a_film_that_was_cut_off_is_used_up_to_the_damage(config: Ssv2Config, tmp_path: Path):
    folder = Path(config.root) / files.FOLDER
    (folder / "3201.webm").unlink()
    whole = write_film(tmp_path / "whole.mp4", 31, size=(files.WIDTH, files.HEIGHT), index_first=True)
    truncate(whole, folder / "3201.mp4")
    dataset = config.build()
    lengths = {r.key: r.num_frames for r in dataset.recordings}
    assert 0 < lengths["3201"] < 31
    (damage,) = dataset.damaged
    assert damage.path.endswith("3201.mp4")
    assert damage.reason.startswith("used up to the damage: ")


def test_a_film_that_breaks_later_is_named_by_whoever_reads_it(config: Ssv2Config):
    dataset = config.build()
    path = Path(config.root) / files.FOLDER / "3201.webm"
    write_film(path, 9, size=(files.WIDTH, files.HEIGHT), codec="libvpx-vp9")
    with pytest.raises(UnreadableVideo, match=r"3201.webm: changed since"):
        first(dataset, 1)
    lost: list[Unreadable] = []
    assert [batch.key[0] for batch in in_order(dataset, 1, unreadable=lost)] == ["ssv2/78687/0", "ssv2/42326/0"]
    assert [Path(one.path).name for one in lost] == ["3201.webm"]


BROKEN_ITEMS = {
    "template of no class": (
        lambda item: item.update(template="Eating [something]"),
        "'Eating .something.', expected one",
    ),
    "no template": (lambda item: item.pop("template"), "field 'template': found None"),
    "label in its place": (lambda item: item.update(template=item["label"]), "field 'template': found 'covering a cup"),
    "no id": (lambda item: item.pop("id"), "field 'id': found None, expected a number"),
    "id of another kind": (lambda item: item.update(id="../3201"), "field 'id': found '../3201'"),
}


@pytest.mark.parametrize("case", BROKEN_ITEMS)
def test_broken_items_are_listed_with_their_field(config: Ssv2Config, case: str):
    edit, reason = BROKEN_ITEMS[case]
    change(config, "train.json", lambda told: edit(told[1]))
    dataset = config.build()
    assert [r.key for r in dataset.recordings] == ["78687", "42326"]
    (lost,) = dataset.unreadable
    assert lost.path.endswith("train.json[1]")
    assert re.search(reason, lost.reason)


BROKEN_LABELS = {
    "a list": ('["a"]', "found a list, expected a table"),
    "cut off": ('{"Covering', "not JSON"),
    "no number": ('{"Covering something": "zero"}', "field 'Covering something': found 'zero'"),
    "a gap": ('{"a": "0", "b": "2"}', "its 2 classes do not have the numbers 0 to 1"),
    "twice": ('{"a": "0", "b": "0"}', "its 2 classes do not have the numbers 0 to 1"),
}


@pytest.mark.parametrize("case", BROKEN_LABELS)
def test_a_broken_list_of_classes_is_named(config: Ssv2Config, case: str):
    text, reason = BROKEN_LABELS[case]
    (Path(config.root) / "labels" / "labels.json").write_text(text)
    with pytest.raises(ValueError, match=f"labels.json: {reason}"):
        config.build()


def test_missing_and_broken_lists_are_named(config: Ssv2Config):
    folder = Path(config.root) / "labels"
    (folder / "train.json").write_text('{"id": 3}')
    with pytest.raises(ValueError, match=r"train.json: found a dict, expected a list of films"):
        config.build()
    (folder / "train.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"train\.csv in ROOT, labels, annotations; expected it, or train"):
        config.build()
    (folder / "test-answers.csv").write_text("55;Eating something\n")
    with pytest.raises(ValueError, match="field 'answer': found 'Eating something'"):
        replace(config, split="test").build()
    (folder / "test-answers.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"test-answers\.csv"):
        replace(config, split="test").build()


# ----------------------------------------------------------------------------- the index


def test_films_are_looked_into_once(config: Ssv2Config, monkeypatch: pytest.MonkeyPatch):
    looked: list[str] = []
    probe_all = build.probe_all

    def counted(root, found, *rest):
        found = list(found)
        looked.extend(os.path.basename(file.path) for file in found)
        return probe_all(root, found, *rest)

    monkeypatch.setattr(build, "probe_all", counted)
    once = config.build()
    assert sorted(looked) == ["3201.webm", "42326.webm", "78687.webm"], "films of other splits are not looked into"
    again = replace(config, portion="all", num_frames=2).build()
    assert len(looked) == 3
    assert again.recordings == once.recordings
    write_film(Path(config.root) / files.FOLDER / "3201.webm", 5, size=(64, 48), codec="libvpx-vp9")
    changed = config.build()
    assert looked[3:] == ["3201.webm"]
    assert changed.fingerprint != once.fingerprint


def test_the_fingerprint_tells_other_labels(config: Ssv2Config):
    before = config.build().fingerprint
    change(config, "train.json", lambda told: told[0].update(template=files.TEMPLATES[3]))
    assert config.build().fingerprint != before


def test_a_dataset_can_be_sent_to_another_process(written: Ssv2Config):
    dataset = written.build()
    sent = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(first(sent, 1).video, first(dataset, 1).video)
