"""The furnished world: every kind of truth agrees with the others and with rays cast by hand, in each look."""

import dataclasses
import functools

import numpy as np
import pytest
import torch

from fourd.datasets.toy_world.camera import camera_path
from fourd.datasets.toy_world.clips import ToyClips, World, make_clips
from fourd.datasets.toy_world.draw import draw_scene
from fourd.datasets.toy_world.render import Pictures, render
from fourd.datasets.toy_world.scene import CAMERA_MOTIONS, GROUND, MOVER, NUM_OBJECTS, SKY, WALL, Kind
from fourd.datasets.toy_world.sizes import bounding_radius
from fourd.datasets.toy_world.stage import motion_of, set_stage
from fourd.geometry import pixel_centres, project, transform_points, unproject
from tests.datasets.toy_world.solids_by_hand import Witness

CPU = torch.device("cpu")
LOOKS = ("rich", "night", "clay")
NUM_CLIPS, NUM_FRAMES, HEIGHT, WIDTH, NUM_POINTS = 10, 4, 40, 48, 24


def world_of(look: str, query_frames: str = "random") -> World:
    return World(4, NUM_FRAMES, HEIGHT, WIDTH, 0.7, NUM_POINTS, query_frames, look)


@functools.cache
def clips(look: str = "rich") -> ToyClips:
    return make_clips(world_of(look), range(NUM_CLIPS), CPU)


@functools.cache
def pictures(look: str = "rich") -> Pictures:
    world = world_of(look)
    scenes = [draw_scene(look, world.seed, index) for index in range(NUM_CLIPS)]
    return render(set_stage(scenes, world.clip_shape, world.time_s, CPU), HEIGHT, WIDTH)


@functools.cache
def things(look: str = "rich") -> torch.Tensor:
    return pictures(look).thing.view(NUM_CLIPS, NUM_FRAMES, HEIGHT, WIDTH).long()


@functools.cache
def witness(index: int) -> Witness:
    return Witness(world_of("rich"), index)


every_clip = pytest.mark.parametrize("index", range(NUM_CLIPS))
every_look = pytest.mark.parametrize("look", LOOKS)


def test_every_kind_wall_and_the_sky_are_seen():
    kinds = torch.tensor(np.stack([witness(index).scene.bodies.kind for index in range(NUM_CLIPS)]))
    seen = pictures().seen.view(NUM_CLIPS, NUM_FRAMES, NUM_OBJECTS).sum(1) > 40
    assert set(kinds[seen].tolist()) == set(map(int, Kind)), "choose another seed: the tests here would miss a kind"
    assert set(things().unique().tolist()) == set(range(WALL + 2))


# ----------------------------------------------------------------------------- against rays cast by hand


@every_clip
def test_depth_and_identity_agree_with_rays_cast_by_hand(index):
    chance, wrong = np.random.default_rng(index), 0
    for frame in range(NUM_FRAMES):
        column, row = chance.integers([WIDTH, HEIGHT], size=(40, 2)).T
        depth, what = witness(index).look(frame, np.stack([column, row], -1) + 0.5)
        same = what == things()[index, frame, row, column].numpy()
        wrong += (~same).sum()  # a ray along a silhouette may fall to either side
        expected = np.where(np.isfinite(depth), depth, 0.0)[same]
        assert np.allclose(clips().depth[index, frame, row, column].numpy()[same], expected, rtol=2e-4)
    assert wrong <= 2


@every_clip
def test_tracks_and_visibility_agree_with_rays_cast_by_hand(index):
    """Follow each point by hand: find it by a ray, fix it to its solid, project it, look at it again."""
    truth, by_hand, doubtful = clips(), witness(index), 0
    for point in range(NUM_POINTS):
        start = int(truth.query_frame[index, point])
        xy = truth.tracks[index, point, start].double().numpy()
        (depth,), (what,) = by_hand.look(start, xy[None])
        at_start = by_hand.cameras[start] @ np.append(np.linalg.inv(by_hand.pinhole) @ np.append(xy, 1) * depth, 1)
        for frame in range(NUM_FRAMES):
            moved = at_start[:3]
            if what < NUM_OBJECTS:
                turn, place = by_hand.motion.rotation[:, what], by_hand.motion.position[:, what]
                moved = turn[frame] @ turn[start].T @ (moved - place[start]) + place[frame]
            seen = by_hand.pinhole @ (np.linalg.inv(by_hand.cameras[frame]) @ np.append(moved, 1))[:3]
            expected, far = seen[:2] / seen[2], seen[2]
            assert truth.tracks[index, point, frame].numpy() == pytest.approx(expected, abs=0.03, rel=1e-3)
            inside = bool(((expected >= 0) & (expected < [WIDTH, HEIGHT])).all())
            visible = inside and by_hand.look(frame, expected[None])[0][0] > far * (1 - 1e-3)
            doubtful += visible != bool(truth.tracks_visible[index, point, frame])
    assert doubtful <= 0.02 * NUM_POINTS * NUM_FRAMES


