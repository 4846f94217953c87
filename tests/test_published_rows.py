"""What the README says of our own rows is what the rows say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fourd.report.summary import comparisons, entries, seeds_of
from fourd.results import read_rows

ROOT = Path(__file__).parents[1]
HEADLINES = {"point_tracking": "point_distance_px"}
CLAIMED = ("depth", "point_tracking", "box_tracking", "camera_pose", "camera_motion", "object_motion")


@pytest.fixture(scope="module")
def rows():
    return read_rows(ROOT / "results" / "demo_seeds3.parquet")


@pytest.fixture(scope="module")
def shown(rows):
    return {entry.name: entry for entry in entries(rows.table, rows.metrics, HEADLINES)}


@pytest.mark.parametrize("name", [*CLAIMED, "event_order"])
def test_readme_repeats_the_rows(name, shown):
    line = next(
        line for line in (ROOT / "README.md").read_text().splitlines() if f"| {name.replace('_', ' ')} |" in line
    )
    cells = [cell.strip(" *") for cell in line.split("|")[3:6]]
    figures = shown[name].figures
    attention = {c.title: f"{figure.value:.3g}" for c, figure in figures.items() if c.readout == "attention"}
    assert cells == [attention["pretrained"], attention["random weights"], attention["mean colour"]]
    assert re.fullmatch(r"[0-9.]+", cells[0])


def test_every_seed_beats_both_baselines_on_what_is_claimed(rows, shown):
    assert seeds_of(rows.table) == [0, 1, 2]
    claimed = [shown[name] for name in CLAIMED]
    for seed in (0, 1, 2):
        found = comparisons(rows.table, claimed, "attention", [seed])
        assert len(found) == 2 * len(CLAIMED)
        assert [c for c in found if c.verdict != "better"] == []
        assert all(c.gain.num_clips == 800 for c in found)
