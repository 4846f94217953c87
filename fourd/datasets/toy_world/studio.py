"""The look `studio`: four kinds of solids on an endless textured ground. What it draws never changes."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from fourd.datasets.toy_world.scene import (
    CAMERA_MOTIONS,
    EVENT_ORDERS,
    LAMP,
    NUM_OBJECTS,
    OBJECT_MOTIONS,
    STUDIO_SHAPES,
    Array,
    Bodies,
    CameraPlan,
    Kind,
    Labels,
    Look,
    Scene,
    Stream,
    generator,
    linear_from_hsv,
)

FIELD_OF_VIEW_RAD = math.radians(50)
"""The angle across the shorter side of a frame."""
NUM_STYLES = 4
SUN_COLOUR, SKY_COLOUR = (0.9, 0.84, 0.74), (0.29, 0.33, 0.4)
HAZE_M = 15.0


def draw_studio(seed: int, index: int) -> Scene:
    """Draw clip `index` of the world `seed`."""
    layout = generator(seed, index, Stream.LAYOUT)
    motion = generator(seed, index, Stream.MOTION)
    return Scene(
        labels=draw_labels(motion),
        camera=_draw_camera(layout, motion),
        bodies=_draw_bodies(layout, motion),
        look=_draw_look(layout),
        walls=np.zeros((0, 4)),
        field_of_view_rad=FIELD_OF_VIEW_RAD,
        lamp_start=int(layout.integers(3)),
        lamp_phase=float(layout.uniform()),
    )


def draw_labels(motion: np.random.Generator) -> Labels:
    """Draw the answers that one frame cannot give; the first draws of the stream `MOTION`."""
    return Labels(
        camera_motion=int(motion.integers(len(CAMERA_MOTIONS))),
        object_motion=int(motion.integers(len(OBJECT_MOTIONS))),
        event_order=int(motion.integers(len(EVENT_ORDERS))),
    )


def _draw_camera(layout: np.random.Generator, motion: np.random.Generator) -> CameraPlan:
    return CameraPlan(
        target=layout.uniform([-0.25, -0.25, 0.25], [0.25, 0.25, 0.75]),
        azimuth=layout.uniform(0, 2 * math.pi),
        elevation=math.radians(layout.uniform(28, 38)),
        distance=layout.uniform(3.5, 4.6),
        orbit_by=math.radians(motion.uniform(24, 65)),
        dolly_by=motion.uniform(0.8, 1.6),
        rise_by=math.radians(motion.uniform(12, 20)),
        stray=motion.normal(size=3) * [0.03, 0.06, 0.015],
    )


# ----------------------------------------------------------------------------- solids


def _draw_bodies(layout: np.random.Generator, motion: np.random.Generator) -> Bodies:
    kind = layout.integers(len(STUDIO_SHAPES), size=NUM_OBJECTS)
    size = np.stack([_draw_size(layout, Kind(k)) for k in kind])
    quaternion = np.stack([_draw_pose(layout, Kind(k), airborne=i > LAMP) for i, k in enumerate(kind)])
    position = np.zeros((NUM_OBJECTS, 3))
    position[:, :2] = draw_places(layout)
    lift = np.where(np.arange(NUM_OBJECTS) > LAMP, layout.uniform(0.25, 1.1, NUM_OBJECTS), 0.0)
    position[:, 2] = lift + [_half_height(Kind(k), s, q) for k, s, q in zip(kind, size, quaternion, strict=True)]
    airborne = (lift > 0)[:, None]
    velocity = motion.normal(size=(NUM_OBJECTS, 3)) * [0.9, 0.9, 0.6] * airborne
    spin = motion.normal(size=(NUM_OBJECTS, 3)) * 3.0 * airborne
    speed, bounce = motion.uniform(1.7, 2.7), motion.uniform(0.15, 0.5, NUM_OBJECTS)
    return Bodies(kind, size, position, quaternion, velocity, spin, speed, bounce, np.zeros((0, 3)))


def _draw_size(layout: np.random.Generator, kind: Kind) -> Float[Array, "3"]:
    low, high = {
        Kind.SPHERE: ([0.28, 0, 0], [0.46, 0, 0]),
        Kind.BOX: ([0.2, 0.2, 0.2], [0.42, 0.42, 0.42]),
        Kind.CAPSULE: ([0.18, 0.2, 0], [0.26, 0.32, 0]),
        Kind.CYLINDER: ([0.24, 0.16, 0], [0.38, 0.36, 0]),
    }[kind]
    return layout.uniform(low, high)


def _draw_pose(layout: np.random.Generator, kind: Kind, airborne: bool) -> Float[Array, "4"]:
    """Draw any orientation in the air, and one that rests by itself on the ground."""
    any_pose = layout.normal(size=4)
    yaw, lying = layout.uniform(0, 2 * math.pi), layout.uniform() < 0.5
    if airborne:
        return any_pose / np.linalg.norm(any_pose)
    turn = np.array([math.cos(yaw / 2), 0, 0, math.sin(yaw / 2)])
    if kind is Kind.CAPSULE or (kind is Kind.CYLINDER and lying):
        return np.array([turn[0], turn[0], turn[3], turn[3]]) * math.sqrt(0.5)
    return turn


def draw_places(layout: np.random.Generator) -> Float[Array, "K 2"]:
    """Draw the mover near the middle, and the others around it with room between them."""
    mover_angle, mover_radius = layout.uniform(0, 2 * math.pi), layout.uniform(0, 0.15)
    angle = layout.uniform(0, 2 * math.pi)
    steps = np.arange(NUM_OBJECTS - 1) * (2 * math.pi / (NUM_OBJECTS - 1))
    angles = angle + steps + layout.uniform(-0.35, 0.35, NUM_OBJECTS - 1)
    radii = layout.uniform(1.1, 1.5, NUM_OBJECTS - 1)
    angles, radii = np.append(mover_angle, angles), np.append(mover_radius, radii)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=-1)


def _half_height(kind: Kind, size: Float[Array, "3"], quaternion: Float[Array, "4"]) -> float:
    """Measure how far a solid reaches below its centre."""
    w, x, y, z = quaternion
    down = np.abs([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)])
    if kind is Kind.SPHERE:
        return float(size[0])
    if kind is Kind.BOX:
        return float(down @ size)
    if kind is Kind.CAPSULE:
        return float(size[0] + down[2] * size[1])
    return float(size[0] * math.sqrt(max(0.0, 1 - down[2] ** 2)) + down[2] * size[1])


# ----------------------------------------------------------------------------- colours


def _draw_look(layout: np.random.Generator) -> Look:
    hue = layout.uniform()
    accents = hue + np.array([0.0, 0.14, 0.42, 0.58])[layout.permutation(NUM_OBJECTS)]
    hues = np.append(accents, hue + 0.5) + layout.uniform(-0.04, 0.04, NUM_OBJECTS + 1)
    saturation = np.append(layout.uniform(0.55, 0.9, NUM_OBJECTS), layout.uniform(0.1, 0.35))
    azimuth, height = layout.uniform(0, 2 * math.pi), math.radians(layout.uniform(42, 68))
    sun = np.array([math.cos(azimuth) * math.cos(height), math.sin(azimuth) * math.cos(height), math.sin(height)])
    sky_hue = 0.58 + layout.uniform(-0.06, 0.06)
    return Look(
        ramp=ramps(hues, saturation, drift=layout.uniform(-0.08, 0.08, NUM_OBJECTS + 1)),
        style=layout.integers(NUM_STYLES, size=NUM_OBJECTS + 1),
        shift=layout.uniform(0, 1, (NUM_OBJECTS + 1, 3)),
        gloss=layout.uniform(0.0, 0.45, NUM_OBJECTS),
        metal=np.zeros(NUM_OBJECTS),
        lamp=linear_from_hsv(hue + np.array([0.05, 0.38, 0.72]), np.full(3, 0.68), np.full(3, 1.0)),
        sun=sun,
        sun_colour=np.array(SUN_COLOUR),
        sky_colour=np.array(SKY_COLOUR),
        fill=np.array([0.0, 0.0, 1.0]),
        fill_colour=np.zeros(3),
        zenith=linear_from_hsv(np.array(sky_hue), np.array(layout.uniform(0.35, 0.7)), np.array(0.85)),
        horizon=linear_from_hsv(np.array(sky_hue), np.array(layout.uniform(0.03, 0.15)), np.array(0.96)),
        haze_m=HAZE_M,
    )


def ramps(hue: Float[Array, " M"], saturation: Float[Array, " M"], drift: Float[Array, " M"]) -> Float[Array, "M 3 3"]:
    """Give each material a dark, a middle and a light tone; the hue drifts a little from one to the next."""
    hues = hue[:, None] + drift[:, None] * np.array([-1.0, 0.0, 1.0])
    saturations = np.clip(saturation[:, None] * np.array([1.1, 1.0, 0.55]), 0, 1)
    values = np.broadcast_to(np.array([0.24, 0.7, 1.0]), hues.shape)
    return linear_from_hsv(hues, saturations, values)
