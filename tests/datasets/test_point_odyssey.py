"""PointOdyssey: points, depth and poses agree with each other and with the files; what does not fit is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fourd.datasets.point_odyssey import PointOdysseyConfig
from fourd.geometry import project, rigid_inverse, transform_points
from fourd.media import UnreadableVideo
from tests.datasets.files import point_odyssey as files
from tests.films import read_number


@pytest.fixture
def config(tmp_path: Path) -> PointOdysseyConfig:
    """Describe both films with all labels."""
    return files.write(tmp_path / "root")


def read(dataset, index: int):
    return dataset.read(index, np.random.default_rng(0))


def shown(batch) -> list[int]:
    return [read_number(frame.permute(1, 2, 0).numpy()) for frame in batch.video[0]]


def film(config: PointOdysseyConfig, key: str = "ani") -> Path:
    return Path(config.root) / "val" / key


def change(config: PointOdysseyConfig, **arrays) -> None:
    """Write a film's archive with other arrays; None leaves one out."""
    held = {name: array for name, array in (files.labels("ani") | arrays).items() if array is not None}
    np.savez(film(config) / "anno.npz", **held)


def test_points_are_where_the_archive_puts_them(config: PointOdysseyConfig):
    dataset = config.build()
    assert [(r.key, r.num_frames, r.num_points) for r in dataset.recordings] == [("ani", 10, 6), ("r4_new_f", 10, 4)]
    for index, key in ((1, "ani"), (3, "r4_new_f")):
        batch = read(dataset, index)
        assert batch.key == (f"point_odyssey/{key}/1",)
        assert batch.group == (f"point_odyssey/{key}",)
        assert shown(batch) == [5, 6, 7, 8, 9]
        target, count = batch.tasks[0].target, files.NUM_POINTS[key]
        truth = files.pixels(key)[5:].swapaxes(0, 1)
        np.testing.assert_allclose(target.xy_px[0, :count], truth, atol=1e-3)
        inside = ((truth >= 0) & (truth < (files.WIDTH, files.HEIGHT))).all(-1)
        np.testing.assert_array_equal(target.visible[0, :count].numpy(), inside)
        assert target.valid[0].any(-1).tolist() == [True] * count + [False] * (6 - count)


