"""The world before it is drawn: chance, labels, camera and physics."""

import collections
import dataclasses

import numpy as np
import pytest
import torch

from fourd.datasets.toy_world.camera import camera_path
from fourd.datasets.toy_world.draw import draw_scene
from fourd.datasets.toy_world.outlines import extreme_parts
from fourd.datasets.toy_world.physics import DENSITY, MOVER_DENSITY, damping_ratio, mass_and_inertia, simulate
from fourd.datasets.toy_world.render import render
from fourd.datasets.toy_world.scene import (
    CAMERA_MOTIONS,
    EVENT_ORDERS,
    MOVER,
    OBJECT_MOTIONS,
    STUDIO_SHAPES,
    Kind,
    Labels,
    Scene,
)
from fourd.datasets.toy_world.stage import lamp_colours, set_stage
from fourd.types import ClipShape

CLIP = ClipShape(6, 32, 40)
TIME_S = np.linspace(0, 0.7, CLIP.num_frames)
PROGRESS = TIME_S / TIME_S[-1]


def relabelled(scene: Scene, **labels: int) -> Scene:
    return dataclasses.replace(scene, labels=dataclasses.replace(scene.labels, **labels))


def pictures_of(scene: Scene):
    return render(set_stage([scene], CLIP, TIME_S, torch.device("cpu")), CLIP.height, CLIP.width)


@pytest.mark.parametrize("index", range(3))
@pytest.mark.parametrize(
    ("label", "count"),
    [
        ("camera_motion", len(CAMERA_MOTIONS)),
        ("object_motion", len(OBJECT_MOTIONS)),
        ("event_order", len(EVENT_ORDERS)),
    ],
)
def test_another_label_changes_the_clip_but_not_its_first_frame(label, count, index):
    scene = draw_scene("studio", 11, index)
    clips = [pictures_of(relabelled(scene, **{label: value})) for value in range(count)]
    for other in clips[1:]:
        assert torch.equal(other.rgb[0], clips[0].rgb[0])
        assert torch.equal(other.depth[0], clips[0].depth[0])
        assert not torch.equal(other.rgb[1:], clips[0].rgb[1:])


def test_labels_come_from_another_stream_than_the_first_frame():
    """Every class is drawn about as often as the others, and none depends on what frame 0 shows."""
    scenes = [draw_scene("studio", 0, index) for index in range(600)]
    for name, count in (("camera_motion", 6), ("object_motion", 4), ("event_order", 2)):
        labels = np.array([getattr(scene.labels, name) for scene in scenes])
        assert np.bincount(labels, minlength=count).min() > 0.7 * 600 / count
        azimuth = np.array([scene.camera.azimuth for scene in scenes])
        means = [np.mean(azimuth[labels == value]) for value in range(count)]
        assert np.ptp(means) < 1.0, f"{name}: the camera's start tells the class"


def test_neither_seed_nor_index_repeats():
    positions = {
        (seed, index): draw_scene("studio", seed, index).bodies.position for seed in (0, 1) for index in (0, 1)
    }
    assert len({array.tobytes() for array in positions.values()}) == 4
    assert np.array_equal(draw_scene("studio", 1, 0).bodies.position, positions[1, 0])


# ----------------------------------------------------------------------------- the lamp


def colours(scene: Scene, start: int, phase: float, order: int) -> list[tuple[float, ...]]:
    scene = dataclasses.replace(relabelled(scene, event_order=order), lamp_start=start, lamp_phase=phase)
    return [tuple(colour) for colour in lamp_colours(scene, PROGRESS)]


def test_in_each_frame_each_lamp_colour_is_equally_likely_under_both_orders():
    scene = draw_scene("studio", 0, 0)
    for order in range(2):
        by_start = [colours(scene, start, 0.3, order) for start in range(3)]
        for in_frame in zip(*by_start, strict=True):
            assert len(set(in_frame)) == 3


