"""The truth against another witness: MuJoCo's own rays, and geometry written a second time."""

import functools

import mujoco
import numpy as np
import pytest
import torch

from fourd.datasets.toy_world.camera import camera_path
from fourd.datasets.toy_world.clips import World, make_clips, make_video
from fourd.datasets.toy_world.draw import draw_scene
from fourd.datasets.toy_world.physics import simulate
from fourd.datasets.toy_world.render import render
from fourd.datasets.toy_world.scene import GROUND, NUM_OBJECTS, SKY, STUDIO_SHAPES, Kind
from fourd.datasets.toy_world.stage import set_stage
from fourd.geometry import pixel_centres, project, rigid_inverse, transform_points, unproject

CPU = torch.device("cpu")
WORLD = World(seed=2, num_frames=5, height=40, width=48, duration_s=0.7, num_points=48, query_frames="random")
NUM_CLIPS = 6
FAR = 24.0
GEOM_TYPES = {
    Kind.SPHERE: mujoco.mjtGeom.mjGEOM_SPHERE,
    Kind.BOX: mujoco.mjtGeom.mjGEOM_BOX,
    Kind.CAPSULE: mujoco.mjtGeom.mjGEOM_CAPSULE,
    Kind.CYLINDER: mujoco.mjtGeom.mjGEOM_CYLINDER,
}


@functools.cache
def clips():
    return make_clips(WORLD, range(NUM_CLIPS), CPU)


@functools.cache
def pictures():
    scenes = [draw_scene("studio", WORLD.seed, index) for index in range(NUM_CLIPS)]
    return render(set_stage(scenes, WORLD.clip_shape, WORLD.time_s, CPU), WORLD.height, WORLD.width)


class Witness:
    """Hold one clip's solids in MuJoCo, and send its rays."""

    def __init__(self, index: int) -> None:
        scene = draw_scene("studio", WORLD.seed, index)
        progress = WORLD.time_s / WORLD.duration_s
        self.cameras = camera_path(scene.camera, scene.labels.camera_motion, progress)
        self.motion = simulate(scene.bodies, scene.labels.object_motion, self.cameras[0], WORLD.time_s)
        solid = '<body mocap="true"><geom type="{}" size="{} {} {}"/></body>'
        names = {Kind.SPHERE: "sphere", Kind.BOX: "box", Kind.CAPSULE: "capsule", Kind.CYLINDER: "cylinder"}
        solids = [solid.format(names[Kind(k)], *s) for k, s in zip(scene.bodies.kind, scene.bodies.size, strict=True)]
        self.model = mujoco.MjModel.from_xml_string(
            f'<mujoco><worldbody>{"".join(solids)}<geom type="plane" size="0 0 1"/></worldbody></mujoco>'
        )
        self.data = mujoco.MjData(self.model)
        self.kinds = scene.bodies.kind
        assert [self.model.geom_type[k + 1] for k in range(NUM_OBJECTS)] == [GEOM_TYPES[Kind(k)] for k in self.kinds]

    def look(self, frame: int, x: float, y: float) -> tuple[float, int]:
        """Give the depth along z, and the thing, that is seen at a point of a picture."""
        for k in range(NUM_OBJECTS):
            self.data.mocap_pos[k] = self.motion.position[frame, k]
            mujoco.mju_mat2Quat(self.data.mocap_quat[k], self.motion.rotation[frame, k].flatten())
        mujoco.mj_kinematics(self.model, self.data)
        focal, (cx, cy) = clips().intrinsics[0, 0, 0].item(), (WORLD.width / 2, WORLD.height / 2)
        ray = self.cameras[frame, :3, :3] @ [(x - cx) / focal, (y - cy) / focal, 1.0]
        geom = np.zeros((1, 1), dtype=np.int32)
        start = np.ascontiguousarray(self.cameras[frame, :3, 3])
        distance = mujoco.mj_ray(self.model, self.data, start, ray, None, 1, -1, geom)
        depth = distance if distance >= 0 else np.inf
        return (depth, (int(geom[0, 0]) - 1) % (NUM_OBJECTS + 1)) if depth < FAR else (np.inf, SKY)


@pytest.fixture(scope="module", params=range(NUM_CLIPS))
def witness(request):
    return request.param, Witness(request.param)


def test_depth_and_identity_agree_with_mujocos_rays(witness):
    index, mujoco_world = witness
    chance = np.random.default_rng(index)
    thing = pictures().thing.view(NUM_CLIPS, WORLD.num_frames, WORLD.height, WORLD.width)[index]
    wrong = 0
    for _ in range(400):
        frame, row, column = (int(chance.integers(n)) for n in (WORLD.num_frames, WORLD.height, WORLD.width))
        depth, what = mujoco_world.look(frame, column + 0.5, row + 0.5)
        if what != thing[frame, row, column]:
            wrong += 1  # a ray along a silhouette may fall to either side in float32
            continue
        found = clips().depth[index, frame, row, column].item()
        assert found == pytest.approx(0.0 if what == SKY else depth, rel=2e-4)
    assert wrong <= 1


