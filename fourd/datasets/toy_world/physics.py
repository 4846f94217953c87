"""How the solids move: rigid bodies with contacts and friction, computed by MuJoCo (no graphics)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float

from fourd.datasets.toy_world.scene import MOVER, NUM_OBJECTS, OBJECT_MOTIONS, Array, Bodies, Kind

STEP_S = 1 / 300
CONTACT_TIME_S = 0.015
"""How long a contact pushes back: more than four steps. With three, corners that hit the ground gain energy."""
DENSITY = 1000.0
MOVER_DENSITY = 3000.0


@dataclass(frozen=True)
class Motion:
    """Hold the solids' poses over time: world_from_object, metres."""

    position: Float[Array, "T K 3"]
    rotation: Float[Array, "T K 3 3"]


def simulate(
    bodies: Bodies, object_motion: int, world_from_camera: Float[Array, "4 4"], time_s: Float[Array, " T"]
) -> Motion:
    """Let the solids go, and note where they are at each time; the first is how they were placed.

    The mover sets off in the direction `object_motion` as the first camera sees it. Times are rounded
    to the step of the simulation, 1/300 s.
    """
    mujoco, model, data = _compiled()
    mujoco.mj_resetData(model, data)
    _set_solids(mujoco, model, data, bodies)
    direction = heading(object_motion, world_from_camera)
    place_solids(data, bodies, direction * bodies.mover_speed)

    def advance(first: int, last: int) -> None:
        if last > first:
            mujoco.mj_step(model, data, nstep=last - first)

    return record(mujoco, model, data, time_s, advance)


def record(
    mujoco: ModuleType, model: Any, data: Any, time_s: Float[Array, " T"], advance: Callable[[int, int], None]
) -> Motion:
    """Note where the solids are at each time, rounded to the step; `advance(first, last)` simulates those steps."""
    steps = np.rint(time_s / STEP_S).astype(int).tolist()
    positions, rotations = [], []
    for before, step in zip([0, *steps], steps, strict=False):
        advance(before, step)
        mujoco.mj_kinematics(model, data)
        positions.append(data.xpos[1:].copy())
        rotations.append(data.xmat[1:].reshape(-1, 3, 3).copy())
    return Motion(np.stack(positions), np.stack(rotations))


def heading(object_motion: int, world_from_camera: Float[Array, "4 4"]) -> Float[Array, "3"]:
    """Give the unit vector on the ground for one of OBJECT_MOTIONS, as a camera sees it."""
    right, forward = world_from_camera[:3, 0], world_from_camera[:3, 2] * [1, 1, 0]
    forward = forward / np.linalg.norm(forward)
    return {"left": -right, "right": right, "toward": -forward, "away": forward}[OBJECT_MOTIONS[object_motion]]


def load_mujoco() -> ModuleType:
    """Import MuJoCo, or say how to get it."""
    try:
        import mujoco
    except ImportError as error:
        raise ImportError("generating toy_world clips needs the package mujoco: run `pip install mujoco`") from error
    return mujoco


@functools.cache
def _compiled() -> tuple[ModuleType, Any, Any]:
    """Compile the studio's world once; only sizes, masses and states change from clip to clip."""
    mujoco = load_mujoco()
    body = '<body><freejoint/><geom type="box" size=".3 .3 .3"/></body>'
    model = mujoco.MjModel.from_xml_string(
        f'<mujoco><option timestep="{STEP_S}"/><worldbody><geom type="plane" size="0 0 1"/>'
        f"{body * NUM_OBJECTS}</worldbody></mujoco>"
    )
    return mujoco, model, mujoco.MjData(model)


