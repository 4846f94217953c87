"""How solids of all kinds move between walls: rigid bodies with contacts and friction, computed by MuJoCo."""

from __future__ import annotations

import itertools
import math
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
from jaxtyping import Float

from fourd.datasets.toy_world.physics import (
    CONTACT_TIME_S,
    DENSITY,
    MOVER_DENSITY,
    STEP_S,
    Motion,
    damping_ratio,
    heading,
    load_mujoco,
    place_solids,
    record,
)
from fourd.datasets.toy_world.scene import LAMP, MOVER, NUM_OBJECTS, Array, Bodies, Kind
from fourd.datasets.toy_world.sizes import corners

SLIDING, MOVER_SLIDING, TWISTING_M, ROLLING_M = 0.5, 0.15, 0.005, 0.02
"""Friction. Unlike in the studio, what rolls comes to rest, so that long clips keep their solids."""
PUSH_FROM, PUSH_EVERY = 300, 75
"""When solids are pushed, in steps of the simulation: from 1 s on, each once a second."""
AIRBORNE_S, FASTEST = 0.7, 2.5
"""How long a pushed solid takes to its spot, and its greatest speed over the ground, m/s."""
CONE_SIDES = 32
"""Contacts take a cone for a pyramid of so many sides: half a percent of its radius. Pictures do not."""


def simulate_in_room(
    bodies: Bodies,
    walls: Float[Array, "W 4"],
    object_motion: int,
    world_from_camera: Float[Array, "4 4"],
    time_s: Float[Array, " T"],
) -> Motion:
    """Let the solids go, and note where they are at each time; the first is how they were placed.

    From the second second on the solids are pushed in turn (the lamp is spared), so that long clips have
    something to follow. Walls stop solids at any height. The hole of a ring is closed to others. Times are
    rounded to the step of the simulation, 1/300 s.
    """
    mujoco = load_mujoco()
    model = mujoco.MjModel.from_xml_string(_described(bodies, walls))
    data = mujoco.MjData(model)
    place_solids(data, bodies, heading(object_motion, world_from_camera) * bodies.mover_speed)

    def advance(first: int, last: int) -> None:
        pauses = [step for step in range(PUSH_FROM, last, PUSH_EVERY) if step >= first]
        for before, step in itertools.pairwise([first, *pauses, last]):
            if before in pauses:
                _push(data, bodies, (before - PUSH_FROM) // PUSH_EVERY)
            if step > before:
                mujoco.mj_step(model, data, nstep=step - before)

    return record(mujoco, model, data, time_s, advance)


def _push(data: Any, bodies: Bodies, turn: int) -> None:
    """Send the solid whose turn it is off to its spot; the lamp is spared."""
    solid = turn % NUM_OBJECTS
    if turn >= len(bodies.pushes) or solid == LAMP:
        return
    x, y, hop = bodies.pushes[turn]
    velocity, place = data.qvel.reshape(NUM_OBJECTS, 6)[solid], data.qpos.reshape(NUM_OBJECTS, 7)[solid]
    way = np.array([x, y]) - place[:2]
    velocity[:2] = way / max(AIRBORNE_S, np.linalg.norm(way) / FASTEST)
    velocity[2] = hop


def _described(bodies: Bodies, walls: Float[Array, "W 4"]) -> str:
    meshes, solids = [], []
    for i in range(NUM_OBJECTS):
        kind, size = Kind(bodies.kind[i]), bodies.size[i]
        if kind in (Kind.CONE, Kind.PRISM, Kind.OCTAHEDRON):
            meshes.append(_tag("mesh", name=f"solid{i}", vertex=_hull_corners(kind, size).ravel()))
        parts = "".join(_tag("geom", **part, **_contact(bodies, i)) for part in _parts(kind, size, i))
        solids.append(f"<body><freejoint/>{parts}</body>")
    planes = [
        _tag("geom", type="plane", size=(0, 0, 1), pos=(-d * x, -d * y, 0), zaxis=(x, y, 0))
        for x, y, d, height in walls
        if height > 0
    ]
    ground = _tag("geom", type="plane", size=(0, 0, 1))
    return (
        f'<mujoco><option timestep="{STEP_S!r}"/><asset>{"".join(meshes)}</asset>'
        f"<worldbody>{ground}{''.join(planes)}{''.join(solids)}</worldbody></mujoco>"
    )


def _tag(name: str, /, **attributes: Any) -> str:
    """Write one element; numbers in full, so that they come back as they were."""
    said = {
        key: value if isinstance(value, str) else " ".join(repr(float(v)) for v in np.atleast_1d(value))
        for key, value in attributes.items()
    }
    return f"<{name} {' '.join(f'{key}={quoteattr(value)}' for key, value in said.items())}/>"


def _contact(bodies: Bodies, i: int) -> dict[str, Any]:
    sliding = MOVER_SLIDING if i == MOVER else SLIDING
    return {
        "friction": (sliding, TWISTING_M, ROLLING_M),
        "condim": "6",
        "priority": "1",
        "solref": (CONTACT_TIME_S, damping_ratio(bodies.bounce[i])),
    }


def _parts(kind: Kind, size: Float[Array, "3"], i: int) -> list[dict[str, Any]]:
    """Describe a solid as geoms of MuJoCo, with their densities."""
    density = MOVER_DENSITY if i == MOVER else DENSITY
    a, b, c = size
    if kind is Kind.DUMBBELL:
        balls = [{"type": "sphere", "size": a, "pos": (0, 0, z), "density": density} for z in (-b, b)]
        return [*balls, {"type": "cylinder", "size": (c, b), "density": density}]
    if kind in (Kind.CONE, Kind.PRISM, Kind.OCTAHEDRON):
        return [{"type": "mesh", "mesh": f"solid{i}", "density": density}]
    if kind is Kind.RING:
        return [{"type": "cylinder", "size": (a, b), "density": density * (1 - (c / a) ** 2)}]
    sizes = {Kind.SPHERE: (a,), Kind.CAPSULE: (a, b), Kind.CYLINDER: (a, b)}
    return [{"type": kind.name.lower(), "size": sizes.get(kind, tuple(size)), "density": density}]


def _hull_corners(kind: Kind, size: Float[Array, "3"]) -> Float[Array, "n 3"]:
    if kind is not Kind.CONE:
        return corners(kind, size)
    turn = np.arange(CONE_SIDES) * (2 * math.pi / CONE_SIDES)
    base = np.stack([size[0] * np.cos(turn), size[0] * np.sin(turn), np.full(CONE_SIDES, -size[1])], axis=-1)
    return np.concatenate([base, [[0.0, 0.0, size[1]]]])