def test_all_kinds_and_the_sky_are_seen():
    kinds = {int(kind) for index in range(NUM_CLIPS) for kind in draw_scene("studio", WORLD.seed, index).bodies.kind}
    assert kinds == set(range(len(STUDIO_SHAPES))), "choose another seed: the tests here would miss a kind"
    assert set(pictures().thing.unique().tolist()) == set(range(SKY + 1))


def test_tracks_and_visibility_agree_with_mujocos_rays(witness):
    """Follow each point by hand: find it by a ray, fix it to its solid, project it, look at it again."""
    index, mujoco_world = witness
    truth, focal = clips(), clips().intrinsics[0, 0, 0].item()
    centre, size = np.array([WORLD.width / 2, WORLD.height / 2]), np.array([WORLD.width, WORLD.height])
    doubtful = 0
    for point in range(WORLD.num_points):
        start = int(truth.query_frame[index, point])
        xy = truth.tracks[index, point, start].double().numpy()
        assert truth.tracks_visible[index, point, start]
        depth, what = mujoco_world.look(start, *xy)
        seen = np.append((xy - centre) / focal, 1) * depth
        world = mujoco_world.cameras[start] @ np.append(seen, 1)
        for frame in range(WORLD.num_frames):
            moved = world[:3]
            if what < NUM_OBJECTS:
                place, turn = mujoco_world.motion.position[:, what], mujoco_world.motion.rotation[:, what]
                moved = turn[frame] @ turn[start].T @ (world[:3] - place[start]) + place[frame]
            x, y, z, _ = np.linalg.inv(mujoco_world.cameras[frame]) @ np.append(moved, 1)
            expected = np.array([x, y]) / z * focal + centre
            assert truth.tracks[index, point, frame].numpy() == pytest.approx(expected, abs=0.02, rel=1e-3)
            inside = bool(((expected >= 0) & (expected < size)).all())
            in_the_way = mujoco_world.look(frame, *expected)[0] if inside else 0.0
            visible = inside and in_the_way > z * (1 - 1e-3)
            doubtful += visible != bool(truth.tracks_visible[index, point, frame])
    assert doubtful <= 0.01 * WORLD.num_points * WORLD.num_frames


def test_some_points_are_hidden_some_leave_and_half_or_more_are_on_solids():
    truth = clips()
    size = torch.tensor([WORLD.width, WORLD.height])
    inside = ((truth.tracks >= 0) & (truth.tracks < size)).all(-1)
    assert truth.tracks_visible[inside].float().mean() < 0.98
    assert not truth.tracks_visible[~inside].any()
    assert not inside.all()
    thing = pictures().thing.view(NUM_CLIPS, WORLD.num_frames, WORLD.height, WORLD.width)
    at = torch.arange(NUM_CLIPS)[:, None], truth.query_frame
    at_query = truth.tracks.gather(2, truth.query_frame[..., None, None].expand(-1, -1, 1, 2))[:, :, 0].floor().long()
    assert ((thing[*at, at_query[..., 1], at_query[..., 0]] < NUM_OBJECTS).float().mean(1) >= 0.5).all()


def test_ground_seen_from_every_camera_is_one_plane():
    """Lift all ground pixels with depth, pose and intrinsics: they lie at height 0."""
    truth = clips()
    ground = pictures().thing.view(truth.depth.shape) == GROUND
    pixels = pixel_centres(WORLD.height, WORLD.width).view(-1, 2)
    points = unproject(pixels, truth.depth.flatten(2), truth.intrinsics[:, None])
    height = transform_points(truth.world_from_camera, points)[..., 2].view(ground.shape)
    assert height[ground].abs().max() < 2e-4
    assert height[(~ground) & (truth.depth > 0)].min() > -0.03


def test_depth_of_one_frame_lands_on_the_depth_of_another():
    """Carry the ground of the first frame to the last: what is not nearer there is equally far."""
    truth = clips()
    pixels = pixel_centres(WORLD.height, WORLD.width).view(-1, 2)
    first = unproject(pixels, truth.depth[:, 0].flatten(1), truth.intrinsics)
    last_from_first = rigid_inverse(truth.world_from_camera[:, -1]) @ truth.world_from_camera[:, 0]
    carried = transform_points(last_from_first, first)
    xy = project(carried, truth.intrinsics).floor().long()
    things = pictures().thing.view(truth.depth.shape)
    inside = (xy >= 0).all(-1) & (xy[..., 0] < WORLD.width) & (xy[..., 1] < WORLD.height) & (carried[..., 2] > 0)
    x, y = xy[..., 0].clamp(0, WORLD.width - 1), xy[..., 1].clamp(0, WORLD.height - 1)
    clip = torch.arange(NUM_CLIPS)[:, None]
    both_ground = inside & (things[:, 0].flatten(1) == GROUND) & (things[clip, -1, y, x] == GROUND)
    ratio = (truth.depth[clip, -1, y, x] / carried[..., 2])[both_ground & (carried[..., 2] < 6)]
    assert len(ratio) > 1000
    assert (ratio - 1).abs().quantile(0.99) < 0.06, "the ground differs by more than the slope within a pixel"


