"""The toy world as a dataset: configs, samples, and what flip may do."""

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from fourd.datasets.toy_world import LABELS, ToyWorldConfig, make_clips, tiny
from fourd.types import BoxQuery, CameraPoses, Depth, Label, NoQuery, PointQuery

TASKS = ("box_tracking", "depth", "camera_pose", "point_tracking", *LABELS)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


def config(cache: str, **changes: object) -> ToyWorldConfig:
    small = {"num_clips": 4, "num_frames": 3, "height": 32, "width": 24, "num_points": 6, "cache_dir": cache}
    return ToyWorldConfig(**{**small, **changes})


def read(config: ToyWorldConfig, index: int = 0, seed: int = 0):
    return config.build().read(index, np.random.default_rng(seed))


def test_tasks_come_in_the_order_of_the_config(cache):
    samples = read(config(cache, tasks=TASKS)).tasks
    queries = [BoxQuery, NoQuery, NoQuery, PointQuery, NoQuery, NoQuery, NoQuery]
    assert [type(sample.query) for sample in samples] == queries
    assert [type(sample.target) for sample in samples[1:3]] == [Depth, CameraPoses]
    assert all(isinstance(sample.target, Label) for sample in samples[4:])


def test_samples_say_what_the_clips_say(cache):
    settings = config(cache, tasks=TASKS, first_index=2)
    truth = make_clips(settings.world, [3], torch.device("cpu"))
    batch = read(settings, 1)
    box, depth, pose, points, *labels = batch.tasks
    assert torch.equal(batch.video, truth.video)
    assert torch.equal(box.query.xyxy_px, truth.boxes[:, :, 0])
    assert torch.equal(box.target.valid, truth.boxes_valid & truth.boxes_valid[:, :, :1])
    assert torch.allclose(depth.target.metres, truth.depth, rtol=1e-3)
    assert torch.equal(depth.target.valid, truth.depth > 0)
    assert torch.equal(pose.target.world_from_camera, truth.world_from_camera)
    assert torch.equal(points.query.xy_px, truth.tracks[:, :, 0])
    assert torch.equal(points.target.visible, truth.tracks_visible)
    assert [label.target.index.item() for label in labels] == truth.labels[0].tolist()


def test_points_are_asked_for_where_they_are_at_their_query_frame(cache):
    (sample,) = read(config(cache, tasks=("point_tracking",), query_frames="random")).tasks
    for point, frame in enumerate(sample.query.frame[0]):
        assert torch.equal(sample.query.xy_px[0, point], sample.target.xy_px[0, point, frame])
        assert sample.target.visible[0, point, frame]


def test_clip_has_its_own_name_time_and_random_number(cache):
    settings = config(cache, seed=3, first_index=5)
    batch = read(settings, 2)
    assert batch.key == batch.group == ("toy_world/3/7",)
    assert torch.allclose(batch.time_s, torch.tensor([[0.0, 0.35, 0.7]]))
    assert batch.tasks == ()
    assert batch.seed != read(settings, 2, seed=1).seed
    assert batch.seed == read(settings, 2).seed


def test_flip_mirrors_about_half_of_the_clips(cache):
    settings = config(cache, flip=True)
    plain = read(config(cache)).video
    flipped = [read(settings, seed=seed).video for seed in range(20)]
    mirrored = [torch.equal(video, plain.flip(-1)) for video in flipped]
    assert all(mirror or torch.equal(video, plain) for mirror, video in zip(mirrored, flipped, strict=True))
    assert 3 < sum(mirrored) < 17


def test_flip_draws_the_same_seed(cache):
    assert read(config(cache, flip=True)).seed == read(config(cache)).seed


def test_flip_with_tasks_is_an_error():
    with pytest.raises(ValueError, match=r"flip.*depth.*tasks=\(\)"):
        ToyWorldConfig(flip=True, tasks=("depth",))


def test_wrong_task_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="'depht'") as error:
        ToyWorldConfig(tasks=("depth", "depht"))
    assert all(name in str(error.value) for name in TASKS)


@pytest.mark.parametrize("change", [{"num_frames": 0}, {"seed": -1}, {"duration_s": 0.0}, {"query_frames": "last"}])
def test_impossible_values_name_their_field(change):
    with pytest.raises((ValueError, TypeCheckError), match=next(iter(change))):
        ToyWorldConfig(**change)


def test_clip_that_is_not_there_is_an_error(cache):
    with pytest.raises(IndexError, match=r"4.*0 to 3"):
        read(config(cache), 4)


def test_tiny_describes_a_small_world():
    assert tiny().num_clips * tiny().num_frames <= 64
