"""Records on disk go on where a checkpoint stands."""

from __future__ import annotations

import json

from fourd.telemetry import JsonLines


def steps_in(path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def write(path, first, last, after=0):
    lines = JsonLines(path, after)
    for step in range(first, last + 1):
        lines.write({"step": step, "loss": step / 2})
    lines.close()


def test_lines_after_the_checkpoint_are_cut_off_and_written_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, 1, 7)
    whole = path.read_bytes()
    write(path, 5, 7, after=4)
    assert path.read_bytes() == whole
    write(path, 1, 2)
    assert steps_in(path) == [1, 2]


def test_a_torn_last_line_is_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, 1, 4)
    path.write_text(path.read_text() + '{"step": 5, "lo')
    write(path, 5, 5, after=4)
    assert steps_in(path) == [1, 2, 3, 4, 5]


def test_a_number_that_is_not_finite_is_null(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = JsonLines(path, 0)
    lines.write({"step": 1, "loss": float("nan"), "norm": float("inf"), "keys": ["a"]})
    lines.close()
    assert json.loads(path.read_text()) == {"step": 1, "loss": None, "norm": None, "keys": ["a"]}


def test_flushed_lines_are_on_disk_before_the_file_is_closed(tmp_path):
    lines = JsonLines(tmp_path / "a", 0)
    lines.write({"step": 1})
    lines.flush()
    assert steps_in(tmp_path / "a") == [1]
    lines.close()
