"""Rigid transforms, the pinhole camera, boxes, and the alignment of trajectories.

Pure functions on tensors. In shapes `*batch` stands for any leading axes; in `*#batch` they broadcast.

Convention: transforms are 4x4 and read right to left, `a_from_b @ b_from_c = a_from_c`. Camera axes
are OpenCV's: x right, y down, z forward, and depth is z. Image points are `(x, y)` in continuous
pixels, the origin at the top-left corner of the image, pixel centres at `.5`. Boxes are `xyxy`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

# ----------------------------------------------------------------------------- rigid transforms


def rigid(rotation: Float[Tensor, "*batch 3 3"], translation: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 4 4"]:
    """Build the 4x4 transform that rotates, then translates."""
    top = torch.cat([rotation, translation[..., None]], dim=-1)
    bottom = top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*top.shape[:-2], 1, 4)
    return torch.cat([top, bottom], dim=-2)


def rigid_inverse(a_from_b: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 4 4"]:
    """Invert a rigid transform, exactly and without a linear solve."""
    rotation = a_from_b[..., :3, :3].mT
    translation = -(rotation @ a_from_b[..., :3, 3:])[..., 0]
    return rigid(rotation, translation)


def relative_pose(world_from_camera: Float[Tensor, "*batch T 4 4"]) -> Float[Tensor, "*batch T 4 4"]:
    """Express every camera in the first one: the transforms `camera_0_from_camera_t`.

    Convention: the first is the identity, and the world frame has no say in the result.
    """
    return rigid_inverse(world_from_camera[..., :1, :, :]) @ world_from_camera


def transform_points(
    a_from_b: Float[Tensor, "*#batch 4 4"], points_b: Float[Tensor, "*#batch N 3"]
) -> Float[Tensor, "*#batch N 3"]:
    """Move points from frame b to frame a."""
    return points_b @ a_from_b[..., :3, :3].mT + a_from_b[..., None, :3, 3]


def rotation_angle(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch"]:
    """Measure the angle of a rotation in radians, 0 to pi.

    The arc tangent of sine and cosine is accurate at both ends of the range, where the arc cosine of
    the trace loses half of the digits, or is NaN when rounding takes it past 1.
    """
    skew = rotation - rotation.mT
    axis = torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], dim=-1)
    trace = rotation.diagonal(dim1=-2, dim2=-1).sum(-1)
    return torch.atan2(torch.linalg.vector_norm(axis, dim=-1), trace - 1)


def angle_between(a: Float[Tensor, "*#batch 3"], b: Float[Tensor, "*#batch 3"]) -> Float[Tensor, "*#batch"]:
    """Measure the angle between two directions in radians, 0 to pi; pi / 2 where either is the zero vector.

    A zero vector points nowhere; a right angle keeps it from passing for a perfect answer.
    """
    sine = torch.linalg.vector_norm(torch.linalg.cross(a, b, dim=-1), dim=-1)
    cosine = (a * b).sum(-1)
    has_direction = (a != 0).any(-1) & (b != 0).any(-1)
    return torch.where(has_direction, torch.atan2(sine, cosine), torch.full_like(sine, math.pi / 2))


class _ProjectToSO3(torch.autograd.Function):
    """The nearest rotation, with a gradient that exists where singular values coincide.

    Differentiating through an SVD divides by differences of singular values, and is infinite at the
    identity itself. The rotation depends only on their sums, so the gradient is written out here.
    """

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        u, s, vh = torch.linalg.svd(matrix)
        sign = torch.linalg.det(u @ vh).sign()
        proper = torch.stack([torch.ones_like(sign), torch.ones_like(sign), sign], dim=-1)
        u = u * proper[..., None, :]
        ctx.save_for_backward(u, s * proper, vh)
        return u @ vh

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        u, s, vh = ctx.saved_tensors
        inner = u.mT @ grad @ vh.mT
        sums = s[..., :, None] + s[..., None, :]
        smallest = torch.finfo(s.dtype).eps * s[..., :1, None].clamp(min=1.0)
        return u @ ((inner - inner.mT) / torch.maximum(sums, smallest)) @ vh


def project_to_so3(matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Find the rotation nearest to a matrix (special orthogonal Procrustes).

    Computed in float32, or in float64 if that is what comes in; the answer keeps that type, since a
    rotation rounded to bfloat16 is none. Differentiable, also at a rotation.
    """
    return _ProjectToSO3.apply(matrix.to(torch.promote_types(matrix.dtype, torch.float32)))


# ----------------------------------------------------------------------------- the pinhole camera


def pixel_centres(height: int, width: int, device: torch.device | None = None) -> Float[Tensor, "H W 2"]:
    """Give the `(x, y)` of each pixel's centre: `(0.5, 0.5)` for the top-left one."""
    y, x = torch.meshgrid(
        torch.arange(height, device=device) + 0.5, torch.arange(width, device=device) + 0.5, indexing="ij"
    )
    return torch.stack([x, y], dim=-1)


