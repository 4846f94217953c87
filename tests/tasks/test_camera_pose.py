"""Camera pose: the last camera in the first one's frame."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fourd.geometry import rigid
from fourd.tasks import camera_pose
from fourd.tasks.camera_pose import as_pose, first_from_last
from fourd.types import CameraPoses, NoQuery, TaskSample
from tests.tasks.learning import gradients, learn, values

CLIP, SAMPLE = camera_pose.tiny_sample()
TASK = camera_pose.tiny().build()
TARGET: CameraPoses = SAMPLE.target


def truth() -> torch.Tensor:
    return first_from_last(TARGET)[:, :3]


def test_the_truth_is_perfect():
    assert all(value.abs().max() < 0.1 for value in values(TASK, truth(), SAMPLE).values())
    assert values(TASK, truth(), SAMPLE)["pose_epe"].max() < 1e-4
    assert float(TASK.loss(truth(), TARGET).loss) < 1e-10


def test_the_frame_of_the_first_camera_is_what_counts():
    """Moving the whole world changes neither loss nor scores."""
    angle = torch.tensor(0.7)
    turn = torch.tensor([[angle.cos(), -angle.sin(), 0], [angle.sin(), angle.cos(), 0], [0, 0, 1]])
    moved = replace(TARGET, world_from_camera=rigid(turn, torch.tensor([3.0, -1, 2])) @ TARGET.world_from_camera)
    torch.testing.assert_close(first_from_last(moved), first_from_last(TARGET))


def test_a_camera_that_goes_forward_is_ahead_of_its_first_place():
    poses = torch.eye(4).repeat(1, 3, 1, 1)
    poses[0, :, 2, 3] = torch.tensor([5.0, 6.0, 7.0])
    found = first_from_last(CameraPoses(poses, torch.eye(3)[None]))
    assert torch.equal(found[0, :3, 3], torch.tensor([0.0, 0.0, 2.0]))


def test_numbers_become_a_rigid_motion():
    pose = as_pose(truth() + 0.1 * torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)))
    rotation = pose[:, :3, :3]
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand(2, -1, -1), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(2))


def test_the_loss_is_a_mean_square_with_a_finite_gradient():
    loss, (gradient,) = gradients(TASK, truth() + 0.5, TARGET)
    assert float(loss) == pytest.approx(0.25, rel=1e-4)
    assert gradient.isfinite().all()


def test_controls_do_what_their_names_say():
    controls = TASK.fit_controls([SAMPLE])
    still = controls["nothing_moves"](NoQuery(), CLIP, 3)
    assert torch.equal(still, torch.eye(4)[:3].expand(3, -1, -1))
    torch.testing.assert_close(controls["mean_answer"](NoQuery(), CLIP, 1)[0], truth().mean(0))
    nothing = replace(TARGET, world_from_camera=torch.eye(4).repeat(2, 4, 1, 1))
    assert values(TASK, still[:2], TaskSample(NoQuery(), nothing))["pose_epe"].max() < 1e-5


@pytest.mark.parametrize("kind", ["attention", "linear"])
def test_two_clips_can_be_learned_by_heart(kind):
    first, last, answer = learn(TASK, CLIP, SAMPLE, kind)
    assert last < first / 50
    assert values(TASK, answer, SAMPLE)["rotation_error_deg"].max() < 5
