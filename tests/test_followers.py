"""Parts that training moves without a gradient: how they start, stay where a step is skipped, and go on."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from fourd.trainer import fit
from tests.small_runs import Averaged, AveragedConfig, run


def trained(config: AveragedConfig, out: Path, steps: int = 8, **changes: object) -> Averaged:
    objective = fit(run(config, steps=steps, **changes), out)
    assert isinstance(objective, Averaged)
    return objective


def test_followers_go_on_from_a_checkpoint_as_if_nothing_had_happened(tmp_path: Path):
    whole = trained(AveragedConfig(), tmp_path)
    final = {name: value.clone() for name, value in whole.state_dict().items()}
    (tmp_path / "checkpoints/step_00000008").rename(tmp_path / "newest")
    resumed = trained(AveragedConfig(), tmp_path)
    assert resumed.dtypes, "no step was taken again"
    for name, value in resumed.state_dict().items():
        assert torch.equal(value, final[name]), name
    assert not torch.equal(final["average.weight"], final["backbone.weight"])


def test_followers_stay_where_a_step_is_skipped(tmp_path: Path):
    moved = trained(AveragedConfig(poisoned=("clip-3",), poisoned_times=1), tmp_path, steps=4)
    assert moved.times_left == 0, "the poisoned clip was never met"
    assert moved.moves.item() == 3


def test_a_fresh_run_begins_with_followers_in_line_with_the_weights_given_to_it(tmp_path: Path):
    trained(AveragedConfig(), tmp_path / "first", steps=2)
    init = tmp_path / "first/final/model.safetensors"
    objective = trained(AveragedConfig(), tmp_path / "second", steps=1, init=str(init))
    given = load_file(init)
    for name, value in objective.backbone.named_parameters():
        assert not torch.equal(value, given[name]), "nothing was learned"
        torch.testing.assert_close(objective.average.get_parameter(name), (given[name] + value.detach()) / 2)
