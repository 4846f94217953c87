"""A study that cannot be answered is refused when it is described, by names that say what to change."""

from __future__ import annotations

import dataclasses

import pytest

from fourd.backbones import video_vit
from fourd.study import Arm, Best, Claim, Pick, Plot, Study, Trend, weights_of
from tests.study.small_ablation import ablation, arm, pretraining


def changed(**fields: object) -> Study:
    return dataclasses.replace(ablation(), **fields)


def test_two_arms_of_one_name_are_refused():
    with pytest.raises(ValueError, match=r"several of them called mask 0\.5"):
        changed(arms=(arm(0.5), arm(0.75), arm(0.5)))


def test_a_study_without_arms_is_refused():
    with pytest.raises(ValueError, match="has 0 arms"):
        changed(arms=())


@pytest.mark.parametrize("seeds", [(), (0, 0), (-1,)])
def test_seeds_are_distinct_and_not_negative(seeds):
    with pytest.raises(ValueError, match="has seeds"):
        changed(seeds=seeds)


@pytest.mark.parametrize(
    "claim",
    [Claim("mask 0.5", "nobody"), Claim(Pick("nobody"), "mask 0.5"), Best(("nobody",)), Best(expected="nobody")],
)
def test_a_claim_about_an_arm_that_is_not_there_is_refused(claim):
    with pytest.raises(ValueError, match=r"has no arm 'nobody'; its arms are mask 0\.5, mask 0\.75"):
        changed(claims=(claim,))


@pytest.mark.parametrize("claim", [Claim("mask 0.5", "mask 0.75", "depth"), Best(entry="depth")])
def test_a_claim_about_what_is_not_measured_is_refused(claim):
    with pytest.raises(ValueError, match=r"measures no .*depth"):
        changed(claims=(claim,))


@pytest.mark.parametrize("fields", [{"plots": (Plot("ratio"),)}, {"claims": (Trend("ratio"),)}])
def test_a_factor_that_no_arm_has_is_refused(fields):
    with pytest.raises(ValueError, match="names 'ratio': expected one of mask ratio, arm, readout"):
        changed(**fields)


@pytest.mark.parametrize(
    ("pick", "told"),
    [
        (Pick("mask 0.5", "linear"), "at readout 'linear', which is not measured: expected one of attention"),
        (Pick("mask 0.5", depth=0.75), r"at depth 0\.75, which is not measured: expected one of 0\.5, 1\.0"),
        (Pick("mask 0.5", use="finetuned"), "at use 'finetuned', which is not measured: expected one of frozen"),
    ],
)
def test_a_claim_about_a_way_of_measuring_that_is_not_wanted_is_refused(pick, told):
    with pytest.raises(ValueError, match=told):
        changed(claims=(Claim(pick, "mask 0.75"),))
    changed(claims=(Claim(Pick("mask 0.5", "attention", 0.5, "frozen"), "mask 0.75"),))


@pytest.mark.parametrize(
    "fields",
    [
        {"plots": (Plot("depth", where=(("mask ratio", 0.6),)),)},
        {"claims": (Trend("depth", (("mask ratio", 0.6),)),)},
    ],
)
def test_levels_that_no_arm_has_are_refused(fields):
    with pytest.raises(ValueError, match=r"of arms with \{'mask ratio': 0\.6\}, and none has them"):
        changed(**fields)


@pytest.mark.parametrize("factors", [(("a", 1), ("a", 2)), (("flop", 1),), (("depth", 1.0),)])
def test_factors_are_given_once_and_mean_nothing_else(factors):
    with pytest.raises(ValueError, match="given twice, or mean something else"):
        Arm("x", factors, video_vit.tiny())


def test_weights_come_from_one_place():
    with pytest.raises(ValueError, match="has a pretraining and a source"):
        Arm("x", (), video_vit.tiny(), pretraining(), "4ds-b")


def taught_by(name: str, teacher: str) -> Arm:
    return Arm(name, (), video_vit.tiny(), dataclasses.replace(pretraining(), init=weights_of(teacher)))


def test_arms_that_wait_for_each_other_are_refused():
    with pytest.raises(ValueError, match="waits for itself"):
        changed(arms=(taught_by("a", "b"), taught_by("b", "a")), claims=(), plots=())


def test_weights_of_an_arm_that_learns_nothing_are_refused():
    random = Arm("random", (), video_vit.tiny())
    with pytest.raises(ValueError, match="'a' needs the weights of 'random', which is not pretrained"):
        changed(arms=(taught_by("a", "random"), random), claims=(), plots=())


def test_an_arm_knows_whose_weights_it_needs():
    assert taught_by("a", "b").after == ("b",)
    assert arm(0.5).after == ()
