"""The model card tells what the run's folder tells, and nothing that it does not."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard

from fourd import provenance
from fourd.backbones import dinov2, video_vit
from fourd.backbones.video_vit import VideoViT, VideoViTConfig
from fourd.objectives.simple_mae import SimpleMAEConfig
from fourd.trainer import fit
from fourd.weights.card import address, write_card
from fourd.weights.hub import save_pretrained
from tests.small_runs import ClipsConfig, run

BACKBONE = VideoViTConfig(12, 1, 2, 24, patch=(1, 2, 2), num_frames=2, size=(4, 4))
OBJECTIVE = SimpleMAEConfig(BACKBONE, mask_ratio=0.5, decoder_patch=(1, 2, 2), num_decoder_blocks=1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[VideoViT, Path]:
    out = tmp_path_factory.mktemp("runs") / "pretrain"
    config = run(OBJECTIVE, ClipsConfig(unreadable=(3,)), ClipsConfig(5, 100), steps=8, seed=3)
    objective = fit(config, out)
    return objective.backbone.eval(), out


def card_of(folder: Path) -> str:
    return (folder / "README.md").read_text()


def rows_of(card: str) -> dict[str, str]:
    """Read the table of the card."""
    return dict(re.findall(r"^\| ([^|]+) \| (.*) \|$", card, re.MULTILINE))


def last_metrics(out: Path) -> dict:
    return json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])


def test_the_card_tells_what_the_run_says(trained, tmp_path):
    backbone, out = trained
    folder = save_pretrained(backbone, tmp_path / "model", run=out)
    card, rows, last = card_of(folder), rows_of(card_of(folder)), last_metrics(out)
    assert rows["objective"].startswith("`SimpleMAE`: decoder_patch [1, 2, 2]")
    assert "mask_ratio 0.5" in rows["objective"]
    assert rows["data"].startswith("`Clips`: num_clips 12")
    assert rows["held out"].startswith("`Clips`: num_clips 5, first 100")
    assert "learning_rate 0.05" in rows["optimiser"]
    assert rows["length"] == "8 steps of 4 clips: 32 clips"
    assert rows["started from"] == "random weights"
    assert (rows["seed"], rows["precision"]) == ("3", "bf16")
    assert rows["last loss"] == f"{last['loss']:.4g} (step 8)"
    assert rows["last held-out loss"] == f"{last['held_out_loss']:.4g} (step 8)"
    assert (rows["files that were not used"], rows["clips that could not be decoded"]) == ("0", "1")
    assert rows["code"].startswith("fourd 0.")
    assert f"torch {torch.__version__}" in rows["code"]
    assert rows["times it was started"] == "1"
    assert "to the bit, those that the run ended with (`final/model.safetensors`)" in card
    config = re.search(r"```json\n(.*?)\n```", card, re.DOTALL)
    assert json.loads(config[1]) == json.loads((out / "config.json").read_text())


def test_the_head_of_the_card_is_what_the_hub_reads(trained, tmp_path):
    backbone, out = trained
    data = ModelCard.load(save_pretrained(backbone, tmp_path / "model", run=out) / "README.md").data
    assert data.library_name == "fourd"
    assert data.pipeline_tag == "feature-extraction"
    assert "video-feature-extraction" in data.tags
    assert data.license is None
    folder = save_pretrained(backbone, tmp_path / "licensed", licence="apache-2.0")
    assert ModelCard.load(folder / "README.md").data.license == "apache-2.0"


def test_the_card_tells_what_the_model_is_and_how_to_use_it(tmp_path):
    backbone = video_vit.tiny().build()
    backbone.init_weights()
    num_parameters = sum(parameter.numel() for parameter in backbone.parameters())
    card = card_of(save_pretrained(backbone, tmp_path / "model"))
    assert f"# VideoViT, {num_parameters / 1e6:.1f}M parameters" in card
    assert "It takes clips of 4 frames of 32 x 32 pixels; one token covers 2 x 8 x 8" in card
    assert 'import fourd\n\nbackbone = fourd.load("owner/name")' in card
    assert "Not recorded: it was saved without the folder of a run." in card


def test_the_code_on_the_card_runs(tmp_path, monkeypatch):
    backbone = video_vit.tiny().build()
    backbone.init_weights()
    folder = save_pretrained(backbone, tmp_path / "model")
    code = re.search(r"```python\n(.*?)```", address(card_of(folder), str(folder)), re.DOTALL)
    names = {"video": torch.zeros(1, 4, 3, 32, 32, dtype=torch.uint8)}
    exec(code[1], names)
    assert names["features"].grid.shape == (1, 2, 4, 4, 32)


def test_other_weights_than_the_run_ended_with_are_told_apart(trained, tmp_path):
    backbone, out = trained
    changed = BACKBONE.build()
    changed.load_state_dict(backbone.state_dict())
    with torch.no_grad():
        changed.positions[0, 0] += 1
    card = card_of(save_pretrained(changed, tmp_path / "model", run=out))
    assert "not those that the run ended with" in card


def test_the_size_of_clips_is_no_matter_of_the_run(trained, tmp_path):
    backbone, out = trained
    free = replace(BACKBONE, native_size=False).build()
    free.load_state_dict(backbone.state_dict())
    assert "to the bit" in card_of(save_pretrained(free, tmp_path / "model", run=out))


def test_the_run_of_another_model_is_refused(trained, tmp_path):
    _, out = trained
    other = replace(BACKBONE, num_heads=3).build()
    other.init_weights()
    with pytest.raises(ValueError, match=r"pretrain trained no VideoViTConfig with these values: .*\"num_heads\": 3"):
        save_pretrained(other, tmp_path / "model", run=out)
    assert list(tmp_path.iterdir()) == []


def copy_of(out: Path, place: Path) -> Path:
    return Path(shutil.copytree(out, place / "run"))


def test_a_run_that_was_stopped_and_started_again_says_so(trained, tmp_path):
    backbone, out = trained
    half = copy_of(out, tmp_path)
    lines = (half / "metrics.jsonl").read_text().splitlines(keepends=True)
    (half / "metrics.jsonl").write_text("".join(lines[:5]) + lines[5][:20])  # torn by a kill
    (half / "restarts.jsonl").write_text("{}\n{}\n")
    rows = rows_of(card_of(save_pretrained(backbone, tmp_path / "model", run=half)))
    assert rows["state when saved"] == "step 5 of 8"
    assert rows["last loss"] == f"{json.loads(lines[4])['loss']:.4g} (step 5)"
    assert rows["last held-out loss"] == f"{json.loads(lines[3])['held_out_loss']:.4g} (step 4)"
    assert rows["times it was started"] == "3"


def test_a_loss_that_was_not_finite_is_not_hidden(trained, tmp_path):
    backbone, out = trained
    bad = copy_of(out, tmp_path)
    (bad / "metrics.jsonl").write_text('{"step": 8, "loss": null}\n')
    rows = rows_of(card_of(save_pretrained(backbone, tmp_path / "model", run=bad)))
    assert rows["last loss"] == "not finite (step 8)"


@pytest.mark.parametrize("name", ["config.json", "environment.json", "metrics.jsonl"])
def test_a_folder_that_is_no_run_names_what_it_lacks(trained, tmp_path, name):
    backbone, out = trained
    broken = copy_of(out, tmp_path)
    (broken / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        save_pretrained(backbone, tmp_path / "model", run=broken)


def test_another_kind_of_run_is_refused(trained, tmp_path):
    backbone, out = trained
    other = copy_of(out, tmp_path)
    provenance.write_json(other / "config.json", {"type": "fourd.demonstration:StudyConfig"})
    expected = r"describes 'fourd\.demonstration:StudyConfig', expected 'fourd\.trainer\.config:RunConfig'"
    with pytest.raises(ValueError, match=expected):
        save_pretrained(backbone, tmp_path / "model", run=other)


def test_where_files_lie_on_a_machine_is_not_published(trained, tmp_path):
    backbone, out = trained
    elsewhere = copy_of(out, tmp_path)
    described = json.loads((elsewhere / "config.json").read_text())
    described["data"] |= {"folder": "/home/alice/films", "cache": "~/secret/cache", "other": "C:\\Users\\alice\\films"}
    described["init"] = "/home/alice/runs/final/model.safetensors"
    provenance.write_json(elsewhere / "config.json", described)
    card = card_of(save_pretrained(backbone, tmp_path / "model", run=elsewhere))
    assert 'folder ".../films"' in card
    assert "`.../model.safetensors`" in rows_of(card)["started from"]
    assert "alice" not in card
    assert "secret" not in card
    assert str(tmp_path) not in card


def test_a_backbone_of_single_frames_says_so(tmp_path):
    backbone = dinov2.tiny().build()
    card = card_of(save_pretrained(backbone, tmp_path / "model"))
    assert "It takes frames, any number of them, of 28 x 28 pixels; one token covers 1 x 14 x 14" in card


def test_a_card_can_be_written_anew(trained, tmp_path):
    backbone, out = trained
    folder = save_pretrained(backbone, tmp_path / "model")
    write_card(folder, backbone.config, run=out, repo_id="me/model")
    assert "to the bit" in card_of(folder)
    assert 'fourd.load("me/model")' in card_of(folder)
