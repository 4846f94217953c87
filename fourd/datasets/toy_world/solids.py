"""The shapes of the world: where a ray enters and leaves each."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from fourd.datasets.toy_world.scene import Kind

Vector = tuple[Tensor, Tensor, Tensor]
Span = tuple[Tensor, Tensor]

_TINY = 1e-12
PRISM_SIDES = ((0.0, -1.0), (math.sqrt(0.75), 0.5), (-math.sqrt(0.75), 0.5))
"""Where the three sides of a prism face, in x and y."""


def spans(kind: Kind, size: Float[Tensor, "3 n"], origin: Vector, direction: Vector) -> tuple[Span, ...]:
    """Find where rays enter and leave a solid, as multiples of `direction`; enter >= leave for a miss.

    All is in the solid's own frame; `origin` and `direction` broadcast to `R n`. A solid with a hole or
    a waist has several spans: a ring's do not overlap, those of a dumbbell's balls and bar may.
    """
    if kind is Kind.RING:
        return _around(_cylinder(size[0], size[1], origin, direction), _tube(size[2], origin, direction))
    if kind is Kind.DUMBBELL:
        return (*_end_balls(size, origin, direction), _cylinder(size[2], size[1], origin, direction))
    return (_CONVEX[kind](size, origin, direction),)


def _sphere(size: Tensor, origin: Vector, direction: Vector) -> Span:
    return _ball(size[0], origin, direction)


def _box(size: Tensor, origin: Vector, direction: Vector) -> Span:
    return _within(*(_slab(h, o, d) for h, o, d in zip(size, origin, direction, strict=True)))


def _upright(size: Tensor, origin: Vector, direction: Vector) -> Span:
    return _cylinder(size[0], size[1], origin, direction)


def _capsule(size: Tensor, origin: Vector, direction: Vector) -> Span:
    return _union(_cylinder(size[0], size[1], origin, direction), *_end_balls(size, origin, direction))


def _ellipsoid(size: Tensor, origin: Vector, direction: Vector) -> Span:
    """Meet the unit ball, in a frame that is stretched until the ellipsoid is one."""
    (x, y, z), (dx, dy, dz) = origin, direction
    a, b, c = 1 / size
    return _ball(torch.ones_like(a), (x * a, y * b, z * c), (dx * a, dy * b, dz * c))


def _cone(size: Tensor, origin: Vector, direction: Vector) -> Span:
    """Cut the lower half of a double cone, whose tip is at +z, off at the base."""
    (x, y, z), (dx, dy, dz) = origin, direction
    slope = (size[0] / (2 * size[1])).square()
    below = size[1] - z
    a, half_b = dx * dx + dy * dy - slope * dz * dz, x * dx + y * dy + slope * below * dz
    c = x * x + y * y - slope * below * below
    root = (half_b * half_b - a * c).clamp(min=0).sqrt()
    a = torch.where(a.abs() < _TINY, _TINY, a)
    first, second = (-half_b - root) / a, (-half_b + root) / a
    # Inside of both halves a steep line is outside of the roots; of its two parts the lower half has one.
    steep, up = a < 0, dz > 0
    enter = torch.where(steep, torch.where(up, -torch.inf, torch.maximum(first, second)), first)
    leave = torch.where(steep, torch.where(up, torch.minimum(first, second), torch.inf), second)
    return _within((enter, leave), _slab(size[1], z, dz))


def _prism(size: Tensor, origin: Vector, direction: Vector) -> Span:
    """Stand between three sides, the first of which faces -y, and two ends."""
    (x, y, z), (dx, dy, dz) = origin, direction
    sides = [_half_space(size[0] / 2, x * nx + y * ny, dx * nx + dy * ny) for nx, ny in PRISM_SIDES]
    return _within(*sides, _slab(size[1], z, dz))


def _octahedron(size: Tensor, origin: Vector, direction: Vector) -> Span:
    (x, y, z), (dx, dy, dz) = origin, direction
    (x, y, z), (dx, dy, dz) = (x / size[0], y / size[1], z / size[2]), (dx / size[0], dy / size[1], dz / size[2])
    one = torch.ones_like(size[0])
    signs = ((1, 1), (1, -1), (-1, 1), (-1, -1))
    return _within(*(_slab(one, x + i * y + j * z, dx + i * dy + j * dz) for i, j in signs))


_CONVEX = {
    Kind.SPHERE: _sphere,
    Kind.BOX: _box,
    Kind.CAPSULE: _capsule,
    Kind.CYLINDER: _upright,
    Kind.ELLIPSOID: _ellipsoid,
    Kind.CONE: _cone,
    Kind.PRISM: _prism,
    Kind.OCTAHEDRON: _octahedron,
}


# ----------------------------------------------------------------------------- parts of solids


def _cylinder(radius: Tensor, half: Tensor, origin: Vector, direction: Vector) -> Span:
    return _within(_tube(radius, origin, direction), _slab(half, origin[2], direction[2]))


def _end_balls(size: Tensor, origin: Vector, direction: Vector) -> tuple[Span, Span]:
    (a, b, _), (x, y, z) = size, origin
    return _ball(a, (x, y, z - b), direction), _ball(a, (x, y, z + b), direction)


def _ball(radius: Tensor, origin: Vector, direction: Vector) -> Span:
    return _roots(_dot(direction, direction), _dot(origin, direction), _dot(origin, origin) - radius**2)


def _tube(radius: Tensor, origin: Vector, direction: Vector) -> Span:
    (x, y, _), (dx, dy, _) = origin, direction
    return _roots((dx * dx + dy * dy).clamp(min=_TINY), x * dx + y * dy, x * x + y * y - radius**2)


def _roots(a: Tensor, half_b: Tensor, c: Tensor) -> Span:
    """Solve a t^2 + 2 half_b t + c <= 0. Without a solution the root is NaN-free and the span empty."""
    discriminant = half_b * half_b - a * c
    root = discriminant.clamp(min=0).sqrt()
    return (-half_b - root) / a, (-half_b + root) / a


def _slab(half: Tensor, origin: Tensor, direction: Tensor) -> Span:
    inverse = 1 / torch.where(direction.abs() < _TINY, _TINY, direction)
    middle, reach = -origin * inverse, half * inverse.abs()
    return middle - reach, middle + reach


def _half_space(limit: Tensor, origin: Tensor, direction: Tensor) -> Span:
    """Solve origin + t direction <= limit."""
    safe = torch.where(direction.abs() < _TINY, _TINY, direction)
    crossing = (limit - origin) / safe
    return torch.where(safe < 0, crossing, -torch.inf), torch.where(safe > 0, crossing, torch.inf)


def _around(whole: Span, hole: Span) -> tuple[Span, Span]:
    """Take a hole out of a span: what is left before it and after it. A hole that is missed takes nothing."""
    (enter, leave), (into, out) = whole, hole
    there = into < out
    into, out = torch.where(there, into, torch.inf), torch.where(there, out, torch.inf)
    return (enter, torch.minimum(leave, into)), (torch.maximum(enter, out), leave)


def _within(*spans: Span) -> Span:
    enter, leave = spans[0]
    for other_enter, other_leave in spans[1:]:
        enter, leave = torch.maximum(enter, other_enter), torch.minimum(leave, other_leave)
    return enter, leave


def _union(*spans: Span) -> Span:
    """Join spans whose union has no gap, as those of the parts of a convex solid; empty ones do not count."""
    enter = torch.stack([torch.where(a < b, a, torch.inf) for a, b in spans]).amin(0)
    leave = torch.stack([torch.where(a < b, b, -torch.inf) for a, b in spans]).amax(0)
    return enter, leave


def _dot(a: Vector, b: Vector) -> Tensor:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
