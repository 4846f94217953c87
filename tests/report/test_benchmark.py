"""The table of a benchmark says what the rows say: figures, intervals, ranks with ties, and who may not be ranked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from fourd.report.benchmark import (
    BenchmarkStory,
    ContenderStory,
    EntryStory,
    choose_gallery,
    markdown,
    print_benchmark,
    summary_table,
    write_benchmark,
)
from fourd.report.benchmark.figures import Part, parts, table_depth
from fourd.results import Cell, Rows, tabulate
from fourd.types import Metric, Score

ERROR = Metric("error", "Error", higher_is_better=False)
ACCURACY = Metric("accuracy", "Accuracy", higher_is_better=True)
METRICS = {"depth": ERROR, "action": ACCURACY}
CLIPS = tuple(f"clip{number:02}" for number in range(24))
HARDNESS = np.random.default_rng(0).uniform(0.2, 0.8, len(CLIPS))
"""What makes a clip hard for everyone: paired differences do not see it."""


def part_of(
    entry: str,
    backbone: str,
    weights: str,
    better: float,
    depth: float = 1.0,
    readout: str = "attention",
    noise: int = 1,
) -> Rows:
    """Give a contender scores that are better than the usual by `better`, with a little noise of its own."""
    own = np.random.default_rng(noise).normal(0, 0.01, len(CLIPS))
    sign = 1 if METRICS[entry].higher_is_better else -1
    score = torch.from_numpy(HARDNESS + own + sign * better)
    cell = Cell("suite_v1", entry, backbone, weights, readout, entry, depth, 1, 0)
    weight = torch.ones(len(CLIPS), dtype=torch.float64)
    return tabulate(cell, CLIPS, CLIPS, [Score(METRICS[entry], score, weight)])


def control(entry: str) -> Rows:
    cell = Cell("suite_v1", entry, "control:mean_answer", "none", "none", entry, None, None, 0)
    score = torch.full((len(CLIPS),), 0.5, dtype=torch.float64)
    return tabulate(cell, CLIPS, CLIPS, [Score(METRICS[entry], score, torch.ones_like(score))])


def together(found: list[Rows]) -> Rows:
    return Rows(pa.concat_tables([part.table for part in found]), {metric.name: metric for metric in METRICS.values()})


def contender(backbone: str, weights: str, use: str = "frozen", **more: object) -> ContenderStory:
    name = f"{backbone}, {'random weights' if weights == 'random' else weights}"
    return ContenderStory(backbone, weights, use, name, 10**6, weights, weights == "random", **more)  # type: ignore[arg-type]


STORY = BenchmarkStory(
    title="A suite",
    suite="suite_v1",
    protocol=(("precision", "bf16"),),
    entries=(
        EntryStory("depth", "Depth", "ScanNet", "error", "clip_mean", "How far?", "24 clips", "a" * 64),
        EntryStory("action", "Action", "Kinetics", "accuracy", "clip_mean", "What?", "24 clips", "b" * 64),
        EntryStory("pose", "Pose", "RE10K", "epe", "clip_mean", "Where?", "no data", "", ("no data: no such folder",)),
    ),
    contenders=(
        contender("good", "published"),
        contender("same", "published", contaminated=("action",), pretraining_data=("kinetics",)),
        contender("worse", "pretrained 1a2b"),
        contender("best", "random", warnings=("positions were resampled",)),
        contender("good", "published finetuned", "finetuned"),
    ),
    table_depth=0.95,
    command="fourd evaluate",
    machine="two cores",
    commit="0123456789",
    notes=("A note.",),
)


@pytest.fixture
def rows() -> Rows:
    found = [control(entry) for entry in METRICS]
    for entry in METRICS:
        found += [part_of(entry, "good", "published", 0.10, 0.95), part_of(entry, "good", "published", 0.50, 1.0)]
        found += [part_of(entry, "good", "published", 0.0, 0.95, "linear", noise=5)]
        found += [part_of(entry, "same", "published", 0.10, 0.95, noise=2)]
        found += [part_of(entry, "best", "random", 0.9, 0.95, noise=4)]
    found.append(part_of("depth", "worse", "pretrained 1a2b", 0.0, 0.95, noise=3))
    found.append(part_of("depth", "good", "published finetuned", 0.3, 0.95, noise=6))
    return together(found)


def ranks(shown: Part, entry: str) -> dict[str, int | None]:
    return {line.name.partition(",")[0]: line.figures[entry].rank for line in shown.lines if entry in line.figures}


def test_ranks_tie_where_no_difference_is_shown_and_random_weights_have_none(rows: Rows):
    frozen = parts(rows, STORY)[0]
    assert frozen.title == "frozen, attention readout"
    assert ranks(frozen, "depth") == {"good": 1, "same": 1, "worse": 3, "best": None}
    assert ranks(frozen, "action") == {"good": 1, "same": 1, "best": None}
    assert [line.mean_rank for line in frozen.lines] == [1.0, 1.0, 3.0, None]


def test_the_figure_is_that_of_the_suites_depth_whatever_scores_best(rows: Rows):
    good = parts(rows, STORY)[0].lines[0].figures["depth"]
    assert good.depth == 0.95
    own = np.random.default_rng(1).normal(0, 0.01, len(CLIPS))
    assert good.interval.value == pytest.approx((HARDNESS + own).mean() - 0.10)
    assert parts(rows, replace(STORY, table_depth=1.0))[0].lines[0].figures["depth"].depth == 1.0


def test_the_depth_is_never_deeper_than_asked_unless_there_is_none():
    assert table_depth([0.2, 0.4, 1.0], 0.95) == 0.4
    assert table_depth([1.0], 0.95) == 1.0
    assert table_depth([0.2, 0.95], 0.95) == 0.95


def test_parts_are_ranked_by_themselves(rows: Rows):
    titles = [shown.title for shown in parts(rows, STORY)]
    assert titles == [
        "frozen, attention readout",
        "finetuned, attention readout",
        "frozen, linear readout",
        "answers that see no pixels",
    ]
    assert ranks(parts(rows, STORY)[1], "depth") == {"good": None}  # alone it is neither first nor last


def test_the_order_of_rows_changes_nothing(rows: Rows):
    shuffled = rows.table.take(np.random.default_rng(0).permutation(rows.table.num_rows))
    assert summary_table(Rows(shuffled, rows.metrics), STORY).equals(summary_table(rows, STORY))


def test_what_is_missing_is_never_a_number(rows: Rows):
    page = markdown(rows, STORY)
    worse = next(line for line in page.splitlines() if line.startswith("| worse"))
    assert worse.split(" | ")[2:4] == ["not run", "no data"]


def test_marks_and_remarks_stand_beside_the_figures(rows: Rows, capsys: pytest.CaptureFixture[str]):
    page = markdown(rows, STORY)
    same = next(line for line in page.splitlines() if line.startswith("| same"))
    assert same.split(" | ")[2].endswith("†")
    assert not same.split(" | ")[1].endswith("†")
    assert "its weights were trained on kinetics" in page
    assert "best, random weights (frozen): positions were resampled" in page
    assert "Pose: no data: no such folder" in page
    assert "list aaaaaaaaaaaa" in page
    print_benchmark(rows, STORY, width=140)
    shown = capsys.readouterr().out
    assert "best, random weights" in shown
    assert "A note." in shown


def test_the_summary_holds_what_a_figure_rests_on(rows: Rows):
    records = summary_table(rows, STORY).to_pylist()
    good = next(r for r in records if r["encoder"].startswith("good") and r["entry"] == "depth")
    assert (good["num_clips"], good["num_groups"], good["num_undefined"], good["clips_sha256"]) == (24, 24, 0, "a" * 64)
    assert good["low"] < good["value"] < good["high"]
    assert {r["use"] for r in records} == {"frozen", "finetuned", "control"}


def test_undefined_clips_are_counted_and_a_figure_of_none_is_missing(rows: Rows):
    cell = Cell("suite_v1", "action", "worse", "pretrained 1a2b", "attention", "action", 0.95, 1, 0)
    nothing = torch.zeros(len(CLIPS), dtype=torch.float64)
    undefined = tabulate(cell, CLIPS, CLIPS, [Score(ACCURACY, nothing, nothing)])
    page = markdown(together([rows, undefined]), STORY)
    assert next(line for line in page.splitlines() if line.startswith("| worse")).split(" | ")[2] == "not run"


def test_wins_are_where_the_subject_gains_most(rows: Rows):
    subject = {"backbone": "good", "weights": "published", "readout": "attention", "depth": 0.95}
    rival = {**subject, "backbone": "same"}
    picks = choose_gallery(rows, "depth", "error", subject, rival, 2)
    gains = {pick.clip: pick.rival_score - pick.subject_score for pick in picks}
    own, theirs = (np.random.default_rng(noise).normal(0, 0.01, len(CLIPS)) for noise in (1, 2))
    order = [CLIPS[n] for n in np.argsort(own - theirs)]
    assert [pick.clip for pick in picks if pick.kind == "win"] == order[:2]
    assert [pick.clip for pick in picks if pick.kind == "failure"] == order[::-1][:2]
    assert len(gains) == len(picks) == 5


def test_the_page_holds_everything_by_itself(rows: Rows, tmp_path: Path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in ("a.webp", "a.png"):
        Image.new("RGB", (8, 8)).save(pictures / name)
    described = {
        "entry": "depth",
        "kind": "win",
        "clip": "clip01",
        "caption": "0.1 and 0.2",
        "film": "a.webp",
        "strip": "a.png",
    }
    (pictures / "pictures.json").write_text(json.dumps([described]))
    page = write_benchmark(tmp_path / "report.html", rows, STORY, pictures).read_text()
    assert "0.1 and 0.2 (clip01)" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert page.count("<svg") == 4  # dots of two entries, and the depths of the one contender that has several
    (pictures / "a.webp").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.webp is named in pictures\.json"):
        write_benchmark(tmp_path / "report.html", rows, STORY, pictures)
