"""Sintel: binary depth and cameras give what was written, and what cannot be read is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fourd.datasets.sintel import Sintel, SintelConfig
from fourd.media import UnreadableVideo
from tests.datasets.files import sintel as files
from tests.films import read_number

FRAMES = range(1, files.NUM_FRAMES + 1)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Sintel:
    return files.write(tmp_path_factory.mktemp("sintel") / "root").build()


@pytest.fixture
def training(tmp_path: Path) -> Path:
    files.write_scene(tmp_path / "training", "alley_2")
    return tmp_path / "training"


def built(root: Path, **changes: object) -> Sintel:
    return replace(SintelConfig(root=str(root), tasks=SintelConfig.kinds, num_frames=2), **changes).build()


def whole(dataset: Sintel, number: int = 0):
    recording = dataset.recordings[number]
    return dataset.load(recording, np.arange(recording.num_frames))


def numbers_in(seen) -> list[int]:
    return [read_number(picture.permute(1, 2, 0).numpy()) for picture in seen.video]


# ----------------------------------------------------------------------------- what was written


@pytest.mark.parametrize("number", range(3))
def test_a_scene_gives_the_pictures_depth_and_poses_that_were_written(dataset, number):
    recording, name = dataset.recordings[number], files.SCENES[number]
    seen = whole(dataset, number)
    assert (recording.key, recording.group) == (f"final/{name}", name)
    assert numbers_in(seen) == [files.number_of(name, frame) for frame in FRAMES]
    depth = torch.from_numpy(np.stack([files.depth_of(name, frame) for frame in FRAMES]))
    valid = seen.depth.valid[0]
    assert torch.equal(valid, depth < 70)
    assert torch.equal(seen.depth.metres[0], torch.where(depth < 70, depth, 0))
    poses = np.stack([np.linalg.inv(files.camera_from_world(name, frame)) for frame in FRAMES])
    torch.testing.assert_close(seen.camera.world_from_camera[0].double(), torch.from_numpy(poses), rtol=0, atol=1e-6)
    assert seen.camera.intrinsics_px[0].tolist() == [[70, 0, 32], [0, 75, 19], [0, 0, 1]]
    torch.testing.assert_close(seen.time_s, torch.tensor(FRAMES) / 24.0, check_dtype=False)


def test_how_far_depth_counts_can_be_chosen(dataset):
    everything = whole(built(dataset.root, farthest=float("inf")))
    assert everything.depth.valid.all()
    assert everything.depth.metres.max() == files.SKY
    assert whole(built(dataset.root, farthest=20.0)).depth.metres.max() < 20


def test_both_renders_can_be_had_and_their_clips_have_keys_of_their_own(dataset):
    clean = built(dataset.root, render="clean")
    assert numbers_in(whole(clean)) == [files.number_of("alley_2", frame, "clean") for frame in FRAMES]
    assert not {r.key for r in clean.recordings} & {r.key for r in dataset.recordings}
    assert {r.group for r in clean.recordings} == {r.group for r in dataset.recordings}
    with pytest.raises(ValueError, match="render: found 'albedo'"):
        replace(dataset.config, render="albedo")


def test_the_scenes_for_poses_are_a_part_and_those_that_lack_are_listed(dataset):
    posed = built(dataset.root, split="posed")
    assert [recording.group for recording in posed.recordings] == ["alley_2", "temple_2"]
    assert len(posed.unreadable) == 12
    with pytest.raises(ValueError, match="split: found 'train'"):
        built(dataset.root, split="train")


def test_root_may_be_the_folder_training(dataset):
    assert len(built(dataset.root / "training").recordings) == 3


def test_what_no_task_asks_for_need_not_be_there(training):
    for path in (training / "depth" / "alley_2").iterdir():
        path.unlink()
    seen = whole(built(training, tasks=("camera_pose",)))
    assert seen.depth is None
    assert seen.camera is not None


# ----------------------------------------------------------------------------- broken files


def test_depth_that_is_not_a_number_does_not_count(training):
    path = training / "depth" / "alley_2" / "frame_0001.dpt"
    data = bytearray(path.read_bytes())
    data[12:20] = np.array([np.nan, -1.0], "<f4").tobytes()
    path.write_bytes(data)
    depth = whole(built(training)).depth
    assert not depth.valid[0, 0, 0, :2].any()
    assert depth.metres.isfinite().all()


@pytest.mark.parametrize(
    ("path", "content", "named"),
    [
        ("depth/alley_2/frame_0002.dpt", b"JUNK" + bytes(100), "tag: found b'JUNK'"),
        ("depth/alley_2/frame_0002.dpt", files.TAG + bytes(3), "depth: 7 bytes whose header says 0 x 0"),
        ("depth/alley_2/frame_0002.dpt", files.TAG + b"\x40\0\0\0\x28\0\0\0" + bytes(8), "header says 64 x 40"),
        ("depth/alley_2/frame_0002.dpt", files.TAG + b"\2\0\0\0\1\0\0\0" + bytes(8), "depth of different sizes"),
        ("depth/alley_2/frame_0002.dpt", files.TAG + b"\xff\xff\xff\xff\xff\xff\xff\xff", "header says -1 x -1"),
        ("camdata_left/alley_2/frame_0002.cam", files.TAG + bytes(100), "camera: found 104 bytes, expected 172"),
        ("camdata_left/alley_2/frame_0002.cam", b"", "tag: found b''"),
        ("camdata_left/alley_2/frame_0002.cam", files.camera_file(files.K, 2 * np.eye(4)), "not a rotation"),
        ("camdata_left/alley_2/frame_0002.cam", files.camera_file(files.K, np.eye(4) * np.nan), "not a rotation"),
        ("camdata_left/alley_2/frame_0002.cam", files.camera_file(files.K * 1.1, np.eye(4)), "a clip has one camera"),
        ("final/alley_2/frame_0002.png", b"", "not a picture"),
    ],
)
def test_a_broken_file_is_named_with_what_is_wrong_in_it(training, path, content, named):
    (training / path).write_bytes(content)
    with pytest.raises(UnreadableVideo, match=named):
        whole(built(training))


@pytest.mark.parametrize("path", ["depth/alley_2/frame_0004.dpt", "camdata_left/alley_2/frame_0004.cam"])
def test_a_missing_file_is_named(training, path):
    (training / path).unlink()
    with pytest.raises(ValueError, match=rf"{path}: no such file \(1 are missing\): unpack MPI-Sintel-depth"):
        built(training)


def test_a_root_without_pictures_says_what_is_expected(tmp_path):
    with pytest.raises(ValueError, match="final: no such folder"):
        built(tmp_path)
