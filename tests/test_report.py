"""The page says what the rows say: figures, verdicts, pictures, and loads nothing from elsewhere."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from fourd import pictures, report
from fourd.report import page, plots, summary
from fourd.results import ROW_SCHEMA
from fourd.types import Metric

METRICS = {
    "depth_abs_rel": Metric("depth_abs_rel", "Absolute relative error", higher_is_better=False),
    "mean_iou": Metric("mean_iou", "Mean IoU", higher_is_better=True),
}
HEADLINES = {"depth": "depth_abs_rel", "box_tracking": "mean_iou"}
NUM_CLIPS = 60
PRETRAINED, RANDOM, COLOUR = ("video_vit", "pretrained"), ("video_vit", "random"), ("mean_pixel", "none")
CONTROL = ("control:nothing_moves", "none")
Levels = Mapping[str, Mapping[tuple[str, str], float]]
LEVELS: Levels = {  # lower is better for depth, higher for boxes
    "depth": {PRETRAINED: 0.15, RANDOM: 0.25, COLOUR: 0.20, CONTROL: 0.31},
    "box_tracking": {PRETRAINED: 0.60, RANDOM: 0.40, COLOUR: 0.70, CONTROL: 0.11},
}
STORY = report.Story(
    title="Rows <and> pictures",
    lead="What is asked.",
    facts=(("pretraining", "3000 steps & more"),),
    notes=("It is a toy.",),
    commands=("fourd demo",),
    entry_notes={"depth": "How far away is it?"},
)


def scores(level: float, own: int) -> np.ndarray:
    """Scatter clips around a level; most of the scatter belongs to the clip and is shared by all contenders."""
    shared = np.random.default_rng(0).normal(0, 0.05, NUM_CLIPS)
    return level + shared + np.random.default_rng(own).normal(0, 0.01, NUM_CLIPS)


def make_rows(levels: Levels = LEVELS, seeds: tuple[int, ...] = (0,)) -> list[dict]:
    rows = []
    for entry, contenders in levels.items():
        for number, ((backbone, weights), level) in enumerate(contenders.items()):
            control = backbone.startswith("control:")
            same = {"suite": "toy_v1", "entry": entry, "task": entry, "metric": HEADLINES[entry]}
            same |= {"backbone": backbone, "weights": weights, "readout": "none" if control else "attention"}
            same |= {"depth": None if control else 1.0, "block": None if control else 5}
            for seed in (0,) if control else seeds:
                rows += [
                    {**same, "seed": seed, "clip": f"clip{i}", "group": f"scene{i // 2}", "score": s, "weight": 1.0}
                    for i, s in enumerate(scores(level, own=10 * seed + number + 1).tolist())
                ]
    return rows


def make_table(rows: list[dict]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=ROW_SCHEMA)


def mean_of(rows: list[dict], entry: str, contender: tuple[str, str]) -> float:
    kept = [r["score"] for r in rows if r["entry"] == entry and (r["backbone"], r["weights"]) == contender]
    return sum(kept) / len(kept)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Draw a folder of pictures of one success and one failure."""
    folder = tmp_path / "pictures"
    film = torch.randint(0, 256, (3, 16, 56, 3), dtype=torch.uint8)
    items = []
    for kind in ("success", "failure"):
        pictures.save_film(film, folder / f"{kind}.webp")
        pictures.save_picture(film[0], folder / f"{kind}.png")
        names = {"film": f"{kind}.webp", "strip": f"{kind}.png", "caption": f"a {kind}, error 0.1 <m>"}
        items.append({"entry": "depth", "backbone": "video_vit", "readout": "attention", "kind": kind, **names})
    (folder / "pictures.json").write_text(json.dumps(items))
    return folder


def write(folder: Path, rows: list[dict] | None = None, story: report.Story = STORY, curves: tuple = ()) -> str:
    table = make_table(make_rows() if rows is None else rows)
    return report.write_report(folder.parent / "page.html", table, METRICS, story, folder, curves).read_text()


