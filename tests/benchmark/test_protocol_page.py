"""The example of docs/protocol.md works as it stands: a dataset of one's own, measured from the command line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fourd import results
from fourd.recipes import suites

PAGE = Path(__file__).parents[2] / "docs" / "protocol.md"
FILES = dict(re.findall(r"^```python\n# (my_lab/\S+\.py)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL))


def roll(path: Path, start: int) -> None:
    """Write a film of eight frames in which a bright marble goes to the right."""
    video = np.full((8, 40, 56, 3), 60, np.uint8)
    boxes = np.zeros((1, 8, 4), np.float32)
    for frame in range(8):
        left = start + 2 * frame
        video[frame, 10:22, left : left + 14] = (250, 200, 20)
        boxes[0, frame] = (left, 10, left + 14, 22)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, video=video, boxes=boxes)


def fourd(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder)}
    command = [sys.executable, "-m", "fourd", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    assert set(FILES) == {"my_lab/datasets/marbles.py", "my_lab/suites.py"}
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for number in range(24):
        roll(tmp_path / "data" / "marbles" / "train" / f"film{number:02}.npz", number % 20)
    for number in range(5):
        roll(tmp_path / "data" / "marbles" / "test" / f"film{number:02}.npz", 3 * number)
    (tmp_path / "data" / "marbles" / "test" / "torn.npz").write_bytes(b"PK\x03\x04 and no more")
    return tmp_path


def test_a_dataset_of_ones_own_is_measured(lab: Path):
    ran = fourd(
        lab,
        *("evaluate", "--suite", "my_lab.suites:rolling", "--data", "data", "--out", "out"),
        *("--backbones", "mean_pixel:tiny", "video_vit:tiny"),
    )
    assert ran.returncode == 0, ran.stderr
    rows = results.read_rows(lab / "out" / "rows.parquet")
    own = results.select(
        rows.table, backbone="video_vit:tiny", weights="random", readout="attention", metric="mean_iou"
    )
    assert sorted(set(own["clip"].to_pylist())) == sorted(
        f"marbles/film{film:02}/{clip}" for film in range(5) for clip in range(2)
    )
    assert 0 < results.mean(own).weighted_mean < 1
    assert "torn.npz" in (lab / "out" / "unreadable.csv").read_text() + ran.stdout + ran.stderr
    assert "| video_vit:tiny, random weights |" in (lab / "out" / "table.md").read_text()
    assert "Where does each marble roll?" in (lab / "out" / "report.html").read_text()
    (pictures,) = (lab / "out" / "pictures").glob("*/pictures.json")
    assert {item["entry"] for item in json.loads(pictures.read_text())} == {"marbles"}


def test_every_constant_of_the_page_is_that_of_the_code():
    page = PAGE.read_text()
    assert f"{suites.STEPS:,} steps of {suites.BATCH} clips" in page
    assert "3e-4 x {0.3, 1, 3}" in page
    assert (suites.OPTIM.learning_rate, suites.RATES) == (3e-4, (0.3, 1.0, 3.0))
    assert f"backbone at {suites.OPTIM.backbone_multiplier} of the readout's rate" in page
    assert f"| depth of features, frozen and finetuned | {suites.DEPTH_OF_FEATURES} |" in page
    assert f"from {suites.toy_four_d().num_control_clips} training clips" in page
    toy = suites.toy_four_d().exams[0]
    assert f"{toy.frozen.steps} steps of {toy.frozen.batch_size} clips\nat 3e-3 ({toy.finetuned.steps} at 1e-3" in page
    assert f"{toy.train.num_clips:,} to learn from, {toy.choose.num_clips} to choose by" in page  # type: ignore[attr-defined, union-attr]


@pytest.mark.parametrize("suite", [suites.four_d, suites.open_four_d, suites.toy_four_d])
def test_every_exam_is_described(suite):
    described = suite()
    page = PAGE.read_text()
    assert f"## `{described.name}`, version {described.version}" in page or f"`{described.name}`, version" in page
    if described.name == "four_d":
        assert [f"| `{exam.name}` |" in page for exam in described.exams] == [True] * len(described.exams)
    assert described.fingerprint == suite().fingerprint