def test_the_bag_of_lamp_colours_is_equally_likely_under_both_orders():
    """Played backwards, a clip of one order is a clip of the other, with a start and a phase as likely."""
    scene = draw_scene("studio", 0, 0)
    phases = (np.arange(40) + 0.5) / 40
    bags = [
        collections.Counter(
            frozenset(collections.Counter(colours(scene, start, phase, order)).items())
            for start in range(3)
            for phase in phases
        )
        for order in range(2)
    ]
    assert bags[0] == bags[1]
    assert colours(scene, 0, 0.3, 0) != colours(scene, 0, 0.3, 1)


# ----------------------------------------------------------------------------- the camera


@pytest.mark.parametrize("motion", range(len(CAMERA_MOTIONS)))
def test_camera_moves_as_its_class_says(motion):
    for index in range(5):
        plan = draw_scene("studio", 3, index).camera
        poses = camera_path(plan, motion, PROGRESS)
        first_from_world = np.linalg.inv(poses[0])
        x, y, z, _ = first_from_world @ poses[-1, :, 3]
        right, down, forward = 1.5 * abs(x), 1.5 * abs(y), abs(z)
        assert {
            "orbit_left": x < 0 and right > abs(y),
            "orbit_right": x > 0 and right > abs(y),
            "dolly_in": z > 0 and forward > max(abs(x), abs(y)),
            "dolly_out": z < 0 and forward > max(abs(x), abs(y)),
            "rise": y < 0 and down > abs(x),
            "fall": y > 0 and down > abs(x),
        }[CAMERA_MOTIONS[motion]]


def test_camera_is_an_upright_rotation_that_looks_at_its_target():
    plan = draw_scene("studio", 3, 1).camera
    poses = camera_path(plan, 0, PROGRESS)
    axes, position = poses[:, :3, :3], poses[:, :3, 3]
    assert np.allclose(axes @ axes.transpose(0, 2, 1), np.eye(3), atol=1e-12)
    assert np.allclose(np.linalg.det(axes), 1)
    assert np.allclose(axes[:, 2, 0], 0), "x is not level"
    assert (axes[:, 2, 1] < 0).all(), "y does not point down"
    in_camera = ((plan.target - position)[:, None] @ axes)[:, 0]
    assert np.allclose(in_camera[:, :2], 0, atol=1e-12)


# ----------------------------------------------------------------------------- physics


@pytest.mark.parametrize("motion", range(len(OBJECT_MOTIONS)))
def test_mover_sets_off_as_its_class_says(motion):
    for index in range(5):
        scene = draw_scene("studio", 5, index)
        camera = camera_path(scene.camera, 0, PROGRESS)[0]
        moved = simulate(scene.bodies, motion, camera, np.array([0.0, 0.1])).position[:, MOVER]
        seen = camera[:3, :3].T @ (moved[1] - moved[0])
        expected = {"left": -seen[0], "right": seen[0], "toward": -seen[2], "away": seen[2]}[OBJECT_MOTIONS[motion]]
        assert expected > 0.08
        assert expected >= 0.99 * max(abs(seen[0]), abs(seen[2]))


def test_solids_stay_above_the_ground_and_fall():
    falls = []
    for index in range(30):
        scene = draw_scene("studio", 7, index)
        motion = simulate(scene.bodies, 0, camera_path(scene.camera, 0, PROGRESS)[0], TIME_S)
        assert np.allclose(motion.position[0], scene.bodies.position)
        kind, size = torch.as_tensor(scene.bodies.kind), torch.as_tensor(scene.bodies.size)
        centres, radius, _ = (value.numpy() for value in extreme_parts(kind, size))
        rotation = motion.rotation
        tilt = np.sqrt(1 - rotation[..., 2, 2] ** 2 + 1e-12)
        reach = radius * np.where(scene.bodies.kind == Kind.CYLINDER, tilt, 1)[..., None]
        height = motion.position[..., 2:] + (centres @ rotation.swapaxes(-1, -2))[..., 2] - reach
        assert height.min() > -0.03
        assert height[0, 2:].min() > 0.2, "objects 2 and 3 start in the air"
        falls.extend(motion.position[0, 2:, 2] - motion.position[-1, 2:, 2])
    assert np.mean(np.array(falls) > 0.1) > 0.8


