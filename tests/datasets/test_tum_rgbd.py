"""TUM RGB-D and Bonn: what belongs together is matched by time, and what cannot be read is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fourd.datasets.tum_rgbd import TumRgbd, TumRgbdConfig
from fourd.media import UnreadableVideo
from tests.datasets.files import tum_rgbd as files
from tests.films import read_number

ONE = "rgbd_dataset_freiburg1_xyz"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> TumRgbd:
    return files.write(tmp_path_factory.mktemp("tum") / "root").build()


def built(root: Path, **changes: object) -> TumRgbd:
    return replace(TumRgbdConfig(root=str(root), tasks=TumRgbdConfig.kinds, num_frames=2), **changes).build()


def whole(dataset: TumRgbd, number: int = 0):
    recording = dataset.recordings[number]
    return dataset.load(recording, np.arange(recording.num_frames))


def numbers_in(seen) -> list[int]:
    return [read_number(picture.permute(1, 2, 0).numpy()) for picture in seen.video]


def turned(axis: np.ndarray, angle: float) -> np.ndarray:
    """Rotate about an axis, by Rodrigues' formula."""
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


# ----------------------------------------------------------------------------- what was written


@pytest.mark.parametrize("number", range(3))
def test_a_sequence_gives_the_pictures_depth_and_poses_that_were_written(dataset, number):
    recording, name = dataset.recordings[number], files.SEQUENCES[number]
    frames = np.array([0, 3, 7])
    seen = dataset.load(recording, frames)
    assert (recording.key, recording.group, recording.num_frames) == (name, name, 8)
    assert numbers_in(seen) == [files.number_of(name, frame) for frame in frames]
    depth = np.stack([files.depth_of(name, frame) for frame in frames])
    torch.testing.assert_close(seen.depth.metres[0], torch.from_numpy(depth / 5000).float())
    assert torch.equal(seen.depth.valid[0], torch.from_numpy(depth > 0))
    poses = seen.camera.world_from_camera[0].double()
    rotations = torch.from_numpy(np.stack([turned(*files.axis_and_angle(name, frame)) for frame in frames]))
    places = torch.from_numpy(np.stack([files.place_of(name, frame) for frame in frames]))
    torch.testing.assert_close(poses[:, :3, :3], rotations, rtol=0, atol=5e-6)
    torch.testing.assert_close(poses[:, :3, 3], places, rtol=0, atol=2e-6)
    torch.testing.assert_close(seen.time_s, torch.from_numpy(frames / 30), rtol=0, atol=2e-6)


def test_intrinsics_are_those_of_the_camera_that_the_name_tells(dataset):
    centres = [whole(dataset, number).camera.intrinsics_px[0, :2, 2].tolist() for number in range(3)]
    assert centres == [pytest.approx(at, abs=1e-4) for at in ([316.09352, 238.256098], [319.1, 255.8], [320.6, 248.1])]
    own = built(dataset.root, intrinsics=(50.0, 60.0, 31.5, 23.5))
    assert whole(own).camera.intrinsics_px[0].tolist() == [[50, 0, 32], [0, 60, 24], [0, 0, 1]]


def test_units_of_depth_can_be_named(dataset):
    metres = whole(built(dataset.root, units_per_metre=1000.0)).depth.metres
    torch.testing.assert_close(metres, whole(dataset).depth.metres * 5)


# ----------------------------------------------------------------------------- matching


def test_pictures_without_labels_at_their_time_are_left_out_and_counted(tmp_path):
    files.write_sequence(tmp_path / ONE, without_depth=(2,), without_pose=(5,))
    dataset = built(tmp_path)
    assert numbers_in(whole(dataset)) == [files.number_of(ONE, frame) for frame in (0, 1, 3, 4, 6, 7)]
    assert ["2 of 8 pictures have no depth and pose within 0.02 s" in lost.reason for lost in dataset.damaged] == [True]
    assert len(numbers_in(whole(built(tmp_path, tasks=("camera_pose",))))) == 7
    assert len(numbers_in(whole(built(tmp_path, tasks=())))) == 8


def test_how_far_apart_times_may_lie_is_kept_to(dataset):
    for wait, found in ((0.012, True), (0.0105, False)):
        if found:
            assert whole(built(dataset.root, longest_wait_s=wait)).depth is not None
        else:
            with pytest.raises(ValueError, match="none of 8 pictures has depth and pose at its time"):
                built(dataset.root, longest_wait_s=wait)


