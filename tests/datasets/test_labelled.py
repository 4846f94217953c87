"""The base of all readers: labels go where their pixels go, and clips are what the config says."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fourd.datasets._labelled import Found, LabelledConfig, LabelledDataset, Recording
from fourd.datasets._sampling import FrameNumbers, RandomWindow, Segments, Spread, Windows
from fourd.datasets._view import Labelled, View, see
from fourd.geometry import project, rigid, rigid_inverse, transform_points
from fourd.types import BoxTracks, CameraPoses, Depth, Label, PointTracks, Unreadable
from fourd.video import CropBox

HEIGHT, WIDTH = 40, 64
CORNERS_M = torch.tensor([[-1.0, -0.5, 4.0], [0.8, -0.3, 5.0], [0.2, 0.6, 3.0], [-0.7, 0.4, 6.0]])


def camera(num_frames: int) -> CameraPoses:
    """Move a camera to the right and turn it a little; unequal focal lengths tell x from y."""
    angle = torch.linspace(0, 0.2, num_frames)
    rotation = torch.eye(3).repeat(num_frames, 1, 1)
    rotation[:, 0, 0] = rotation[:, 2, 2] = angle.cos()
    rotation[:, 0, 2], rotation[:, 2, 0] = angle.sin(), -angle.sin()
    position = torch.stack([0.1 * torch.arange(float(num_frames)), *torch.zeros(2, num_frames)], dim=-1)
    intrinsics = torch.tensor([[[60.0, 0, 30], [0, 50, 22], [0, 0, 1]]])
    return CameraPoses(rigid(rotation, position)[None], intrinsics)


def seen_by(poses: CameraPoses, points_m: torch.Tensor) -> torch.Tensor:
    """Project points of the world into every frame: `1 Q T 2`."""
    in_camera = transform_points(rigid_inverse(poses.world_from_camera[0]), points_m.expand(1, -1, -1))
    return project(in_camera, poses.intrinsics_px[0].expand(len(in_camera), -1, -1)).transpose(0, 1)[None]


def labelled(num_frames: int = 3) -> Labelled:
    """Make a clip whose every pixel says where it is: red is x, green is y, and so does its depth."""
    x, y = torch.meshgrid(torch.arange(WIDTH), torch.arange(HEIGHT), indexing="xy")
    video = torch.stack([x, y, torch.zeros_like(x)]).to(torch.uint8).repeat(num_frames, 1, 1, 1)
    metres = (1 + x + 100 * y).float().repeat(1, num_frames, 1, 1)
    poses = camera(num_frames)
    tracks = seen_by(poses, CORNERS_M)
    everywhere = torch.ones(tracks.shape[:3], dtype=torch.bool)
    boxes = torch.tensor([[10.0, 5, 30, 25], [40, 20, 60, 38]])[None, :, None].repeat(1, 1, num_frames, 1)
    return Labelled(
        video,
        torch.arange(float(num_frames)),
        Depth(metres, metres > 0),
        PointTracks(tracks, everywhere, everywhere),
        BoxTracks(boxes, everywhere[:, :2]),
        poses,
        Label(torch.tensor([1])),
    )


views = st.builds(
    lambda left, top, width, height, flipped: View(CropBox(left, top, width, height), (height * 2, width * 2), flipped),
    st.integers(0, 20),
    st.integers(0, 10),
    st.integers(20, 40),
    st.integers(16, 28),
    st.booleans(),
)


@settings(max_examples=40, deadline=None)
@given(views)
def test_a_point_of_the_world_is_seen_where_its_track_says(view: View):
    seen = see(labelled(), view, 0.0, 0.0)
    assert seen.camera is not None
    assert seen.points is not None
    world = CORNERS_M * torch.tensor([-1.0 if view.flipped else 1.0, 1, 1])
    torch.testing.assert_close(seen_by(seen.camera, world), seen.points.xy_px, atol=1e-3, rtol=0)


@settings(max_examples=40, deadline=None)
@given(views)
def test_depth_is_that_of_the_pixel_at_the_centre(view: View):
    seen = see(labelled(), view, 0.0, 0.0)
    assert seen.depth is not None
    row, column = 7, 9
    shown = view.size[1] - 1 - column if view.flipped else column
    x = int(view.box.left + (shown + 0.5) / 2)
    y = int(view.box.top + (row + 0.5) / 2)
    assert float(seen.depth.metres[0, 0, row, column]) == 1 + x + 100 * y


@settings(max_examples=40, deadline=None)
@given(views)
def test_boxes_hold_what_they_held(view: View):
    clip = labelled()
    seen = see(clip, view, 0.0, 0.0)
    assert seen.boxes is not None
    box, valid = seen.boxes.xyxy_px[0, 0, 0], bool(seen.boxes.valid[0, 0, 0])
    left, top = max(10, view.box.left), max(5, view.box.top)
    right = min(30, view.box.left + view.box.width)
    bottom = min(25, view.box.top + view.box.height)
    assert valid == (right > left and bottom > top)
    if valid:
        inside = ((left - view.box.left) * 2, (right - view.box.left) * 2)
        x = (view.size[1] - inside[1], view.size[1] - inside[0]) if view.flipped else inside
        expected = [x[0], (top - view.box.top) * 2, x[1], (bottom - view.box.top) * 2]
        torch.testing.assert_close(box, torch.tensor(expected, dtype=torch.float32))


def test_a_box_of_which_too_little_is_left_does_not_count():
    view = View(CropBox(25, 0, 39, 40), (40, 39))
    assert see(labelled(), view, 0.0, 0.2).boxes.valid[0, :, 0].tolist() == [True, True]  # type: ignore[union-attr]
    assert see(labelled(), view, 0.0, 0.3).boxes.valid[0, :, 0].tolist() == [False, True]  # type: ignore[union-attr]
    assert see(labelled(), view, 0.2, 0.0).boxes.valid[0, :, 0].tolist() == [False, True]  # type: ignore[union-attr]


def test_depth_of_another_size_is_stretched_onto_the_video():
    clip = labelled()
    half = Depth(clip.depth.metres[..., ::2, ::2], clip.depth.valid[..., ::2, ::2])  # type: ignore[union-attr]
    seen = see(dataclasses.replace(clip, depth=half), View(CropBox(0, 0, WIDTH, HEIGHT), (HEIGHT, WIDTH)), 0.0, 0.0)
    assert seen.depth.metres.shape == (1, 3, HEIGHT, WIDTH)  # type: ignore[union-attr]
    assert float(seen.depth.metres[0, 0, 5, 9]) == 1 + 8 + 100 * 4  # type: ignore[union-attr]


# ----------------------------------------------------------------------------- which frames


def frames(sampling: Windows | Spread | RandomWindow | Segments, recorded: int, num: int, clip: int = 0) -> list[int]:
    return sampling.frames(recorded, num, clip, np.random.default_rng(0)).tolist()


def test_windows_touch_without_sharing_a_frame():
    assert [Windows(2).count(recorded, 4) for recorded in (6, 7, 14, 15, 16)] == [0, 1, 1, 2, 2]
    assert frames(Windows(2), 16, 4, clip=1) == [8, 10, 12, 14]
    assert Windows(1, hop=3).count(10, 4) == 3
    assert frames(Windows(1, hop=3), 10, 4, clip=2) == [6, 7, 8, 9]


def test_spread_reaches_from_end_to_end():
    assert frames(Spread(), 11, 6) == [0, 2, 4, 6, 8, 10]
    assert frames(Spread(), 2, 4) == [0, 0, 1, 1]


def test_a_random_window_stays_inside_and_a_short_recording_repeats_its_last_frame():
    starts = {RandomWindow(2).frames(10, 4, 0, np.random.default_rng(seed))[0] for seed in range(50)}
    assert starts == {0, 1, 2, 3}
    assert frames(RandomWindow(4), 6, 4) == [0, 4, 5, 5]


def test_segments_are_spread_and_one_lies_in_the_middle():
    assert [frames(Segments(1, 3), 10, 4, clip) for clip in range(3)] == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]
    assert frames(Segments(1), 10, 4) == [3, 4, 5, 6]


# ----------------------------------------------------------------------------- the dataset


@dataclass(frozen=True, kw_only=True)
class FakeConfig(LabelledConfig):
    """Describe recordings that are made up."""

    kinds: ClassVar[tuple[str, ...]] = ("depth", "point_tracking", "box_tracking", "camera_pose", "action")
    scenes: int = 3

    def build(self) -> Fake:
        """Make them up."""
        return Fake(self)


class Fake(LabelledDataset):
    """Give recordings of `labelled`."""

    name = "fake"

    def find(self) -> Found:
        """List three recordings, and one that is broken."""
        recordings = [Recording(f"r{n}", f"g{n}", 9 + n, num_points=4, num_boxes=2) for n in range(self.config.scenes)]
        return Found(tuple(recordings), (Unreadable("r9", "broken"),))

    def load(self, recording: Recording, frames: FrameNumbers) -> Labelled:
        """Make the frames that are asked for."""
        return dataclasses.replace(labelled(len(frames)), time_s=torch.from_numpy(frames / 10.0))


def fake(root: Path, **changes: object) -> Fake:
    return FakeConfig(root=str(root), **({"num_frames": 4, "size": (32, 32)} | changes)).build()  # type: ignore[arg-type]


def test_what_is_too_short_or_broken_is_listed(tmp_path: Path):
    dataset = fake(tmp_path, sampling=Windows(3))
    assert len(dataset) == 2
    assert [lost.path for lost in dataset.unreadable] == ["r9", "fake/r0"]
    assert "9 frames are too few for a clip of 4" in dataset.unreadable[1].reason


def test_no_clip_at_all_is_an_error_that_says_why(tmp_path: Path):
    with pytest.raises(ValueError, match=r"no clip of split 'train'.*r9: broken"):
        fake(tmp_path, num_frames=100)
    with pytest.raises(FileNotFoundError, match="fourd data doctor fake ROOT"):
        fake(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="labels for depth"):
        fake(tmp_path, tasks=("sound",))


def test_views_of_a_clip_stand_in_a_row(tmp_path: Path):
    dataset = fake(tmp_path, sampling=Segments(1, 2), crop="three", tasks=("action",))
    assert dataset.num_views == 6
    assert len(dataset) == 18
    keys = [dataset.read(index, np.random.default_rng(0)).key[0] for index in range(6, 12)]
    assert keys == [f"fake/r1/0/view{view}" for view in range(6)]
    columns = [int(dataset.read(index, np.random.default_rng(0)).video[0, 0, 0, 0, 0]) for index in range(6)]
    times = [float(dataset.read(index, np.random.default_rng(0)).time_s[0, 0]) for index in range(6)]
    assert columns == [0, 0, 12, 12, 24, 24]
    assert times == pytest.approx([0.0, 0.5] * 3)


def test_queries_are_those_of_the_first_frame_and_empty_slots_never_count(tmp_path: Path):
    dataset = fake(tmp_path, tasks=("point_tracking", "box_tracking"), num_points=6)
    points, boxes = dataset.read(0, np.random.default_rng(0)).tasks
    assert points.query.xy_px.shape == (1, 6, 2)
    visible = points.target.visible[0, :, 0].tolist()
    assert visible == sorted(visible, reverse=True)
    assert sum(visible) < 6
    assert points.target.valid[0, ~points.target.visible[0, :, 0]].sum() == 0
    torch.testing.assert_close(points.query.xy_px, points.target.xy_px[:, :, 0])
    assert boxes.query.xyxy_px.shape == (1, 2, 4)


def test_portions_part_the_groups(tmp_path: Path):
    whole, learn, choose = (fake(tmp_path, scenes=60, portion=portion) for portion in ("all", "learn", "choose"))
    groups = [{recording.group for recording in dataset.recordings} for dataset in (whole, learn, choose)]
    assert groups[1] | groups[2] == groups[0]
    assert not groups[1] & groups[2]
    assert 0 < len(groups[2]) < 20


def test_the_fingerprint_does_not_depend_on_the_folder(tmp_path: Path):
    (tmp_path / "other").mkdir()
    assert fake(tmp_path).fingerprint == fake(tmp_path / "other").fingerprint
    assert fake(tmp_path).fingerprint != fake(tmp_path, size=(16, 16)).fingerprint
