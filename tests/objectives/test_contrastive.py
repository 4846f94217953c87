"""Contrastive learning: against slow loops, on two ranks as on one, and a queue that holds what it should."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from fourd.flops import training_flop
from fourd.objectives import contrastive
from fourd.objectives._views import draws, view
from fourd.objectives.contrastive import Contrastive, ContrastiveConfig
from fourd.trainer import fit
from tests.contracts.objective import CHECKS
from tests.noise_clips import ClipsConfig
from tests.objectives.learning import deviation, moving_squares
from tests.small_runs import run

MOCO = replace(contrastive.tiny(), form="moco")
ROOT = Path(__file__).parents[2]


def fresh(config: ContrastiveConfig) -> Contrastive:
    objective = config.build()
    objective.init_weights(torch.Generator().manual_seed(0))
    objective.begin()
    return objective


@pytest.mark.parametrize("config", [contrastive.tiny(), replace(MOCO, queue_size=32)], ids=["simclr", "moco"])
def test_clips_come_to_be_picked_out_and_features_do_not_collapse(config):
    objective, batch = fresh(config), moving_squares(16)
    optimizer = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], lr=2e-3)
    losses = []
    for step in range(60):
        found = objective(batch)
        optimizer.zero_grad()
        found.loss.backward()
        optimizer.step()
        objective.after_step((step + 1) / 60, torch.ones(()))
        losses.append(float(found.loss.detach()))
    assert min(losses[-10:]) < 0.8 * max(losses[:10])
    assert found.scalars["accuracy"] > 0.3
    assert deviation(objective.backbone, batch.video) > 0.1


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_mocos_form_keeps_the_contract_too(check):
    check(SimpleNamespace(tiny=lambda: MOCO, tiny_batch=contrastive.tiny_batch))


@pytest.mark.parametrize("keys", [("a", "b", "c"), ("a", "b", "a")], ids=["all differ", "one is there twice"])
def test_the_loss_of_a_batch_is_that_of_a_slow_loop(keys):
    objective, batch = fresh(contrastive.tiny()), replace(moving_squares(3), key=keys)
    one, other = (
        objective._described(objective.backbone, objective.projector, objective._view(batch, stream))
        for stream in (1, 2)
    )
    every = torch.cat([one, other])
    losses = []
    for place in range(6):
        partner = (place + 3) % 6
        others = [j for j in range(6) if j == partner or keys[j % 3] != keys[place % 3]]
        alike = torch.stack([every[place] @ every[j] / 0.1 for j in others])
        losses.append(alike.logsumexp(0) - every[place] @ every[partner] / 0.1)
    assert objective(batch).loss.item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)


@pytest.mark.parametrize("form", ["simclr", "moco"])
def test_where_all_clips_are_described_alike_none_is_picked(form: str):
    objective = fresh(replace(contrastive.tiny(), form=form))
    with torch.no_grad():
        objective.projector.out.weight.zero_()
        objective.projector.out.bias.copy_(torch.eye(16)[0])
    objective.begin()
    for _ in range(2):  # until the queue of eight holds nothing else
        step = objective(moving_squares(4))
        objective.after_step(0.5, torch.ones(()))
    assert objective(moving_squares(4)).scalars["accuracy"] == 0
    assert torch.isfinite(step.loss)


def test_the_operations_of_both_forms_are_counted_without_numbers():
    """Two views through one encoder with gradients cost more than one of them through an average without."""
    simclr, moco = (training_flop(config, contrastive.tiny_batch()) for config in (contrastive.tiny(), MOCO))
    assert simclr > moco > 0.6 * simclr


@pytest.mark.parametrize("form", ["simclr", "moco"])
def test_clips_are_compared_in_float32_whatever_autocast_says(form: str, monkeypatch):
    objective, batch = fresh(replace(contrastive.tiny(), form=form)), moving_squares(4)
    given, compare = [], contrastive._likeness
    monkeypatch.setattr(contrastive, "_likeness", lambda *rows: given.append((*rows, compare(*rows))) or given[-1][2])
    with torch.autocast("cpu", torch.bfloat16):
        objective(batch)
    assert given
    for asking, described, likeness in given:
        torch.testing.assert_close(likeness, asking @ described.T, rtol=0, atol=1e-6)


def test_the_queue_holds_the_last_clips_in_turn_and_nothing_of_a_skipped_step():
    objective = fresh(replace(MOCO, queue_size=5))
    start = objective.queue.clone()
    expected = start.clone()
    place = 0
    for applied in (1.0, 1.0, 0.0, 1.0):
        objective(moving_squares(2))
        keys = objective._keys[0].clone()
        objective.after_step(0.5, torch.tensor(applied))
        if applied:
            for key in keys:
                expected[place % 5] = key
                place += 1
        assert torch.equal(objective.queue, expected)
        assert objective.next_place.item() == place % 5
        assert not objective._keys


def test_numbers_that_are_not_finite_never_enter_the_queue():
    objective = fresh(MOCO)
    before = objective.queue.clone()
    objective._keys = [torch.full((2, 16), torch.nan)]
    objective.after_step(0.5, torch.ones(()))
    assert torch.equal(objective.queue, before)


def test_a_step_larger_than_the_queue_is_refused():
    objective = fresh(replace(MOCO, queue_size=2))
    objective(moving_squares(3))
    with pytest.raises(ValueError, match="queue_size is 2, and a step has 3 clips"):
        objective.after_step(0.5, torch.ones(()))


def test_held_out_clips_fill_no_queue():
    objective = fresh(MOCO).eval()
    objective(moving_squares(2))
    assert not objective._keys


# ----------------------------------------------------------------------------- views


def test_two_views_differ_and_each_is_the_same_again_whatever_the_batch():
    batch = moving_squares(4, frames=8)
    shape = (4, (24, 24), (0.3, 1.0), 0.4)
    one, other = (view(batch.video, batch.seed, stream, *shape) for stream in (1, 2))
    assert one.shape == (4, 4, 3, 24, 24)
    assert not torch.equal(one, other)
    alone = view(batch.video[2:3], batch.seed[2:3], 1, *shape)
    torch.testing.assert_close(alone[0], one[2])
    assert 0 <= float(one.min()) <= float(one.max()) <= 1


def test_a_view_of_everything_is_the_clip_itself_or_its_mirror_image():
    video = torch.randint(0, 256, (6, 4, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    seed = torch.arange(6)
    whole = view(video, seed, 1, 4, (16, 16), (4.0, 4.0), 0.0)
    shares = video.float() / 255
    mirrored = [bool(torch.allclose(one, clip.flip(-1), atol=1e-5)) for one, clip in zip(whole, shares, strict=True)]
    same = [bool(torch.allclose(one, clip, atol=1e-5)) for one, clip in zip(whole, shares, strict=True)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))


def test_windows_lie_anywhere_in_a_longer_clip():
    video = torch.arange(8, dtype=torch.uint8)[None, :, None, None, None].expand(200, -1, 3, 4, 4)
    found = view(video, torch.arange(200), 1, 3, (4, 4), (1.0, 1.0), 0.0) * 255
    starts = found[:, 0, 0, 0, 0].round().long()
    assert set(starts.tolist()) == set(range(6))
    assert torch.equal((found[:, 2, 0, 0, 0].round().long() - starts), torch.full((200,), 2))
    with pytest.raises(ValueError, match="clips have 8 frames; a view needs 9"):
        view(video, torch.arange(200), 1, 9, (4, 4), (1.0, 1.0), 0.0)


def test_numbers_are_drawn_evenly_and_apart():
    one, other = (draws(torch.arange(5000), stream, 2) for stream in (1, 2))
    assert one.mean().item() == pytest.approx(0.5, abs=0.01)
    pairs = torch.stack([one[:, 0], one[:, 1], other[:, 0]])
    assert (torch.corrcoef(pairs) - torch.eye(3)).abs().max() < 0.05


# ----------------------------------------------------------------------------- runs


@pytest.mark.parametrize("form", ["simclr", "moco"])
def test_a_run_goes_on_bit_for_bit_with_its_queue(tmp_path: Path, form: str):
    objective = replace(contrastive.tiny(), form=form)
    config = run(objective, ClipsConfig(12, shape=(6, 32, 32)), steps=6, save_every=3)
    whole = fit(config, tmp_path / "whole")
    state = {name: value.clone() for name, value in whole.state_dict().items()}
    (tmp_path / "whole/checkpoints/step_00000006").rename(tmp_path / "set_aside")
    again = fit(config, tmp_path / "whole")
    assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())


ON_RANKS = """
import sys
from dataclasses import replace
from pathlib import Path
from fourd.objectives import contrastive
from fourd.parallel import ParallelConfig
from fourd.trainer import fit
from tests import forked_ranks
from tests.noise_clips import ClipsConfig
from tests.small_runs import run