def test_a_recording_is_cut_where_nothing_was_matched_for_long(tmp_path):
    files.write_sequence(tmp_path / ONE, without_pose=(3, 4))
    dataset = built(tmp_path, longest_gap_s=0.09)
    assert [recording.num_frames for recording in dataset.recordings] == [3, 3]
    assert [recording.key for recording in dataset.recordings] == [
        f"{ONE}/from{files.FIRST_S:.6f}",
        f"{ONE}/from{files.FIRST_S + 5 / 30:.6f}",
    ]
    assert {recording.group for recording in dataset.recordings} == {ONE}
    assert numbers_in(whole(dataset, 1)) == [files.number_of(ONE, frame) for frame in (5, 6, 7)]
    assert [recording.num_frames for recording in built(tmp_path).recordings] == [6]


def test_the_order_of_lines_does_not_matter(tmp_path):
    files.write_sequence(tmp_path / ONE)
    before = whole(built(tmp_path))
    for name in ("rgb", "depth", "groundtruth"):
        path = tmp_path / ONE / f"{name}.txt"
        path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    after = whole(built(tmp_path))
    assert torch.equal(after.video, before.video)
    assert torch.equal(after.depth.metres, before.depth.metres)
    assert torch.equal(after.camera.world_from_camera, before.camera.world_from_camera)


# ----------------------------------------------------------------------------- which sequences


def test_sequences_are_chosen_by_name_and_a_missing_one_is_listed(dataset):
    some = built(dataset.root, sequences=(ONE, "nowhere"))
    assert [recording.key for recording in some.recordings] == [ONE]
    assert [missing.path for missing in some.unreadable] == ["nowhere"]
    with pytest.raises(ValueError, match="split: found 'train'"):
        built(dataset.root, split="train")
    with pytest.raises(ValueError, match="units_per_metre: found -1"):
        built(dataset.root, units_per_metre=-1.0)


def test_root_may_be_a_sequence_itself(dataset):
    assert [recording.key for recording in built(dataset.root / ONE).recordings] == [ONE]


def test_a_camera_that_no_name_tells_must_be_given(tmp_path):
    files.write_sequence(tmp_path / ONE)
    (tmp_path / ONE).rename(tmp_path / "kitchen")
    with pytest.raises(ValueError, match="tells none of the cameras freiburg1, freiburg2, freiburg3, bonn"):
        built(tmp_path)
    assert built(tmp_path, tasks=("depth",)).recordings[0].key == "kitchen"


# ----------------------------------------------------------------------------- broken files


@pytest.mark.parametrize(
    ("name", "text", "named"),
    [
        ("groundtruth.txt", "1 2 3\n", "line 1: found 3 words, expected 8: time tx ty tz qx qy qz qw"),
        ("groundtruth.txt", "1 0 0 0 0 0 0 2\n", "found a quaternion of length 2.000"),
        ("groundtruth.txt", "1 0 0 0 0 0 0 x\n", "not numbers"),
        ("groundtruth.txt", "1 nan 0 0 0 0 0 1\n", "not finite, '1 nan"),
        ("groundtruth.txt", "# nothing\n", "no line in it"),
        ("depth.txt", "1.0\n", "line 1: found 1 words, expected 2"),
        ("depth.txt", "1.0 ../secret.png\n", "outside of its folder"),
        ("rgb.txt", "1.0 /etc/secret.png\n", "outside of its folder"),
        ("rgb.txt", "1.0 a.png\n1.0 b.png\n", "two pictures of one time"),
    ],
)
def test_a_list_that_cannot_be_right_is_named(tmp_path, name, text, named):
    files.write_sequence(tmp_path / ONE)
    (tmp_path / ONE / name).write_text(text)
    with pytest.raises(ValueError, match=rf"{ONE}/{name}: .*{named}"):
        built(tmp_path)


@pytest.mark.parametrize("name", ["depth.txt", "groundtruth.txt"])
def test_a_list_that_is_not_there_is_named(tmp_path, name):
    files.write_sequence(tmp_path / ONE)
    (tmp_path / ONE / name).unlink()
    with pytest.raises(ValueError, match=f"{name}: no such file"):
        built(tmp_path)


@pytest.mark.parametrize("folder", ["rgb", "depth"])
def test_a_missing_or_damaged_picture_is_named(tmp_path, folder):
    files.write_sequence(tmp_path / ONE)
    dataset = built(tmp_path)
    path = sorted((tmp_path / ONE / folder).iterdir())[2]
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(UnreadableVideo, match=f"{path.name}: not a picture"):
        whole(dataset)
    path.unlink()
    with pytest.raises(UnreadableVideo, match=f"{path.name}: no such file, though the sequence lists it"):
        whole(dataset)
