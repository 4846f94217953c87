"""A plot shows each arm where it belongs, and tells apart what is called alike."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from fourd.backbones import video_vit
from fourd.study import Arm, Plot, Study, plots
from fourd.study.figures import Figures
from tests.study.synthetic import figures, study


def masks() -> Study:
    """Describe two patterns at two ratios, one pattern called like the arm of random weights."""
    arms = [
        Arm(f"{pattern} {ratio}", (("ratio", ratio), ("pattern", pattern)), video_vit.tiny())
        for pattern in ("random", "tube")
        for ratio in (0.5, 0.9)
    ]
    return dataclasses.replace(study((0.5,)), arms=(*arms, Arm("random", (), video_vit.tiny())))


def panel(found: Figures, plot: Plot, number: int = 0) -> list[plots.Point]:
    return plots.points(found, plot, found.asked[number])


def test_a_level_line_is_told_from_a_series_called_like_its_arm():
    found = panel(figures(masks(), (0.1, 0.2, 0.3, 0.4, 0.0)), Plot("ratio", "pattern"))
    assert {point.series for point in found if point.x is not None} == {"random", "tube"}
    assert [(point.arm, point.series) for point in found if point.x is None] == [("random", "arm random")]


def test_a_level_line_keeps_the_name_of_its_arm_where_no_series_has_it():
    found = panel(figures(masks(), (0.1, 0.2, 0.3, 0.4, 0.0)), Plot("ratio", "arm"))
    assert [point.series for point in found if point.x is None] == ["random"]


def test_depth_may_be_counted_in_blocks():
    found = panel(figures(study((0.5, 0.9)), (0.1, 0.2)), Plot("block", "arm"))
    assert [(point.x, point.series) for point in found] == [(2, "at 0.5"), (2, "at 0.9")]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    kept: list[Figure] = []
    monkeypatch.setattr(plots, "save", lambda figure, path: kept.append(figure))
    return kept


def test_what_sees_no_pixels_is_written_above_and_drawn_where_it_lies_near(drawn):
    found = figures(study((0.5, 0.9)), (0.1, 0.2), controls={"mean_answer": 0.15, "nothing_moves": 9.0})
    assert plots.draw(found, Plot("mask ratio"), Path("unused.png"))
    axes = drawn[0].axes[0]
    values = {pick.arm: found.estimate(found.asked[0], pick).value for pick in found.controls}
    near = values["control:mean_answer"]
    dotted = [line.get_ydata()[0] for line in axes.get_lines() if line.get_linestyle() == ":"]
    assert dotted == [pytest.approx(near)]
    assert f"no pixels: mean answer {near:.3g}, nothing moves {values['control:nothing_moves']:.3g}" in [
        text.get_text() for text in axes.texts
    ]
    assert axes.get_ylim()[1] < values["control:nothing_moves"]


def test_nothing_is_written_above_where_no_control_was_measured(drawn):
    plots.draw(figures(study((0.5, 0.9)), (0.1, 0.2)), Plot("mask ratio"), Path("unused.png"))
    assert not drawn[0].axes[0].texts


def test_no_two_series_look_alike():
    gains = [0.1] * 25
    of = study([number / 100 for number in range(1, 26)])
    found = panel(figures(of, gains, seeds=(0,)), Plot("block", "arm"))
    styles = plots._styles(found)
    assert len(set(styles.values())) == len(styles) == 25


@pytest.mark.parametrize(("values", "numbered"), [((4, 8, 64), ["4", "8", "64"]), ((4, 5, 64), None)])
def test_a_log_axis_is_numbered_at_its_values_where_there_is_room(drawn, values, numbered):
    plots.draw(figures(study(values), (0.1, 0.2, 0.3)), Plot("mask ratio", log_x=True), Path("unused.png"))
    drawn[0].canvas.draw()
    labels = [text.get_text() for text in drawn[0].axes[0].get_xticklabels()]
    assert labels == numbered if numbered else "4" not in labels


def test_small_counts_are_each_written_below_an_axis(drawn):
    plots.draw(figures(study((1, 2, 4)), (0.1, 0.2, 0.3)), Plot("mask ratio"), Path("unused.png"))
    assert drawn[0].axes[0].get_xticks().tolist() == [1, 2, 4]


def test_level_lines_alone_can_be_drawn(drawn):
    found = figures(study((1, 2)), (0.1, 0.2))
    assert plots.draw(found, Plot("seconds", log_x=True), Path("unused.png"))
    assert len(drawn[0].axes[0].get_lines()) == 2
