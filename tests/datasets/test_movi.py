"""MOVi: depth, cameras, boxes and tracks are those of the world that was rendered, and what does not fit is named."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fourd.datasets import _movi_tracks, movi
from fourd.datasets._sampling import RandomWindow, Windows
from fourd.datasets.movi import MoviConfig
from fourd.geometry import project, rigid_inverse, transform_points, unproject
from fourd.media import UnreadableVideo
from tests.datasets.files import movi as files

FRAMES = list(range(1, 5))


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> MoviConfig:
    """Render the films once."""
    return files.write(tmp_path_factory.mktemp("movi") / "root")


@pytest.fixture
def whole(copy: MoviConfig) -> MoviConfig:
    """Describe clips of four frames from the second on, as large as they are stored, with every track."""
    return replace(copy, sampling=Windows(), size=(files.HEIGHT, files.WIDTH), num_points=None, num_tracks=400)


def clip(config: MoviConfig, number: int = 0, frames: list[int] | None = None):
    dataset = config.build()
    return dataset.load(dataset.recordings[number], np.array(frames or FRAMES))


def rendered(number: int, frame: int) -> tuple[np.ndarray, ...]:
    """Render a frame: what the rays meet, how far, with what normal, and where in the world."""
    world = files.World(number)
    rays = world.rays(frame)
    distance, what, normal = world.cast(frame, rays)
    return distance, what, normal, world.camera_pose(frame)[1] + distance[..., None] * rays


def alter(tmp_path: Path, change) -> MoviConfig:
    """Write one film with features that were changed."""
    features = files.film(0)
    change(features)
    root = tmp_path / "altered"
    root.mkdir()
    path = root / "movi_e-train.tfrecord-00000-of-00001"
    path.write_bytes(files.record(files.example(features)))
    return replace(movi.base(str(root)), num_frames=4, size=(20, 28))


# ----------------------------------------------------------------------------- what is read


def test_frames_and_times_are_those_of_the_film(whole: MoviConfig):
    dataset = whole.build()
    assert [recording.key for recording in dataset.recordings] == [
        "movi_e-train-00000/0",
        "movi_e-train-00000/1",
        "movi_e-train-00001/0",
    ]
    assert {recording.num_frames for recording in dataset.recordings} == {files.NUM_FRAMES}
    labelled = clip(whole, 2)
    assert np.allclose(labelled.time_s, np.array(FRAMES) / 12)
    for place, frame in enumerate(FRAMES):
        truth = files.picture_of(files.film(2)["video"][frame])
        assert np.array_equal(labelled.video[place].permute(1, 2, 0), truth)


def test_depth_is_along_the_cameras_axis(whole: MoviConfig):
    depth = clip(whole, 1).depth
    for place, frame in enumerate(FRAMES):
        world = files.World(1)
        _, truth = world.image(frame, rendered(1, frame)[3])
        assert np.allclose(depth.metres[0, place], truth, rtol=1e-4, atol=1e-3)
    assert depth.valid.all()


def test_a_pixel_lifted_by_depth_and_pose_is_where_the_ray_ended(whole: MoviConfig):
    labelled = clip(whole, 1)
    y, x = torch.meshgrid(torch.arange(files.HEIGHT) + 0.5, torch.arange(files.WIDTH) + 0.5, indexing="ij")
    xy = torch.stack([x, y], dim=-1).reshape(-1, 2)
    for place, frame in enumerate(FRAMES):
        points = unproject(xy, labelled.depth.metres[0, place].flatten(), labelled.camera.intrinsics_px[0])
        world = transform_points(labelled.camera.world_from_camera[0, place], points)
        assert np.allclose(world, rendered(1, frame)[3].reshape(-1, 3), atol=5e-3)


def test_cameras_project_as_kubrics_do(whole: MoviConfig):
    camera, points = clip(whole).camera, np.array([[0.3, 0.8, -0.5], [2.0, -1.0, 1.5]])
    for place, frame in enumerate(FRAMES):
        truth, depth = files.World(0).image(frame, points)
        seen = transform_points(rigid_inverse(camera.world_from_camera[0, place]), torch.from_numpy(points).float())
        assert np.allclose(project(seen, camera.intrinsics_px[0]), truth, atol=1e-3)
        assert np.allclose(seen[:, 2], depth, atol=1e-4)


def test_boxes_stand_round_what_is_seen_of_each_object(whole: MoviConfig):
    boxes = clip(whole, 2).boxes
    for place, frame in enumerate(FRAMES):
        what = rendered(2, frame)[1]
        for number in range(len(files.SIZES)):
            rows, columns = np.nonzero(what == number + 1)
            assert bool(boxes.valid[0, number, place]) == bool(len(rows))
            if len(rows):
                truth = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                assert np.allclose(boxes.xyxy_px[0, number, place], truth, atol=1e-3)


def test_an_object_that_is_not_seen_has_no_box(tmp_path: Path):
    def hide(features) -> None:
        features["instances/bboxes/ragged_flat_values"] = features["instances/bboxes/ragged_flat_values"][2:]
        features["instances/bbox_frames/ragged_flat_values"] = features["instances/bbox_frames/ragged_flat_values"][2:]
        lengths = features["instances/bboxes/ragged_row_lengths_0"] - np.array([2, 0])
        features["instances/bboxes/ragged_row_lengths_0"] = lengths

    boxes = clip(alter(tmp_path, hide)).boxes
    assert boxes.valid[0, 0].tolist() == [False, True, True, True]
    assert boxes.valid[0, 1].all()


# ----------------------------------------------------------------------------- tracks


def truth_of(number: int, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Follow what pixels of the clip's first frame show by the rules of the world: xy, whether seen, what it is."""
    world, columns, rows = files.World(number), *np.floor(xy).astype(int).T
    _, what, _, points = (values[rows, columns] for values in rendered(number, FRAMES[0]))
    paths = np.repeat(points[:, None], len(FRAMES), axis=1)
    for at in range(len(files.SIZES)):
        mine = what == at + 1
        places = world.within(at, FRAMES[0], points[mine])
        paths[mine] = np.stack([world.carried(at, frame, places) for frame in FRAMES], axis=1)
    images = np.stack([world.image(frame, paths[:, place])[0] for place, frame in enumerate(FRAMES)], axis=1)
    seen = np.stack([world.seen(frame, paths[:, place]) for place, frame in enumerate(FRAMES)], axis=1)
    inside = ((images >= 0) & (images < (files.WIDTH, files.HEIGHT))).all(-1)
    return images, seen & inside, what


