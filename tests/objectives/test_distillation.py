"""Distillation: a student learns what its teacher says, and the teacher learns nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from fourd.backbones import dinov2, mean_pixel, video_vit
from fourd.flops import training_flop
from fourd.objectives import distillation, simple_mae
from fourd.objectives._targets import feature_error, on_grid
from fourd.objectives.distillation import DistillationConfig
from fourd.trainer import fit
from fourd.types import Batch, DatasetConfig
from tests.contracts.objective import CHECKS
from tests.noise_clips import ClipsConfig
from tests.objectives.learning import learn, moving_squares
from tests.small_runs import run


def fresh(config: DistillationConfig) -> distillation.Distillation:
    objective = config.build()
    objective.init_weights(torch.Generator().manual_seed(0))
    return objective


def test_a_student_learns_what_its_teacher_says():
    objective, batch = fresh(distillation.tiny()), moving_squares(8)
    before = {name: value.clone() for name, value in objective.teacher.state_dict().items()}
    losses = learn(objective, batch, steps=80)
    assert losses[-1] < 0.3 * losses[0]
    assert objective(batch).scalars["likeness"] > 0.8
    assert all(torch.equal(value, before[name]) for name, value in objective.teacher.state_dict().items())
    assert not any(p.requires_grad for p in objective.teacher.parameters())


def test_a_copy_of_the_teacher_has_nothing_to_learn():
    objective = fresh(replace(distillation.tiny(), normalised_target=False, loss="mse", student_depth=0.95))
    objective.backbone.load_state_dict(objective.teacher.state_dict())
    with torch.no_grad():
        objective.head.weight.copy_(torch.eye(len(objective.head.weight)))
        objective.head.bias.zero_()
    assert objective(moving_squares(2)).loss.item() == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_head_of_two_layers_keeps_the_contract_too(check):
    config = replace(distillation.tiny(), head_width=48)
    check(SimpleNamespace(tiny=lambda: config, tiny_batch=distillation.tiny_batch))


def test_a_head_of_two_layers_learns_and_has_the_width_asked_for():
    objective = fresh(replace(distillation.tiny(), head_width=48))
    assert [tuple(p.shape) for p in objective.head.parameters()] == [(48, 32), (48,), (32, 48), (32,)]
    losses = learn(objective, moving_squares(8), steps=80)
    assert losses[-1] < 0.3 * losses[0]
    assert training_flop(objective.config, moving_squares(2)) > training_flop(distillation.tiny(), moving_squares(2))
    with pytest.raises(ValueError, match=r"head_width is -1: expected 0 \(linear\) or more"):
        replace(distillation.tiny(), head_width=-1)


@pytest.mark.parametrize("teacher", [mean_pixel.tiny(), dinov2.tiny()], ids=["mean_pixel", "dinov2"])
def test_any_backbone_can_teach(teacher):
    objective = fresh(replace(distillation.tiny(), teacher=teacher))
    step = objective(moving_squares(2, size=32))
    assert torch.isfinite(step.loss)
    assert objective.head.out_features == objective._target(moving_squares(2)).shape[-1]


def test_features_go_to_another_grid_by_their_means_or_in_between():
    fine = torch.randn(2, 4, 6, 6, 5, generator=torch.Generator().manual_seed(0))
    coarse = on_grid(fine, (2, 3, 3))
    assert torch.allclose(coarse[:, 0, 0, 0], fine[:, :2, :2, :2].mean((1, 2, 3)), atol=1e-6)
    assert on_grid(fine, (4, 6, 6)) is fine
    even = on_grid(torch.ones(1, 1, 2, 2, 3), (2, 4, 4))
    assert torch.equal(even, torch.ones(1, 2, 4, 4, 3))


def test_errors_are_those_of_their_names():
    prediction, target = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0)).unbind(0)
    assert feature_error(prediction, target, "l1") == F.l1_loss(prediction, target)
    assert feature_error(prediction, prediction * 3, "cosine").item() == pytest.approx(0, abs=1e-6)
    assert feature_error(prediction, -prediction, "cosine").item() == pytest.approx(2)


def films() -> DatasetConfig:
    return ClipsConfig(12, shape=(4, 32, 32))


def test_a_run_takes_its_teacher_from_a_file_and_resumes_bit_for_bit(tmp_path: Path):
    fit(run(simple_mae.tiny(), films(), steps=2), tmp_path / "teacher")
    weights = tmp_path / "teacher/final/model.safetensors"
    config = run(replace(distillation.tiny(), teacher_weights=str(weights)), films(), steps=6, save_every=3)
    whole = fit(config, tmp_path / "whole")
    taught = whole.get_submodule("teacher").state_dict()
    assert all(torch.equal(value, taught[name]) for name, value in load_file(weights).items())
    final = (tmp_path / "whole/final/model.safetensors").read_bytes()
    (tmp_path / "whole/checkpoints/step_00000006").rename(tmp_path / "set_aside")
    fit(config, tmp_path / "whole")
    assert (tmp_path / "whole/final/model.safetensors").read_bytes() == final
    fit(run(simple_mae.tiny(), films(), steps=2, seed=1), tmp_path / "other")
    weights.write_bytes((tmp_path / "other/final/model.safetensors").read_bytes())
    with pytest.raises(ValueError, match=r"inputs\.json belongs to another run: teacher was"):
        fit(config, tmp_path / "whole")


def test_a_teacher_that_is_not_there_is_named_before_a_folder_is_taken(tmp_path: Path):
    config = run(replace(distillation.tiny(), teacher_weights="nowhere.safetensors"), films())
    with pytest.raises(FileNotFoundError, match=r"nowhere\.safetensors"):
        fit(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_batch_of_a_student_is_left_as_it_is():
    batch: Batch = moving_squares(2)
    before = batch.video.clone()
    fresh(distillation.tiny())(batch)
    assert torch.equal(batch.video, before)


def test_the_default_teacher_is_the_published_one():
    config = distillation.base()
    assert (config.teacher, config.backbone) == (video_vit.size_e(), video_vit.base())
