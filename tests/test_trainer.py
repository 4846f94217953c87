"""The loop: it stops and goes on bit for bit, refuses what is not its own, and never applies a broken step."""

from __future__ import annotations

import csv
import dataclasses
import json
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fourd import checkpoint, parallel, trainer, weights
from fourd.backbones import video_vit
from fourd.datasets.toy_world import ToyWorldConfig
from fourd.objectives import probe, simple_mae
from fourd.parallel import Ranks
from fourd.storage import StorageError
from fourd.trainer import fit, loop
from fourd.trainer.held_out import look_at_held_out
from fourd.types import Objective
from tests.small_runs import ClipsConfig, HollowConfig, LineConfig, ProbeClipsConfig, run

ROOT = Path(__file__).parents[1]
ALONE = Ranks(0, 1, 1, torch.device("cpu"))
SPEED = ("clips_per_s", "unique_clips_per_s", "data_wait", "memory_gb", "memory_peak_gb")


def lines_of(out: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / name).read_text().splitlines()]


def without_speed(out: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k not in SPEED} for line in lines_of(out)]


def start_of(config: trainer.RunConfig) -> Objective:
    """Build the objective as a run starts with it."""
    return parallel.materialise(config.objective, torch.device("cpu"), config.seed)


# ----------------------------------------------------------------------------- killed and gone on

KILL_AGAIN_AND_AGAIN = """
import os, random, signal, sys, time
from pathlib import Path
from fourd.checkpoint import saving
from fourd.trainer import fit
from tests.small_runs import long_run

def die(*ignored):
    os.kill(os.getpid(), signal.SIGKILL)

def start(out, before=lambda: None):
    child = os.fork()
    if not child:
        before()
        fit(long_run(), Path(out))
        os._exit(0)
    return child

def ended_well(child):
    return os.waitpid(child, 0)[1] == 0

def die_in(module, name, time_of_death):
    real, calls = getattr(module, name), []
    def spoiled(*arguments):
        calls.append(name)
        return die() if len(calls) == time_of_death else real(*arguments)
    setattr(module, name, spoiled)

def steps_of(out):
    metrics = Path(out) / "metrics.jsonl"
    return metrics.read_bytes().count(b"\\n") if metrics.exists() else 0

def kill_after(step):
    # a step, not a moment: a machine may be fast or slow just now
    child = start(killed)
    while steps_of(killed) < step:
        assert os.waitpid(child, os.WNOHANG) == (0, 0), f"the run ended before step {step}"
        time.sleep(0.001)
    time.sleep(random.uniform(0.0, 0.03))
    os.kill(child, signal.SIGKILL)
    return not ended_well(child)

whole, killed = sys.argv[1:]
assert ended_well(start(whole))
random.seed(0)
for module, name, call in ((saving, "_synced_digest", 1), (saving, "_sync_folder", 2), (saving, "candidates", 5)):
    assert not ended_well(start(killed, lambda: die_in(module, name, call)))
print("kills", sum(kill_after(step) for step in (9, 20, 31, 42)))
assert ended_well(start(killed)), "the run did not end by itself"
"""