@pytest.mark.parametrize("index", [0, 2])
def test_what_is_hidden_not_valid_or_no_number_is_kept_apart(config: PointOdysseyConfig, index: int):
    target = read(config.build(), index).tasks[0].target
    count = (6, 4)[index // 2]
    assert (~target.visible[0, :count]).nonzero().tolist() == [[0, 3], [2, 1], [3, 2]]
    assert (~target.valid[0, :count]).nonzero().tolist() == [[0, 3], [3, 2]]
    assert torch.isfinite(target.xy_px).all()


def test_depth_is_a_share_of_a_kilometre(config: PointOdysseyConfig):
    depth = read(config.build(), 1).tasks[1].target
    raw = np.stack([files.depth_raw(frame) for frame in range(5, 10)])
    known = (raw > 0) & (raw < 65501)
    assert (~depth.valid[0]).nonzero().tolist() == [[frame, *place] for frame in range(5) for place in ((0, 0), (3, 5))]
    np.testing.assert_allclose(depth.metres[0].numpy(), np.where(known, raw / 65.535, 0), rtol=1e-5)


def test_the_camera_sees_the_points_where_they_are(config: PointOdysseyConfig):
    batch = read(config.build(), 1)
    points, camera = batch.tasks[0].target, batch.tasks[2].target
    for frame in range(5):
        world = torch.from_numpy(files.world_points("ani")[5 + frame]).float()
        in_camera = transform_points(rigid_inverse(camera.world_from_camera[0, frame]), world)
        seen = project(in_camera, camera.intrinsics_px[0])
        np.testing.assert_allclose(points.xy_px[0, :, frame], seen, atol=2e-3)
    position = np.linalg.inv(files.camera_from_world("ani", 7))[:3, 3]
    np.testing.assert_allclose(camera.world_from_camera[0, 2, :3, 3], position, atol=1e-5)


def test_only_what_is_asked_for_is_needed(config: PointOdysseyConfig):
    for kind, missing in (("depth", "anno.npz"), ("point_tracking", "depths"), ("camera_pose", "depths")):
        path = film(config) / missing
        hidden = path.rename(path.with_name("hidden"))
        batch = read(replace(config, tasks=(kind,)).build(), 0)
        assert batch.key == ("point_odyssey/ani/0",)
        assert len(batch.tasks) == 1
        hidden.rename(path)
    change(config, trajs_3d=None, intrinsics=None, extrinsics=None)
    assert not replace(config, tasks=("point_tracking", "depth")).build().unreadable


def test_rows_that_repeat_are_read(config: PointOdysseyConfig):
    dataset = config.build()
    loaded = dataset.load(dataset.recordings[0], np.array([2, 2, 7]))
    np.testing.assert_allclose(loaded.points.xy_px[0, 0], files.pixels("ani")[[2, 2, 7], 0], rtol=1e-5)


# ----------------------------------------------------------------------------- what is refused


def _without(name: str) -> Callable[[PointOdysseyConfig], None]:
    return lambda config: change(config, **{name: None})


def _with(name: str, edit: Callable[[np.ndarray], np.ndarray]) -> Callable[[PointOdysseyConfig], None]:
    return lambda config: change(config, **{name: edit(files.labels("ani")[name])})


def _cut(config: PointOdysseyConfig) -> None:
    path = film(config) / "anno.npz"
    path.write_bytes(path.read_bytes()[:-200])


def _bytes_between(config: PointOdysseyConfig) -> None:
    (film(config) / "rgbs" / "rgb_00004.jpg").unlink()


LISTED = {
    "no tracks": (_without("trajs_2d"), "field 'trajs_2d' is missing"),
    "no poses": (_without("extrinsics"), "field 'extrinsics' is missing"),
    "points first": (_with("trajs_2d", lambda a: a.swapaxes(0, 1)), r"'trajs_2d': shape \(6, 10, 2\), expected \(10,"),
    "fewer frames": (_with("valids", lambda a: a[1:]), r"'valids': shape \(9, 6\), expected \(10, 6\)"),
    "fewer points": (_with("visibs", lambda a: a[:, 1:]), r"'visibs': shape \(10, 5\), expected \(10, 6\)"),
    "poses of three rows": (_with("extrinsics", lambda a: a[:, :3]), r"shape \(10, 3, 4\), expected \(10, 4, 4\)"),
    "one lens": (_with("intrinsics", lambda a: a[0]), r"'intrinsics': shape \(3, 3\), expected \(10, 3, 3\)"),
    "objects": (_with("valids", lambda a: a.astype(object)), "'valids': object kept by column or as objects"),
    "a cut archive": (_cut, "cannot be read"),
    "no archive": (lambda config: (film(config) / "anno.npz").unlink(), r"no such file: expected .*version 1\.2"),
    "a missing picture": (_bytes_between, "rgb_00004.jpg is missing, of 9"),
    "fewer depths": (lambda c: (film(c) / "depths" / "depth_00009.png").unlink(), r"9 depth_\*.png beside 10 rgb"),
}


@pytest.mark.parametrize("name", LISTED)
def test_films_that_do_not_fit_are_listed(name: str, config: PointOdysseyConfig):
    edit, reason = LISTED[name]
    edit(config)
    dataset = config.build()
    assert [recording.key for recording in dataset.recordings] == ["r4_new_f"]
    (lost,) = dataset.unreadable
    assert "/val/ani" in lost.path
    with pytest.raises(UnreadableVideo, match=reason):
        raise UnreadableVideo(lost.path, lost.reason)


def _first_version(extrinsics: np.ndarray) -> np.ndarray:
    """Let the camera look along -z with y upwards, as the set's first version has it."""
    return np.diag([1, -1, -1, 1]).astype(np.float32) @ extrinsics


def _one_nan(extrinsics: np.ndarray) -> np.ndarray:
    extrinsics[6, 1, 3] = np.nan
    return extrinsics


REFUSED = {
    "other axes": (_with("extrinsics", _first_version), r"'trajs_3d' seen by 'extrinsics'.*inf pixels"),
    "poses inverted": (_with("extrinsics", np.linalg.inv), "pixels from 'trajs_2d'"),
    "x and y swapped": (_with("trajs_2d", lambda a: a[..., ::-1]), "expected less than 3"),
    "no rotation": (_with("extrinsics", lambda a: a * 1.01), "'extrinsics': no rotation"),
    "no number": (_with("extrinsics", _one_nan), "'extrinsics': no rotation, or no numbers"),
    "a lens that zooms": (
        _with("intrinsics", lambda a: a * (1 + 0.01 * np.arange(10)[:, None, None])),
        "field 'intrinsics': changes within a clip",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_cameras_that_do_not_see_the_points_are_refused(name: str, config: PointOdysseyConfig):
    edit, reason = REFUSED[name]
    edit(config)
    with pytest.raises(UnreadableVideo, match=reason) as caught:
        read(config.build(), 1)
    assert caught.value.path.endswith("ani/anno.npz")


def test_an_archive_that_is_damaged_inside_is_named(config: PointOdysseyConfig):
    path = film(config) / "anno.npz"
    dataset = config.build()
    data = bytearray(path.read_bytes())
    data[200:260] = bytes(60)
    path.write_bytes(data)
    with pytest.raises(UnreadableVideo, match=r"anno\.npz: field 'trajs_2d' cannot be read"):
        read(dataset, 0)


def test_depth_of_eight_bits_is_refused(config: PointOdysseyConfig):
    Image.fromarray(np.zeros((40, 64), np.uint8)).save(film(config) / "depths" / "depth_00002.png")
    with pytest.raises(UnreadableVideo, match=r"depths: found .*'uint8'.*expected pictures of 16 bits"):
        read(config.build(), 0)


def test_a_split_that_is_not_there_is_refused(config: PointOdysseyConfig):
    with pytest.raises(ValueError, match="no clip of split 'train'"):
        replace(config, split="train").build()