@pytest.mark.parametrize("number", range(files.NUM_FILMS))
def test_tracks_go_where_the_world_goes(whole: MoviConfig, number: int):
    points = clip(whole, number).points
    asked = points.visible[0, :, 0]
    xy, visible = points.xy_px[0, asked].numpy(), points.visible[0, asked].numpy()
    assert np.allclose(xy[:, 0] % 1, 0.5, atol=2e-3), "points are the centres of pixels"
    truth, seen, what = truth_of(number, xy[:, 0])
    assert set(what.tolist()) == {0, 1, 2}
    assert np.abs(xy - truth).max() < 0.02
    moved = np.abs(truth[:, -1] - truth[:, 0]).max(-1)
    assert moved[what == 1].min() > 0.5, "the world stands still: nothing is tested"
    wrong = visible != seen
    assert wrong.mean() < 0.03
    assert (~seen).mean() > 0.05, "nothing is hidden: nothing is tested"
    # what is wrongly told is within a pixel of an edge, where one pixel shows two things
    assert all(
        _is_near_an_edge(number, place, truth[row, place]) for row, place in zip(*np.nonzero(wrong), strict=True)
    )


def _is_near_an_edge(number: int, place: int, xy: np.ndarray) -> bool:
    _, what, normal, _ = rendered(number, FRAMES[place])
    column, row = np.floor(xy).astype(int)
    around = (slice(max(row - 2, 0), row + 3), slice(max(column - 2, 0), column + 3))
    flat = len(np.unique(what[around])) == 1 and np.ptp(normal[around].reshape(-1, 3), axis=0).max() < 0.1
    inside = 2 < xy[0] < files.WIDTH - 2 and 2 < xy[1] < files.HEIGHT - 2
    return not (flat and inside)


def test_a_point_on_the_side_that_turns_away_is_hidden_although_its_distance_fits(whole: MoviConfig):
    points = clip(replace(whole, num_tracks=2000), 0, [0, 5]).points
    asked = points.visible[0, :, 0]
    xy = points.xy_px[0, asked].numpy()
    columns, rows = np.floor(xy[:, 0]).astype(int).T
    _, what, normal, _ = (values[rows, columns] for values in rendered(0, 0))
    assert (what == 1).sum() > 5
    world = files.World(0)
    turned = files.matrix(world.object_pose(0, 5)[0]) @ files.matrix(world.object_pose(0, 0)[0]).T
    place = world.carried(0, 5, world.within(0, 0, rendered(0, 0)[3][rows, columns]))
    away = ((normal @ turned.T) * (place - world.camera_pose(5)[1])).sum(-1) > 0
    of_object = what == 1
    assert (away & of_object).any(), "nothing turns away: nothing is tested"
    assert not points.visible[0, asked, 1].numpy()[away & of_object].any()


def test_rough_surfaces_are_not_judged_by_their_normals():
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(9, 9, 3))
    normals[:, :4] = (0, 0, 1)
    rough = _movi_tracks._rough(normals)
    assert rough[1:-1, 6:].all()
    assert not rough[1:-1, 1:3].any()


