"""Rigid transforms, camera, boxes and alignment against identities, closed forms and finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fourd import geometry

F64 = torch.float64


def about_z(angle: float) -> torch.Tensor:
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]], dtype=F64)


def random_poses(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    rotation = geometry.project_to_so3(torch.randn(*shape, 3, 3, generator=generator, dtype=F64))
    return geometry.rigid(rotation, torch.randn(*shape, 3, generator=generator, dtype=F64))


def test_rigid_inverse_undoes_the_transform():
    pose = random_poses(2, 5)
    torch.testing.assert_close(geometry.rigid_inverse(pose) @ pose, torch.eye(4, dtype=F64).expand(2, 5, 4, 4))


def test_relative_pose_starts_at_the_identity_and_forgets_the_world():
    poses, other_world = random_poses(2, 5), random_poses(2, 1, seed=1)
    relative = geometry.relative_pose(poses)
    torch.testing.assert_close(relative[:, 0], torch.eye(4, dtype=F64).expand(2, 4, 4))
    torch.testing.assert_close(relative, geometry.relative_pose(other_world @ poses))


def test_relative_pose_takes_points_of_camera_t_to_camera_0():
    poses, world = random_poses(5), torch.randn(7, 3, dtype=F64)
    cameras = geometry.transform_points(geometry.rigid_inverse(poses), world.expand(5, 7, 3))
    in_first = geometry.transform_points(geometry.relative_pose(poses), cameras)
    torch.testing.assert_close(in_first, cameras[:1].expand(5, 7, 3))


def test_transform_points_is_the_homogeneous_product():
    pose, point = random_poses(3), torch.randn(3, 1, 3, dtype=F64)
    expected = (pose @ torch.cat([point[:, 0], torch.ones(3, 1, dtype=F64)], -1)[..., None])[:, :3, 0]
    torch.testing.assert_close(geometry.transform_points(pose, point)[:, 0], expected)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 0.5, math.pi / 2, 3.0, math.pi - 1e-9, math.pi])
def test_rotation_angle_is_accurate_everywhere(angle: float):
    tilt = random_poses(1)[0, :3, :3]
    measured = geometry.rotation_angle(tilt @ about_z(angle) @ tilt.mT)
    assert measured.item() == pytest.approx(angle, abs=1e-14)


def test_rotation_angle_of_float32_rounding_noise_is_small_and_finite():
    rotation = random_poses(1000)[:, :3, :3].float()
    angle = geometry.rotation_angle(rotation.mT @ rotation)
    assert angle.isfinite().all()
    assert angle.max() < 1e-6


@pytest.mark.parametrize(
    ("b", "degrees"), [((2.0, 0, 0), 0), ((0, 3.0, 0), 90), ((-1e-3, 0, 0), 180), ((0.0, 0, 0), 90)]
)
def test_angle_between_directions(b: tuple[float, float, float], degrees: float):
    angle = geometry.angle_between(torch.tensor([1.0, 0, 0]), torch.tensor(b))
    assert angle.rad2deg().item() == pytest.approx(degrees, abs=1e-5)


@given(st.integers(0, 10**6))
def test_projection_gives_the_nearest_rotation(seed: int):
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(3, 3, generator=generator, dtype=F64)
    rotation = geometry.project_to_so3(matrix)
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3, dtype=F64))
    assert torch.linalg.det(rotation).item() == pytest.approx(1)
    others = random_poses(100, seed=seed)[:, :3, :3]
    assert ((matrix - rotation).norm() <= (matrix - others).flatten(1).norm(dim=1) + 1e-12).all()


def test_projection_keeps_rotations_and_mends_reflections():
    rotation = random_poses(8)[:, :3, :3]
    torch.testing.assert_close(geometry.project_to_so3(rotation), rotation)
    mended = geometry.project_to_so3(torch.diag(torch.tensor([3.0, 2.0, -1.0])))
    torch.testing.assert_close(mended, torch.eye(3))


def test_projection_computes_in_float32_at_least():
    assert geometry.project_to_so3(torch.eye(3, dtype=torch.bfloat16)).dtype == torch.float32
    assert geometry.project_to_so3(torch.eye(3, dtype=F64)).dtype == F64


def test_projection_gradient_matches_finite_differences():
    generator = torch.Generator().manual_seed(3)
    matrix = torch.randn(6, 3, 3, generator=generator, dtype=F64, requires_grad=True)  # dets of both signs
    assert (torch.linalg.det(matrix) < 0).any()
    assert (torch.linalg.det(matrix) > 0).any()
    assert torch.autograd.gradcheck(geometry.project_to_so3, (matrix,))


@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0])
def test_projection_gradient_exists_where_singular_values_coincide(scale: float):
    matrix = (scale * torch.eye(3)).requires_grad_()
    geometry.project_to_so3(matrix)[0, 1].backward()
    assert matrix.grad.isfinite().all()
    assert matrix.grad[0, 1] > 0


def test_pixel_centres_are_at_half():
    centres = geometry.pixel_centres(2, 3)
    assert centres.shape == (2, 3, 2)
    assert centres[0, 0].tolist() == [0.5, 0.5]
    assert centres[1, 2].tolist() == [2.5, 1.5]


def test_project_follows_opencv_axes():
    intrinsics = torch.tensor([[100.0, 0, 32], [0, 200, 24], [0, 0, 1]])
    right_and_down = torch.tensor([[0.0, 0, 2], [1, 0, 2], [0, 1, 2]])
    assert geometry.project(right_and_down, intrinsics).tolist() == [[32, 24], [82, 24], [32, 124]]


def test_unproject_inverts_project_and_depth_is_z():
    intrinsics = torch.tensor([[90.0, 0.5, 33], [0, 110, 20], [0, 0, 1]], dtype=F64)
    xy, depth = geometry.pixel_centres(4, 5).reshape(-1, 2).to(F64), torch.linspace(1, 9, 20, dtype=F64)
    points = geometry.unproject(xy, depth, intrinsics)
    torch.testing.assert_close(points[:, 2], depth)
    torch.testing.assert_close(geometry.project(points, intrinsics), xy)


def test_box_from_centre_size():
    box = geometry.box_from_centre_size(torch.tensor([10.0, 20.0]), torch.tensor([4.0, 6.0]))
    assert box.tolist() == [8, 17, 12, 23]


@pytest.mark.parametrize(
    ("a", "b", "iou", "giou"),
    [
        ((0, 0, 2, 2), (0, 0, 2, 2), 1, 1),
        ((0, 0, 2, 2), (1, 1, 3, 3), 1 / 7, 1 / 7 - 2 / 9),
        ((0, 0, 1, 1), (3, 0, 4, 1), 0, -1 / 2),
        ((0, 0, 4, 2), (0, 0, 2, 2), 1 / 2, 1 / 2),
        ((1, 1, 1, 1), (1, 1, 1, 1), 0, 0),
    ],
)
def test_box_overlap(a: tuple[int, ...], b: tuple[int, ...], iou: float, giou: float):
    a_box, b_box = torch.tensor(a, dtype=F64), torch.tensor(b, dtype=F64)
    assert geometry.box_iou(a_box, b_box).item() == pytest.approx(iou)
    assert geometry.generalised_box_iou(a_box, b_box).item() == pytest.approx(giou)


def test_swapped_corners_have_no_area():
    assert geometry.box_area(torch.tensor([2.0, 0, 1, 5])).item() == 0


def test_generalised_iou_pulls_distant_boxes_together():
    box = torch.tensor([5.0, 0, 6, 1], requires_grad=True)
    geometry.generalised_box_iou(box, torch.tensor([0.0, 0, 1, 1])).backward()
    assert box.grad[0] < 0


@pytest.mark.parametrize("with_scale", [True, False])
def test_umeyama_recovers_the_transform_from_the_valid_points(with_scale: bool):
    generator = torch.Generator().manual_seed(0)
    source = torch.randn(4, 10, 3, generator=generator, dtype=F64)
    pose = random_poses(4, seed=1)
    scale = torch.tensor([0.5, 1, 2, 7], dtype=F64) if with_scale else torch.ones(4, dtype=F64)
    target = scale[:, None, None] * geometry.transform_points(pose, source)
    target = target + (1 - scale)[:, None, None] * pose[:, None, :3, 3]
    valid = torch.ones(4, 10, dtype=torch.bool)
    valid[:, 7:] = False
    target[:, 7:] = torch.nan
    found = geometry.umeyama(source, target, valid, with_scale)
    torch.testing.assert_close(found.scale, scale)
    torch.testing.assert_close(found.rotation, pose[:, :3, :3])
    torch.testing.assert_close(found.move_points(source)[:, :7], target[:, :7])


def test_umeyama_never_mirrors():
    source = torch.randn(1, 20, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    mirror = torch.tensor([1.0, 1, -1], dtype=F64)
    found = geometry.umeyama(source, source * mirror, torch.ones(1, 20, dtype=torch.bool), True)
    assert torch.linalg.det(found.rotation).item() == pytest.approx(1)


def test_umeyama_of_a_single_place_moves_it_and_keeps_the_scale():
    source, target = torch.zeros(1, 5, 3), torch.ones(1, 5, 3)
    found = geometry.umeyama(source, target, torch.ones(1, 5, dtype=torch.bool), True)
    assert found.scale.item() == 1
    torch.testing.assert_close(found.move_points(source), target)