def test_a_killed_run_ends_as_one_that_was_not(tmp_path):
    command = [sys.executable, "-c", KILL_AGAIN_AND_AGAIN, str(tmp_path / "whole"), str(tmp_path / "killed")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.split()[-1] == "4", "a kill came when the run was over"
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for name in (
        "final/model.safetensors",
        "final/head.safetensors",
        "ledger.jsonl",
        "unreadable.csv",
        "quarantine.jsonl",
    ):
        assert (whole / name).read_bytes() == (killed / name).read_bytes(), name
    assert without_speed(whole) == without_speed(killed)
    assert [line["step"] for line in lines_of(whole)] == list(range(1, 61))
    assert not list((killed / "checkpoints").glob(".*.tmp")), "torn folders of earlier processes are left"


def test_a_finished_run_is_not_trained_again(tmp_path):
    fit(run(), tmp_path)
    weights_before = (tmp_path / "final/model.safetensors").read_bytes()
    metrics_before = (tmp_path / "metrics.jsonl").read_bytes()
    objective = fit(run(), tmp_path)
    assert not objective.dtypes, "a step was taken"
    assert (tmp_path / "final/model.safetensors").read_bytes() == weights_before
    assert (tmp_path / "metrics.jsonl").read_bytes() == metrics_before


def test_a_finetuned_backbone_with_idle_blocks_goes_on(tmp_path, monkeypatch):
    """Blocks above the depth that is read never have a gradient, hence no moments in a checkpoint."""
    config = dataclasses.replace(probe.tiny(), backbone=video_vit.tiny(), depths=(0.5,), use="finetuned")
    data = ProbeClipsConfig()
    whole = run(config, data, steps=4, save_every=2, batch_size=2)
    fit(whole, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(loop, "finish", stop)
        patch.setattr(loop, "clip_gradients", stop_at(3))
        with pytest.raises(KeyboardInterrupt):
            fit(whole, tmp_path / "stopped")
    fit(whole, tmp_path / "stopped")
    for name in ("model", "readouts"):
        same = [(tmp_path / which / f"final/{name}.safetensors").read_bytes() for which in ("whole", "stopped")]
        assert same[0] == same[1]


def stop(*ignored: Any) -> None:
    raise KeyboardInterrupt


def stop_at(step: int) -> Any:
    """Make a `clip_gradients` that stops the run at a step."""
    real, calls = loop.clip_gradients, []

    def clip(*arguments: Any) -> Any:
        calls.append(1)
        return stop() if len(calls) == step else real(*arguments)

    return clip


# ----------------------------------------------------------------------------- whose folder it is


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"steps": 9}, "steps"),
        ({"seed": 1}, "seed"),
        ({"objective": LineConfig(poisoned=("x",))}, "objective.poisoned"),
        ({"optim": dataclasses.replace(run().optim, learning_rate=1.0)}, "optim.learning_rate"),
        ({"held_out": ClipsConfig(3)}, "held_out"),
    ],
)
def test_a_folder_of_another_config_is_refused(tmp_path, changes, field):
    fit(run(steps=2), tmp_path)
    with pytest.raises(ValueError, match=rf"belongs to another run: {field} was.*--out"):
        fit(dataclasses.replace(run(steps=2), **changes), tmp_path)


def test_what_changes_no_result_may_be_changed(tmp_path):
    fit(run(steps=2), tmp_path)
    fit(run(steps=2, log_every=1, save_every=1), tmp_path)


@pytest.mark.parametrize("field", ["steps", "batch_size", "log_every", "save_every", "held_out_every", "num_held_out"])
def test_a_count_below_one_is_refused(field):
    with pytest.raises(ValueError, match=rf"RunConfig.{field} is 0: expected 1 or more"):
        run(**{field: 0})


# ----------------------------------------------------------------------------- steps that are not finite


def test_a_step_that_is_not_finite_is_counted_and_not_applied(tmp_path):
    config = run(LineConfig(poisoned=("clip-3",), poisoned_times=1), log_every=1, save_every=1, steps=3)
    (bad,) = {row["step"] for row in poisoned_steps(config, tmp_path / "dry")}
    before, after = weights_at(config, tmp_path, bad - 1), weights_at(config, tmp_path, bad)
    for name in before:
        assert torch.equal(before[name], after[name]), name
    lines = {line["step"]: line for line in lines_of(tmp_path / f"{bad}")}
    assert lines[bad]["skipped"] == 1
    assert lines[bad]["loss"] is None
    assert all("skipped" not in line for step, line in lines.items() if step != bad)


def poisoned_steps(config: trainer.RunConfig, out: Path) -> list[dict[str, Any]]:
    fit(config, out)
    return [line for line in lines_of(out) if "skipped" in line]


def weights_at(config: trainer.RunConfig, folder: Path, step: int) -> dict[str, torch.Tensor]:
    """Train up to a step, at a learning rate that does not know of the end."""
    if not step:
        return dict(start_of(config).state_dict())
    constant = dataclasses.replace(config.optim, warmup_steps=0, end_learning_rate=config.optim.learning_rate)
    config = dataclasses.replace(config, optim=constant)
    return dict(fit(dataclasses.replace(config, steps=step), folder / f"{step}").state_dict())


