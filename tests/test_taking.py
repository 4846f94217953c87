"""What is checked before a run takes its folder, and what it finds there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fourd import run_folder
from fourd.parallel import ParallelConfig
from fourd.trainer import fit
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
