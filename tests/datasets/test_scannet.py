"""ScanNet: every form gives what was written, and what cannot be read is named."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fourd.datasets.scannet import ScanNet, ScanNetConfig, base
from fourd.media import UnreadableVideo
from tests.datasets.files import scannet as files
from tests.films import read_number


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> ScanNet:
    return files.write(tmp_path_factory.mktemp("scannet") / "root").build()


def built(root: Path, **changes: object) -> ScanNet:
    return replace(ScanNetConfig(root=str(root), split="all", num_frames=2, size=(8, 8)), **changes).build()


def whole(dataset: ScanNet, number: int = 0):
    recording = dataset.recordings[number]
    return dataset.load(recording, np.arange(recording.num_frames))


@pytest.mark.parametrize("number", range(4))
def test_every_form_gives_the_pictures_depth_and_poses_that_were_written(dataset, number):
    recording, scan = dataset.recordings[number], files.SCANS[number]
    frames = np.array([1, 2, 5, 8])
    seen = dataset.load(recording, frames)
    assert recording.key == scan
    numbers = [read_number(picture.permute(1, 2, 0).numpy()) for picture in seen.video]
    assert numbers == [files.number_of(scan, frame) for frame in frames]
    depth = np.stack([files.depth_of(scan, frame) for frame in frames])
    torch.testing.assert_close(seen.depth.metres[0], torch.from_numpy(depth / 1000).float(), rtol=0, atol=1e-6)
    assert torch.equal(seen.depth.valid[0], torch.from_numpy(depth > 0))
    poses = np.stack([files.pose_of(scan, frame) for frame in frames])
    torch.testing.assert_close(seen.camera.world_from_camera[0].double(), torch.from_numpy(poses), rtol=0, atol=2e-6)
    torch.testing.assert_close(seen.time_s, torch.from_numpy(frames / 30))


def test_a_worker_that_is_sent_the_dataset_reads_the_same(dataset):
    sent = pickle.loads(pickle.dumps(dataset))
    for number in range(4):
        ours, theirs = whole(dataset, number), whole(sent, number)
        assert torch.equal(ours.depth.metres, theirs.depth.metres)
        assert torch.equal(ours.camera.world_from_camera, theirs.camera.world_from_camera)


def test_intrinsics_are_those_of_the_pictures_counted_from_the_corner(dataset):
    for number in range(3):
        assert whole(dataset, number).camera.intrinsics_px[0, :2].tolist() == [[70, 0, 39.75], [0, 71, 30.25]]
    assert whole(dataset, 3).video.shape[2:] == (30, 40)
    assert whole(dataset, 3).camera.intrinsics_px[0, :2].tolist() == [[35, 0, 20], [0, 36, 15]]


def test_colour_that_was_resized_to_depth_has_the_camera_of_depth(tmp_path):
    files.write_extracted(tmp_path / "scene0000_01")
    for path in (tmp_path / "scene0000_01" / "color").iterdir():
        path.write_bytes(files.encoded(np.zeros((30, 40, 3), np.uint8), "JPEG"))
    assert whole(built(tmp_path, tasks=("camera_pose",))).camera.intrinsics_px[0, 0].tolist() == [35, 0, 20]


def test_colour_of_a_third_size_is_refused_since_its_camera_is_not_known(tmp_path):
    files.write_extracted(tmp_path / "scene0000_01")
    for path in (tmp_path / "scene0000_01" / "color").iterdir():
        path.write_bytes(files.encoded(np.zeros((240, 320, 3), np.uint8), "JPEG"))
    with pytest.raises(UnreadableVideo, match=r"principal point \[39.2, 29.8\] in 320 x 240"):
        whole(built(tmp_path, tasks=("camera_pose",)))


def test_frames_are_in_the_order_of_their_numbers_which_are_not_padded(dataset):
    numbers = [read_number(picture.permute(1, 2, 0).numpy()) for picture in whole(dataset, 1).video]
    assert numbers == [files.number_of(files.SCANS[1], frame) for frame in range(files.NUM_FRAMES + 3)]


def test_scans_of_one_space_are_one_group(dataset):
    assert [recording.group for recording in dataset.recordings] == ["scene0000", "scene0000", "scene0001", "scene0002"]


def test_raw_depth_and_png_colour_are_read_too(tmp_path):
    files.write_sens(tmp_path / "scene0000_00", colour="PNG", colour_code=1, depth_code=0, shift=500.0)
    seen = whole(built(tmp_path, tasks=("depth",)))
    picture = seen.video[3].permute(1, 2, 0).numpy()
    assert (picture == files.numbered_picture(files.number_of("scene0000_00", 3), files.COLOUR)).all()
    expected = files.depth_of("scene0000_00", 3).astype(np.float32) / 500
    torch.testing.assert_close(seen.depth.metres[0, 3], torch.from_numpy(expected))


def test_a_frame_without_any_depth_is_not_valid(tmp_path):
    nothing = np.zeros((30, 40), np.uint16)
    files.write_sens(tmp_path / "scene0000_00", depth=lambda scan, frame: nothing)
    assert not whole(built(tmp_path, tasks=("depth",))).depth.valid.any()


# ----------------------------------------------------------------------------- lost poses


def lost(scan: str, frame: int) -> np.ndarray:
    pose = files.pose_of(scan, frame)
    return {3: np.full((4, 4), -np.inf), 7: np.where(np.eye(4) > 0, np.nan, pose)}.get(frame, pose)


@pytest.mark.parametrize("write_scan", [files.write_sens, files.write_extracted])
def test_clips_of_poses_are_cut_from_the_frames_between_lost_ones(tmp_path, write_scan):
    write_scan(tmp_path / "scene0000_00", num_frames=9, pose=lost)
    dataset = built(tmp_path, tasks=("depth", "camera_pose"))
    assert [(r.key, r.num_frames) for r in dataset.recordings] == [
        ("scene0000_00/from000000", 3),
        ("scene0000_00/from000004", 3),
        ("scene0000_00/from000008", 1),
    ]
    seen = whole(dataset, 1)
    poses = np.stack([files.pose_of("scene0000_00", frame) for frame in (4, 5, 6)])
    torch.testing.assert_close(seen.camera.world_from_camera[0].double(), torch.from_numpy(poses), rtol=0, atol=2e-6)
    assert read_number(seen.video[0].permute(1, 2, 0).numpy()) == files.number_of("scene0000_00", 4)
    assert [("2 of 9 frames" in partly.reason) for partly in dataset.damaged] == [True]
    assert "1 frames are too few" in dataset.unreadable[0].reason
    assert len(dataset) == 2


def test_a_scan_that_was_never_tracked_is_listed(tmp_path):
    files.write_sens(tmp_path / "scene0000_00", pose=lambda scan, frame: np.full((4, 4), -np.inf))
    assert "9 of 9 frames have no camera pose" in reasons(tmp_path, tasks=("camera_pose",))


def test_depth_alone_keeps_frames_without_a_pose(tmp_path):
    files.write_sens(tmp_path / "scene0000_00", pose=lost)
    dataset = built(tmp_path, tasks=("depth",))
    assert [(r.key, r.num_frames) for r in dataset.recordings] == [("scene0000_00", 9)]
    assert not dataset.damaged
    assert whole(dataset).camera is None


def test_all_forms_cut_where_a_frame_was_dropped(tmp_path):
    files.write_preprocessed(tmp_path / "scene0002_00", dropped=(3, 7))
    keys = [recording.key for recording in built(tmp_path, tasks=("camera_pose",)).recordings]
    assert keys == ["scene0002_00/from000000", "scene0002_00/from000004", "scene0002_00/from000008"]


def test_a_pose_that_is_none_is_an_error_that_names_its_frame(tmp_path):
    files.write_sens(tmp_path / "scene0000_00", pose=lambda scan, frame: np.full((4, 4), 0.5))
    with pytest.raises(UnreadableVideo, match="pose of frame 0: not a rotation"):
        whole(built(tmp_path, tasks=("camera_pose",)))


# ----------------------------------------------------------------------------- splits


def test_a_list_names_the_split_and_what_is_not_there_is_listed(tmp_path):
    files.write(tmp_path / "root")
    (tmp_path / "scannetv2_val.txt").write_text("scene0001_00\nscene0077_00\n")
    dataset = built(tmp_path / "root", split="val")
    assert [recording.key for recording in dataset.recordings] == ["scene0001_00"]
    assert [missing.path for missing in dataset.unreadable] == ["scene0077_00"]
    assert dataset.split_source == str(tmp_path / "scannetv2_val.txt")
    named = built(tmp_path / "root", split="test", split_list=str(tmp_path / "scannetv2_val.txt"))
    assert named.recordings == dataset.recordings
    with pytest.raises(FileNotFoundError, match="split_list"):
        built(tmp_path / "root", split_list=str(tmp_path / "none.txt"))


def test_without_lists_folders_part_the_splits(tmp_path):
    files.write_sens(tmp_path / "scans" / "scene0000_00")
    files.write_preprocessed(tmp_path / "scans_test" / "scene0002_00")
    assert [r.key for r in built(tmp_path, split="train").recordings] == ["scene0000_00"]
    assert [r.key for r in built(tmp_path, split="test").recordings] == ["scene0002_00"]
    assert [r.key for r in built(tmp_path, split="all").recordings] == ["scene0000_00", "scene0002_00"]
    assert "scans/" in built(tmp_path, split="train").split_source
    with pytest.raises(ValueError, match=r"scannetv2_val\.txt"):
        built(tmp_path, split="val")
    with pytest.raises(ValueError, match="split: found 'dev'"):
        ScanNetConfig(root=str(tmp_path), split="dev")


def test_scans_without_folders_or_lists_need_the_split_all(tmp_path):
    files.write_sens(tmp_path / "scene0000_00")
    with pytest.raises(ValueError, match="split='all'"):
        base(str(tmp_path)).build()


# ----------------------------------------------------------------------------- broken files


def reasons(root: Path, **changes: object) -> str:
    """Say why a folder of one broken scan gives no clip."""
    with pytest.raises(ValueError, match="no clip of split") as caught:
        built(root, **changes)
    return str(caught.value)


@pytest.mark.parametrize(
    ("written", "named"),
    [
        ({"version": 3}, "field 'version': found 3, expected 4"),
        ({"colour_code": 0}, "field 'color_compression': found 0, can read 1 (png), 2 (jpeg)"),
        ({"depth_code": 2}, "field 'depth_compression': found 2, can read 0 (raw), 1 (zlib)"),
        ({"shift": 0.0}, "field 'depth_shift': found 0.0"),
        ({"shift": float("nan")}, "field 'depth_shift': found nan"),
        ({"num_frames": 0}, "field 'num_frames': found 0"),
    ],
)
def test_a_header_that_cannot_be_right_is_named(tmp_path, written, named):
    files.write_sens(tmp_path / "scene0000_00", **written)
    assert named in reasons(tmp_path)


def test_a_file_that_is_cut_off_says_where(tmp_path):
    path = files.write_sens(tmp_path / "scene0000_00")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert "of frame 4 of 9 would end at byte" in reasons(tmp_path, tasks=("camera_pose",))
    with pytest.raises(UnreadableVideo, match="cut off"):
        whole(built(tmp_path, tasks=("depth",)))
    for length, field in ((2, "version"), (60, "intrinsic_color"), (270, "extrinsic_depth"), (315, "num_frames")):
        path.write_bytes(data[:length])
        assert f"ends within field '{field}'" in reasons(tmp_path)


def test_depth_of_another_length_is_refused_before_it_fills_the_memory(tmp_path):
    for scan, side in (("scene0000_00", 2000), ("scene0000_01", 3)):
        files.write_sens(tmp_path / scan, depth=lambda scan, frame, side=side: np.zeros((side, side), np.uint16))
    dataset = built(tmp_path, tasks=("depth",))
    with pytest.raises(UnreadableVideo, match="depth of frame 0: 2401 bytes or more, expected 2400 for 30 x 40"):
        whole(dataset, 0)
    with pytest.raises(UnreadableVideo, match="depth of frame 0: 18 bytes, expected 2400"):
        whole(dataset, 1)


def test_pictures_that_are_damaged_name_their_frame(tmp_path):
    path = files.write_sens(tmp_path / "scene0000_00", depth_code=1)
    data = bytearray(path.read_bytes())
    place = data.index(b"\xff\xd8")
    data[place : place + 64] = bytes(64)
    path.write_bytes(data)
    with pytest.raises(UnreadableVideo, match=r"scene0000_00.sens\[frame 0\].color: not a picture"):
        whole(built(tmp_path, tasks=("depth",)))


def test_a_changed_file_is_indexed_anew(tmp_path):
    files.write_sens(tmp_path / "scene0000_00", num_frames=4)
    assert whole(built(tmp_path, tasks=("depth",))).video.shape[0] == 4
    (tmp_path / "scene0000_00" / "scene0000_00.sens").unlink()
    (tmp_path / "scene0000_00").rmdir()
    files.write_sens(tmp_path / "scene0000_00", num_frames=7)
    assert whole(built(tmp_path, tasks=("depth",))).video.shape[0] == 7


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        ("depth/1.png", "depth/1.png: no such file"),
        ("intrinsic/intrinsic_color.txt", "intrinsic_color.txt: no such file"),
    ],
)
def test_a_missing_file_is_named(tmp_path, broken, named):
    files.write_extracted(tmp_path / "scene0000_01")
    (tmp_path / "scene0000_01" / broken).unlink()
    with pytest.raises(UnreadableVideo, match=named):
        whole(built(tmp_path, tasks=ScanNetConfig.kinds))


def test_a_pose_of_fifteen_numbers_is_named(tmp_path):
    files.write_extracted(tmp_path / "scene0000_01")
    (tmp_path / "scene0000_01" / "pose" / "2.txt").write_text("1 " * 15)
    assert "pose/2.txt: matrix: found 15 numbers, expected 16" in reasons(tmp_path, tasks=("camera_pose",))
    (tmp_path / "scene0000_01" / "pose" / "2.txt").write_text("1 " * 15 + "x")
    assert "pose/2.txt: matrix: not numbers" in reasons(tmp_path, tasks=("camera_pose",))


def test_preprocessed_cameras_are_arrays_and_never_pickles(tmp_path):
    files.write_preprocessed(tmp_path / "scene0002_00")
    path = tmp_path / "scene0002_00" / "cam" / "00000.npz"
    dataset = built(tmp_path, tasks=("camera_pose",))
    np.savez(path, pose=np.array([print], dtype=object), intrinsics=np.eye(3))
    with pytest.raises(UnreadableVideo, match="not an archive of arrays"):
        whole(dataset)
    np.savez(path, pose=np.eye(4))
    with pytest.raises(UnreadableVideo, match="'intrinsics' is missing, found pose"):
        whole(dataset)
    np.savez(path, pose=np.eye(3), intrinsics=np.eye(3))
    with pytest.raises(UnreadableVideo, match=r"'pose': found shape \(3, 3\)"):
        whole(dataset)
    path.write_bytes(b"nothing")
    with pytest.raises(UnreadableVideo, match="not an archive"):
        whole(dataset)


def test_a_folder_in_no_known_form_says_what_is_expected(tmp_path):
    (tmp_path / "scene0000_00").mkdir()
    assert "expected one of scene0000_00.sens, cam, color, _info.txt" in reasons(tmp_path)
    (tmp_path / "scene0000_00" / "color").mkdir()
    assert "found no picture called 0.jpg" in reasons(tmp_path)