def words_of(page_text: str) -> str:
    """Strip tags and join white space."""
    without_style = re.sub(r"<style>.*?</style>", " ", page_text, flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", without_style)).split())


def headline_cells(page_text: str, entry: str) -> list[str]:
    """Read the cells of an entry's line in the first table."""
    body = re.search(r"<tbody>(.*?)</tbody>", page_text, re.S)
    assert body is not None
    line = next(line for line in body[1].split("<tr>") if words_of(line).startswith(entry))
    return re.findall(r"<td[^>]*>(.*?)</td>", line, re.S)[1:]


class Loads(HTMLParser):
    """Collect every address that a browser would load, and every tag left open."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "poster", "data")]
        if tag not in ("meta", "img", "br", "link", "hr"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag


# ----------------------------------------------------------------------------- the page as a file


def test_the_page_loads_nothing_from_elsewhere(folder) -> None:
    text = write(folder)
    found = Loads()
    found.feed(text)
    assert len(found.addresses) == 4  # two films, two strips
    assert all(address.startswith(("data:image/webp;base64,", "data:image/png;base64,")) for address in found.addresses)
    assert "@import" not in text
    assert "url(" not in text
    assert "<script" not in text
    assert found.open == []


def test_text_is_escaped(folder) -> None:
    text = write(folder)
    assert "<and>" not in text
    assert "<m>" not in text
    assert "Rows <and> pictures" in words_of(text)
    assert "a success, error 0.1 <m>" in html.unescape(text)


def test_the_same_rows_give_the_same_page(folder) -> None:
    assert write(folder) == write(folder)


def test_the_page_tells_the_story(folder) -> None:
    words = words_of(write(folder))
    for told in ("What is asked.", "3000 steps & more", "It is a toy.", "fourd demo", "How far away is it?"):
        assert told in words


def test_a_page_that_is_too_large_is_refused(folder, monkeypatch) -> None:
    size = len(write(folder).encode())
    monkeypatch.setattr(page, "MAX_BYTES", size)
    write(folder)
    monkeypatch.setattr(page, "MAX_BYTES", size - 1)
    (folder.parent / "page.html").unlink()
    with pytest.raises(ValueError, match=r"page\.html.*MB"):
        write(folder)
    assert not (folder.parent / "page.html").exists()


def test_a_picture_that_is_missing_is_named(folder) -> None:
    (folder / "failure.webp").unlink()
    with pytest.raises(FileNotFoundError, match=r"failure\.webp"):
        write(folder)


def test_a_folder_without_pictures_json_is_named(folder) -> None:
    (folder / "pictures.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"pictures\.json"):
        write(folder)


# ----------------------------------------------------------------------------- figures


def test_figures_are_the_means_of_the_rows(folder) -> None:
    rows = make_rows()
    text = write(folder, rows)
    for entry in LEVELS:
        cells = [words_of(cell) for cell in headline_cells(text, entry.replace("_", " "))]
        expected = [f"{mean_of(rows, entry, contender):.3g}" for contender in (PRETRAINED, RANDOM, COLOUR, CONTROL)]
        assert cells == expected


def test_clips_without_weight_do_not_count(folder) -> None:
    rows = make_rows()
    for row in rows:
        if row["clip"] == "clip7":
            row.update(score=0.0, weight=0.0)
    kept = [row for row in rows if row["clip"] != "clip7"]
    cells = [words_of(cell) for cell in headline_cells(write(folder, rows), "depth")]
    assert cells[0] == f"{mean_of(kept, 'depth', PRETRAINED):.3g}"


@pytest.mark.parametrize(("entry", "best"), [("depth", PRETRAINED), ("box_tracking", COLOUR)])
def test_the_best_is_the_lowest_or_the_highest_as_the_metric_says(entry, best) -> None:
    (shown,) = [e for e in summary.entries(make_table(make_rows()), METRICS, {}) if e.name == entry]
    assert (shown.best.backbone, shown.best.weights) == best


def test_the_best_of_each_line_is_marked_and_no_other(folder) -> None:
    text = write(folder)
    rows = re.search(r"<tbody>(.*?)</tbody>", text, re.S)
    assert rows is not None
    lines = rows[1].split("<tr>")[1:]
    assert [len(re.findall(r'<td class="[^"]*\bbest\b', line)) for line in lines] == [1, 1]
    assert re.search(r'\bbest\b[^"]*">0\.1[0-9]+<', lines[0])


def test_seeds_are_averaged_and_shown_by_themselves(folder) -> None:
    rows = make_rows(seeds=(0, 1))
    text = write(folder, rows)
    assert words_of(headline_cells(text, "depth")[0]) == f"{mean_of(rows, 'depth', PRETRAINED):.3g}"
    assert "seeds 0, 1" in words_of(text)
    assert "seed 1" in words_of(text)
    assert "Each pretraining seed" not in words_of(write(folder, make_rows()))


def test_a_headline_that_does_not_exist_is_named() -> None:
    with pytest.raises(ValueError, match=r"'depth' has no metric 'speed'.*mean_iou"):
        summary.entries(make_table(make_rows()), METRICS, {"depth": "speed"})


# ----------------------------------------------------------------------------- verdicts


def verdicts(levels: Levels) -> dict[tuple[str, str], str]:
    table = make_table(make_rows(levels))
    found = summary.comparisons(table, summary.entries(table, METRICS, {}), "attention")
    return {(c.entry, c.baseline.weights): c.verdict for c in found}


def test_verdicts_follow_the_direction_of_the_metric() -> None:
    assert verdicts(LEVELS) == {
        ("depth", "random"): "better",
        ("depth", "none"): "better",
        ("box_tracking", "random"): "better",
        ("box_tracking", "none"): "worse",
    }


def test_verdicts_flip_when_the_rows_do() -> None:
    flipped = {
        entry: {**levels, PRETRAINED: levels[RANDOM], RANDOM: levels[PRETRAINED]} for entry, levels in LEVELS.items()
    }
    found = verdicts(flipped)
    assert found["depth", "random"] == "worse"
    assert found["box_tracking", "random"] == "worse"


def test_equal_contenders_do_not_differ() -> None:
    equal = {entry: dict.fromkeys(levels, 0.3) for entry, levels in LEVELS.items()}
    rows = make_rows(equal)
    for row in rows:  # the same scatter for all, up to noise that is as often up as down
        row["score"] = 0.3 + (0.01 if (int(row["clip"][4:]) // 2 + (row["weights"] == "random")) % 2 else -0.01)
    table = make_table(rows)
    found = summary.comparisons(table, summary.entries(table, METRICS, {}), "attention")
    assert {c.verdict for c in found if c.baseline.weights == "random"} == {"no difference shown"}


def test_a_gain_is_the_difference_of_means_with_its_sign_turned_towards_better() -> None:
    rows = make_rows()
    table = make_table(rows)
    found = summary.comparisons(table, summary.entries(table, METRICS, {}), "attention")
    gains = {(c.entry, c.baseline.weights): c.gain for c in found}
    by_hand = mean_of(rows, "depth", RANDOM) - mean_of(rows, "depth", PRETRAINED)
    assert gains["depth", "random"].value == pytest.approx(by_hand)
    by_hand = mean_of(rows, "box_tracking", PRETRAINED) - mean_of(rows, "box_tracking", COLOUR)
    assert gains["box_tracking", "none"].value == pytest.approx(by_hand)
    assert all(gain.low < gain.value < gain.high for gain in gains.values())
    assert gains["depth", "random"].num_groups == NUM_CLIPS // 2


def test_the_page_states_the_verdicts_in_words(folder) -> None:
    words = words_of(write(folder))
    assert "Against random weights, pretrained features are better on depth, box tracking." in words
    assert "Against mean colour, pretrained features are better on depth; worse on box tracking." in words


def test_the_page_prints_the_gain_that_was_computed(folder) -> None:
    rows = make_rows()
    gain = mean_of(rows, "depth", RANDOM) - mean_of(rows, "depth", PRETRAINED)
    assert f"{gain:+.3g} [" in words_of(write(folder, rows))


# ----------------------------------------------------------------------------- plots


def test_the_interval_plot_puts_better_to_the_right_of_zero() -> None:
    table = make_table(make_rows())
    found = summary.comparisons(table, summary.entries(table, METRICS, {}), "attention")
    boxes = [c for c in found if c.entry == "box_tracking"]
    svg = plots.interval_plot(boxes)
    zero = float(re.findall(r'<line class="axis" x1="([\d.]+)"', svg)[0])
    placed = {kind: float(x) for kind, x in re.findall(r'<circle class="(\w+)" cx="([\d.]+)"', svg)}
    assert placed["worse"] < zero < placed["better"]


def write_curve(path: Path, records: list[dict]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_curves_are_read_with_what_was_held_out(tmp_path) -> None:
    records = [{"step": s, "loss": 1.0 / s, "clips_per_s": 9.0} for s in range(1, 11)]
    records[4]["held_out_loss"] = 0.5
    train, held_out = plots.read_curves(write_curve(tmp_path / "metrics.jsonl", records), "seed 0")
    assert train.points == tuple((record["step"], record["loss"]) for record in records)
    assert held_out.points == ((5, 0.5),)


def test_curves_of_a_run_that_never_began_are_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"metrics\.jsonl holds no metrics"):
        plots.read_curves(write_curve(tmp_path / "metrics.jsonl", []), "seed 0")


def test_the_curve_falls_on_the_page_when_the_loss_falls(folder, tmp_path) -> None:
    records = [{"step": s, "loss": 1.0 / s} for s in range(1, 11)]
    text = write(folder, curves=(("seed 0", write_curve(tmp_path / "metrics.jsonl", records)),))
    line = re.findall(r'<polyline class="line0" points="([^"]+)"', text)
    heights = [float(point.split(",")[1]) for point in line[0].split()]
    assert heights == sorted(heights)  # y grows downwards in SVG
    assert heights[0] < heights[-1]
    assert "seed 0" in words_of(text)
    assert "How it learned" not in write(folder)


# ----------------------------------------------------------------------------- gallery and terminal


def test_success_and_failure_stand_in_the_order_of_the_list(folder) -> None:
    words = words_of(write(folder))
    assert words.index("a success, error 0.1") < words.index("a failure, error 0.1")


def test_a_reconstruction_is_shown_where_there_is_one(folder) -> None:
    assert "What the model learned to do" not in write(folder)
    pictures.save_picture(torch.zeros(8, 8, 3, dtype=torch.uint8), folder / "reconstruction.png")
    found = Loads()
    found.feed(write(folder))
    assert len(found.addresses) == 5


def test_an_entry_without_a_note_is_no_error(folder) -> None:
    assert "depth" in words_of(write(folder, story=replace(STORY, entry_notes={}))).lower()


def test_the_terminal_shows_figures_gains_and_signs(capsys) -> None:
    rows = make_rows()
    report.terminal_table(make_table(rows), METRICS, width=160)
    printed = capsys.readouterr().out
    for entry in LEVELS:
        for contender in (PRETRAINED, RANDOM, COLOUR, CONTROL):
            assert f"{mean_of(rows, entry, contender):.3g}" in printed
    assert "✓" in printed
    assert "✗" in printed
    assert f"{NUM_CLIPS} held-out clips" in printed


# ----------------------------------------------------------------------------- several depths, one group


def at_two_depths() -> list[dict]:
    """Read the same backbone at half depth too, where it does better."""
    rows = make_rows()
    half = [row for row in rows if row["backbone"] == "video_vit" and row["entry"] == "depth"]
    return rows + [{**row, "depth": 0.5, "score": row["score"] - 0.1} for row in half]


def test_the_deepest_layer_is_compared_not_the_best() -> None:
    rows = at_two_depths()
    table = make_table(rows)
    shown = [entry for entry in summary.entries(table, METRICS, {}) if entry.name == "depth"]
    found = summary.comparisons(table, shown, "attention")
    assert {(c.baseline.weights, c.baseline.depth) for c in found} == {("random", 1.0), ("none", 1.0)}
    expected = mean_of(make_rows(), "depth", RANDOM) - mean_of(make_rows(), "depth", PRETRAINED)
    assert {c.baseline.weights: c.gain.value for c in found}["random"] == pytest.approx(expected)


def test_depths_have_names_of_their_own(folder) -> None:
    table = make_table(at_two_depths())
    titles = [contender.title for contender in summary.contenders(table)]
    assert len(titles) == len(set(titles))
    words = words_of(write(folder, at_two_depths()))
    assert "pretrained, depth 0.5" in words
    assert "Against pretrained" not in words


def test_one_group_gives_a_plot_without_numbers_that_are_none(folder) -> None:
    rows = [{**row, "group": "the only scene"} for row in make_rows()]
    text = write(folder, rows)
    assert "not shown to differ on depth, box tracking" in words_of(text)
    assert not re.search(r'="(nan|-?inf)"', text)
