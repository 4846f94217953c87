"""Waymo: boxes are where the rows put them, whatever their order, and what does not fit is named."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

from fourd.datasets import waymo
from fourd.datasets._sampling import Windows
from fourd.datasets.waymo import WaymoConfig
from fourd.media import UnreadableVideo
from tests.datasets.files import waymo as files
from tests.films import read_number

FIRST, SECOND = files.SEGMENTS
IMAGE, BOX_X = "[CameraImageComponent].image", "[CameraBoxComponent].box.center.x"
TIME, CAMERA, OBJECT = "key.frame_timestamp_micros", "key.camera_name", "key.camera_object_id"


@pytest.fixture
def config(tmp_path: Path) -> WaymoConfig:
    """Describe the small copy by the benchmark's rules."""
    return files.write(tmp_path / "root")


@pytest.fixture
def plain(config: WaymoConfig) -> WaymoConfig:
    """Describe it as it is stored: every frame, whole pictures, every box."""
    return replace(
        config,
        sampling=Windows(hop=1),
        size=(files.HEIGHT, files.WIDTH),
        least_box_area=0.0,
        least_presence=0.0,
        least_together=0,
        largest_gap=None,
    )


def path_of(config: WaymoConfig, part: str, segment: str = FIRST) -> Path:
    return Path(config.root) / "validation" / part / f"{segment}.parquet"


def change(config: WaymoConfig, part: str, edit, segment: str = FIRST) -> None:
    path = path_of(config, part, segment)
    pq.write_table(edit(pq.read_table(path)), path, row_group_size=files.ROWS_PER_GROUP)


def put(name: str, values):
    """Replace a column."""

    def edit(table: pa.Table) -> pa.Table:
        place = table.column_names.index(name)
        return table.set_column(place, name, pa.array(values(table[name].to_pylist()), table[name].type))

    return edit


def shown(batch) -> list[int]:
    return [read_number(frame.permute(1, 2, 0).numpy()) for frame in batch.video[0]]


def read(config: WaymoConfig, index: int = 0):
    return config.build().read(index, np.random.default_rng(0))


def refusals(config: WaymoConfig) -> str:
    return "\n".join(f"{lost.path}: {lost.reason}" for lost in config.build().unreadable)


def corners(name: str, frames: list[int], segment: str = FIRST) -> torch.Tensor:
    """Compute boxes from the numbers that were written."""
    boxes = [files.centre_size(segment, name, frame) for frame in frames]
    return torch.tensor([(x - w / 2, y - h / 2, x + w / 2, y + h / 2) for x, y, w, h in boxes])


# ----------------------------------------------------------------------------- what is read


def test_rows_in_no_order_give_frames_in_order_with_their_boxes(plain: WaymoConfig):
    dataset = replace(plain, types=("vehicle", "pedestrian", "sign")).build()
    assert [recording.key for recording in dataset.recordings] == [f"{name}/front" for name in files.SEGMENTS]
    assert [recording.num_boxes for recording in dataset.recordings] == [4, 4]
    for segment, index, frames in ((FIRST, 1, [1, 2, 3, 4]), (SECOND, 12, [0, 1, 2, 3])):
        batch = dataset.read(index, np.random.default_rng(0))
        assert shown(batch) == frames
        assert batch.group == (f"waymo/{segment}",)
        assert torch.allclose(batch.time_s[0], torch.tensor(frames) * 0.1, atol=1e-4)
        target = batch.tasks[0].target
        for slot, name in enumerate(sorted(files.OBJECTS)):
            counts = torch.tensor([name != "walker" or frame not in files.GAP for frame in frames])
            truth = corners(name, frames, segment).clamp(min=0)
            truth = torch.minimum(truth, torch.tensor([files.WIDTH, files.HEIGHT] * 2).float())
            assert target.valid[0, slot].tolist() == counts.tolist()
            assert torch.allclose(target.xyxy_px[0, slot][counts], truth[counts], atol=1e-4), name


def test_a_gap_is_not_filled(plain: WaymoConfig):
    dataset = replace(plain, num_frames=11, types=("pedestrian",)).build()
    target = dataset.read(0, np.random.default_rng(0)).tasks[0].target
    assert target.valid[0, 0].tolist() == [frame not in files.GAP for frame in range(11)]
    assert (target.xyxy_px[0, 0, list(files.GAP)] == 0).all()


