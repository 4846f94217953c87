"""Perception Test: every point and box is where its file puts it, and what does not fit is named."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fourd.datasets.perception_test import PerceptionTestConfig
from fourd.media import UnreadableVideo
from tests.datasets.files import perception_test as files
from tests.films import read_number, write_film

NUM_FRAMES = 8


@pytest.fixture
def boxed(tmp_path: Path) -> PerceptionTestConfig:
    """Describe clips of the frames in which boxes are annotated."""
    return files.write(tmp_path / "root")


@pytest.fixture
def dense(boxed: PerceptionTestConfig) -> PerceptionTestConfig:
    """Describe clips of all frames, with points alone."""
    return replace(boxed, tasks=("point_tracking",), num_frames=NUM_FRAMES)


def read(dataset, index: int):
    return dataset.read(index, np.random.default_rng(0))


def shown(batch) -> list[int]:
    return [read_number(frame.permute(1, 2, 0).numpy()) for frame in batch.video[0]]


def change(config: PerceptionTestConfig, name: str, edit) -> None:
    path = Path(config.root) / name
    told = json.loads(path.read_text())
    edit(told)
    path.write_text(json.dumps(told))


def refusals(config: PerceptionTestConfig) -> str:
    return "\n".join(f"{lost.path}: {lost.reason}" for lost in config.build().unreadable)


# ----------------------------------------------------------------------------- what is read


def test_points_are_where_the_file_puts_them(dense: PerceptionTestConfig):
    dataset = dense.build()
    assert [recording.key for recording in dataset.recordings] == ["video_11", "video_7"]
    assert len(dataset) == 35 // NUM_FRAMES + 41 // NUM_FRAMES
    assert dataset.num_points == 3
    batch = read(dataset, len(dataset) - 1)
    frames = list(range(32, 40))
    assert shown(batch) == frames
    assert batch.key == ("perception_test/video_7/4",)
    assert batch.group == ("perception_test/video_7",)
    np.testing.assert_allclose(batch.time_s[0], np.array(frames) / files.FPS, atol=1e-5)
    target = batch.tasks[0].target
    truth = files.pixels([[files.point_xy("video_7", number, frame) for frame in frames] for number in range(3)])
    np.testing.assert_allclose(target.xy_px[0], truth, atol=1e-3)
    assert target.visible.all()
    assert target.valid.all()
    np.testing.assert_allclose(batch.tasks[0].query.xy_px[0], truth[:, 0], atol=1e-3)


def test_a_frame_without_a_place_is_one_in_which_a_point_is_hidden(dense: PerceptionTestConfig):
    dataset = dense.build()
    target = read(dataset, 35 // NUM_FRAMES).tasks[0].target
    assert target.valid[0].all()
    hidden = (~target.visible[0]).nonzero().tolist()
    assert hidden == [[0, frame] for frame in files.HIDDEN]
    assert torch.isfinite(target.xy_px).all()


def test_a_point_that_is_hidden_first_is_not_asked_for(dense: PerceptionTestConfig):
    dataset = replace(dense, num_frames=5).build()
    batch = read(dataset, 1)
    assert shown(batch)[0] == 5
    assert batch.tasks[0].target.valid[0, :, 0].tolist() == [True, False, False]
    truth = files.pixels([files.point_xy("video_11", 1, 5)])
    np.testing.assert_allclose(batch.tasks[0].query.xy_px[0, :1], truth, atol=1e-3)


def test_clips_for_boxes_are_made_of_annotated_frames(boxed: PerceptionTestConfig):
    dataset = boxed.build()
    assert [recording.num_frames for recording in dataset.recordings] == [4, 5]
    batch = read(dataset, 3)
    assert shown(batch) == [20, 30]
    assert batch.key == ("perception_test/video_7/1",)
    points, boxes = batch.tasks
    assert boxes.target.valid.all()
    truth = files.pixels([[files.box_xyxy("video_7", number, frame) for frame in (20, 30)] for number in range(2)])
    np.testing.assert_allclose(boxes.target.xyxy_px[0], truth, atol=1e-3)
    truth = files.pixels([[files.point_xy("video_7", number, frame) for frame in (20, 30)] for number in range(3)])
    np.testing.assert_allclose(points.target.xy_px[0], truth, atol=1e-3)


def test_frames_between_annotations_do_not_count(boxed: PerceptionTestConfig):
    dataset = replace(boxed, frames_per_annotation=4, num_frames=8).build()
    batch = read(dataset, 1)
    assert shown(batch) == [0, 2, 5, 8, 10, 12, 15, 18]
    boxes = batch.tasks[1].target
    assert boxes.valid[0].tolist() == [[frame % 4 == 0 for frame in range(8)]] * 2
    assert torch.isfinite(boxes.xyxy_px).all()


def test_all_frames_may_be_taken_though_few_have_boxes(boxed: PerceptionTestConfig):
    batch = read(replace(boxed, frames_per_annotation=None, num_frames=12).build(), 0)
    assert shown(batch) == list(range(12))
    assert batch.tasks[1].target.valid[0, 0].tolist() == [frame in (0, 10) for frame in range(12)]


def test_both_orders_of_places_are_read(dense: PerceptionTestConfig):
    def as_described(told):
        for labels in told.values():
            for track in labels["point_tracking"]:
                track["points"] = [list(pair) for pair in zip(*track["points"], strict=True)]

    before = read(dense.build(), 2).tasks[0].target.xy_px
    change(dense, "point_tracking_valid.json", as_described)
    torch.testing.assert_close(read(dense.build(), 2).tasks[0].target.xy_px, before)


@pytest.mark.parametrize("by_frame", [False, True])
def test_a_point_of_two_frames_is_read_as_those_beside_it(dense: PerceptionTestConfig, by_frame: bool):
    def shorten(told):
        tracks = told["video_11"]["point_tracking"]
        tracks[0] = tracks[0] | {"frame_ids": [0, 1], "points": [[0.25, 0.5], [0.75, 0.875]]}
        if by_frame:
            for track in tracks:
                track["points"] = [list(pair) for pair in zip(*track["points"], strict=True)]

    change(dense, "point_tracking_valid.json", shorten)
    target = read(dense.build(), 0).tasks[0].target
    assert target.xy_px[0, 0, :2].tolist() == [[48, 12], [56, 24]]
    assert target.visible[0, 0].tolist() == [True, True] + [False] * 6


# ----------------------------------------------------------------------------- what is refused


def test_a_film_of_another_length_is_refused_by_name(dense: PerceptionTestConfig):
    write_film(Path(dense.root) / "videos" / "video_11.mp4", 32, size=(64, 48), fps=10)
    with pytest.raises(UnreadableVideo, match=r"video_11.mp4: .*metadata.num_frames 35, the film has 32") as caught:
        read(dense.build(), 0)
    assert "frame_tolerance" in caught.value.reason


def test_a_small_difference_is_listed(dense: PerceptionTestConfig):
    write_film(Path(dense.root) / "videos" / "video_11.mp4", 33, size=(64, 48), fps=10)
    dataset = dense.build()
    assert shown(read(dataset, 0)) == list(range(8))
    read(dataset, 1)
    (listed,) = dataset.damaged
    assert listed.path.endswith("video_11.mp4")
    assert "35, the film has 33" in listed.reason
    last = replace(dense, num_frames=35).build()
    with pytest.raises(UnreadableVideo, match="frame 34 was asked for, and the film has 33"):
        read(last, 0)


def test_a_turned_film_is_refused(dense: PerceptionTestConfig):
    write_film(Path(dense.root) / "videos" / "video_11.mp4", 35, size=(48, 64), fps=10)
    with pytest.raises(UnreadableVideo, match=r"metadata.resolution \[48, 64\].*the film shows 64 x 48"):
        read(dense.build(), 0)


def test_a_film_that_is_not_there_is_listed(dense: PerceptionTestConfig):
    (Path(dense.root) / "videos" / "video_7.mp4").unlink()
    dataset = dense.build()
    assert [recording.key for recording in dataset.recordings] == ["video_11"]
    (lost,) = dataset.unreadable
    assert lost.path.endswith("videos/video_7.mp4")
    assert "point_tracking_valid.json tells of it" in lost.reason


def _of(name: str, value):
    return lambda told: told["video_7"]["point_tracking"][1].update({name: value})


def _of_box(name: str, value):
    return lambda told: told["video_7"]["object_tracking"][1].update({name: value})


BROKEN = {
    "no places": (_of("points", None), r"point_tracking\[1\]: field 'points': found None, expected a list"),
    "places of other frames": (_of("points", [[0.5], [0.5]]), r"'points': found shape \(2, 1\) for 41 frame_ids"),
    "places in pixels": (_of("points", [[30.0] * 41, [500.0] * 41]), "places from 30.0 to 500.0: expected shares"),
    "places that are none": (_of("points", [[None] * 41, [0.5] * 41]), "expected shares of height and width"),
    "ragged places": (_of("points", [[0.5] * 41, [0.5] * 40]), "'points': rows of unequal length"),
    "frames out of order": (_of("frame_ids", [1, 0, *range(2, 41)]), "'frame_ids': found .*expected rising numbers"),
    "a frame after the end": (_of("frame_ids", [*range(40), 99]), "rising numbers from 0 to 40"),
    "frames that are no numbers": (_of("frame_ids", [0.5] * 41), "'frame_ids': .*expected whole numbers"),
    "no metadata": (lambda told: told["video_7"].pop("metadata"), "'metadata': found None, expected a dict"),
    "no length": (lambda told: told["video_7"]["metadata"].pop("num_frames"), "metadata: field 'num_frames'"),
    "no size": (lambda told: told["video_7"]["metadata"].update(resolution=[48]), r"'resolution': found \[48\]"),
    "no tracks": (lambda told: told["video_7"].update(point_tracking=[]), "no 'point_tracking' in point_tracking_val"),
}
BROKEN_BOXES = {
    "a box that ends before it begins": (_of_box("bounding_boxes", [[0.5, 0.5, 0.4, 0.6]] * 5), "x1, y1, x2, y2"),
    "three numbers": (_of_box("bounding_boxes", [[0.1, 0.2, 0.3]] * 5), r"shape \(5, 3\) for 5 frame_ids"),
    "no boxes": (_of_box("bounding_boxes", "none"), "field 'bounding_boxes': found 'none', expected a list"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_points_are_listed_with_their_field(name: str, dense: PerceptionTestConfig):
    edit, reason = BROKEN[name]
    change(dense, "point_tracking_valid.json", edit)
    dataset = replace(dense, annotations="point_tracking_valid.json").build()
    assert [recording.key for recording in dataset.recordings] == ["video_11"]
    (lost,) = dataset.unreadable
    assert "video_7" in lost.path
    assert re.search(reason, f"{lost.path}: {lost.reason}")


@pytest.mark.parametrize("name", BROKEN_BOXES)
def test_broken_boxes_are_listed_with_their_field(name: str, boxed: PerceptionTestConfig):
    edit, reason = BROKEN_BOXES[name]
    change(boxed, "sot_valid.json", edit)
    dataset = boxed.build()
    assert [recording.key for recording in dataset.recordings] == ["video_11"]
    (lost,) = dataset.unreadable
    assert "sot_valid.json[video_7].object_tracking[1]" in lost.path
    assert re.search(reason, f"{lost.path}: {lost.reason}")


def test_a_json_file_that_was_cut_off_is_named(boxed: PerceptionTestConfig):
    path = Path(boxed.root) / "sot_valid.json"
    path.write_text(path.read_text()[:500])
    with pytest.raises(ValueError, match=r"sot_valid.json: not JSON"):
        boxed.build()
    path.write_text('["video_7"]')
    with pytest.raises(ValueError, match="expected a table from video ids"):
        boxed.build()


def test_files_that_disagree_are_named(dense: PerceptionTestConfig):
    root = Path(dense.root)
    (root / "annotations").mkdir()
    (root / "annotations" / "a_valid.json").write_text((root / "point_tracking_valid.json").read_text())
    assert not dense.build().unreadable
    change(dense, "annotations/a_valid.json", lambda told: told["video_7"]["point_tracking"].pop())
    assert "name one file by `annotations`" in refusals(dense)
    assert not refusals(replace(dense, annotations="point_tracking_valid.json"))


def test_a_split_that_is_not_there_is_refused(dense: PerceptionTestConfig):
    with pytest.raises(ValueError, match=r"\*train\*.json: no such file"):
        replace(dense, split="train").build()


def test_films_without_the_labels_that_are_asked_for_are_listed(boxed: PerceptionTestConfig):
    change(boxed, "sot_valid.json", lambda told: told.pop("video_7"))
    assert "no 'object_tracking' in point_tracking_valid.json" in refusals(boxed)


def test_impossible_settings_are_refused(boxed: PerceptionTestConfig):
    with pytest.raises(ValueError, match="frames_per_annotation: found 0"):
        replace(boxed, frames_per_annotation=0)