out, form = Path(sys.argv[1]), sys.argv[2]
objective = replace(contrastive.tiny(), form=form)
for name, ranks in (("one", 1), ("two", 2), ("three", 3)):
    config = run(objective, ClipsConfig(12, shape=(6, 32, 32)), steps=4, precision="fp32")
    assert not any(forked_ranks.wait(forked_ranks.start(ranks, lambda: fit(config, out / name)))), name
"""


@pytest.mark.parametrize("form", ["simclr", "moco"])
def test_ranks_compare_with_the_clips_of_all_ranks(tmp_path: Path, form: str):
    """Three ranks have two, one and one of four clips."""
    command = [sys.executable, "-c", ON_RANKS, str(tmp_path), form]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr[-3000:]
    said = {
        name: [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two", "three")
    }
    for name in ("two", "three"):
        assert [row["loss"] for row in said[name]] == pytest.approx([row["loss"] for row in said["one"]], rel=1e-3)
        assert said[name][0]["grad_norm"] == pytest.approx(said["one"][0]["grad_norm"], rel=1e-5)


GRADIENTS = """
import os
import sys
import torch
import torch.distributed as dist
from dataclasses import replace
from fourd.objectives import contrastive
from tests import forked_ranks
from tests.contracts.nouns import take_clips
from tests.objectives.learning import moving_squares