def test_each_camera_is_a_recording_of_its_own(plain: WaymoConfig):
    dataset = replace(plain, cameras=("front", "front_left"), size=(48, 96)).build()
    assert [recording.key for recording in dataset.recordings] == [
        f"{FIRST}/front",
        f"{FIRST}/front_left",
        f"{SECOND}/front",
    ]
    assert [recording.group for recording in dataset.recordings] == [FIRST, FIRST, SECOND]
    batch = dataset.read(13, np.random.default_rng(0))
    assert batch.key == (f"waymo/{FIRST}/front_left/1",)
    assert shown(batch) == [101, 102, 103, 104]
    truth = torch.tensor([[69.0 - frame - 4.5 + 1, 19.5, 69.0 - frame + 4.5 + 1, 40.5] for frame in (1, 2, 3, 4)])
    assert torch.allclose(batch.tasks[0].target.xyxy_px[0, 0], truth)


def test_what_was_not_labelled_is_listed_and_not_used(plain: WaymoConfig):
    dataset = replace(plain, cameras=("front", "front_left", "side_left")).build()
    listed = {lost.path: lost.reason for lost in dataset.unreadable}
    assert "was not labelled" in listed[f"waymo/{SECOND}/front_left"]
    assert sum("no picture of camera side_left" in reason for reason in listed.values()) == 2


def test_ten_frames_a_second_become_five(config: WaymoConfig):
    dataset = config.build()
    assert [shown(dataset.read(index, np.random.default_rng(0))) for index in (0, 1)] == [[0, 2, 4, 6], [6, 8, 10, 12]]
    assert len(dataset) == 2 + 2
    assert torch.allclose(read(config).time_s.diff(), torch.tensor(0.2))


def test_a_box_that_leaves_the_crop_stops_counting(plain: WaymoConfig):
    square = replace(plain, num_frames=12, types=("vehicle",), size=(files.HEIGHT, files.HEIGHT), least_box_area=0.005)
    target = read(square).tasks[0].target
    left = (files.WIDTH - files.HEIGHT) / 2
    truth = corners("leaver", list(range(12))) - torch.tensor([left, 0, left, 0])
    truth[:, 2] = truth[:, 2].clamp(max=files.HEIGHT)
    area = (truth[:, 2] - truth[:, 0]).clamp(min=0) * (truth[:, 3] - truth[:, 1])
    counts = area >= 0.005 * files.HEIGHT**2
    assert 0 < counts.sum() < 12
    assert target.valid[0, 0].tolist() == counts.tolist()
    assert torch.allclose(target.xyxy_px[0, 0][counts], truth[counts], atol=1e-4)


def test_a_frame_that_is_asked_twice_is_given_twice(plain: WaymoConfig):
    dataset = plain.build()
    labelled = dataset.load(dataset.recordings[0], np.array([3, 3, 5]))
    numbers = [read_number(frame.permute(1, 2, 0).numpy()) for frame in labelled.video]
    assert numbers == [3, 3, 5]
    assert torch.equal(labelled.boxes.xyxy_px[:, :, 0], labelled.boxes.xyxy_px[:, :, 1])


