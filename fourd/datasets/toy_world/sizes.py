"""How large solids of each kind are, how far they reach, and how they rest on the ground."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from fourd.datasets.toy_world.scene import Array, Kind

_PROPORTIONS: dict[Kind, tuple[list[float], list[float]]] = {
    Kind.SPHERE: ([1, 0, 0], [1, 0, 0]),
    Kind.BOX: ([0.6, 0.6, 0.6], [1, 1, 1]),
    Kind.CAPSULE: ([0.6, 0.6, 0], [0.75, 1, 0]),
    Kind.CYLINDER: ([0.7, 0.5, 0], [1, 0.9, 0]),
    Kind.ELLIPSOID: ([0.9, 0.65, 0.42], [1, 0.8, 0.55]),
    Kind.CONE: ([0.7, 0.7, 0], [0.9, 0.9, 0]),
    Kind.PRISM: ([0.85, 0.55, 0], [1, 0.9, 0]),
    Kind.OCTAHEDRON: ([0.85, 0.85, 0.85], [1, 1, 1]),
    Kind.RING: ([0.9, 0.25, 0.5], [1, 0.45, 0.62]),
    Kind.DUMBBELL: ([0.45, 0.75, 0.18], [0.55, 0.95, 0.24]),
}
"""The least and the largest size of each kind, before it is scaled as a whole; not from the paper."""

_PRISM_CORNERS = np.array([[0, 1], [-math.sqrt(0.75), -0.5], [math.sqrt(0.75), -0.5]])


def draw_proportions(layout: np.random.Generator, kind: Kind) -> Float[Array, "3"]:
    """Draw a size whose scale does not matter yet; always three draws."""
    return layout.uniform(*_PROPORTIONS[kind])


def bounding_radius(kind: Kind, size: Float[Array, "3"]) -> float:
    """Measure the ball around the solid's own origin that holds all of it."""
    if kind in (Kind.SPHERE, Kind.ELLIPSOID, Kind.OCTAHEDRON):
        return float(size.max())
    if kind is Kind.BOX:
        return float(np.linalg.norm(size))
    return float(size[0] + size[1] if kind in (Kind.CAPSULE, Kind.DUMBBELL) else np.hypot(size[0], size[1]))


def corners(kind: Kind, size: Float[Array, "3"]) -> Float[Array, "n 3"]:
    """Give the corners of a solid with flat faces."""
    if kind is Kind.BOX:
        return np.array(np.meshgrid(*[[-1, 1]] * 3)).reshape(3, -1).T * size
    if kind is Kind.OCTAHEDRON:
        return np.concatenate([np.diag(size), -np.diag(size)])
    if kind is Kind.PRISM:
        ends = [np.c_[_PRISM_CORNERS * size[0], np.full(3, z)] for z in (-size[1], size[1])]
        return np.concatenate(ends)
    raise ValueError(f"toy_world: a {kind.name.lower()} has no corners; expected a box, an octahedron or a prism")


def half_height(kind: Kind, size: Float[Array, "3"], quaternion: Float[Array, "4"]) -> float:
    """Measure how far a solid reaches below its origin."""
    w, x, y, z = quaternion
    down = -np.array([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)])
    aside = math.sqrt(max(0.0, 1 - down[2] ** 2))
    if kind in (Kind.BOX, Kind.OCTAHEDRON, Kind.PRISM):
        return float((corners(kind, size) @ down).max())
    if kind is Kind.ELLIPSOID:
        return float(np.linalg.norm(size * down))
    if kind is Kind.CONE:
        return float(max(size[1] * down[2], size[0] * aside - size[1] * down[2]))
    if kind in (Kind.CYLINDER, Kind.RING):
        return float(size[0] * aside + size[1] * abs(down[2]))
    return float(size[0] + size[1] * abs(down[2]))  # a sphere's half-length is 0


def resting_pose(kind: Kind, size: Float[Array, "3"], lying: bool) -> Float[Array, "4"]:
    """Give an orientation that rests by itself on the ground; `lying` chooses among two where there are."""
    if kind is Kind.OCTAHEDRON:
        face = 1 / size / np.linalg.norm(1 / size)
        pose = np.append(1 - face[2], np.cross(face, [0.0, 0.0, -1.0]))  # turns the face's normal down
        return pose / np.linalg.norm(pose)
    has_sides = kind in (Kind.CYLINDER, Kind.PRISM, Kind.RING)
    if kind in (Kind.CAPSULE, Kind.DUMBBELL) or (has_sides and lying):
        return np.array([1.0, 1.0, 0.0, 0.0]) * math.sqrt(0.5)
    return np.array([1.0, 0.0, 0.0, 0.0])


def turned_about_z(quaternion: Float[Array, "4"], yaw: float) -> Float[Array, "4"]:
    """Turn an orientation (w, x, y, z) about the upright axis of the world."""
    (w, x, y, z), cos, sin = quaternion, math.cos(yaw / 2), math.sin(yaw / 2)
    return np.array([cos * w - sin * z, cos * x - sin * y, cos * y + sin * x, cos * z + sin * w])