# ----------------------------------------------------------------------------- boxes


def test_boxes_contain_the_pixels_of_their_objects_and_fit():
    truth, thing = clips(), pictures().thing.view(clips().depth.shape)
    hidden = (pictures().seen < pictures().alone).view(NUM_CLIPS, WORLD.num_frames, NUM_OBJECTS)
    num_tight = 0
    for clip, frame, solid in np.ndindex(NUM_CLIPS, WORLD.num_frames, NUM_OBJECTS):
        rows, columns = (thing[clip, frame] == solid).nonzero(as_tuple=True)
        if not len(rows):
            assert not truth.boxes_valid[clip, solid, frame]
            continue
        pixels = torch.stack([columns.min(), rows.min(), columns.max(), rows.max()]) + 0.5
        slack = (pixels - truth.boxes[clip, solid, frame]) * torch.tensor([1, 1, -1, -1])
        assert slack.min() > -1e-3, "a pixel's centre lies outside of the box"
        if not hidden[clip, frame, solid] and len(rows) > 50:
            num_tight += 1
            assert slack.max() < 2.6, "the box is larger than what it bounds"
    assert num_tight > 30
    assert truth.boxes[..., :2].min() >= 0
    assert (truth.boxes[..., 2:] <= torch.tensor([WORLD.width, WORLD.height])).all()


def test_a_box_counts_only_where_enough_is_seen():
    world, scenes = World(0, 4, 32, 32, 0.7, 4, "first"), [draw_scene("studio", 0, index) for index in range(16)]
    drawn = render(set_stage(scenes, world.clip_shape, world.time_s, CPU), 32, 32)
    seen, alone = (counts.view(16, 4, -1).transpose(1, 2) for counts in (drawn.seen, drawn.alone))
    valid = make_clips(world, range(16), CPU).boxes_valid
    assert (seen[valid] >= 4).all()
    assert (seen[valid] >= 0.25 * alone[valid]).all()
    assert 0.5 < valid.float().mean() < 1
    assert (seen[~valid] > 0).any(), "choose another seed: no object is partly in view"


# ----------------------------------------------------------------------------- chance and shapes


def test_a_clip_depends_on_seed_and_index_alone():
    alone, later = make_clips(WORLD, [4], CPU), make_clips(WORLD, [1, 4], CPU)
    for field in vars(alone):
        assert torch.equal(getattr(alone, field)[0], getattr(later, field)[1]), field
        assert torch.equal(getattr(alone, field)[0], getattr(clips(), field)[4]), field


def test_video_without_truth_is_the_same_video():
    assert torch.equal(make_video(WORLD, range(2), CPU), clips().video[:2])


def test_queries_are_in_the_first_frame_by_default_and_everywhere_on_demand():
    first = World(2, 5, 40, 48, 0.7, 48, "first")
    assert (make_clips(first, [0], CPU).query_frame == 0).all()
    assert len(clips().query_frame.unique()) == WORLD.num_frames


@pytest.mark.parametrize(("height", "width"), [(17, 31), (64, 24)])
def test_any_raster_shows_the_same_world(height, width):
    world = World(2, 1, height, width, 0.7, 4, "first")
    clip = make_clips(world, [0], CPU)
    assert clip.video.shape == (1, 1, 3, height, width)
    ahead = clip.depth[0, 0, height // 2 - 1 : height // 2 + 1, width // 2 - 1 : width // 2 + 1].mean()
    reference = make_clips(World(2, 1, 64, 64, 0.7, 4, "first"), [0], CPU).depth[0, 0, 31:33, 31:33].mean()
    assert ahead == pytest.approx(reference.item(), rel=0.1)


def test_pictures_have_contrast_texture_and_motion():
    video = clips().video.float() / 255
    assert (video.flatten(3).std(-1) > 0.08).all()
    assert ((video[..., 1:] - video[..., :-1]).abs().mean((1, 2, 3, 4)) > 0.03).all(), "no texture"
    assert ((video[:, 1:] - video[:, :-1]).abs().mean((1, 2, 3, 4)) > 0.02).all(), "no motion"
    assert 0.3 < video.mean() < 0.7
