"""The bounds of solids in a picture, exact, without looking at a single pixel."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fourd.datasets.toy_world.scene import Kind

_TINY = 1e-12
_CORNERS: dict[Kind, list[tuple[float, float, float]]] = {
    Kind.PRISM: [(0, 1, z) for z in (-1, 1)] + [(s * 0.75**0.5, -0.5, z) for s in (-1, 1) for z in (-1, 1)],
    Kind.OCTAHEDRON: [(s if i == 0 else 0, s if i == 1 else 0, s if i == 2 else 0) for i in range(3) for s in (-1, 1)],
}
"""The corners of solids, in units of their size along each axis; a prism's first size counts for x and y."""


class Parts(NamedTuple):
    """Hold balls, discs and points whose hull is a solid. `disc` marks discs; they lie across the solid's z."""

    centre: Float[Tensor, "*n 8 3"]
    radius: Float[Tensor, "*n 8"]
    disc: Bool[Tensor, "*n 8"]


def extreme_parts(kind: Int[Tensor, "*n"], size: Float[Tensor, "*n 3"]) -> Parts:
    """Give parts whose hull is the solid, some of them several times. An ellipsoid's is a ball around it."""
    centre, radius = _round_parts(kind, size)
    disc = ((kind == Kind.CYLINDER) | (kind == Kind.RING) | (kind == Kind.CONE))[..., None].expand(radius.shape)
    radius = torch.where((kind == Kind.CONE)[..., None] & (centre[..., 2] > 0), 0.0, radius)
    radius = torch.where((kind == Kind.ELLIPSOID)[..., None], size.amax(-1, keepdim=True), radius)
    for own, corners in _CORNERS.items():
        places = size.new_tensor([corners[i % len(corners)] for i in range(8)])
        scale = size[..., (0, 0, 1)] if own is Kind.PRISM else size
        is_own = (kind == own)[..., None]
        centre = torch.where(is_own[..., None], places * scale[..., None, :], centre)
        radius = torch.where(is_own, 0.0, radius)
    return Parts(centre, radius, disc)


def _round_parts(
    kind: Int[Tensor, "*n"], size: Float[Tensor, "*n 3"]
) -> tuple[Float[Tensor, "*n 8 3"], Float[Tensor, "*n 8"]]:
    """Give a box's corners, a middle, or two ends on the axis."""
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], device=size.device)] * 3)
    ends = signs * signs.new_tensor([0.0, 0.0, 1.0])
    is_box, is_centred = kind == Kind.BOX, (kind == Kind.SPHERE) | (kind == Kind.ELLIPSOID)
    on_axis = torch.where(is_centred[..., None, None], 0.0, ends * size[..., None, 1:2])
    centres = torch.where(is_box[..., None, None], signs * size[..., None, :], on_axis)
    radius = torch.where(is_box, 0.0, size[..., 0])
    return centres, radius[..., None].expand(centres.shape[:-1])


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
    return _tangents(m_xx, m_xz, m_zz, (z > 0) & (m_zz > _TINY))


def ellipsoid_outline(
    centre: Float[Tensor, "*n 3"], axes: Float[Tensor, "*n 3 3"]
) -> tuple[Float[Tensor, "*n 4"], Bool[Tensor, "*n"]]:
    """Bound the image of ellipsoids at focal length 1, exactly; `axes` are the half-axes, as columns.

    A plane through the eye with the normal a touches where (a.c)^2 = a^T M a, with M = axes axes^T.

    Convention: OpenCV axes; `(x1, y1, x2, y2)` in x/z and y/z.
    """
    spread = axes @ axes.mT
    xy, z = centre[..., :2], centre[..., 2:]
    m_zz = z * z - spread[..., 2, 2:]
    m_xz = xy * z - spread[..., :2, 2]
    m_xx = xy * xy - torch.diagonal(spread, dim1=-2, dim2=-1)[..., :2]
    return _tangents(m_xx, m_xz, m_zz, (z > 0) & (m_zz > _TINY))


def _tangents(m_xx: Tensor, m_xz: Tensor, m_zz: Tensor, in_front: Tensor) -> tuple[Tensor, Tensor]:
    """Solve m_zz u^2 - 2 m_xz u + m_xx = 0 along x and y."""
    root = (m_xz * m_xz - m_xx * m_zz).clamp(min=0).sqrt()
    safe = torch.where(in_front, m_zz, 1.0)
    return torch.cat([(m_xz - root) / safe, (m_xz + root) / safe], dim=-1), in_front[..., 0]