def test_contacts_add_no_energy():
    """Motion and height never hold more than what all solids started with, spin and the mover's push included."""
    times = np.arange(0, 0.7, 0.01)
    for index in range(60):
        scene = draw_scene("studio", 0, index)
        solids, camera = scene.bodies, camera_path(scene.camera, 0, PROGRESS)[0]
        weights = [
            mass_and_inertia(Kind(kind), size, MOVER_DENSITY if k == MOVER else DENSITY)
            for k, (kind, size) in enumerate(zip(solids.kind, solids.size, strict=True))
        ]
        mass, inertia = np.array([m for m, _ in weights]), np.stack([i for _, i in weights])
        speed, spin = solids.velocity.copy(), solids.spin.copy()
        speed[MOVER] = solids.mover_speed * np.array([1, 0, 0])
        if solids.kind[MOVER] == Kind.SPHERE:
            spin[MOVER] = solids.mover_speed / solids.size[MOVER, 0] * np.array([1, 0, 0])
        start = (mass * (0.5 * np.square(speed).sum(-1) + 9.81 * solids.position[:, 2])).sum()
        start += 0.5 * (inertia * np.square(spin)).sum()
        position = simulate(solids, 0, camera, times).position
        velocity, middle = np.diff(position, axis=0) / 0.01, (position[1:] + position[:-1]) / 2
        later = (mass * (0.5 * np.square(velocity).sum(-1) + 9.81 * middle[..., 2])).sum(-1)
        assert later.max() < 1.01 * start


def test_solids_do_not_start_inside_each_other():
    for index in range(30):
        scene = draw_scene("studio", 9, index)
        alone = dataclasses.replace(scene.bodies, velocity=0 * scene.bodies.velocity, spin=0 * scene.bodies.spin)
        alone = dataclasses.replace(alone, mover_speed=0.0)
        motion = simulate(alone, 0, np.eye(4)[[0, 2, 1, 3]], np.array([0.0, 0.05]))
        assert np.linalg.norm(motion.position[1] - motion.position[0], axis=-1).max() < 0.03, "something was pushed"


@pytest.mark.parametrize("bounce", [0.2, 0.5, 0.8])
def test_damping_gives_the_bounce_of_a_half_swing(bounce):
    ratio = damping_ratio(bounce)
    assert np.isclose(np.exp(-np.pi * ratio / np.sqrt(1 - ratio**2)), bounce)


@pytest.mark.parametrize("kind", list(Kind)[: len(STUDIO_SHAPES)])
def test_mass_and_inertia_agree_with_sampling(kind):
    size = np.array([0.3, 0.25, 0.2])
    chance = np.random.default_rng(0)
    points = chance.uniform(-0.6, 0.6, (400_000, 3))
    x, y, z = points.T
    inside = {
        Kind.SPHERE: x**2 + y**2 + z**2 < 0.09,
        Kind.BOX: (abs(x) < 0.3) & (abs(y) < 0.25) & (abs(z) < 0.2),
        Kind.CAPSULE: x**2 + y**2 + (z - np.clip(z, -0.25, 0.25)) ** 2 < 0.09,
        Kind.CYLINDER: (x**2 + y**2 < 0.09) & (abs(z) < 0.25),
    }[kind]
    squares, volume = points[inside] ** 2, 1.2**3 / len(points)
    mass, inertia = mass_and_inertia(kind, size, 10.0)
    assert np.isclose(mass, 10 * volume * inside.sum(), rtol=0.02)
    assert np.allclose(inertia, 10 * volume * (squares.sum() - squares.sum(0)), rtol=0.03)


def test_labels_are_the_fields_that_tasks_name():
    assert [field.name for field in dataclasses.fields(Labels)] == ["camera_motion", "object_motion", "event_order"]
