"""The simulated castle: depth of one camera in the pictures of another, and frames that land on each other."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fourd import geometry
from fourd.datasets._view import Labelled
from fourd.datasets.visp_castle import VispCastle, VispCastleConfig, _seen_from_the_left, base
from fourd.media import UnreadableVideo
from tests.datasets.files import visp_castle as files
from tests.films import read_number

REAL = os.environ.get("FOURD_VISP_IMAGES", "")


def whole(dataset: VispCastle, number: int = 0) -> Labelled:
    recording = dataset.recordings[number]
    return dataset.load(recording, np.arange(recording.num_frames))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("visp") / "root"
    files.write(root)
    return root


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    files.write_scene(tmp_path / "Castle-simu")
    return tmp_path / "Castle-simu"


def built(root: Path, **changes: object) -> VispCastle:
    return replace(VispCastleConfig(root=str(root), tasks=VispCastleConfig.kinds, num_frames=2), **changes).build()


# ----------------------------------------------------------------------------- what was written


@pytest.mark.parametrize("number", [0, 1])
def test_pictures_and_poses_are_those_that_were_written(root, number):
    seen, name = whole(built(root), number), files.SCENES[number]
    numbers = [read_number(picture.permute(1, 2, 0).numpy()) for picture in seen.video]
    assert numbers == [files.number_of(name, frame) for frame in range(1, 7)]
    poses = np.stack([np.linalg.inv(files.camera_from_world(name, frame)) for frame in range(1, 7)])
    torch.testing.assert_close(seen.camera.world_from_camera[0], torch.from_numpy(poses).float(), rtol=0, atol=1e-6)
    assert seen.camera.intrinsics_px[0].tolist() == [[70, 0, 30.5], [0, 77, 25.5], [0, 0, 1]]
    torch.testing.assert_close(seen.time_s, torch.arange(1, 7).double() / 30)


@pytest.mark.parametrize("number", [0, 1])
def test_depth_is_what_the_camera_of_the_pictures_sees(root, number):
    seen, name = whole(built(root), number), files.SCENES[number]
    true = torch.from_numpy(np.stack([files.depth_of(name, frame) for frame in range(1, 7)])).float()
    valid, metres = seen.depth.valid[0], seen.depth.metres[0]
    # a value lies up to half a pixel from the middle of its pixel, in x
    half_a_pixel = true.diff(dim=-1).abs().amax() / 2 + files.STEP
    assert ((metres - true).abs()[valid] <= half_a_pixel).all()
    assert valid.float().mean() > 0.75
    as_stored = torch.from_numpy(np.stack([files.depth_of(name, n, files.BASELINE) for n in range(1, 7)])).float()
    assert ((as_stored - true).abs()[valid] > half_a_pixel).float().mean() > 0.9, "the two cameras see the same"
    assert (metres[~valid] == 0).all()


def test_what_is_near_hides_what_is_behind_and_nothing_shines_through():
    camera = np.array([[100.0, 0, 32], [0, 100, 24], [0, 0, 1]])
    metres = np.full((48, 64), 1.0, np.float32)  # a wall, which moves by 5 pixels
    metres[10:20, 20:30] = 0.5  # a thing before it, which moves by 10
    seen = _seen_from_the_left(metres, camera, camera, (48, 64))
    expected = np.full((48, 64), 1.0, np.float32)
    expected[:, :5] = 0
    expected[10:20, 25:35] = 0  # where the wall was hidden from the camera on the right
    expected[10:20, 30:40] = 0.5
    assert (seen == expected).all()


def test_gaps_of_a_stretched_surface_are_not_filled_with_what_lies_behind():
    camera, wide = np.diag([100.0, 100, 1]), np.diag([140.0, 100, 1])
    metres = np.full((4, 64), 0.5, np.float32)
    metres[:, 40:] = 5.0
    seen = _seen_from_the_left(metres, camera, wide, (4, 96))
    near = seen[:, 14:68]
    assert set(np.unique(near)) == {0.0, 0.5}
    assert 0.6 < (near > 0).mean() < 0.8


# ----------------------------------------------------------------------------- frames land on each other


@dataclass(frozen=True)
class Agreement:
    """Say how well a frame moved by its depth and the poses falls onto another one."""

    depth_error: float
    """Median of the relative error of depth."""
    share_alike: float
    """Share of the pixels whose depth agrees within one per cent."""
    grey_error: float
    """Mean difference in grey levels, of the pixels that agree."""


def move(seen: Labelled, world_from_camera: Tensor, source: int, target: int) -> Agreement:
    intrinsics, (height, width) = seen.camera.intrinsics_px[0], seen.video.shape[2:]
    metres = seen.depth.metres[0]
    known = metres[source] > 0
    points = geometry.unproject(geometry.pixel_centres(height, width)[known], metres[source][known], intrinsics)
    target_from_source = geometry.rigid_inverse(world_from_camera[target]) @ world_from_camera[source]
    moved = geometry.transform_points(target_from_source, points)
    place = geometry.project(moved, intrinsics).floor().long()
    inside = ((place >= 0) & (place < torch.tensor([width, height]))).all(-1)
    column, row = place[inside].unbind(-1)
    found, expected = metres[target][row, column], moved[inside][:, 2]
    error = ((found - expected).abs() / expected)[found > 0]
    grey = (seen.video[source, 0][known][inside].float() - seen.video[target, 0][row, column].float()).abs()[found > 0]
    alike = error < 0.01
    return Agreement(error.median().item(), alike.float().mean().item(), grey[alike].mean().item())


def test_written_frames_land_on_each_other_and_only_with_the_right_pose(root):
    seen = whole(built(root))
    poses = seen.camera.world_from_camera[0]
    assert move(seen, poses, 0, 5).depth_error < 0.005
    assert move(seen, geometry.rigid_inverse(poses), 0, 5).depth_error > 0.02


@pytest.mark.skipif(not REAL, reason="FOURD_VISP_IMAGES does not name ViSP-images of visp-images-data")
@pytest.mark.parametrize(("source", "target"), [(0, 7), (7, 14), (19, 29), (29, 39), (39, 19)])
def test_real_frames_land_on_each_other_and_only_with_the_right_pose(source, target):
    dataset = base(REAL).build()
    assert [(r.key, r.num_frames) for r in dataset.recordings] == [("Castle-simu", 40)]
    seen = whole(dataset)
    poses = seen.camera.world_from_camera[0]
    right, wrong = move(seen, poses, source, target), move(seen, geometry.rigid_inverse(poses), source, target)
    print(f"frames {source + 1} to {target + 1}: {right}; inverted poses: {wrong}")
    assert right.depth_error < 0.001
    assert right.share_alike > 0.85
    assert right.grey_error < 5
    assert wrong.depth_error > 15 * right.depth_error or np.isnan(wrong.depth_error)
    assert wrong.share_alike < 0.3


# ----------------------------------------------------------------------------- what is there, and what is not


def test_halves_share_no_frame_and_one_group(root):
    first, second = built(root, split="train"), built(root, split="test")
    assert [r.num_frames for r in (*first.recordings, *second.recordings)] == [3, 3, 3, 3]
    times = torch.cat([whole(first).time_s, whole(second).time_s])
    assert torch.equal(times, whole(built(root)).time_s)
    assert {r.group for r in (*first.recordings, *second.recordings)} == set(files.SCENES)
    with pytest.raises(ValueError, match="split: found 'val'"):
        base(str(root), "val")


@pytest.mark.parametrize("below", ["mbt-depth", "mbt-depth/Tower-simu"])
def test_root_may_be_the_package_or_a_folder_in_it(root, below):
    assert "Tower-simu" in {recording.key for recording in built(root / below).recordings}


@pytest.mark.parametrize(
    ("path", "content", "named"),
    [
        ("Depth/Depth_0002.bin", b"\x30\0\0", "3 bytes whose header says 0 x 0"),
        ("Depth/Depth_0002.bin", b"\x30\0\0\0\x40\0\0\0" + bytes(600), "608 bytes whose header says 48 x 64"),
        ("Depth/Depth_0002.bin", b"\xff\xff\xff\xff\x01\0\0\0", "header says 4294967295 x 1"),
        ("Images/Image_0002.pgm", b"P5\n64 48\n255\n" + bytes(600), "not a picture"),
        ("Images/Image_0002.pgm", b"P5\n2 2\n255\n" + bytes(4), "frames of different sizes"),
        ("CameraPose/Camera_002.txt", b"1 2 3", "pose: found 3 numbers, expected 16"),
        ("CameraPose/Camera_002.txt", b"1 " * 16, "pose: not a rotation"),
        ("CameraPose/Camera_002.txt", b"a " * 16, "pose: not numbers"),
        ("Config/chateau.xml", b"<conf><camera><px>1</px></camera></conf>", "expected numbers px, py, u0, v0"),
        ("Config/chateau_depth.xml", b"<conf>", "expected numbers px, py, u0, v0"),
    ],
)
def test_a_broken_file_is_named_with_what_is_wrong_in_it(scene, path, content, named):
    (scene / path).write_bytes(content)
    with pytest.raises(UnreadableVideo, match=named) as caught:
        whole(built(scene))
    assert path.rsplit("_", 1)[0].split("/")[0] in caught.value.path


@pytest.mark.parametrize("path", ["Depth/Depth_0004.bin", "CameraPose/Camera_004.txt"])
def test_a_missing_file_is_named(scene, path):
    (scene / path).unlink()
    with pytest.raises(ValueError, match=rf"{path}: no such file \(1 are missing\)"):
        built(scene)
