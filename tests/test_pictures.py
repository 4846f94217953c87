"""Films have three panels of the right size, and what they draw stands where it belongs."""

from __future__ import annotations

import math

import pytest
import torch
from PIL import Image

from fourd import pictures
from fourd.types import BoxQuery, BoxTracks, Depth, Label, PointQuery, PointTracks

NUM_FRAMES, SIZE = 4, 64
PANEL = 256  # 64 pixels, four times enlarged
SCALE = PANEL / SIZE
SECOND, THIRD = PANEL + pictures.GUTTER_PX, 2 * (PANEL + pictures.GUTTER_PX)
GREY = 90


def plain_video(num_clips: int = 1) -> torch.Tensor:
    return torch.full((num_clips, NUM_FRAMES, 3, SIZE, SIZE), GREY, dtype=torch.uint8)


def tracks(*paths: list[tuple[float, float]], visible: bool = True) -> PointTracks:
    shown = torch.full((1, len(paths), NUM_FRAMES), visible)
    return PointTracks(torch.tensor(paths)[None], shown, torch.ones_like(shown))


def still_tracks(*places: tuple[float, float], visible: bool = True) -> PointTracks:
    return tracks(*([place] * NUM_FRAMES for place in places), visible=visible)


def first_frame_query(points: PointTracks) -> PointQuery:
    return PointQuery(torch.zeros(1, points.xy_px.shape[1], dtype=torch.long), points.xy_px[:, :, 0])


def at(film: torch.Tensor, frame: int, x_px: float, y_px: float, panel: int = 0) -> torch.Tensor:
    """Read the colour at a place given in the clip's continuous pixels."""
    left = panel * (PANEL + pictures.GUTTER_PX)
    return film[frame, int(y_px * SCALE), left + int(x_px * SCALE)].long()


def is_plain(colour: torch.Tensor) -> bool:
    return bool(((colour - GREY).abs() <= 1).all())


def is_near(colour: torch.Tensor, expected: tuple[int, int, int], tolerance: int = 40) -> bool:
    return bool(((colour - torch.tensor(expected)).abs() <= tolerance).all())


# ----------------------------------------------------------------------------- points


def test_point_film_puts_three_panels_beside_each_other() -> None:
    points = still_tracks((10.5, 20.5))
    film = pictures.point_film(plain_video(), first_frame_query(points), points, points)
    assert film.dtype == torch.uint8
    assert film.shape == (NUM_FRAMES, PANEL, 3 * PANEL + 2 * pictures.GUTTER_PX, 3)


def test_point_film_draws_truth_and_prediction_each_at_its_own_place() -> None:
    true, predicted = still_tracks((10.5, 20.5)), still_tracks((50.5, 40.5))
    film = pictures.point_film(plain_video(), first_frame_query(true), true, predicted)
    for frame in range(NUM_FRAMES):
        assert not is_plain(at(film, frame, 10.5, 20.5, panel=1))
        assert is_plain(at(film, frame, 50.5, 40.5, panel=1))
        assert not is_plain(at(film, frame, 50.5, 40.5, panel=2))


def test_point_film_centres_a_dot_on_its_point() -> None:
    points = still_tracks((20.0, 30.0))
    film = pictures.point_film(plain_video(), first_frame_query(points), points, points)
    changed = (film[0, :, SECOND : SECOND + PANEL].long() - GREY).abs().amax(-1) > 1
    rows, columns = torch.nonzero(changed, as_tuple=True)
    # A pixel's centre lies half a pixel behind its index.
    assert (columns.double().mean() + 0.5) / SCALE == pytest.approx(20.0, abs=0.15)
    assert (rows.double().mean() + 0.5) / SCALE == pytest.approx(30.0, abs=0.15)


def test_point_film_shows_a_query_only_in_its_frame() -> None:
    points = still_tracks((10.5, 20.5))
    query = PointQuery(torch.tensor([[2]]), points.xy_px[:, :, 2])
    film = pictures.point_film(plain_video(), query, points, points)
    assert [not is_plain(at(film, frame, 10.5, 20.5)) for frame in range(NUM_FRAMES)] == [False, False, True, False]