# ----------------------------------------------------------------------------- one truth against another


@every_look
def test_visible_points_lie_on_the_mask_of_their_object(look):
    """A point's thing is that of its pixel at the query; later it may differ only where the mask has an edge."""
    truth, mask = clips(look), things(look)
    clip, frame = torch.arange(NUM_CLIPS)[:, None, None], torch.arange(NUM_FRAMES)
    x, y = truth.tracks.floor().long().unbind(-1)
    x, y = x.clamp(0, WIDTH - 1), y.clamp(0, HEIGHT - 1)
    at_pixel = mask[clip, frame, y, x]
    own = at_pixel.gather(2, truth.query_frame[..., None])
    near = torch.stack(
        [
            mask[clip, frame, (y + j).clamp(0, HEIGHT - 1), (x + i).clamp(0, WIDTH - 1)]
            for i in (-1, 0, 1)
            for j in (-1, 0, 1)
        ]
    )
    visible = truth.tracks_visible
    assert (near == own).any(0)[visible].all()
    assert (at_pixel == own)[visible].float().mean() > 0.95
    assert (own != SKY).all()
    assert {int(kind) for kind in own.unique()} >= {*range(NUM_OBJECTS), GROUND}


@every_look
def test_static_points_follow_from_depth_poses_and_intrinsics(look):
    """Lift points of the ground with depth and pose of their query frame, and project them into all frames."""
    truth, errors = clips(look), []
    for index, start in np.ndindex(NUM_CLIPS, NUM_FRAMES):
        tracks = truth.tracks[index, truth.query_frame[index] == start]
        x, y = tracks[:, start].floor().long().unbind(-1)
        inner = (x > 0) & (x < WIDTH - 1) & (y > 0) & (y < HEIGHT - 1)
        tracks, x, y = tracks[inner], x[inner], y[inner]
        mask = things(look)[index, start]
        beside = torch.stack([mask[y, x], mask[y, x - 1], mask[y, x + 1], mask[y - 1, x], mask[y + 1, x]])
        tracks, x, y = (values[(beside == GROUND).all(0)] for values in (tracks, x, y))
        depth = depth_between_pixels(truth.depth[index, start], x, y, tracks[:, start] - torch.stack([x, y], -1) - 0.5)
        points = transform_points(
            truth.world_from_camera[index, start], unproject(tracks[:, start], depth, truth.intrinsics[index])
        )
        for frame in range(NUM_FRAMES):
            there = transform_points(torch.linalg.inv(truth.world_from_camera[index, frame]), points)
            far = there[:, 2] > 0.5
            errors.append((project(there, truth.intrinsics[index]) - tracks[:, frame])[far])
    error = torch.cat(errors).norm(dim=-1)
    assert len(error) > 200
    assert error.max() < 0.02