def project(
    points_camera: Float[Tensor, "*#batch N 3"], intrinsics_px: Float[Tensor, "*#batch 3 3"]
) -> Float[Tensor, "*#batch N 2"]:
    """Project camera points to pixels. A point with z <= 0 has no image: its result means nothing.

    Convention: OpenCV axes; continuous pixels with centres at `.5`.
    """
    homogeneous = points_camera @ intrinsics_px.mT
    return homogeneous[..., :2] / homogeneous[..., 2:]


def unproject(
    xy_px: Float[Tensor, "*#batch N 2"], depth: Float[Tensor, "*#batch N"], intrinsics_px: Float[Tensor, "*#batch 3 3"]
) -> Float[Tensor, "*#batch N 3"]:
    """Lift pixels with a known depth to camera points, in the unit of the depth.

    Convention: depth is the distance along z, not along the ray; pixel centres are at `.5`.
    """
    homogeneous = torch.cat([xy_px, torch.ones_like(xy_px[..., :1])], dim=-1)
    rays = homogeneous @ torch.linalg.inv(intrinsics_px).mT
    return rays * depth[..., None]


# ----------------------------------------------------------------------------- boxes


def box_from_centre_size(
    centre: Float[Tensor, "*batch 2"], size: Float[Tensor, "*batch 2"]
) -> Float[Tensor, "*batch 4"]:
    """Turn centre and (width, height) into `xyxy`."""
    return torch.cat([centre - size / 2, centre + size / 2], dim=-1)


def box_area(xyxy: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch"]:
    """Measure the area of boxes; a box whose corners are swapped has none."""
    return (xyxy[..., 2:] - xyxy[..., :2]).clamp(min=0).prod(-1)


def box_iou(a: Float[Tensor, "*#batch 4"], b: Float[Tensor, "*#batch 4"]) -> Float[Tensor, "*#batch"]:
    """Divide the intersection by the union, box by box (not all pairs); 0 where the union is empty."""
    intersection, union = _intersection_and_union(a, b)
    return _ratio(intersection, union)


def generalised_box_iou(a: Float[Tensor, "*#batch 4"], b: Float[Tensor, "*#batch 4"]) -> Float[Tensor, "*#batch"]:
    """Lower the IoU by the share of the hull that neither box covers: -1 (far apart) to 1 (equal).

    Convention: corners in order, `x1 <= x2` and `y1 <= y2`.
    Source: Rezatofighi et al., Generalized Intersection over Union (CVPR 2019).
    """
    intersection, union = _intersection_and_union(a, b)
    hull = torch.cat([torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:])], dim=-1)
    hull_area = box_area(hull)
    return _ratio(intersection, union) - _ratio(hull_area - union, hull_area)


def _intersection_and_union(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    common = torch.cat([torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])], dim=-1)
    intersection = box_area(common)
    return intersection, box_area(a) + box_area(b) - intersection


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Divide; 0 where there is nothing to divide by, in the gradient too."""
    something = whole > 0
    return torch.where(something, part / torch.where(something, whole, 1), 0)


# ----------------------------------------------------------------------------- alignment


@dataclass(frozen=True)
class Similarity:
    """Hold `target = scale * rotation @ source + translation`."""

    scale: Float[Tensor, "*batch"]
    rotation: Float[Tensor, "*batch 3 3"]
    translation: Float[Tensor, "*batch 3"]

    def move_points(self, points: Float[Tensor, "*batch N 3"]) -> Float[Tensor, "*batch N 3"]:
        """Move points from the source to the target."""
        scaled = self.scale[..., None, None] * points
        return scaled @ self.rotation.mT + self.translation[..., None, :]

    def move_poses(self, world_from_camera: Float[Tensor, "*batch N 4 4"]) -> Float[Tensor, "*batch N 4 4"]:
        """Move cameras from the source to the target; they turn with the world and keep their size."""
        rotation = self.rotation[..., None, :, :] @ world_from_camera[..., :3, :3]
        return rigid(rotation, self.move_points(world_from_camera[..., :3, 3]))


def umeyama(
    source: Float[Tensor, "*batch N 3"],
    target: Float[Tensor, "*batch N 3"],
    valid: Bool[Tensor, "*batch N"],
    with_scale: bool,
) -> Similarity:
    """Find the similarity (or rigid, scale 1) transform that takes points nearest to their targets.

    Where no point is valid or all sources coincide, no scale is better than another, and it is 1. On
    a straight line one of the equally good rotations is taken.
    Source: Umeyama, Least-squares estimation of transformation parameters (TPAMI 1991).
    """
    weight = valid[..., None].to(source.dtype)
    weight = weight / weight.sum(-2, keepdim=True).clamp(min=1)
    source, target = (torch.where(valid[..., None], points, 0) for points in (source, target))
    source_mean, target_mean = ((weight * points).sum(-2, keepdim=True) for points in (source, target))
    covariance = ((target - target_mean) * weight).mT @ (source - source_mean)
    rotation = project_to_so3(covariance)
    scale = torch.ones_like(covariance[..., 0, 0])
    if with_scale:
        spread = (weight * (source - source_mean).square()).sum((-2, -1))
        overlap = (rotation * covariance).sum((-2, -1))
        scale = torch.where(spread > 0, overlap / torch.where(spread > 0, spread, 1), 1)
    translation = target_mean - scale[..., None, None] * source_mean @ rotation.mT
    return Similarity(scale, rotation, translation[..., 0, :])