def test_point_film_leaves_the_middle_of_a_hidden_point_open() -> None:
    hidden = still_tracks((32.5, 32.5), visible=False)
    film = pictures.point_film(plain_video(), first_frame_query(hidden), hidden, hidden)
    assert is_plain(at(film, 0, 32.5, 32.5, panel=1))
    assert not is_plain(at(film, 0, 32.5 + 3.5 / SCALE, 32.5, panel=1))


def test_point_film_joins_prediction_and_truth() -> None:
    true, predicted = still_tracks((10.5, 32.5)), still_tracks((50.5, 32.5))
    film = pictures.point_film(plain_video(), first_frame_query(true), true, predicted)
    assert is_near(at(film, 0, 30.5, 32.5, panel=2), pictures.INK, tolerance=90)
    assert not is_plain(at(film, 0, 30.5, 32.5, panel=2))
    assert is_plain(at(film, 0, 30.5, 32.5, panel=1))


def test_point_film_draws_a_trail_of_where_a_point_was() -> None:
    moving = tracks([(8.5, 32.5), (24.5, 32.5), (40.5, 32.5), (56.5, 32.5)])
    film = pictures.point_film(plain_video(), first_frame_query(moving), moving, moving)
    assert is_plain(at(film, 0, 32.5, 32.5, panel=1))
    assert not is_plain(at(film, 3, 32.5, 32.5, panel=1))


def test_point_film_leaves_out_points_that_do_not_count() -> None:
    points = still_tracks((10.5, 20.5))
    absent = PointTracks(points.xy_px, points.visible, torch.zeros_like(points.valid))
    film = pictures.point_film(plain_video(), first_frame_query(points), absent, points)
    assert is_plain(at(film, 0, 10.5, 20.5, panel=1))
    assert is_plain(at(film, 0, 10.5, 20.5, panel=2))