def gradients(shares):
    rank, size = int(os.environ["RANK"]), len(shares)
    if size > 1:
        dist.init_process_group("gloo")
    objective = contrastive.tiny().build()
    objective.init_weights(torch.Generator().manual_seed(0))
    batch = replace(moving_squares(5, frames=8), key=("a", "b", "c", "d", "a"))
    first = sum(shares[:rank])
    loss = objective(take_clips(batch, list(range(first, first + shares[rank])))).loss * (shares[rank] / 5)
    loss.backward()
    found = {"loss": loss.detach(), **{name: p.grad for name, p in objective.named_parameters()}}
    if size > 1:
        for value in found.values():
            dist.all_reduce(value)
    if rank == 0:
        torch.save(found, f"{sys.argv[1]}/{size}.pt")

for shares in ([5], [3, 2], [2, 2, 1]):
    assert not any(forked_ranks.wait(forked_ranks.start(len(shares), lambda: gradients(shares)))), shares
"""


def test_gradients_of_ranks_add_up_to_those_of_the_whole_batch(tmp_path: Path):
    """Ranks have three clips and two, or two, two and one; the first and the last clip are of one video."""
    command = [sys.executable, "-c", GRADIENTS, str(tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr[-3000:]
    one, *others = (torch.load(tmp_path / f"{ranks}.pt") for ranks in (1, 2, 3))
    assert max(float(value.abs().max()) for value in one.values()) > 0.1
    for other in others:
        for name, value in other.items():
            torch.testing.assert_close(value, one[name], rtol=1e-4, atol=1e-6, msg=lambda told, name=name: name + told)


def test_values_that_mean_nothing_are_refused():
    for change, said in (({"temperature": 0.0}, "temperature"), ({"crop_scale": (0.5, 0.1)}, "crop_scale")):
        with pytest.raises(ValueError, match=said):
            replace(contrastive.tiny(), **change)


def test_the_cross_entropy_is_over_all_of_the_queue():
    objective, batch = fresh(MOCO), moving_squares(2)
    one, other = (objective._view(batch, stream) for stream in (1, 2))
    asking = objective._described(objective.backbone, objective.projector, one)
    keys = objective._described(objective.key_backbone, objective.key_projector, other)
    logits = torch.cat([(asking * keys).sum(1, keepdim=True), asking @ objective.queue.T], 1) / 0.1
    expected = -F.log_softmax(logits, 1)[:, 0].mean()
    assert objective(batch).loss.item() == pytest.approx(float(expected), rel=1e-5)
