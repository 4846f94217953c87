"""The shapes of the world: where a ray enters and leaves each, its normals, its outline in a picture."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fourd.datasets.toy_world.scene import Kind

Vector = tuple[Tensor, Tensor, Tensor]
Span = tuple[Tensor, Tensor]

_TINY = 1e-12


def span(kind: Kind, size: Float[Tensor, "3 n"], origin: Vector, direction: Vector) -> Span:
    """Find where rays enter and leave a solid, as multiples of `direction`; enter >= leave for a miss.

    All is in the solid's own frame; `origin` and `direction` broadcast to `R n`.
    """
    a, b, _ = size
    if kind is Kind.SPHERE:
        return _ball(a, origin, direction)
    if kind is Kind.BOX:
        return _within(*(_slab(h, o, d) for h, o, d in zip(size, origin, direction, strict=True)))
    tube = _within(_tube(a, origin, direction), _slab(b, origin[2], direction[2]))
    if kind is Kind.CYLINDER:
        return tube
    x, y, z = origin
    return _union(tube, _ball(a, (x, y, z - b), direction), _ball(a, (x, y, z + b), direction))


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
    return normal / normal.square().sum(0).sqrt().clamp(min=_TINY)


# ----------------------------------------------------------------------------- outlines


def extreme_parts(
    kind: Int[Tensor, "*n"], size: Float[Tensor, "*n 3"]
) -> tuple[Float[Tensor, "*n 8 3"], Float[Tensor, "*n"]]:
    """Give balls (or discs, or points) whose hull is the solid: eight centres, and their common radius.

    A cylinder's are its two end discs, across z; the others' are balls, of radius 0 for a box.
    """
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], device=size.device)] * 3)
    ends = signs * signs.new_tensor([0.0, 0.0, 1.0])
    is_box, is_sphere = (kind == Kind.BOX)[..., None, None], (kind == Kind.SPHERE)[..., None, None]
    on_axis = torch.where(is_sphere, 0.0, ends * size[..., None, 1:2])
    centres = torch.where(is_box, signs * size[..., None, :], on_axis)
    return centres, torch.where(kind == Kind.BOX, 0.0, size[..., 0])


def outline(
    centre: Float[Tensor, "*n 3"], radius: Float[Tensor, "*n"], across: Float[Tensor, "*n 3"]
) -> tuple[Float[Tensor, "*n 4"], Bool[Tensor, "*n"]]:
    """Bound the image of balls and discs at focal length 1, exactly; and say which are in front.

    `across` is a disc's unit normal, and zero for a ball; camera axes.
    A line of sight a touches the ball or disc where (a.c)^2 = r^2 (|a|^2 - (a.n)^2): for the upright
    lines a = (1, 0, -u), and likewise for the level ones, a quadratic in u.

    Convention: OpenCV axes; `(x1, y1, x2, y2)` in x/z and y/z.
    """
    square = radius**2
    xy, z, across_xy, across_z = centre[..., :2], centre[..., 2:], across[..., :2], across[..., 2:]
    square = square[..., None]
    m_zz = z * z - square * (1 - across_z**2)
    m_xz = xy * z + square * across_xy * across_z
    m_xx = xy * xy - square * (1 - across_xy**2)
    root = (m_xz * m_xz - m_xx * m_zz).clamp(min=0).sqrt()
    in_front = (z > 0) & (m_zz > _TINY)
    safe = torch.where(in_front, m_zz, 1.0)
    return torch.cat([(m_xz - root) / safe, (m_xz + root) / safe], dim=-1), in_front[..., 0]
