"""Which way the surfaces of solids face."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fourd.datasets.toy_world.scene import Kind
from fourd.datasets.toy_world.solids import PRISM_SIDES

_TINY = 1e-12


def normals(kind: Int[Tensor, " M"], size: Float[Tensor, "3 M"], point: Float[Tensor, "3 M"]) -> Float[Tensor, "3 M"]:
    """Give the outward unit normals at points on solids, in the solids' own frames."""
    x, y, z = point
    capsule, cylinder = kind == Kind.CAPSULE, kind == Kind.CYLINDER
    on_cap = z.abs() * size[0] > size[1] * (x * x + y * y).sqrt()
    upright = torch.where(capsule, z - torch.minimum(torch.maximum(z, -size[1]), size[1]), z)
    upright = torch.where(cylinder, torch.where(on_cap, z, 0.0), upright)
    sideways = torch.where(cylinder & on_cap, 0.0, 1.0)
    round_normal = torch.stack([x * sideways, y * sideways, upright])
    relative = point / size.clamp(min=_TINY)
    on_face = relative.abs() >= relative.abs().amax(0)
    normal = torch.where(kind == Kind.BOX, on_face * point, round_normal)
    for own, normal_of in _OTHERS.items():
        where = (kind == own).nonzero()[:, 0]
        if len(where):
            normal = normal.index_copy(1, where, normal_of(size.index_select(1, where), point.index_select(1, where)))
    return normal / normal.square().sum(0).sqrt().clamp(min=_TINY)


def _of_ellipsoid(size: Tensor, point: Tensor) -> Tensor:
    return point / size.square()


def _of_cone(size: Tensor, point: Tensor) -> Tensor:
    """Take the side or the base, whichever is nearer."""
    x, y, z = point
    slope, out = size[0] / (2 * size[1]), (x * x + y * y).sqrt()
    to_side = ((size[1] - z) * slope - out).abs() * (1 + slope * slope).rsqrt()
    side = torch.stack([x, y, slope * out])
    return torch.where(to_side <= (z + size[1]).abs(), side, _along_z(-torch.ones_like(z)))


def _of_prism(size: Tensor, point: Tensor) -> Tensor:
    """Take the face whose plane is the farthest out at the point."""
    x, y, z = point
    sides = torch.stack([x * nx + y * ny - size[0] / 2 for nx, ny in PRISM_SIDES])
    past, which = sides.max(0)
    side = point.new_tensor([(nx, ny, 0.0) for nx, ny in PRISM_SIDES])[which].T
    return torch.where(past >= z.abs() - size[1], side, _along_z(z))


def _of_octahedron(size: Tensor, point: Tensor) -> Tensor:
    return torch.where(point < 0, -1.0, 1.0) / size


def _of_ring(size: Tensor, point: Tensor) -> Tensor:
    """Take the outside, the hole or an end, whichever is nearest."""
    x, y, z = point
    out = (x * x + y * y).sqrt()
    to_outside, to_hole = (out - size[0]).abs(), (out - size[2]).abs()
    side = torch.stack([x, y, torch.zeros_like(z)]) * torch.where(to_hole < to_outside, -1.0, 1.0)
    on_end = (z.abs() - size[1]).abs() < torch.minimum(to_outside, to_hole)
    return torch.where(on_end, _along_z(z), side)


def _of_dumbbell(size: Tensor, point: Tensor) -> Tensor:
    """Take the nearer ball or the bar, whichever is nearer."""
    x, y, z = point
    from_ball = torch.stack([x, y, z - torch.where(z < 0, -size[1], size[1])])
    to_ball = (from_ball.square().sum(0).sqrt() - size[0]).abs()
    to_bar = ((x * x + y * y).sqrt() - size[2]).abs()
    return torch.where(to_ball <= to_bar, from_ball, torch.stack([x, y, torch.zeros_like(z)]))


def _along_z(z: Tensor) -> Tensor:
    zero = torch.zeros_like(z)
    return torch.stack([zero, zero, z])


_OTHERS = {
    Kind.ELLIPSOID: _of_ellipsoid,
    Kind.CONE: _of_cone,
    Kind.PRISM: _of_prism,
    Kind.OCTAHEDRON: _of_octahedron,
    Kind.RING: _of_ring,
    Kind.DUMBBELL: _of_dumbbell,
}
