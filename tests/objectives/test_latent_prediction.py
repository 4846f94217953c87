"""Latent prediction: the average follows, a frozen teacher stays, and features do not collapse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from fourd.backbones import mean_pixel
from fourd.masks import hidden_tokens
from fourd.objectives import latent_prediction
from fourd.objectives._native import through_all_blocks
from fourd.objectives.latent_prediction import LatentPrediction, LatentPredictionConfig
from fourd.trainer import fit
from tests.contracts.objective import CHECKS
from tests.noise_clips import ClipsConfig
from tests.objectives.learning import deviation, moving_squares
from tests.small_runs import run


def fresh(config: LatentPredictionConfig | None = None) -> LatentPrediction:
    objective = (config or latent_prediction.tiny()).build()
    objective.init_weights(torch.Generator().manual_seed(0))
    objective.begin()
    return objective


def train(objective: LatentPrediction, steps: int) -> list[float]:
    batch = moving_squares(16)
    optimizer = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for step in range(steps):
        loss = objective(batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        objective.after_step((step + 1) / steps, torch.ones(()))
        losses.append(float(loss.detach()))
    return losses


def test_the_loss_falls_and_features_do_not_collapse():
    objective = fresh(replace(latent_prediction.tiny(), momentum=0.98))
    losses = train(objective, 80)
    assert losses[-1] < 0.7 * losses[0]
    assert deviation(objective.backbone, moving_squares(16).video) > 0.1
    assert objective(moving_squares(16)).scalars["target_std"] > 0.01


def test_the_average_is_the_one_computed_by_hand():
    objective = fresh(replace(latent_prediction.tiny(), momentum=0.9, end_momentum=0.5))
    teacher, student = (part.get_parameter("positions") for part in (objective.teacher, objective.backbone))
    assert torch.equal(teacher, student)
    expected = teacher.clone()
    for done in (0.25, 0.5):
        with torch.no_grad():
            student.add_(1.0)
        objective.after_step(done, torch.ones(()))
        kept = 0.9 + (0.5 - 0.9) * done
        expected = kept * expected + (1 - kept) * student
        torch.testing.assert_close(teacher, expected)


def test_hidden_places_are_predicted_in_their_order():
    objective = fresh()
    batch = moving_squares(2)
    with torch.no_grad():
        objective.predictor.head.weight.zero_()
        objective.predictor.head.bias.zero_()
    visible = objective.mask.visible(batch.seed, objective.backbone.grid)
    hidden = hidden_tokens(visible, objective.backbone.num_tokens)
    told = through_all_blocks(objective.teacher, batch.video)
    target = torch.stack([F.layer_norm(told[clip, hidden[clip]], told.shape[-1:]) for clip in range(2)])
    assert objective(batch).loss.item() == pytest.approx(float(target.abs().mean()), rel=1e-5)


def test_a_frozen_teacher_never_moves_and_may_be_of_another_kind():
    objective = fresh(replace(latent_prediction.tiny(), teacher="frozen", teacher_backbone=mean_pixel.tiny()))
    before = {name: value.clone() for name, value in objective.teacher.state_dict().items()}
    losses = train(objective, 30)
    assert losses[-1] < losses[0]
    assert all(torch.equal(value, before[name]) for name, value in objective.teacher.state_dict().items())


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_frozen_teacher_keeps_the_contract_too(check):
    config = replace(latent_prediction.tiny(), teacher="frozen")
    check(SimpleNamespace(tiny=lambda: config, tiny_batch=latent_prediction.tiny_batch))


def test_an_average_with_weights_of_its_own_is_refused():
    with pytest.raises(ValueError, match="teacher is average: it has the student's backbone"):
        replace(latent_prediction.tiny(), teacher_weights="a.safetensors").build()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_goes_on_bit_for_bit_with_its_average(tmp_path: Path, precision: str):
    config = run(
        latent_prediction.tiny(), ClipsConfig(12, shape=(4, 32, 32)), steps=6, save_every=3, precision=precision
    )
    whole = fit(config, tmp_path / "whole")
    state = {name: value.clone() for name, value in whole.state_dict().items()}
    (tmp_path / "whole/checkpoints/step_00000006").rename(tmp_path / "set_aside")
    again = fit(config, tmp_path / "whole")
    assert again is not whole
    assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())
    assert not torch.equal(state["teacher.positions"], state["backbone.positions"])
