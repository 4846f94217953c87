"""A checkpoint is whole or it is not used; what is restored is what was saved, to the bit."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException

from fourd import checkpoint
from fourd.checkpoint import Saver, state_of
from fourd.optim import OptimConfig, build_optimizer
from fourd.parallel import Ranks
from tests.small_runs import LineConfig

ALONE = Ranks(0, 1, 1, torch.device("cpu"))
X = torch.linspace(-1, 1, 96 * 4).reshape(4, 96)


class Trained:
    """Hold a small network with its optimiser; one of its parameters never has a gradient."""

    def __init__(self, seed: int = 0) -> None:
        self.module: nn.Module = LineConfig().build()
        self.module.init_weights(torch.Generator().manual_seed(seed))
        self.optimizer = build_optimizer(self.module, OptimConfig(learning_rate=0.01))

    def step(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.module.head(self.module.backbone(X).relu()).square().sum().backward()
        self.optimizer.step()

    def state(self) -> dict[str, torch.Tensor]:
        """List every number of the network and of the optimiser by name."""
        state = dict(self.module.state_dict())
        for name, parameter in self.module.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                state[f"{name}/{key}"] = value
        return {name: value.clone() for name, value in state.items()}


def save(directory: Path, step: int, trained: Trained) -> None:
    with Saver(directory, ALONE) as saver:
        saver.save(step, state_of(trained.module, trained.optimizer), {})


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def three(tmp_path: Path) -> dict[int, dict[str, torch.Tensor]]:
    """Save after the first three steps, keeping two."""
    trained, states = Trained(), {}
    for step in (1, 2, 3):
        trained.step()
        save(tmp_path, step, trained)
        states[step] = trained.state()
    return states


def restored(directory: Path) -> tuple[Trained, int]:
    found = checkpoint.newest(directory, ALONE)
    assert found is not None
    trained = Trained(seed=1)
    checkpoint.restore(found.path, trained.module, trained.optimizer, ALONE)
    return trained, found.step


def test_the_two_newest_are_kept(three, tmp_path):
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000002", "step_00000003"]


def test_nothing_saved_is_nothing_found(tmp_path):
    assert checkpoint.newest(tmp_path, ALONE) is None
    assert checkpoint.newest(tmp_path / "missing", ALONE) is None


def test_weights_moments_and_counts_come_back_and_go_on_alike(three, tmp_path):
    trained, step = restored(tmp_path)
    assert step == 3
    assert_same(trained.state(), three[3])
    assert {float(value) for name, value in trained.state().items() if name.endswith("/step")} == {3.0}
    assert not [name for name in trained.state() if name.startswith("unused/")]
    never_stopped = Trained()
    for _ in range(4):
        never_stopped.step()
    trained.step()
    assert_same(trained.state(), never_stopped.state())


def test_ctrl_c_while_a_checkpoint_is_read_stays_what_it_is(three, tmp_path, monkeypatch):
    """Torch takes it for a failure of reading, which a user would see as a traceback."""

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(dcp.FileSystemReader, "read_data", interrupted)
    with pytest.raises(KeyboardInterrupt):
        restored(tmp_path)


def test_hyperparameters_of_the_groups_come_back(three, tmp_path):
    trained, _ = restored(tmp_path)
    fresh = [{k: v for k, v in group.items() if k != "params"} for group in Trained().optimizer.param_groups]
    assert [{k: v for k, v in group.items() if k != "params"} for group in trained.optimizer.param_groups] == fresh


FILES = ["manifest.json", ".metadata", "__0_0.distcp"]


def test_the_files_of_a_checkpoint_are_those_that_are_spoiled_below(three, tmp_path):
    assert sorted(path.name for path in (tmp_path / "step_00000003").iterdir()) == sorted(FILES)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0.0, 0.06, 0.5, 0.95])
def test_one_flipped_byte_leads_to_the_one_before(three, tmp_path, caplog, name, place):
    path = tmp_path / "step_00000003" / name
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 0x81
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        trained, step = restored(tmp_path)
    assert step == 2
    assert_same(trained.state(), three[2])
    assert "step_00000003 is damaged" in caplog.text


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_leads_to_the_one_before(three, tmp_path, caplog, name):
    (tmp_path / "step_00000003" / name).unlink()
    assert restored(tmp_path)[1] == 2
    assert f"{name} is missing" in caplog.text or f"no {name}" in caplog.text


def test_a_wrong_step_in_the_manifest_is_noticed(three, tmp_path):
    path = tmp_path / "step_00000003/manifest.json"
    path.write_text(path.read_text().replace('"step": 3', '"step": 7'))
    assert restored(tmp_path)[1] == 2


def test_nothing_starts_over_when_all_are_damaged(three, tmp_path):
    for path in tmp_path.iterdir():
        (path / "manifest.json").unlink()
    with pytest.raises(ValueError, match="every checkpoint in"):
        checkpoint.newest(tmp_path, ALONE)


def test_what_is_damaged_is_set_aside_and_counts_no_more(three, tmp_path, caplog):
    (tmp_path / "step_00000009").mkdir(mode=0o700)
    assert restored(tmp_path)[1] == 3
    assert (tmp_path / "damaged_step_00000009").is_dir()
    caplog.clear()
    assert restored(tmp_path)[1] == 3
    assert "is damaged" not in caplog.text


def test_a_torn_folder_is_ignored_and_then_replaced(three, tmp_path):
    torn = tmp_path / ".step_00000004.tmp"
    torn.mkdir()
    (torn / "__0_0.distcp").write_bytes(b"half")
    trained, step = restored(tmp_path)
    assert step == 3
    trained.step()
    save(tmp_path, 4, trained)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000003", "step_00000004"]
    assert_same(restored(tmp_path)[0].state(), trained.state())


def test_a_damaged_checkpoint_is_written_again_at_its_step(three, tmp_path):
    (tmp_path / "step_00000003/manifest.json").unlink()
    trained, _ = restored(tmp_path)
    trained.step()
    save(tmp_path, 3, trained)
    again, step = restored(tmp_path)
    assert step == 3
    assert_same(again.state(), three[3])


def test_a_network_of_another_shape_is_refused(three, tmp_path):
    other = Trained()
    other.module.head = nn.Linear(8, 3)
    other.optimizer = build_optimizer(other.module, OptimConfig())
    with pytest.raises(CheckpointException, match=r"(?i)size"):
        checkpoint.restore(tmp_path / "step_00000003", other.module, other.optimizer, ALONE)
