"""The screen says how far a run is."""

from __future__ import annotations

import pytest

from fourd.telemetry import StepProgress, duration


def test_without_a_terminal_the_last_step_is_told(capsys):
    with StepProgress("train", 3, done=1) as progress:
        progress.update(2, "loss 1")
        assert capsys.readouterr().err == ""
        progress.update(3, "loss 0.5")
    assert capsys.readouterr().err == "train: 3/3  loss 0.5  0 s left\n"


def test_on_a_terminal_a_live_line_is_shown(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with StepProgress("encode", 3) as progress:
        progress.update(3, "clips")
    assert "encode" in capsys.readouterr().err


@pytest.mark.parametrize(("seconds", "words"), [(40.0, "40 s"), (720.0, "12 min"), (7500.0, "2 h 5 min")])
def test_a_time_is_written_for_people(seconds, words):
    assert duration(seconds) == words