def still_scene() -> _movi_tracks.Scene:
    """Make three frames of a wall ten metres before a camera that stands still; the middle pixel shows an object."""
    camera = _movi_tracks.Camera(np.tile(np.eye(4), (3, 1, 1)), 20.0, 5, 7)
    distance = np.repeat(10 * np.linalg.norm(camera.rays(), axis=-1)[None], 3, axis=0)
    segments = np.zeros((3, 5, 7), np.int64)
    segments[:, 1:4, 2:5] = 1
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (9, 11)], float)
    normals, middle = np.tile([0.0, 0.0, -1.0], (5, 7, 1)), np.full((5, 7, 3), 0.5)
    rotations = np.tile(np.eye(3), (1, 3, 1, 1))
    return _movi_tracks.Scene(camera, distance, segments, middle, normals, np.tile(corners, (1, 3, 1, 1)), rotations)


def visible_in(scene: _movi_tracks.Scene) -> list[bool]:
    return _movi_tracks.track_pixels(scene, np.array([2]), np.array([3])).visible[0].tolist()


def test_a_point_is_hidden_by_what_is_nearer_by_more_than_a_hundredth():
    scene = still_scene()
    assert visible_in(scene) == [True, True, True]
    nearer = scene.distance * np.array([1, 0.993, 0.985])[:, None, None]
    assert visible_in(replace(scene, distance=nearer)) == [True, True, False]


def test_a_point_is_seen_if_one_of_the_pixels_round_it_is_not_nearer():
    scene = still_scene()
    scene.distance[1:] = 5.0
    scene.distance[2, 2, 3] = 10.0
    assert visible_in(scene) == [True, False, True]


def test_a_point_is_hidden_where_nothing_round_it_is_of_its_object():
    scene = still_scene()
    scene.segments[1:] = 0
    scene.segments[2, 2, 3] = 1
    assert visible_in(scene) == [True, False, True]


def test_a_surface_that_turns_away_hides_unless_it_seemed_to_from_the_start():
    scene = still_scene()
    scene.rotations[0, 1] = np.diag([-1.0, 1.0, -1.0])
    assert visible_in(scene) == [True, False, True]
    assert visible_in(replace(scene, normals=-scene.normals)) == [True, True, True]
    rough = scene.normals.copy()
    rough[1:4:2, 2:5:2] = (0, 1, 0)
    assert visible_in(replace(scene, normals=rough)) == [True, True, True]


def test_each_object_gets_as_many_points_as_its_size_allows():
    segments = np.zeros((50, 100), np.int64)
    segments[:10, :10], segments[20:40, 20:60] = 1, 2
    rows, columns = _movi_tracks.choose(segments, 120, np.random.default_rng(0))
    counts = np.bincount(segments[rows, columns])
    assert counts.tolist() == [55, 10, 55]
    assert len(set(zip(rows.tolist(), columns.tolist(), strict=True))) == 120


def test_a_point_behind_the_camera_has_no_place(whole: MoviConfig):
    scene = movi._Film(whole.build().recordings[0].source).scene(np.array([0, 1, 2]))
    behind = scene.corners.copy()
    behind[0, 1] += 2 * scene.camera.position[1]
    rows, columns = np.nonzero(scene.segments[0] == 1)
    tracks = _movi_tracks.track_pixels(replace(scene, corners=behind), rows, columns)
    assert tracks.known.tolist() == [[True, False, True]] * len(rows)
    assert (tracks.xy_px[:, 1] == 0).all()
    assert not tracks.visible[:, 1].any()


def test_the_same_points_are_followed_each_time_and_others_in_other_films(whole: MoviConfig):
    one, again, other = clip(whole, 0), clip(whole, 0), clip(whole, 1)
    assert torch.equal(one.points.xy_px, again.points.xy_px)
    assert not torch.equal(one.points.xy_px[:, :50], other.points.xy_px[:, :50])


def test_frames_that_repeat_have_their_labels_twice(whole: MoviConfig):
    labelled = clip(whole, 0, [2, 2, 4])
    for tensor in (labelled.video, labelled.depth.metres[0], labelled.points.xy_px[0].transpose(0, 1)):
        assert torch.equal(tensor[0], tensor[1])
        assert not torch.equal(tensor[0], tensor[2])


def test_points_that_are_asked_for_are_seen_in_the_first_frame(copy: MoviConfig):
    dataset = copy.build()
    for index in range(len(dataset)):
        sample = dataset.read(index, np.random.default_rng(1)).tasks[copy.tasks.index("point_tracking")]
        assert sample.target.visible.shape == (1, 9, 4)
        assert sample.target.visible[0, :, 0].all()
        assert torch.equal(sample.query.xy_px, sample.target.xy_px[:, :, 0])


