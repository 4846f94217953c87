"""Every study that comes with fourd can be laid out at every scale, and is what its question says."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch

from fourd.benchmark.units import without_readout
from fourd.cli.study import Scale, listed, study_of
from fourd.masks import Mask
from fourd.provenance import describe, find
from fourd.recipes import ablations, inputs, reading, scaling
from fourd.study.costs import flop_of_run, flop_of_step
from fourd.tokens import grid_of
from fourd.weights.files import save_module
from fourd.weights.starting import fill_backbone

NAMES = sorted(line.strip() for line in listed().splitlines() if re.match(r"  \w+:\w+$", line))


def test_all_that_the_science_needs_is_there():
    asked = {name.partition(":")[2] for name in NAMES}
    assert asked >= {
        "masking",
        "decoder",
        "pixels",
        "objectives",
        "objectives_at_equal_flop",
        "learning_rates",
        "distillation",
    }
    assert asked >= {"readouts", "readout_size", "depth", "use", "clip_length", "stride", "image_encoders"}
    assert asked >= {"domain_shift", "first", "ladder"}


def test_a_study_is_found_by_its_short_and_its_whole_name():
    assert study_of("ablations:masking", "tiny") == study_of("fourd.recipes.ablations:masking", "tiny")


def test_a_study_that_is_no_function_is_taken_as_it_is(monkeypatch):
    monkeypatch.setattr(ablations, "mine", ablations.masking("tiny"), raising=False)
    assert study_of("ablations:mine", "here").scale == "tiny"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("masking", "there is no recipe 'masking'; is it ablations:masking?"),
        ("pixles", "there is no recipe 'pixles'; is it ablations:pixels?"),
        ("zzz", "expected module:name; `fourd study` lists what is there"),
        ("ablation:masking", "is it ablations:masking?"),
        ("ablations:nothing", "has no 'nothing'; it has decoder"),
        ("nowhere:else", "no module 'nowhere'"),
        ("os:path", "os:path is a module; expected a function that returns a Study"),
    ],
)
def test_a_name_that_means_nothing_is_refused_with_those_near_it(name, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        study_of(name, "tiny")


@pytest.mark.parametrize("scale", get_args(Scale))
@pytest.mark.parametrize("name", NAMES)
def test_a_study_can_be_laid_out(name: str, scale: str):
    study = study_of(name, scale)
    assert study.scale == scale
    assert len(study.arms) > 1
    assert study.claims
    without_readout(study.suite, study.wanted)  # raises where nothing could be measured
    if study.supplement:
        assert callable(find(study.supplement))
    with torch.device("meta"):
        for backbone in {arm.backbone for arm in study.arms}:
            shape = backbone.build().feature_shape(study.suite.exams[0].clip)
            assert min(shape.t, shape.h, shape.w) > 0
        for objective in {arm.pretraining.objective for arm in study.arms if arm.pretraining is not None}:
            objective.build()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_measured_takes_the_weights_that_were_trained(name: str, tmp_path: Path):
    """An arm may be measured by another backbone than it was pretrained by, such as one of windows of its clips."""
    pairs = {
        (arm.pretraining.objective.build().get_submodule("backbone").config, arm.backbone)
        for arm in study_of(name, "tiny").arms
        if arm.pretraining is not None
    }
    assert pairs
    for number, (trained, measured) in enumerate(pairs):
        one, other = trained.build(), measured.build()
        one.init_weights(torch.Generator().manual_seed(0))
        save_module(one, tmp_path / f"{number}.safetensors", json.dumps(describe(trained)))
        fill_backbone(other, tmp_path / f"{number}.safetensors")
        assert all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())


@pytest.mark.parametrize("scale", get_args(Scale))
def test_every_cell_of_the_masking_study_keeps_what_it_says(scale):
    arms = [arm for arm in ablations.masking(scale).arms if arm.pretraining is not None]
    assert len(arms) == 8
    for arm in arms:
        encoder = arm.pretraining.objective.backbone
        grid = grid_of(encoder.num_frames, encoder.size, encoder.patch)
        assert min(grid[1:]) >= 10
        kept = Mask(arm.levels["pattern"], arm.levels["mask ratio"]).num_visible(grid)
        assert arm.levels["tokens kept"] == kept > 0
        hidden = 1 - kept / (grid[0] * grid[1] * grid[2])
        assert hidden == pytest.approx(arm.levels["mask ratio"], abs=0.01)


def test_equal_operations_are_equal():
    runs = {a.name: a.pretraining for a in ablations.objectives_at_equal_flop("tiny").arms if a.pretraining}
    spent = {name: flop_of_run(run) for name, run in runs.items()}
    for name, flop in spent.items():
        step = flop / runs[name].steps
        assert abs(flop - spent["SimpleMAE"]) <= step, name
    assert len(spent) == 7


def test_only_the_rate_differs_between_the_rates_of_an_objective():
    runs = {arm.name: arm.pretraining for arm in ablations.learning_rates("tiny").arms if arm.pretraining}
    assert len(runs) == 3 * 7
    for name, whole in runs.items():
        for slower, share in (("a quarter", 4), ("a sixteenth", 16)):
            if "," not in name:
                own = runs[f"{name}, {slower}"]
                assert own.optim.learning_rate * share == whole.optim.learning_rate
                assert replace(own, optim=whole.optim) == whole


@pytest.mark.parametrize("scale", get_args(Scale))
def test_sizes_and_lengths_differ_in_the_encoder_alone(scale):
    """A size that decided how much is hidden once made the top of the ladder another objective."""
    runs = [arm.pretraining for arm in scaling.ladder(scale).arms if arm.pretraining is not None]
    student, teacher = (ablations.distillation(scale).arm(name).pretraining for name in ("alone", "teacher"))
    for one, other in (*itertools.pairwise(runs), (student, teacher)):
        assert replace(one.objective, backbone=other.objective.backbone) == other.objective
        assert one.data == other.data


@pytest.mark.parametrize("scale", get_args(Scale))
def test_frames_are_as_far_apart_in_all_that_is_shown(scale):
    studies = (inputs.clip_length(scale), ablations.objectives(scale))
    worlds = [arm.pretraining.data for study in studies for arm in study.arms if arm.pretraining is not None]
    worlds += [study.suite.exams[0].test for study in studies]
    assert len({world.num_frames for world in worlds}) > 1
    assert [world.duration_s / (world.num_frames - 1) for world in worlds] == pytest.approx([0.1] * len(worlds))


@pytest.mark.parametrize("scale", get_args(Scale))
def test_a_clip_has_left_the_queue_before_it_comes_again(scale):
    run = ablations.objectives(scale).arm("MoCo").pretraining
    assert run.batch_size < run.objective.queue_size <= run.data.num_clips // 4


def test_a_taught_student_is_paid_for_its_teacher():
    study = ablations.distillation("tiny")
    alone, taught = (study.arm(name).pretraining for name in ("alone", "taught, equal operations"))
    assert flop_of_run(taught) == pytest.approx(flop_of_run(alone), rel=0.05)
    assert flop_of_step(taught.objective, 16) > flop_of_step(alone.objective, 16)


def test_studies_of_reading_share_their_arms_and_suite():
    one, other = reading.readouts("here"), reading.depth("here")
    assert one.arms == other.arms == reading.use("here").arms
    assert one.suite == other.suite


def test_image_encoders_see_as_many_pixels():
    study = inputs.image_encoders("here")
    pixels = {}
    for name in ("SimpleMAE", "SimpleMAE, frames"):
        run = study.arm(name).pretraining
        frames = run.data.num_frames * run.data.height * run.data.width
        pixels[name] = run.steps * run.batch_size * frames, run.data.num_clips * frames
    assert pixels["SimpleMAE"] == pixels["SimpleMAE, frames"]


def test_the_ladder_has_four_sizes_and_a_size_of_several_lengths():
    arms = [arm for arm in scaling.ladder("here").arms if arm.pretraining is not None]
    assert len({arm.levels["size"] for arm in arms}) >= 4
    assert len({arm.pretraining.steps for arm in arms}) == 4