def test_three_in_a_row_go_back_and_three_more_stop_the_run(tmp_path):
    config = run(LineConfig(poisoned=tuple(f"clip-{n}" for n in range(12))), log_every=1)
    with pytest.raises(
        FloatingPointError, match=r"last of them step 3 on \('clip-\d+'.*gone back.*step 3.*learning_rate"
    ):
        fit(config, tmp_path)
    assert [line["skipped"] for line in lines_of(tmp_path)] == [1, 1, 1]
    assert not (tmp_path / "final").exists()


def keys_of(out: Path) -> dict[int, list[str]]:
    return {line["step"]: line["keys"] for line in lines_of(out, "ledger.jsonl")}


def poisoned_run(tmp_path: Path, **changes: Any) -> tuple[trainer.RunConfig, dict[int, list[str]]]:
    """Describe a run of which the batches of steps 8 to 10 are poisoned, and say which clips each step has without."""
    healthy = run(data=ClipsConfig(200), steps=20, save_every=3, log_every=4, **changes)
    fit(healthy, tmp_path / "healthy")
    keys = keys_of(tmp_path / "healthy")
    return replace(healthy, objective=LineConfig(poisoned=tuple(keys[8][:1] + keys[9][:1] + keys[10][:1]))), keys


def test_a_run_goes_back_and_leaves_the_batches_out(tmp_path, caplog):
    config, keys = poisoned_run(tmp_path)
    fit(config, tmp_path / "poisoned")
    assert "go back to a checkpoint of step 7 or before" in caplog.text
    shown = keys_of(tmp_path / "poisoned")
    assert [shown[step] for step in range(1, 8)] == [keys[step] for step in range(1, 8)]
    assert [shown[step] for step in range(8, 18)] == [keys[step + 3] for step in range(8, 18)]
    assert sorted(shown) == list(range(1, 21))
    assert not any("skipped" in line for line in lines_of(tmp_path / "poisoned"))
    notes = checkpoint.newest(tmp_path / "poisoned/checkpoints", ALONE).notes
    assert notes["course"] == {"left_out": [[7, 9]], "rollbacks": [9]}