def test_base_asks_what_the_paper_group_asks():
    train, held_out = movi.base("anywhere"), movi.base("anywhere", "validation")
    assert (train.num_frames, train.size, train.num_points) == (16, (224, 224), 64)
    assert train.sampling == RandomWindow()
    assert held_out.sampling == Windows()


def test_only_labels_that_are_asked_for_are_read(tmp_path: Path):
    def drop(features) -> None:
        for name in ("depth", "normal", "object_coordinates", "instances/bboxes_3d"):
            del features[name]

    config = replace(alter(tmp_path, drop), tasks=("camera_pose", "box_tracking"))
    labelled = clip(config)
    assert labelled.depth is None
    assert labelled.points is None
    assert labelled.camera is not None


# ----------------------------------------------------------------------------- what is refused


def test_files_that_are_not_there_are_counted(copy: MoviConfig, tmp_path: Path):
    name = "movi_e-train.tfrecord-00001-of-00002"
    (tmp_path / name).write_bytes((Path(copy.root) / name).read_bytes())
    dataset = replace(copy, root=str(tmp_path)).build()
    assert [recording.key for recording in dataset.recordings] == ["movi_e-train-00001/0"]
    [lost] = dataset.unreadable
    assert lost.path.endswith("movi_e-train.tfrecord-00000-of-00002")
    assert lost.reason == "no such file; 1 of the split's 2 files are not there"


def test_a_truncated_file_is_named_and_the_others_are_used(copy: MoviConfig, tmp_path: Path):
    for path in Path(copy.root).iterdir():
        data = path.read_bytes()
        (tmp_path / path.name).write_bytes(data[:-9] if "00000-of" in path.name else data)
    dataset = replace(copy, root=str(tmp_path)).build()
    assert len(dataset) == 1
    assert re.search("00000-of-00002", dataset.unreadable[0].path)
    assert "cut off" in dataset.unreadable[0].reason


def test_two_sizes_in_one_folder_are_refused(copy: MoviConfig, tmp_path: Path):
    for folder in ("128x128", "256x256"):
        (tmp_path / folder).mkdir()
        name = "movi_e-train.tfrecord-00001-of-00002"
        (tmp_path / folder / name).write_bytes((Path(copy.root) / name).read_bytes())
    with pytest.raises(ValueError, match=r"holds several sets .*128x128/movi_e.*256x256/movi_e"):
        replace(copy, root=str(tmp_path)).build()
    assert len(replace(copy, root=str(tmp_path / "128x128")).build()) == 1


def test_nothing_at_all_says_what_is_expected(tmp_path: Path):
    with pytest.raises(ValueError, match=r"files <name>-train\.tfrecord-00000-of-01024"):
        movi.base(str(tmp_path)).build()


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("metadata/depth_range", np.array([3.0, 1.0]), "feature 'metadata/depth_range': found 3.0, 1.0"),
        ("metadata/width", np.array([61]), r"feature 'video': found a picture of \(40, 60\), expected \(40, 61\)"),
        ("camera/quaternions", np.zeros((6, 4)), "feature 'camera/quaternions': found quaternions that are not of"),
        ("camera/positions", np.zeros((5, 3)), "feature 'camera/positions': found 15 values"),
        ("camera/focal_length", np.array([0.0]), "features 'camera/focal_length', .*: found 0.0 and 32.0"),
        ("instances/bboxes_3d", np.zeros((1, 6, 8, 3)), "feature 'segmentations': found object 2, .* has 1"),
        (
            "instances/bbox_frames/ragged_flat_values",
            np.zeros(3, int),
            "'instances/bbox_frames': 12 boxes for 3 frames",
        ),
        ("depth", [files.png(np.zeros((40, 60), np.uint16))] * 5, "feature 'depth': found 5 frames, expected 6"),
        ("depth", [b"none"] * 6, r"\.depth: not a picture"),
        ("normal", [files.png(np.zeros((40, 60, 3), np.uint8))] * 6, r"\.normal: found a picture of .* 8 bits"),
        ("object_coordinates", [files.png(np.zeros((40, 60, 3), np.uint16))[:50]] * 6, "not a PNG that can be decoded"),
        ("segmentations", [files.png(np.zeros((40, 60, 3), np.uint8))] * 6, "segmentations: a picture in colour"),
    ],
)
def test_a_broken_feature_is_named(tmp_path: Path, name: str, value, reason: str):
    config = alter(tmp_path, lambda features: features.update({name: value}))
    with pytest.raises(UnreadableVideo, match=reason) as error:
        clip(config)
    assert "movi_e-train.tfrecord-00000-of-00001[byte 12]" in error.value.path


def test_a_missing_feature_is_named(tmp_path: Path):
    config = alter(tmp_path, lambda features: features.pop("object_coordinates"))
    with pytest.raises(UnreadableVideo, match="feature 'object_coordinates': found none, expected a list of bytes"):
        clip(config)
