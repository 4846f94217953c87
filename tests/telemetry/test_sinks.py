"""Metrics go to the disk, to TensorBoard and, where asked for, to Weights & Biases; silent ranks write nothing."""

from __future__ import annotations

import json
import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fourd.telemetry import Silent, Telemetry

STAND_IN = """
import json, os

def init(**settings):
    return Run(settings)

class Run:
    def __init__(self, settings):
        self.file = open(os.environ["SAID_TO_WANDB"], "a")
        self.say("init", settings)

    def say(self, *words):
        self.file.write(json.dumps(words) + "\\\\n")

    def define_metric(self, name, step_metric=None):
        self.say("define_metric", name, step_metric)

    def log(self, record):
        self.say("log", record)

    def finish(self, exit_code):
        self.say("finish", exit_code)
        self.file.close()
"""


@pytest.fixture
def wandb_said(tmp_path, monkeypatch):
    """Put a stand-in for wandb on the path, and give what reads all that it was told."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "wandb.py").write_text(STAND_IN.replace("\\\\", "\\"))
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setenv("SAID_TO_WANDB", str(tmp_path / "said"))
    yield lambda: [json.loads(line) for line in (tmp_path / "said").read_text().splitlines()]
    sys.modules.pop("wandb", None)


def scalars(out, name):
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def steps_in(path):
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_tensorboard_shows_what_the_metrics_say(tmp_path):
    with Telemetry(tmp_path, "train", 2, 0) as telemetry:
        for step, loss in ((1, 0.5), (2, 0.25)):
            telemetry.record({"step": step, "loss": loss, "held_out_loss": None})
    assert scalars(tmp_path, "loss") == [(1, 0.5), (2, 0.25)]
    assert steps_in(tmp_path / "metrics.jsonl") == [1, 2]


def test_steps_that_are_done_again_are_shown_once(tmp_path):
    with Telemetry(tmp_path, "train", 3, 0) as telemetry:
        for step in (1, 2, 3):
            telemetry.record({"step": step, "loss": 1.0})
    with Telemetry(tmp_path, "train", 3, 1) as telemetry:
        telemetry.record({"step": 2, "loss": 2.0})
    assert scalars(tmp_path, "loss") == [(1, 1.0), (2, 2.0)]
    assert steps_in(tmp_path / "metrics.jsonl") == [1, 2]


def test_wandb_gets_every_record_and_a_restart_goes_on_with_its_run(tmp_path, wandb_said):
    out = tmp_path / "run"
    out.mkdir()
    with Telemetry(out, "train", 2, 0, wandb="films", config={"steps": 2}) as telemetry:
        telemetry.record({"step": 1, "loss": 0.5, "held_out_loss": None})
    with Telemetry(out, "train", 2, 1, wandb="films") as telemetry:
        telemetry.record({"step": 2, "loss": 0.25})
    first, again = (words[1] for words in wandb_said() if words[0] == "init")
    assert (first["project"], first["config"], first["resume"]) == ("films", {"steps": 2}, "allow")
    assert first["id"] == again["id"] == (out / "wandb_id.txt").read_text().strip()
    logged = [words[1] for words in wandb_said() if words[0] == "log"]
    assert logged == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}]
    assert ["define_metric", "*", "step"] in wandb_said()
    assert wandb_said()[-1] == ["finish", 0]


def test_wandb_hears_of_a_failed_run(tmp_path, wandb_said):
    with pytest.raises(KeyError), Telemetry(tmp_path, "train", 2, 0, wandb="films"):
        raise KeyError("lost")
    assert wandb_said()[-1] == ["finish", 1]


def test_without_the_package_wandb_is_refused_with_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match=r"'films'.*pip install wandb"):
        Telemetry(tmp_path, "train", 2, 0, wandb="films")
    with Telemetry(tmp_path, "train", 2, 0):
        assert not (tmp_path / "wandb_id.txt").exists()


def test_a_silent_rank_takes_all_and_writes_nothing(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    with Silent() as telemetry:
        telemetry.record({"step": 1, "loss": 0.5})
        telemetry.ledger.write({"step": 1, "keys": ["a"]})
        telemetry.quarantine.write({"step": 1})
        telemetry.progress.update(2, "loss 0.5")
        telemetry.flush()
    assert telemetry.quarantine.num_records == 0
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