def test_point_film_thins_out_a_crowd_but_keeps_the_first_and_the_last() -> None:
    places = [(2.5 + 60 * i / 99, 32.5) for i in range(100)]
    crowd = still_tracks(*places)
    film = pictures.point_film(plain_video(), first_frame_query(crowd), crowd, crowd)
    drawn = (film[0, PANEL // 2 + 2, SECOND : SECOND + PANEL].long() - GREY).abs().amax(-1) > 1
    assert not is_plain(at(film, 0, *places[0], panel=1))
    assert not is_plain(at(film, 0, *places[-1], panel=1))
    assert 0.2 < drawn.double().mean() < 0.98


def test_point_film_refuses_a_prediction_that_is_not_finite() -> None:
    true, broken = still_tracks((10.5, 20.5)), still_tracks((math.nan, 20.5))
    with pytest.raises(ValueError, match=r"predicted\.xy_px.*not finite"):
        pictures.point_film(plain_video(), first_frame_query(true), true, broken)


def test_films_refuse_more_than_one_clip() -> None:
    points = still_tracks((10.5, 20.5))
    with pytest.raises(Exception, match=r"2 clips|video"):
        pictures.point_film(plain_video(2), first_frame_query(points), points, points)


# ----------------------------------------------------------------------------- boxes


def boxes(xyxy: tuple[float, float, float, float]) -> BoxTracks:
    corners = torch.tensor(xyxy).expand(1, 1, NUM_FRAMES, 4).clone()
    return BoxTracks(corners, torch.ones(1, 1, NUM_FRAMES, dtype=torch.bool))


def test_box_film_draws_outlines_and_the_truth_beside_the_prediction() -> None:
    true, predicted = boxes((10.0, 12.0, 30.0, 40.0)), boxes((34.0, 12.0, 60.0, 40.0))
    query = BoxQuery(torch.zeros(1, 1, dtype=torch.long), true.xyxy_px[:, :, 0])
    film = pictures.box_film(plain_video(), query, true, predicted)
    assert film.shape == (NUM_FRAMES, PANEL, 3 * PANEL + 2 * pictures.GUTTER_PX, 3)
    assert not is_plain(at(film, 0, 10, 25))  # the query
    assert is_plain(at(film, 1, 10, 25))
    assert not is_plain(at(film, 1, 10, 25, panel=1))
    assert is_plain(at(film, 1, 20, 25, panel=1))  # inside
    assert is_near(at(film, 1, 10, 25, panel=2), pictures.INK, tolerance=80)
    assert not is_plain(at(film, 1, 34, 25, panel=2))


def test_box_film_takes_a_prediction_with_swapped_corners() -> None:
    true, swapped = boxes((10.0, 12.0, 30.0, 40.0)), boxes((30.0, 40.0, 10.0, 12.0))
    query = BoxQuery(torch.zeros(1, 1, dtype=torch.long), true.xyxy_px[:, :, 0])
    film = pictures.box_film(plain_video(), query, true, swapped)
    assert not is_plain(at(film, 0, 10, 25, panel=2))


# ----------------------------------------------------------------------------- depth


def ramp() -> Depth:
    """Go from 1 m at the left to 5 m at the right; the top eight rows are unknown."""
    metres = torch.linspace(1, 5, SIZE).expand(1, NUM_FRAMES, SIZE, SIZE).clone()
    valid = torch.ones_like(metres, dtype=torch.bool)
    valid[:, :, :8] = False
    return Depth(metres, valid)


def test_depth_film_shares_its_colours_and_greys_what_is_unknown() -> None:
    true = ramp()
    film = pictures.depth_film(plain_video(), true, true.metres)
    known = slice(8 * 4, None)
    assert torch.equal(film[:, known, SECOND : SECOND + PANEL], film[:, known, THIRD : THIRD + PANEL])
    assert is_near(at(film, 0, 32.5, 2.5, panel=1), pictures.UNKNOWN, tolerance=1)
    assert not is_near(at(film, 0, 32.5, 2.5, panel=2), pictures.UNKNOWN, tolerance=1)


def test_depth_film_paints_near_bright_and_far_dark() -> None:
    film = pictures.depth_film(plain_video(), ramp(), ramp().metres)
    assert at(film, 0, 1, 40, panel=1).sum() > at(film, 0, 32, 40, panel=1).sum() > at(film, 0, 62, 40, panel=1).sum()


def test_depth_film_takes_its_range_from_the_truth_alone() -> None:
    true = ramp()
    ordinary = pictures.depth_film(plain_video(), true, true.metres)
    wild = pictures.depth_film(plain_video(), true, true.metres * 100)
    assert torch.equal(ordinary[:, :, :THIRD], wild[:, :, :THIRD])
    assert not torch.equal(ordinary, wild)


def test_depth_film_refuses_a_clip_without_truth() -> None:
    true = ramp()
    with pytest.raises(ValueError, match="no pixel of the true depth is valid"):
        pictures.depth_film(plain_video(), Depth(true.metres, torch.zeros_like(true.valid)), true.metres)


# ----------------------------------------------------------------------------- camera and label


def pose(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> torch.Tensor:
    matrix = torch.eye(4)
    matrix[:3, 3] = torch.tensor([x, y, z])
    return matrix[None]


def centre_of(film: torch.Tensor, left: int, colour: tuple[int, int, int]) -> tuple[float, float]:
    """Find the middle `(x, y)` of a colour's lines in a panel, away from title and legend."""
    panel = film[0, 30 : PANEL - 30, left : left + PANEL].long()
    rows, columns = torch.nonzero(((panel - torch.tensor(colour)).abs() < 25).all(-1), as_tuple=True)
    assert len(rows), f"nothing of colour {colour}"
    return float(columns.double().mean()), float(rows.double().mean())


@pytest.mark.parametrize(
    ("moved", "left", "axis", "sign"),
    [
        pytest.param(pose(x=2), SECOND, 0, 1, id="right is right from above"),
        pytest.param(pose(z=2), SECOND, 1, -1, id="forward is up from above"),
        pytest.param(pose(z=2), THIRD, 0, 1, id="forward is right from the side"),
        pytest.param(pose(y=2), THIRD, 1, 1, id="down is down from the side"),
    ],
)
def test_camera_film_draws_the_true_camera_where_it_moved(moved, left, axis, sign) -> None:
    film = pictures.camera_film(plain_video(), moved, pose(-2, -2, -2))
    true, start = centre_of(film, left, pictures.TRUE), centre_of(film, left, pictures.MUTED)
    assert sign * (true[axis] - start[axis]) > 20


def test_camera_film_points_a_camera_to_where_it_looks() -> None:
    turned_right = torch.tensor([[[0.0, 0, 1, 0], [0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]]])
    film = pictures.camera_film(plain_video(), turned_right, pose(-2, -2, -2))
    true, start = centre_of(film, SECOND, pictures.TRUE), centre_of(film, SECOND, pictures.MUTED)
    assert true[0] - start[0] > 10
    assert true[1] - start[1] > 10  # the start looks up, as seen from above


def test_camera_film_lays_an_exact_prediction_over_the_truth() -> None:
    film = pictures.camera_film(plain_video(), pose(x=1, z=1), pose(x=1, z=1))
    panel = film[0, 30 : PANEL - 30, SECOND : SECOND + PANEL].long()
    assert not ((panel - torch.tensor(pictures.TRUE)).abs() < 10).all(-1).any()
    centre_of(film, SECOND, pictures.PREDICTED)


def test_camera_film_draws_a_camera_that_stays() -> None:
    film = pictures.camera_film(plain_video(), pose(), pose())
    assert film.shape == (NUM_FRAMES, PANEL, 3 * PANEL + 2 * pictures.GUTTER_PX, 3)


def bar_length(film: torch.Tensor, left: int, row: int, num_rows: int) -> int:
    """Measure a bar along its lower rim, where no text is."""
    y = int(6 + (PANEL - 12) / num_rows * (row + 1)) - 5
    line = film[0, y, left + 8 : left + PANEL - 8].long()
    return int(((line - torch.tensor(pictures.TRACK)).abs().amax(-1) > 12).sum())


def test_label_film_draws_bars_as_long_as_the_probabilities() -> None:
    probabilities = torch.tensor([[0.5, 0.25, 0.25]])
    film = pictures.label_film(plain_video(), ("left", "right", "up"), Label(torch.tensor([1])), probabilities)
    full = PANEL - 16
    assert [bar_length(film, SECOND, row, 3) for row in range(3)] == pytest.approx([0, full, 0], abs=3)
    assert [bar_length(film, THIRD, row, 3) for row in range(3)] == pytest.approx([full / 2, full / 4, full / 4], abs=3)


def test_label_film_always_shows_the_true_class() -> None:
    names = [f"class {i}" for i in range(50)]
    probabilities = torch.linspace(1, 0, 50)[None].softmax(-1)
    film = pictures.label_film(plain_video(), names, Label(torch.tensor([49])), probabilities)
    last = pictures.MAX_BARS - 1
    assert bar_length(film, SECOND, last, pictures.MAX_BARS) == pytest.approx(PANEL - 16, abs=3)


def test_label_film_refuses_names_that_do_not_match() -> None:
    with pytest.raises(ValueError, match="2 class names for 3 probabilities"):
        pictures.label_film(plain_video(), ("a", "b"), Label(torch.tensor([0])), torch.full((1, 3), 1 / 3))


# ----------------------------------------------------------------------------- stills and files


def test_reconstruction_picture_greys_exactly_the_hidden_patches() -> None:
    video = torch.zeros(1, 4, 3, 16, 16)
    visible = torch.zeros(1, 2, 2, 2, dtype=torch.bool)
    visible[0, 0, 0, 1] = True  # first two frames, upper right
    picture = pictures.reconstruction_picture(video, visible, torch.ones_like(video), num_frames=4, panel_px=32)
    triple = 3 * 32 + 2 * pictures.GUTTER_PX + 4 * pictures.GUTTER_PX
    for frame, seen in enumerate((True, True, False, False)):
        body = picture[-32:, frame * triple :].long()
        patches = body[:, 32 + pictures.GUTTER_PX :][:, :32]
        assert bool((patches[:16, 16:] == 0).all()) == seen
        assert (patches[:16, :16] - 128).abs().max() <= 1
        assert (patches[16:] - 128).abs().max() <= 1
        assert (body[:, :32] == 0).all()
        assert (body[:, 2 * (32 + pictures.GUTTER_PX) :][:, :32] == 255).all()


def test_reconstruction_picture_has_one_row_per_clip() -> None:
    video, visible = torch.rand(3, 4, 3, 16, 16), torch.ones(3, 2, 2, 2, dtype=torch.bool)
    one = pictures.reconstruction_picture(video[:1], visible[:1], video[:1], panel_px=32)
    three = pictures.reconstruction_picture(video, visible, video, panel_px=32)
    assert three.shape[0] - one.shape[0] == 2 * (32 + pictures.GUTTER_PX)
    assert three.shape[1] == one.shape[1]


def test_reconstruction_picture_refuses_a_mask_of_another_clip() -> None:
    video = torch.rand(1, 4, 3, 16, 16)
    with pytest.raises(ValueError, match="3 x 2 x 2 does not divide a clip of 4 x 16 x 16"):
        pictures.reconstruction_picture(video, torch.ones(1, 3, 2, 2, dtype=torch.bool), video)


def test_filmstrip_lays_time_out_from_left_to_right() -> None:
    moving = tracks([(8.5, 32.5), (24.5, 32.5), (40.5, 32.5), (56.5, 32.5)])
    film = pictures.point_film(plain_video(), first_frame_query(moving), moving, moving)
    strip = pictures.filmstrip(film, num_frames=4, panel_px=64)
    assert strip.shape == (3 * 64 + 2 * pictures.GUTTER_PX, 4 * 64 + 3 * pictures.GUTTER_PX, 3)
    truth = strip[64 + pictures.GUTTER_PX :][:64].long()
    for frame, x in enumerate((8, 24, 40, 56)):
        assert not is_plain(truth[32, frame * (64 + pictures.GUTTER_PX) + x])


def test_filmstrip_shows_a_diagram_that_stands_still_only_once() -> None:
    video = plain_video()
    video[0, 2] = 200
    film = pictures.camera_film(video, pose(x=1), pose(x=2))
    strip = pictures.filmstrip(film, num_frames=4, panel_px=64)
    assert strip.shape == (64, 6 * 64 + 5 * pictures.GUTTER_PX, 3)


def test_filmstrip_refuses_what_has_no_three_panels() -> None:
    with pytest.raises(ValueError, match="100 px wide"):
        pictures.filmstrip(torch.zeros(2, 10, 100, 3, dtype=torch.uint8))


@pytest.mark.parametrize(("side", "panel"), [(32, 224), (64, 256), (224, 224), (448, 224)])
def test_small_clips_are_enlarged_by_a_whole_factor(side: int, panel: int) -> None:
    video = torch.zeros(1, 1, 3, side, side, dtype=torch.uint8)
    film = pictures.camera_film(video, pose(x=1), pose(x=1))
    assert film.shape[1:3] == (panel, 3 * panel + 2 * pictures.GUTTER_PX)


def test_save_film_keeps_every_frame_and_the_speed(tmp_path) -> None:
    film = (torch.arange(4, dtype=torch.uint8) * 60)[:, None, None, None].expand(4, 32, 104, 3).contiguous()
    path = pictures.save_film(film, tmp_path / "new" / "film.webp", fps=10.0)
    with Image.open(path) as image:
        assert image.n_frames == 4
        assert image.size == (104, 32)
        for frame in range(4):
            image.seek(frame)
            image.load()
            assert image.info["duration"] == 100
            red, *_ = image.convert("RGB").getpixel((50, 16))
            assert red == pytest.approx(60 * frame, abs=6)


def test_save_picture_is_exact(tmp_path) -> None:
    picture = torch.randint(0, 256, (12, 20, 3), dtype=torch.uint8)
    path = pictures.save_picture(picture, tmp_path / "picture.png")
    with Image.open(path) as image:
        assert image.size == (20, 12)
        assert list(image.get_flattened_data()) == [tuple(pixel) for pixel in picture.reshape(-1, 3).tolist()]


def test_files_need_the_right_ending(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"found the ending '\.gif', expected '\.webp'"):
        pictures.save_film(torch.zeros(1, 4, 4, 3, dtype=torch.uint8), tmp_path / "film.gif")
