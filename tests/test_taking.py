"""What is checked before a run takes its folder, and what it finds there."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from fourd import run_folder
from fourd.parallel import ParallelConfig
from fourd.trainer import fit, stopping
from tests.small_runs import run


def test_a_second_run_is_kept_out_of_a_folder(tmp_path: Path):
    with run_folder.alone_in(tmp_path), pytest.raises(ValueError, match=r"process \d+ on .* is at work in"):
        fit(run(), tmp_path)
    assert not (tmp_path / "metrics.jsonl").exists()
    fit(run(), tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parallel": ParallelConfig(shard=3)}, "parallel.shard is 3 and there is one process alone"),
        ({"parallel": ParallelConfig(parts=5)}, "a step has 4 clips, fewer than .* --batch-size 5"),
        ({"parallel": ParallelConfig(parts=3), "repeat": 2}, r"2 clips \(--batch-size 4 by --repeat 2\).* 6 or more"),
    ],
)
def test_a_layout_that_cannot_be_takes_no_folder(tmp_path: Path, changes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        fit(replace(run(), **changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_that_got_nowhere_gives_way_to_a_corrected_one(tmp_path: Path):
    run_folder.claim(tmp_path, run(steps=3))
    fit(run(steps=2), tmp_path)
    with pytest.raises(ValueError, match=r"steps was 2 and is 3.*--init .*final/model\.safetensors"):
        fit(run(steps=3), tmp_path)


def test_a_damaged_config_is_named_with_the_way_out(tmp_path: Path):
    fit(run(steps=2), tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is damaged .*delete it"):
        fit(run(steps=2), tmp_path)
    (tmp_path / "config.json").unlink()
    fit(run(steps=2), tmp_path)


def test_weights_to_start_from_cannot_be_changed_on_the_way(tmp_path: Path):
    fit(run(steps=2, seed=1), tmp_path / "other")
    fit(run(steps=4), tmp_path / "one")
    weights = str(tmp_path / "other/final/model.safetensors")
    with pytest.raises(ValueError, match=r"inputs\.json belongs to another run: init was"):
        fit(replace(run(steps=4), init=weights), tmp_path / "one")
    assert '"init": ""' in (tmp_path / "one/config.json").read_text()


def test_a_request_to_stop_that_is_there_at_the_start_is_obeyed(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(stopping, "LOOK_EVERY_S", -1.0)
    (tmp_path / "stop").touch()
    with pytest.raises(stopping.Requeue):
        fit(run(), tmp_path)
    assert not (tmp_path / "stop").exists()
    fit(run(), tmp_path)
    assert not (tmp_path / "requeue").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"--out /proc/fourd cannot be made"):
        fit(run(), Path("/proc/fourd"))


def test_lines_that_are_lost_are_told(tmp_path: Path, caplog):
    fit(run(), tmp_path)
    ledger = tmp_path / "ledger.jsonl"
    ledger.write_text("".join(ledger.read_text().splitlines(keepends=True)[:3]))
    fit(run(), tmp_path)
    assert "ledger.jsonl ends with step 3: the lines of steps up to 8 are lost" in caplog.text


def test_a_checkpoint_under_the_name_of_another_step_is_set_aside(tmp_path: Path):
    fit(run(), tmp_path)
    before = (tmp_path / "final/model.safetensors").read_bytes()
    shutil.copytree(tmp_path / "checkpoints/step_00000006", tmp_path / "checkpoints/step_00000050")
    (tmp_path / "checkpoints/step_00000050").chmod(0o700)
    fit(run(), tmp_path)
    assert (tmp_path / "final/model.safetensors").read_bytes() == before
    assert (tmp_path / "checkpoints/damaged_step_00000050").exists()