def test_a_run_that_went_back_is_gone_on_with(tmp_path, monkeypatch):
    """What was left out is part of the checkpoint: a later process leaves it out too."""
    config, _ = poisoned_run(tmp_path)
    fit(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(loop, "clip_gradients", stop_at(21))  # well after going back, and before the end
        with pytest.raises(KeyboardInterrupt):
            fit(config, tmp_path / "stopped")
    fit(config, tmp_path / "stopped")
    for name in ("final/model.safetensors", "ledger.jsonl"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "stopped" / name).read_bytes()


def test_a_gradient_far_larger_than_before_is_skipped(tmp_path):
    healthy = run(data=ClipsConfig(600), steps=130, save_every=200, optim=replace(run().optim, learning_rate=1e-3))
    fit(healthy, tmp_path / "healthy")
    exploding = tuple(keys_of(tmp_path / "healthy")[120][:1])
    fit(replace(healthy, objective=LineConfig(exploding=exploding)), tmp_path / "exploding")
    assert [line["step"] for line in lines_of(tmp_path / "exploding") if "skipped" in line] == [120]
    believing = replace(healthy, objective=LineConfig(exploding=exploding), max_norm_sigmas=0.0)
    fit(believing, tmp_path / "believing")
    assert not any("skipped" in line for line in lines_of(tmp_path / "believing"))


def test_no_checkpoint_is_written_in_the_middle_of_a_bad_row(tmp_path):
    config, _ = poisoned_run(tmp_path)
    fit(replace(config, max_skipped=5, save_every=1, keep_checkpoints=20), tmp_path / "poisoned")
    steps = sorted(int(path.name[-2:]) for path in (tmp_path / "poisoned/checkpoints").iterdir())
    assert steps == [1, 2, 3, 4, 5, 6, 7, *range(11, 21)]


def test_two_in_a_row_do_not(tmp_path):
    config = run(LineConfig(poisoned=tuple(f"clip-{n}" for n in range(12)), poisoned_times=2), log_every=3)
    fit(config, tmp_path)
    assert [line["step"] for line in lines_of(tmp_path) if "skipped" in line] == [1, 2]


# ----------------------------------------------------------------------------- what moves


@pytest.mark.parametrize("use", ["frozen", "finetuned"])
def test_a_backbone_moves_only_when_it_is_finetuned(tmp_path, use):
    config = dataclasses.replace(probe.tiny(), backbone=video_vit.tiny(), depths=(1.0,), use=use)
    config = run(config, ProbeClipsConfig(), steps=3, batch_size=2)
    before, after = start_of(config).state_dict(), fit(config, tmp_path).state_dict()
    still = {name for name in before if torch.equal(before[name], after[name])}
    # the official count of depths never reads the last block: finetuning leaves it as it is
    kept = "backbone." if use == "frozen" else "backbone.blocks.3."
    assert still == {name for name in before if name.startswith(kept)}
    assert still
    assert any(name.startswith("backbone.blocks.2.") for name in before)


def test_bf16_keeps_float32_weights(tmp_path):
    objective = fit(run(precision="bf16"), tmp_path / "bf16")
    assert set(objective.dtypes) == {torch.bfloat16}
    assert {parameter.dtype for parameter in objective.parameters()} == {torch.float32}
    stored = load_file(tmp_path / "bf16/final/model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.float32}
    # smaller changes than bfloat16 can hold are kept
    assert any((value != value.bfloat16().float()).any() for value in stored.values())
    assert set(fit(run(precision="fp32"), tmp_path / "fp32").dtypes) == {torch.float32}


def test_a_backbone_is_taken_from_a_file(tmp_path):
    fit(run(seed=1), tmp_path / "first")
    config = run(LineConfig(freeze=True), init=str(tmp_path / "first/final/model.safetensors"), steps=2)
    second = fit(config, tmp_path / "second")
    for name, value in load_file(tmp_path / "first/final/model.safetensors").items():
        assert torch.equal(second.backbone.state_dict()[name], value)


def test_an_unset_buffer_is_noticed_even_if_no_state_holds_it():
    with pytest.raises(RuntimeError, match=r"2 parameters of Hollow .*table.*index"):
        parallel.materialise(HollowConfig(), torch.device("cpu"), 0)


# ----------------------------------------------------------------------------- held out


def test_held_out_loss_is_recorded_and_changes_nothing(tmp_path):
    fit(run(), tmp_path / "without")
    fit(run(held_out=ClipsConfig(6, first=100)), tmp_path / "with")
    both = [(tmp_path / name / "final/model.safetensors").read_bytes() for name in ("without", "with")]
    assert both[0] == both[1]
    found = {line["step"]: line["held_out_loss"] for line in lines_of(tmp_path / "with") if "held_out_loss" in line}
    assert sorted(found) == [4, 8]
    assert all(value > 0 for value in found.values())
    assert not any("held_out_loss" in line for line in lines_of(tmp_path / "without"))
    pairs = zip(lines_of(tmp_path / "with"), lines_of(tmp_path / "without"), strict=True)
    assert all(one["loss"] == other["loss"] for one, other in pairs)


def test_held_out_loss_of_nothing_is_recorded_too(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "look_at_held_out", lambda *ignored: {"held_out_loss": 0.0})
    fit(run(held_out=ClipsConfig(6), log_every=100, save_every=100, held_out_every=3), tmp_path)
    assert [line["step"] for line in lines_of(tmp_path) if line.get("held_out_loss") == 0] == [3, 6, 8]


def test_held_out_loss_is_the_mean_over_all_clips_whatever_the_batch_size(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "rand_like", torch.zeros_like)
    config = run(held_out=ClipsConfig(7, first=100), precision="fp32")
    objective, dataset = start_of(config), config.held_out.build()
    found = [
        look_at_held_out(objective, dataset, replace(config, batch_size=size), tmp_path, ALONE)["held_out_loss"]
        for size in (1, 4, 7, 30)
    ]
    assert found == pytest.approx([found[0]] * 4, rel=1e-5)


def test_an_unreadable_held_out_clip_is_replaced_and_listed(tmp_path):
    fit(run(held_out=ClipsConfig(6, first=100, unreadable=(0, 1))), tmp_path)
    assert {row["path"] for row in unreadable(tmp_path)} == {"clip-0", "clip-1"}


def test_no_clip_held_out_is_said_and_not_an_error(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        fit(run(held_out=ClipsConfig(0)), tmp_path)
    assert "no clips are held out" in caplog.text


# ----------------------------------------------------------------------------- what a run leaves behind


def unreadable(out: Path) -> list[dict[str, str]]:
    with (out / "unreadable.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_all_that_it_promises(tmp_path):
    config = run()
    objective = fit(config, tmp_path)
    for name in ("config.json", "environment.json", "unreadable.csv", "tensorboard", "checkpoints", "first_frame.png"):
        assert (tmp_path / name).exists(), name
    assert unreadable(tmp_path) == []
    for line in lines_of(tmp_path):
        assert {"step", "loss", "clips_per_s", "learning_rate", "grad_norm", "answer"} <= line.keys()
        assert line["clips_per_s"] > 0
    assert [line["step"] for line in lines_of(tmp_path)] == list(range(1, 9))
    ledger = lines_of(tmp_path, "ledger.jsonl")
    assert [len(line["keys"]) for line in ledger] == [4] * 8
    assert sorted(key for line in ledger[:3] for key in line["keys"]) == sorted(f"clip-{n}" for n in range(12))
    for name, part in objective.export().items():
        again = torch.nn.Linear(part.in_features, part.out_features)
        weights.load_module(again, tmp_path / f"final/{name}.safetensors")
        assert torch.equal(again.weight, part.weight)
    with pytest.raises(ValueError, match="do not match"):
        weights.load_module(torch.nn.Linear(3, 3), tmp_path / "final/model.safetensors")


def test_all_that_cannot_be_read_is_listed(tmp_path):
    fit(run(data=ClipsConfig(12, unreadable=(2, 7), listed=("notes.txt",))), tmp_path)
    assert unreadable(tmp_path) == [{"path": "notes.txt", "reason": "listed at the start"}]
    quarantined = lines_of(tmp_path, "quarantine.jsonl")
    assert {line["path"] for line in quarantined} == {"clip-2", "clip-7"}
    assert {line["reason"] for line in quarantined} == {"damaged in the middle"}
    shown = {line["step"]: line["keys"] for line in lines_of(tmp_path, "ledger.jsonl")}
    assert all(line["substitute"] in shown[line["step"]] for line in quarantined)


def test_too_many_clips_in_quarantine_stop_the_run_with_the_list_and_so_does_going_on(tmp_path):
    config = run(data=ClipsConfig(12, unreadable=(2, 7)), steps=40, max_quarantined=0.01)
    stopped = []
    for _ in range(2):
        with pytest.raises(ValueError, match=r"12 clips could not be decoded by step 18.*clip-[27]: damaged") as caught:
            fit(config, tmp_path)
        stopped.append((str(caught.value), lines_of(tmp_path, "quarantine.jsonl")))
    assert stopped[0] == stopped[1]
    fit(replace(config, max_quarantined=0.5), tmp_path)
    assert len(lines_of(tmp_path, "quarantine.jsonl")) > 11


def test_clips_that_cannot_be_read_for_no_fault_of_theirs_stop_the_run(tmp_path):
    for num_workers in (0, 1):
        config = run(data=ClipsConfig(12, failing=(7,)), num_workers=num_workers)
        with pytest.raises(StorageError, match=r"step \d+: clip 7 cannot be read: the disk is gone"):
            fit(config, tmp_path / str(num_workers))
        assert lines_of(tmp_path / str(num_workers), "quarantine.jsonl") == []


def test_a_worker_that_hangs_stops_the_run(tmp_path):
    with pytest.raises(TimeoutError, match=r"gave nothing for 5 s: it hangs.*numbers in the dataset\): 7$"):
        fit(run(data=ClipsConfig(12, hanging=(7,)), num_workers=1, worker_timeout_s=5.0), tmp_path)


def test_a_worker_that_crashes_stops_the_run_and_the_clip_is_named(tmp_path):
    with pytest.raises(ChildProcessError, match=r"a worker of the loader died: .*numbers in the dataset\): 7\."):
        fit(run(data=ClipsConfig(12, crashing=(7,)), num_workers=1), tmp_path)


def test_views_of_a_clip_are_counted_apart_from_clips(tmp_path):
    fit(run(repeat=2), tmp_path)
    lines = lines_of(tmp_path)
    assert [line["samples"] for line in lines] == [4 * step for step in range(1, 9)]
    assert [line["unique_clips"] for line in lines] == [2 * step for step in range(1, 9)]
    assert all(line["clips_per_s"] == pytest.approx(2 * line["unique_clips_per_s"]) for line in lines)
    assert all(0 <= line["data_wait"] <= 1 for line in lines)
    assert all(len(line["keys"]) == 2 for line in lines_of(tmp_path, "ledger.jsonl"))


def test_views_that_do_not_fill_a_batch_are_refused():
    with pytest.raises(ValueError, match="batch_size is 4 samples with 3 views of each clip: expected a multiple"):
        run(repeat=3)


@pytest.mark.parametrize(
    ("field", "value"), [("max_quarantined", 1.5), ("max_quarantined", -0.1), ("worker_timeout_s", -1.0)]
)
def test_limits_that_mean_nothing_are_refused(field, value):
    with pytest.raises(ValueError, match=rf"RunConfig\.{field} is {value}: expected"):
        run(**{field: value})


def test_the_same_seed_gives_the_same_run_and_another_does_not(tmp_path):
    states = [fit(run(seed=seed), tmp_path / f"{place}").state_dict() for place, seed in enumerate((0, 0, 1))]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not any(torch.equal(states[0][name], states[2][name]) for name in states[0])


@pytest.mark.parametrize(("norm", "expected"), [(0.0, 5.0), (1.0, 1.0), (10.0, 5.0)])
def test_gradients_are_scaled_down_to_the_norm(norm, expected):
    line = start_of(run())
    for parameter in line.parameters():
        parameter.grad = torch.zeros_like(parameter)
    line.unused.grad = torch.tensor([3.0, 0.0, 4.0])
    assert float(loop.clip_gradients(line, norm)) == 5
    assert float(line.unused.grad.norm()) == pytest.approx(expected, rel=1e-4)


def test_a_device_that_is_not_there_is_a_plain_error():
    with pytest.raises(ValueError, match=r"device 'nonsense' cannot be used .*expected auto, cpu"):
        parallel.find_device("nonsense")
    assert parallel.find_device("cpu") == torch.device("cpu")


# ----------------------------------------------------------------------------- health along the way


def test_features_of_held_out_clips_are_looked_at_along_the_way(tmp_path):
    clips = ToyWorldConfig(num_clips=12, num_frames=4, height=32, width=32, num_points=4, cache_dir=str(tmp_path))
    held_out = replace(clips, first_index=100, tasks=("camera_motion",))
    objective = simple_mae.tiny()
    trained = run(objective, clips, held_out, steps=8, held_out_every=4)
    fit(trained, tmp_path / "trained")
    first, last = (line for line in lines_of(tmp_path / "trained") if "held_out_loss" in line)
    assert {"feature_rank", "feature_std", "nearest_neighbour/camera_motion"} <= first.keys()
    assert 1 < last["feature_rank"] <= 11
    assert first["feature_rank"] != last["feature_rank"]
    whole = look_at_held_out(
        start_of(trained), held_out.build(), replace(trained, batch_size=12, precision="fp32"), tmp_path, ALONE
    )
    small = look_at_held_out(
        start_of(trained), held_out.build(), replace(trained, batch_size=5, precision="fp32"), tmp_path, ALONE
    )
    assert whole == pytest.approx(small, rel=1e-4)


def test_features_that_are_not_trained_are_not_looked_at(tmp_path):
    frozen = dataclasses.replace(probe.tiny(), use="frozen", backbone=video_vit.tiny())
    fit(run(frozen, ProbeClipsConfig(), ProbeClipsConfig(), steps=4, batch_size=2), tmp_path)
    assert not any("feature_rank" in line for line in lines_of(tmp_path))