def test_only_the_groups_of_rows_that_a_clip_needs_are_read(plain: WaymoConfig, monkeypatch):
    dataset = plain.build()
    groups = []
    whole = pq.ParquetFile.iter_batches

    def watched(self, *args, row_groups, **options):
        groups.extend(row_groups)
        return whole(self, *args, row_groups=row_groups, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", watched)
    rows = dataset.recordings[0].source.rows[[0, 1]]
    dataset.load(dataset.recordings[0], np.array([0, 1]))
    assert sorted(groups) == sorted(set((rows // files.ROWS_PER_GROUP).tolist()))


# ----------------------------------------------------------------------------- the benchmark's rules


def test_base_holds_the_rules_of_the_reconstruction():
    config = waymo.base("anywhere", "validation")
    assert (config.num_frames, config.size, config.num_boxes) == (16, (224, 224), 25)
    assert (config.least_box_area, config.least_presence) == (0.005, 0.7)
    assert (config.least_together, config.largest_gap) == (10, 5)
    assert config.sampling == Windows(stride=2, hop=6)
    assert config.cameras == ("front",)


def test_a_box_that_is_gone_for_too_long_is_left_out(plain: WaymoConfig):
    follow = replace(plain, num_frames=11, types=("pedestrian",))
    assert read(replace(follow, largest_gap=len(files.GAP))).tasks[0].target.valid.any()
    left_out = read(replace(follow, largest_gap=len(files.GAP) - 1)).tasks[0]
    assert not left_out.target.valid.any()
    assert (left_out.query.xyxy_px == 0).all()
    assert (left_out.target.xyxy_px == 0).all()


def test_boxes_that_are_not_there_together_are_left_out_rarest_first(plain: WaymoConfig):
    follow = replace(plain, num_frames=15, types=("vehicle", "pedestrian"))

    def frames_of_each(least: int) -> list[int]:
        return read(replace(follow, least_together=least)).tasks[0].target.valid[0].sum(-1).tolist()[:3]

    # the leaver is in the picture in the first 12 frames, the car in all, the walker in 12, of which the leaver in 9
    assert frames_of_each(9) == [12, 15, 12]
    assert frames_of_each(10) == [0, 15, 12]
    assert frames_of_each(13) == [0, 15, 0]
    assert frames_of_each(16) == [0, 0, 0]


def test_a_gap_at_the_end_is_none():
    valid = torch.tensor([[1, 0, 0, 1, 0, 0, 0], [0, 1, 1, 1, 0, 0, 1], [0] * 7], dtype=torch.bool)
    assert waymo._longest_gap(valid).tolist() == [2, 2, 0]


# ----------------------------------------------------------------------------- what is refused


def test_a_segment_with_half_of_its_files_is_listed(config: WaymoConfig):
    path_of(config, "camera_box").unlink()
    assert f"{path_of(config, 'camera_box')}: no such file" in refusals(config)


def test_a_truncated_file_is_listed(config: WaymoConfig):
    path = path_of(config, "camera_image")
    path.write_bytes(path.read_bytes()[:-100])
    assert f"{path}: no Parquet file, or cut off" in refusals(config)


@pytest.mark.parametrize(("part", "column"), [("camera_image", IMAGE), ("camera_box", BOX_X), ("camera_box", OBJECT)])
def test_a_missing_column_is_named(config: WaymoConfig, part: str, column: str):
    change(config, part, lambda table: table.drop_columns([column]))
    assert f"{path_of(config, part)}: column '{column}' is missing" in refusals(config)


def test_boxes_of_another_segment_are_named(config: WaymoConfig):
    path_of(config, "camera_box").write_bytes(path_of(config, "camera_box", SECOND).read_bytes())
    assert re.search(rf"key.segment_context_name: found '{SECOND}', expected the file's name", refusals(config))


def test_boxes_at_a_time_without_a_picture_are_named(config: WaymoConfig):
    change(config, "camera_box", put(TIME, lambda times: [time + 50_000 for time in times]))
    assert re.search(r"camera_box.*key.frame_timestamp_micros: boxes of camera front at 15 times", refusals(config))


def test_two_pictures_at_one_time_are_named(config: WaymoConfig):
    change(config, "camera_image", put(CAMERA, lambda cameras: [1 for _ in cameras]))
    assert re.search(r"camera_image.*key.frame_timestamp_micros: two pictures of camera front at", refusals(config))


def test_a_missing_frame_is_told_as_damage(plain: WaymoConfig):
    lost = files.time_us(FIRST, 7)
    for part in ("camera_image", "camera_box"):
        change(plain, part, lambda table: table.filter(pc.not_equal(table[TIME], lost)))
    dataset = plain.build()
    assert [damage.path for damage in dataset.damaged] == [f"waymo/{FIRST}/front"]
    assert "1 steps of more than 0.15 s" in dataset.damaged[0].reason
    assert shown(dataset.read(5, np.random.default_rng(0))) == [5, 6, 8, 9]


def test_a_box_without_a_size_is_named(plain: WaymoConfig):
    change(plain, "camera_box", put("[CameraBoxComponent].box.size.y", lambda sizes: [0.0 for _ in sizes]))
    with pytest.raises(UnreadableVideo, match=r"size\.y': 0\.0.*expected finite numbers and a size above 0"):
        read(plain)


def test_two_boxes_of_one_object_are_named(plain: WaymoConfig):
    change(plain, "camera_box", lambda table: pa.concat_tables([table, table]))
    with pytest.raises(UnreadableVideo, match=r"key\.camera_object_id: one object has two boxes"):
        read(plain)


def test_a_picture_that_is_none_is_named(plain: WaymoConfig):
    change(plain, "camera_image", put(IMAGE, lambda pictures: [picture[:40] for picture in pictures]))
    with pytest.raises(UnreadableVideo, match=r"camera_image.*\[row \d+\]\[\[CameraImageComponent\]\.image\]"):
        read(plain)


def test_nothing_at_all_says_what_is_expected(tmp_path: Path):
    with pytest.raises(ValueError, match=r"no camera_image/\*\.parquet or camera_box/\*\.parquet"):
        waymo.base(str(tmp_path)).build()


@pytest.mark.parametrize("wrong", [{"cameras": ("rear",)}, {"types": ("car",)}, {"cameras": ()}])
def test_unknown_names_are_refused(config: WaymoConfig, wrong: dict):
    with pytest.raises(ValueError, match=rf"WaymoConfig\.{next(iter(wrong))}: found"):
        replace(config, **wrong)
