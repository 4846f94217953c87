"""Sentences say what rows hold: better, worse, no difference, and whether that is what was expected."""

from __future__ import annotations

import pytest

from fourd.study import Best, Claim, Trend
from fourd.study.sentences import beside_controls, sentence, sentences
from tests.study.synthetic import figures, study


def said(claim, gains, ratios=(0.5, 0.75, 0.9), **how):
    return sentence(figures(study(ratios[: len(gains)]), gains, **how), claim)


def test_more_is_better_for_one_metric_and_worse_for_the_other():
    found = said(Claim("at 0.75", "at 0.5"), (0.0, 0.2))
    assert {one.entry: one.verdict for one in found.findings} == {"camera_pose": "worse", "camera_motion": "better"}
    assert found.text.startswith("at 0.75 against at 0.5: better on camera motion by 0.199 [0.173, 0.225] in 3 of 3")
    assert found.text.endswith("; worse on camera pose by 0.198 [0.176, 0.22] in 3 of 3 seeds.")


def test_what_differs_by_chance_is_not_called_a_difference():
    found = said(Claim("at 0.75", "at 0.5"), (0.0, 0.0))
    assert {one.verdict for one in found.findings} == {"equal"}
    assert found.text.startswith("at 0.75 against at 0.5: no difference is shown on camera pose (")


def test_a_difference_that_one_seed_does_not_have_is_not_shown():
    found = said(Claim("at 0.75", "at 0.5"), (0.0, 0.2), seed_spread=1.2)
    assert {one.verdict for one in found.findings} == {"equal"}


def test_one_seed_speaks_for_its_clips_alone():
    found = said(Claim("at 0.75", "at 0.5"), (0.0, 0.2), seeds=(4,))
    assert {one.verdict for one in found.findings} == {"better", "worse"}
    assert "seeds" not in found.text
    assert found.text.count(" in seed 4 alone") == 2


@pytest.mark.parametrize(
    ("gain", "expected", "told"),
    [
        (0.2, "better", "The paper says better: so it is here on camera motion."),
        (-0.2, "better", "The paper says better: here the opposite on camera motion."),
        (0.0, "better", "The paper says better: not shown here on camera motion."),
        (0.0, "equal", "The paper says that there is no difference: none is shown here either on camera motion."),
        (0.2, "equal", "The paper says that there is no difference: here there is one on camera motion."),
    ],
)
def test_what_the_paper_says_stands_beside_it(gain, expected, told):
    found = said(Claim("at 0.75", "at 0.5", "camera_motion", expected=expected), (0.0, gain))
    assert found.text.endswith(told)


def test_the_best_is_named_with_those_that_it_is_shown_to_beat():
    claim = Best(("at 0.5", "at 0.75", "at 0.9"), "camera_motion", about="Of three")
    clear = said(claim, (0.0, 0.3, 0.1)).text
    assert clear == "Of three: Best on camera motion at 0.75 (0.215), shown better than all others."
    close = said(claim, (0.0, 0.3, 0.3)).text
    assert "shown better than at 0.5, not shown better than at" in close


def test_the_best_that_was_expected_is_judged():
    names = ("at 0.5", "at 0.75", "at 0.9")
    same = said(Best(names, "camera_motion", expected="at 0.75", who="folklore"), (0.0, 0.3, 0.1)).text
    assert "(folklore says the same)" in same
    other = said(Best(names, "camera_motion", expected="at 0.5"), (0.0, 0.3, 0.1)).text
    assert "(the paper says at 0.5; here it is worse than the best by 0.299 [0.273, 0.325] in 3 of 3 seeds)" in other
    winner = "at 0.75" if "motion at 0.75" in said(Best(names, "camera_motion"), (0.3, 0.3, 0.1)).text else "at 0.5"
    loser = {"at 0.75": "at 0.5", "at 0.5": "at 0.75"}[winner]
    close = said(Best(names, "camera_motion", expected=loser), (0.3, 0.3, 0.1)).text
    assert f"(the paper says {loser}, which is not shown to be worse)" in close


def test_a_trend_is_told_with_its_direction_and_where_it_breaks():
    rising = said(Trend("mask ratio", entry="camera_motion", expected="better"), (0.0, 0.1, 0.2))
    assert [one.verdict for one in rising.findings] == ["better"]
    assert rising.findings[0].gain.value == pytest.approx(0.2, abs=0.02)
    assert "the same way at every step" in rising.text
    assert rising.text.endswith("so it is here on camera motion.")
    bent = said(Trend("mask ratio", entry="camera_motion"), (0.0, 0.4, 0.2))
    assert "not at every step: best at 0.75" in bent.text
    flat = said(Trend("mask ratio", entry="camera_motion"), (0.1, 0.1, 0.1))
    assert [one.verdict for one in flat.findings] == ["equal"]


def test_the_best_is_sought_on_the_seeds_that_all_have():
    """An arm with one lucky seed is not best before those that were measured with bad ones too."""
    of, names = study((0.5, 0.75)), ("at 0.5", "at 0.75")
    found = figures(of, (0.3, 0.25), seeds=(0, 1, 2), seed_spread=0.9)  # seeds 0 and 2 are far above seed 1
    lucky = figures(of, (0.3, 0.25), seeds=(0,), seed_spread=0.9)
    found._cells.update({key: own for key, own in lucky._cells.items() if key[1] == "at 0.75"})
    assert "Best on camera motion at 0.5 (" in sentence(found, Best(names, "camera_motion")).text


def test_arms_that_share_no_seed_are_not_compared():
    of = study((0.5, 0.75))
    both = figures(of, (0.0, 0.2), seeds=(0,))
    other = figures(of, (0.0, 0.2), seeds=(1,))
    both._cells.update({key: scores for key, scores in other._cells.items() if key[1] == "at 0.75"})
    found = sentence(both, Claim("at 0.75", "at 0.5"))
    assert found.findings == ()
    assert "not measured on the same seeds" in found.text


def test_who_is_no_better_than_an_answer_without_pixels_is_named():
    found = figures(study((0.5, 0.75)), (0.3, 0.6), controls={"mean_answer": 0.3, "nothing_moves": 0.1})
    said = beside_controls(found)
    begun = "Not shown better than the best answer that sees no pixels: on camera pose (nothing moves, "
    assert said.text.startswith(begun)  # of errors the lower one is the best
    assert ") all 2 figures; on camera motion (mean answer, 0.2" in said.text
    assert said.text.endswith(") 1 of 2 figures: at 0.5 (attention readout, depth 1, frozen).")
    assert sentences(found)[-1] == said
    better = figures(study((0.5, 0.75)), (0.3, 0.6), controls={"mean_answer": 0.45})
    assert "on camera motion (mean answer, 0.3" in beside_controls(better).text


def test_all_may_be_better_than_an_answer_without_pixels():
    of = study((0.5, 0.75))
    found = figures(of, (0.3, 0.6), controls={"mean_answer": 0.1})
    found.asked = [one for one in found.asked if one.name == "camera_motion"]
    assert beside_controls(found).text.startswith("All 2 figures are better than the best answer")
    assert figures(of, (0.3, 0.6)).controls == []
    assert len(sentences(figures(of, (0.3, 0.6)))) == 1


def test_a_trend_names_large_values_by_thousands():
    found = said(Trend("mask ratio", entry="camera_motion"), (0.0, 0.4, 0.2), ratios=(2e6, 6.43302e6, 1e7))
    assert "best at 6.43M" in found.text
