"""`fourd plan` as it is typed, on models that are measured in a moment."""

import json
import logging

import pytest

from fourd.cli import plan as command
from fourd.objectives import simple_mae
from fourd.parallel import ParallelConfig, build_blank
from fourd.planner import PlanConfig
from fourd.planner.measure import Layout
from fourd.planner.memo import memory_of

TINY = "fourd.objectives.simple_mae:tiny"
ON_CPU = ("--gpu", "cpu", "--gpu-tflops", "1")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FOURD_CACHE", str(tmp_path))


def planned(capsys, *options):
    command.run(["--model", TINY, "--json", *options])
    return json.loads(capsys.readouterr().out)


def tiny_bytes(clips, gpus=1, **parallel):
    layout = Layout(gpus, 1, ParallelConfig(**parallel), on_gpu=False)
    return memory_of(simple_mae.tiny(), layout, clips)[clips].total


def test_a_plan_is_one_json_document_whose_numbers_agree(capsys):
    plan = planned(capsys, "--batch", "8", "--clips", "1e6", "--price", "2")
    parameters = sum(parameter.numel() for parameter in build_blank(simple_mae.tiny()).parameters())
    assert plan["parameters"] == parameters
    assert plan["checkpoint_bytes"] == 12 * parameters
    seconds = plan["flop_per_clip"] * 8 / (989e12 / 2)
    assert plan["clips_per_s"] == pytest.approx(8 / seconds)
    assert plan["gpu_hours"] == pytest.approx(1e6 / plan["clips_per_s"] / 3600)
    assert plan["cost"] == pytest.approx(2 * plan["gpu_hours"])
    assert plan["decode_cores"] == pytest.approx(plan["clips_per_s"] / 26)
    kinds = ("weights", "gradients", "moments", "activations", "gathered", "other")
    assert plan["memory"]["total"] == sum(plan["memory"][kind] for kind in kinds)


def test_masks_share_the_decoding(capsys):
    once, four = planned(capsys, "--batch", "8"), planned(capsys, "--batch", "8", "--repeat", "4")
    assert four["decode_cores"] == pytest.approx(once["decode_cores"] / 4)


def test_what_was_measured_is_not_measured_again(capsys, caplog):
    caplog.set_level(logging.INFO, "fourd.planner.memo")
    first = planned(capsys, "--batch", "8")
    assert "measuring" in caplog.text
    caplog.clear()
    assert planned(capsys, "--batch", "8") == first
    assert not caplog.text


def test_the_page_names_the_options_of_the_run(capsys):
    command.run(["--model", TINY, "--batch", "8"])
    page = capsys.readouterr().out
    assert "--parallel.shard 1 --parallel.recompute none --parallel.parts 1" in page
    assert "clips/s at a utilisation of 50% (assumed)" in page


def test_a_tight_gpu_computes_again(capsys):
    tight = tiny_bytes(4) - 1
    plan = planned(capsys, *ON_CPU, "--reserve", "0", "--batch", "4", "--gpu-memory-gb", repr(tight / 1e9))
    assert (plan["parts"], plan["recompute"]) == (1, "selective")
    assert plan["memory"]["total"] <= tight


def test_what_fits_nowhere_says_how_many_gpus_would_do(capsys):
    on_two, on_one = tiny_bytes(1, gpus=2, shard=2, recompute="full"), tiny_bytes(1, parts=2, recompute="full")
    assert on_two < on_one
    little = repr((on_two + on_one) / 2 / 1e9)
    options = (*ON_CPU, "--reserve", "0", "--batch", "2", "--gpu-memory-gb", little)
    with pytest.raises(ValueError, match=r"does not fit on 1 cpu: .*; 2 are the fewest that do \(--gpus 2\)"):
        planned(capsys, *options)
    found = planned(capsys, *options, "--fit")
    assert (found["gpus"], found["shard"]) == (2, 2)


def test_ranks_that_do_not_divide_a_batch_wait_for_the_one_with_most_clips(capsys):
    uneven, even = (planned(capsys, "--gpus", "3", "--batch", batch) for batch in ("7", "9"))
    assert (uneven["clips_per_part"], uneven["memory"]) == (even["clips_per_part"], even["memory"])
    assert uneven["compute_s_per_step"] == even["compute_s_per_step"]
    assert uneven["clips_per_s"] == pytest.approx(even["clips_per_s"] * 7 / 9)
    assert "3 GPUs do not divide batches of 7" in uneven["notes"][0]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--gpus", "3", "--batch", "2"], "--batch 2 has fewer clips than there are --gpus 3"),
        (["--gpu", "abacus"], "--gpu abacus: not known"),
    ],
)
def test_what_cannot_be_planned_is_refused(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        command.run(["--model", TINY, *options])


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"utilisation": 2.0}, "--utilisation is 2.0: expected a share"),
        ({"clips": 0.0}, "--clips is 0.0: expected more than 0"),
        ({"gpus": 0}, "--gpus is 0: expected 1 or more"),
        ({"batch": 10, "repeat": 4}, "--batch is 10 samples with --repeat 4: expected a multiple"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(values, complaint):
    with pytest.raises(ValueError, match=complaint):
        PlanConfig(**values)


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        ("Z", "--model Z: expected one of S B L H G e j, or the dotted path"),
        ("fourd.objectives.simple_mae:nothing", "has no 'nothing'"),
        ("fourd.backbones.video_vit:small", "returned a VideoViTConfig; expected a fourd.trainer.RunConfig"),
    ],
)
def test_unknown_models_are_refused(model, complaint):
    with pytest.raises(ValueError, match=complaint):
        command.run(["--model", model])


def test_a_recipe_brings_its_own_batch():
    config, objective = command.resolve(["--model", "fourd.recipes.pretrain:laptop", "--gpus", "2"])
    assert (config.batch, config.gpus, config.clips) == (8, 2, 8000.0)
    assert objective.backbone.size == (112, 112)
    assert command.resolve(["--model", "fourd.recipes.pretrain:laptop", "--batch", "4"])[0].batch == 4
