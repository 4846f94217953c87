"""The furnished world: ten kinds of solids, walls, and cameras of many angles of view, the same in every look."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from fourd.datasets.toy_world.looks import LookStyle, draw_look
from fourd.datasets.toy_world.scene import (
    LAMP,
    MOVER,
    NUM_OBJECTS,
    NUM_WALLS,
    Array,
    Bodies,
    CameraPlan,
    Kind,
    Scene,
    Stream,
    generator,
)
from fourd.datasets.toy_world.sizes import bounding_radius, draw_proportions, half_height, resting_pose, turned_about_z
from fourd.datasets.toy_world.studio import draw_labels, draw_places

FIELD_OF_VIEW_DEG = (40.0, 60.0)
MOVER_RADIUS_M, OTHER_RADIUS_M = (0.48, 0.6), (0.28, 0.4)
"""Of the ball around a solid: the mover is the largest, whatever its shape."""
NUM_PUSHES, PUSHED_WITHIN_M = 64, 1.4
ROOMS = ("open", "wall", "corner")


def draw_furnished(style: LookStyle, seed: int, index: int) -> Scene:
    """Draw clip `index` of the world `seed`; only colours and light depend on the style."""
    layout, motion, chance = (
        generator(seed, index, stream) for stream in (Stream.LAYOUT, Stream.MOTION, Stream.APPEARANCE)
    )
    labels = draw_labels(motion)
    field_of_view_rad = math.radians(layout.uniform(*FIELD_OF_VIEW_DEG))
    camera = _draw_camera(layout, motion, field_of_view_rad)
    bodies = _draw_bodies(layout, motion, _draw_pushes(generator(seed, index, Stream.PUSHES)))
    walls = _draw_walls(layout, camera.azimuth)
    lamp_start, lamp_phase = int(layout.integers(3)), float(layout.uniform())
    look = draw_look(style, chance, walls)
    return Scene(labels, camera, bodies, look, walls, field_of_view_rad, lamp_start, lamp_phase)


def _draw_camera(layout: np.random.Generator, motion: np.random.Generator, field_of_view_rad: float) -> CameraPlan:
    """Stand nearer with a wide angle of view, but not so near that the angle cannot be told."""
    nearer = (math.tan(math.radians(25)) / math.tan(field_of_view_rad / 2)) ** 0.7
    return CameraPlan(
        target=layout.uniform([-0.25, -0.25, 0.25], [0.25, 0.25, 0.75]),
        azimuth=layout.uniform(0, 2 * math.pi),
        elevation=math.radians(layout.uniform(26, 38)),
        distance=layout.uniform(3.6, 4.6) * nearer,
        orbit_by=math.radians(motion.uniform(24, 65)),
        dolly_by=motion.uniform(0.8, 1.5),
        rise_by=math.radians(motion.uniform(12, 20)),
        stray=motion.normal(size=3) * [0.03, 0.06, 0.015],
    )


def _draw_pushes(chance: np.random.Generator) -> Float[Array, "P 3"]:
    """Draw spots all over the middle of the world, and how fast to leave the ground."""
    angle, share, hop = chance.uniform([[0.0], [0.0], [1.8]], [[2 * math.pi], [1.0], [3.0]], (3, NUM_PUSHES))
    radius = PUSHED_WITHIN_M * np.sqrt(share)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), hop], axis=-1)


def _draw_bodies(layout: np.random.Generator, motion: np.random.Generator, pushes: Float[Array, "P 3"]) -> Bodies:
    kind = layout.integers(len(Kind), size=NUM_OBJECTS)
    kinds = [Kind(k) for k in kind]
    is_mover, is_airborne = np.arange(NUM_OBJECTS) == MOVER, np.arange(NUM_OBJECTS) > LAMP
    radius = np.where(is_mover, layout.uniform(*MOVER_RADIUS_M), layout.uniform(*OTHER_RADIUS_M, NUM_OBJECTS))
    size = np.stack([draw_proportions(layout, k) for k in kinds])
    size *= (radius / [bounding_radius(k, s) for k, s in zip(kinds, size, strict=True)])[:, None]
    quaternion = np.stack(
        [_draw_pose(layout, k, s, i > LAMP) for i, (k, s) in enumerate(zip(kinds, size, strict=True))]
    )
    lift = np.where(is_airborne, layout.uniform(0.25, 1.1, NUM_OBJECTS), 0.0)
    height = lift + [half_height(k, s, q) for k, s, q in zip(kinds, size, quaternion, strict=True)]
    velocity = motion.normal(size=(NUM_OBJECTS, 3)) * [0.9, 0.9, 0.6] * is_airborne[:, None]
    spin = motion.normal(size=(NUM_OBJECTS, 3)) * 3.0 * is_airborne[:, None]
    speed, bounce = motion.uniform(1.7, 2.7), motion.uniform(0.15, 0.5, NUM_OBJECTS)
    position = np.concatenate([draw_places(layout), height[:, None]], axis=1)
    return Bodies(kind, size, position, quaternion, velocity, spin, speed, bounce, pushes)


def _draw_pose(layout: np.random.Generator, kind: Kind, size: Float[Array, "3"], airborne: bool) -> Float[Array, "4"]:
    any_pose = layout.normal(size=4)
    yaw, lying = layout.uniform(0, 2 * math.pi), bool(layout.uniform() < 0.5)
    if airborne:
        return any_pose / np.linalg.norm(any_pose)
    return turned_about_z(resting_pose(kind, size, lying), yaw)


def _draw_walls(layout: np.random.Generator, azimuth: float) -> Float[Array, "W 4"]:
    """Put no wall, one, or two that meet in a corner behind the solids, so that no camera gets behind them."""
    room = ROOMS[layout.integers(len(ROOMS))]
    off, height = layout.uniform(-1, 1), layout.uniform(1.2, 3.5)
    near, far = layout.uniform(2.6, 4.5, NUM_WALLS), layout.uniform(3.9, 5.2, NUM_WALLS)
    if room == "corner":
        facing = azimuth + math.radians(10) * off + np.array([-0.25, 0.25]) * math.pi
        return np.stack([np.cos(facing), np.sin(facing), far, np.full(NUM_WALLS, height)], axis=-1)
    facing = np.full(NUM_WALLS, azimuth + math.radians(35) * off)
    heights = np.array([height, 0.0]) * (room == "wall")
    return np.stack([np.cos(facing), np.sin(facing), near, heights], axis=-1)