def depth_between_pixels(depth: torch.Tensor, x: torch.Tensor, y: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    """Read the depth of a plane beside a pixel's centre: its inverse is linear in the picture."""
    inverse = 1 / depth
    slope_x, slope_y = inverse[y, x + 1] - inverse[y, x - 1], inverse[y + 1, x] - inverse[y - 1, x]
    return 1 / (inverse[y, x] + (slope_x * offset[:, 0] + slope_y * offset[:, 1]) / 2)


@every_look
def test_ground_and_walls_are_the_planes_that_they_are(look):
    truth, mask = clips(look), things(look)
    points = unproject(pixel_centres(HEIGHT, WIDTH).view(-1, 2), truth.depth.flatten(2), truth.intrinsics[:, None])
    world = transform_points(truth.world_from_camera, points).view(*mask.shape, 3)
    assert world[..., 2][mask == GROUND].abs().max() < 5e-4
    assert world[..., 2][(mask != GROUND) & (mask != SKY)].min() > -0.03
    for index in range(NUM_CLIPS):
        for number, (x, y, distance, height) in enumerate(torch.as_tensor(witness(index).scene.walls).float()):
            seen = world[index][mask[index] == WALL + number]
            assert len(seen) == 0 or ((seen[:, :2] @ torch.stack([x, y])) + distance).abs().max() < 1e-3
            assert len(seen) == 0 or seen[:, 2].max() < height + 1e-3


def test_boxes_contain_the_pixels_of_their_objects_and_fit():
    truth, num_tight = clips(), set()
    hidden = (pictures().seen < pictures().alone).view(NUM_CLIPS, NUM_FRAMES, NUM_OBJECTS)
    for clip, frame, solid in np.ndindex(NUM_CLIPS, NUM_FRAMES, NUM_OBJECTS):
        rows, columns = (things()[clip, frame] == solid).nonzero(as_tuple=True)
        if not len(rows):
            assert not truth.boxes_valid[clip, solid, frame]
            continue
        pixels = torch.stack([columns.min(), rows.min(), columns.max(), rows.max()]) + 0.5
        slack = (pixels - truth.boxes[clip, solid, frame]) * torch.tensor([1, 1, -1, -1])
        assert slack.min() > -2e-3, "a pixel's centre lies outside of the box"
        if not hidden[clip, frame, solid] and len(rows) > 40:
            num_tight.add(int(witness(clip).scene.bodies.kind[solid]))
            assert slack.max() < 4.0, "the box is larger than the solid; a tip may lie between pixels"
    assert len(num_tight) > 7


# ----------------------------------------------------------------------------- looks


def test_looks_show_the_same_world_with_other_pixels():
    """For a change of domain: only colours differ, and they differ in every clip."""
    for look in LOOKS[1:]:
        for field, value in vars(clips("rich")).items():
            assert torch.equal(value, getattr(clips(look), field)) == (field != "video"), (look, field)
    rich, night, clay = (clips(look).video.float() for look in LOOKS)
    assert (night.mean((1, 2, 3, 4)) < 0.6 * rich.mean((1, 2, 3, 4))).all()
    grey = [(video.amax(2) - video.amin(2)).mean((1, 2, 3)) for video in (rich, clay)]
    assert (grey[1] < grey[0]).float().mean() > 0.7
    texture = [(video[..., 1:] - video[..., :-1]).abs().mean((1, 2, 3, 4)) for video in (rich, clay)]
    assert (texture[1] < 0.7 * texture[0]).float().mean() > 0.8


@every_look
@pytest.mark.parametrize("label", ["camera_motion", "object_motion", "event_order"])
def test_another_label_of_motion_keeps_the_first_frame(look, label):
    scene = draw_scene(look, 11, 3)
    other = dataclasses.replace(scene.labels, **{label: 1 - getattr(scene.labels, label) % 2})
    world = world_of(look)
    drawn = [
        render(
            set_stage([dataclasses.replace(scene, labels=chosen)], world.clip_shape, world.time_s, CPU), HEIGHT, WIDTH
        )
        for chosen in (scene.labels, other)
    ]
    assert torch.equal(drawn[0].rgb[0], drawn[1].rgb[0])
    assert torch.equal(drawn[0].depth[0], drawn[1].depth[0])
    assert not torch.equal(drawn[0].rgb[1:], drawn[1].rgb[1:])


def test_the_mover_is_the_largest_and_every_shape_is_as_likely():
    scenes = [draw_scene("rich", 0, index) for index in range(1000)]
    for bodies in (scene.bodies for scene in scenes):
        radius = [bounding_radius(Kind(k), size) for k, size in zip(bodies.kind, bodies.size, strict=True)]
        assert radius[MOVER] > 1.15 * max(radius[MOVER + 1 :])
    counts = np.bincount([scene.bodies.kind[MOVER] for scene in scenes], minlength=len(Kind))
    assert counts.min() > 0.65 * len(scenes) / len(Kind)


def test_no_camera_goes_behind_a_wall_and_the_sun_shines_on_each():
    for index in range(300):
        scene = draw_scene("night", 1, index)
        there = scene.walls[scene.walls[:, 3] > 0]
        assert (there[:, :2] @ scene.look.sun[:2] > 0).all()
        for motion in range(len(CAMERA_MOTIONS)):
            place = camera_path(scene.camera, motion, np.linspace(0, 1, 5))[:, :3, 3]
            assert (place[:, 2] > 0.2).all()
            assert (place[:, :2] @ there[:, :2].T + there[:, 2] > 0.3).all()


def test_walls_stop_solids_and_long_clips_keep_them_in_motion_and_near():
    near, moving = [], []
    for index in range(12):
        by_hand = Witness(World(0, 64, HEIGHT, WIDTH, 5.6, 4, "first", "rich"), index)
        there = by_hand.scene.walls[by_hand.scene.walls[:, 3] > 0]
        places = by_hand.motion.position
        assert (places[..., :2] @ there[:, :2].T + there[:, 2] > -0.05).all()
        assert (places[..., 2] > 0).all()
        near.extend(np.linalg.norm(places[32:, :, :2], axis=-1).ravel() < 2.5)
        moving.extend(np.linalg.norm(np.diff(places[32:], axis=0), axis=-1).max(1) > 0.05)
    assert np.mean(near) > 0.8
    assert np.mean(moving) > 0.8, "something hops in most frames"


def test_pushes_come_after_the_first_second_and_whatever_the_frames_are():
    scene = draw_scene("rich", 0, 2)
    camera = camera_path(scene.camera, 0, np.zeros(1))[0]
    calm = dataclasses.replace(scene, bodies=dataclasses.replace(scene.bodies, pushes=np.zeros((0, 3))))
    dense = np.arange(0, 2.01, 1 / 60)
    pushed, unpushed = (motion_of(which, camera, dense).position for which in (scene, calm))
    assert np.array_equal(pushed[dense <= 1], unpushed[dense <= 1])
    assert not np.allclose(pushed[-1], unpushed[-1], atol=0.1)
    assert np.array_equal(motion_of(scene, camera, dense[::20]).position, pushed[::20])