def _set_solids(mujoco: ModuleType, model: Any, data: Any, bodies: Bodies) -> None:
    """Write shapes and masses into the compiled model, in place."""
    geom_types = {
        Kind.SPHERE: mujoco.mjtGeom.mjGEOM_SPHERE,
        Kind.BOX: mujoco.mjtGeom.mjGEOM_BOX,
        Kind.CAPSULE: mujoco.mjtGeom.mjGEOM_CAPSULE,
        Kind.CYLINDER: mujoco.mjtGeom.mjGEOM_CYLINDER,
    }
    for i in range(NUM_OBJECTS):
        kind, size, density = Kind(bodies.kind[i]), bodies.size[i], MOVER_DENSITY if i == MOVER else DENSITY
        extent = half_extent(kind, size)
        model.geom_type[i + 1] = geom_types[kind]
        model.geom_size[i + 1] = size
        model.geom_rbound[i + 1] = size[0] if kind is Kind.SPHERE else np.linalg.norm(extent)
        model.geom_aabb[i + 1] = np.concatenate([np.zeros(3), extent])
        model.bvh_aabb[model.body_bvhadr[i + 1]] = model.geom_aabb[i + 1]
        model.body_mass[i + 1], model.body_inertia[i + 1] = mass_and_inertia(kind, size, density)
        model.geom_solref[i + 1] = CONTACT_TIME_S, damping_ratio(bodies.bounce[i])
        model.geom_priority[i + 1] = 1
        model.geom_friction[i + 1, 0] = 0.15 if i == MOVER else 0.5
    mujoco.mj_setConst(model, data)


def place_solids(data: Any, bodies: Bodies, mover_velocity: Float[Array, "3"]) -> None:
    """Set every solid to where it is in frame 0 and how it moves then; a sphere that sets off rolls."""
    poses = data.qpos.reshape(NUM_OBJECTS, 7)
    poses[:, :3], poses[:, 3:] = bodies.position, bodies.quaternion
    velocities = data.qvel.reshape(NUM_OBJECTS, 6)
    velocities[:, :3], velocities[:, 3:] = bodies.velocity, bodies.spin
    velocities[MOVER, :3] = mover_velocity
    if bodies.kind[MOVER] == Kind.SPHERE:
        rolling = np.cross([0.0, 0.0, 1.0], mover_velocity) / bodies.size[MOVER, 0]
        velocities[MOVER, 3:] = rotation_of(bodies.quaternion[MOVER]).T @ rolling


def rotation_of(quaternion: Float[Array, "4"]) -> Float[Array, "3 3"]:
    """Turn a unit quaternion (w, x, y, z) into a rotation matrix."""
    w, x, y, z = quaternion
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + 2 * w * cross + 2 * cross @ cross


def half_extent(kind: Kind, size: Float[Array, "3"]) -> Float[Array, "3"]:
    """Measure a solid from its centre along its own axes."""
    if kind is Kind.SPHERE:
        return np.full(3, size[0])
    if kind is Kind.BOX:
        return size
    return np.array([size[0], size[0], size[1] + (size[0] if kind is Kind.CAPSULE else 0)])


def damping_ratio(bounce: float) -> float:
    """Give the damping of a contact spring that returns the share `bounce` of the speed."""
    decay = -np.log(bounce)
    return float(decay / np.hypot(np.pi, decay))


def mass_and_inertia(kind: Kind, size: Float[Array, "3"], density: float) -> tuple[float, Float[Array, "3"]]:
    """Weigh a homogeneous solid; the moments are about its centre, along its own axes."""
    radius, length = size[0], 2 * size[1]
    if kind is Kind.SPHERE:
        mass = density * 4 / 3 * np.pi * radius**3
        return mass, np.full(3, 0.4 * mass * radius**2)
    if kind is Kind.BOX:
        mass, squares = density * 8 * size.prod(), np.square(size)
        return mass, mass / 3 * (squares.sum() - squares)
    tube = density * np.pi * radius**2 * length
    across, along = tube * (radius**2 / 4 + length**2 / 12), tube * radius**2 / 2
    if kind is Kind.CYLINDER:
        return tube, np.array([across, across, along])
    caps = density * 4 / 3 * np.pi * radius**3
    across += caps * (0.4 * radius**2 + length**2 / 4 + 3 / 8 * length * radius)
    along += caps * 0.4 * radius**2
    return tube + caps, np.array([across, across, along])
