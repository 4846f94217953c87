"""A process that hangs is ended and says where; a rank that gives no sign is named; real processes all."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
import traceback

import pytest

from fourd.telemetry import HUNG, Watchdog, heartbeat
from fourd.telemetry.signs import Sign, describe_others, read_sign

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")

QUICK = {"every_s": 0.1}


@pytest.fixture(autouse=True)
def looks_often(monkeypatch):
    monkeypatch.setattr(heartbeat, "_LOOK_EVERY_S", 0.05)


@pytest.fixture
def children():
    """Start functions in processes of their own, whose log goes to a file; what is left is ended."""
    running: list[int] = []

    def start(function, log_file=None):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                if log_file is not None:
                    logging.basicConfig(filename=log_file, force=True)
                function()
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        running.append(child)
        return child

    yield start
    for child in running:
        try:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        except (ProcessLookupError, ChildProcessError):
            continue


def exit_code(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def wait_for(truth, seconds=10.0):
    end = time.monotonic() + seconds
    while not truth():
        assert time.monotonic() < end, "what was waited for did not happen"
        time.sleep(0.02)


def a_product_without_end():
    time.sleep(60)


def hangs_in_a_step(folder, **options):
    with Watchdog(folder, 0, {"read": 60.0, "step": 0.3}, **QUICK, **options) as watchdog:
        watchdog.phase("read", step=11)
        watchdog.phase("step", step=12)
        a_product_without_end()


def test_a_step_that_hangs_ends_the_process_and_its_stacks_say_where(tmp_path, children):
    log_file = tmp_path / "log"
    began = time.monotonic()
    assert exit_code(children(lambda: hangs_in_a_step(tmp_path / "signs"), log_file)) == HUNG == 70
    assert time.monotonic() - began < 30
    stacks = (tmp_path / "signs" / "rank_00000_stacks.txt").read_text()
    assert "a_product_without_end" in stacks
    assert "'step' of step 12" in stacks
    said = log_file.read_text()
    assert "rank 0 hangs: 'step' of step 12 takes" in said
    assert "rank_00000_stacks.txt" in said
    assert "exit code 70" in said
    sign = read_sign(tmp_path / "signs", 0)
    assert (sign.left, sign.phase) == (True, "hung in 'step' and was ended")


def test_a_stopped_rank_is_named(tmp_path, children):
    def lives():
        with Watchdog(tmp_path, 1, 0.0, num_ranks=2, **QUICK) as watchdog:
            watchdog.phase("step", step=12)
            time.sleep(60)

    def waits_for_it():
        with Watchdog(tmp_path, 0, 1.0, num_ranks=2, **QUICK) as watchdog:
            watchdog.phase("step", step=12)
            time.sleep(60)

    first = children(waits_for_it, tmp_path / "log")
    other = children(lives)
    wait_for(lambda: (tmp_path / "rank_00001.json").exists() and read_sign(tmp_path, 1).phase == "step")
    time.sleep(0.15)  # a sign after the other rank began
    os.kill(other, signal.SIGSTOP)
    assert exit_code(first) == HUNG
    assert (
        f"rank 1 (process {other} on {os.uname().nodename}) has not given a sign for" in (tmp_path / "log").read_text()
    )


def test_a_run_without_a_fault_leaves_no_stacks_and_ends_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(heartbeat, "_LOOK_EVERY_S", 60.0)
    before = threading.active_count()
    with Watchdog(tmp_path, 3, 5.0, num_ranks=4) as watchdog:
        for step in range(100):
            watchdog.phase("read", step=step)
            watchdog.phase("step")
        began = time.monotonic()
    assert time.monotonic() - began < 30, "it waited for the next look"
    assert threading.active_count() == before
    assert [path.name for path in tmp_path.iterdir()] == ["rank_00003.json"]
    sign = json.loads((tmp_path / "rank_00003.json").read_text())
    assert (sign["rank"], sign["pid"], sign["step"], sign["phase"], sign["left"]) == (3, os.getpid(), 99, "ended", True)
    assert abs(sign["unix_s"] - time.time()) < 5


def test_signs_tell_what_a_rank_is_at(tmp_path):
    with Watchdog(tmp_path, 0, 5.0, **QUICK) as watchdog:
        watchdog.phase("save", step=7)
        wait_for(lambda: (tmp_path / "rank_00000.json").exists() and read_sign(tmp_path, 0).phase_s > 0.15)
        sign = read_sign(tmp_path, 0)
    assert (sign.phase, sign.step, sign.left) == ("save", 7, False)


def test_an_error_is_in_the_last_sign(tmp_path):
    with pytest.raises(MemoryError), Watchdog(tmp_path, 0, 5.0):
        raise MemoryError
    assert read_sign(tmp_path, 0).phase == "ended with MemoryError"


def test_a_phase_may_be_given_more_time_or_all_of_it(tmp_path, children):
    def takes_long():
        with Watchdog(tmp_path, 0, {"step": 0.1, "save": 0.0}, **QUICK) as watchdog:
            watchdog.phase("step", timeout_s=60.0)  # the first one compiles
            time.sleep(0.4)
            watchdog.phase("save")
            time.sleep(0.4)
            watchdog.phase("step")

    assert exit_code(children(takes_long)) == 0
    assert not (tmp_path / "rank_00000_stacks.txt").exists()


def test_without_ending_the_process_a_hanging_phase_is_told_once(tmp_path, caplog):
    with Watchdog(tmp_path, 0, 0.1, ends_process=False, **QUICK) as watchdog:
        for step in (1, 2):
            watchdog.phase("read", step=step)
            time.sleep(0.4)
    assert [record.getMessage().startswith("rank 0 hangs: 'read' of step") for record in caplog.records] == [
        *(True, False),
        *(True, False),
    ]
    assert (tmp_path / "rank_00000_stacks.txt").read_text().count("hangs") == 2


def test_time_in_which_the_whole_process_stood_still_does_not_count(tmp_path, children, monkeypatch):
    monkeypatch.setattr(heartbeat, "_STOOD_STILL_S", 0.4)

    def goes_on():
        with Watchdog(tmp_path, 0, 0.9, **QUICK) as watchdog:
            watchdog.phase("step", step=1)
            wait_for((tmp_path / "go on").exists)

    child = children(goes_on)
    wait_for((tmp_path / "rank_00000.json").exists)
    os.kill(child, signal.SIGSTOP)
    time.sleep(1.3)
    os.kill(child, signal.SIGCONT)
    time.sleep(0.4)
    (tmp_path / "go on").touch()
    assert exit_code(child) == 0


def test_a_folder_that_is_gone_does_not_keep_the_process(tmp_path, children, capfd):
    def hangs():
        with Watchdog(tmp_path / "signs", 0, 0.3, **QUICK) as watchdog:
            watchdog.phase("save", step=3)
            os.rename(tmp_path / "signs", tmp_path / "elsewhere")
            a_product_without_end()

    assert exit_code(children(hangs, tmp_path / "log")) == HUNG
    said = (tmp_path / "log").read_text()
    assert said.count("cannot leave signs of life") == 1
    assert "cannot be written" in said
    assert "a_product_without_end" in capfd.readouterr().err


def test_a_disk_that_hangs_does_not_keep_the_process(tmp_path, children, capfd, monkeypatch):
    monkeypatch.setattr(heartbeat, "_REPORT_WITHIN_S", 0.5)
    os.mkfifo(tmp_path / "rank_00000_stacks.txt")  # opening it waits for somebody who reads
    assert exit_code(children(lambda: hangs_in_a_step(tmp_path), tmp_path / "log")) == HUNG
    assert "rank 0 hangs: 'step' of step 12" in (tmp_path / "log").read_text()
    assert "a_product_without_end" in capfd.readouterr().err


def test_timeouts_that_make_no_sense_are_refused(tmp_path):
    with pytest.raises(ValueError, match="of save is -1"):
        Watchdog(tmp_path, 0, {"step": 1.0, "save": -1.0})
    watchdog = Watchdog(tmp_path, 0, {"step": 1.0})
    with pytest.raises(ValueError, match=r"phase 'read' has no timeout.*'step'"):
        watchdog.phase("read")


def signs(folder, *others):
    for rank, age_s, values in others:
        described = {"step": 5, "phase": "step", "phase_s": 2.0, "left": False} | values
        Sign(rank, 70 + rank, "node", unix_s=1000.0 - age_s, **described).write(folder)
    own = Sign(0, 70, "node", 5, "step", 60.0, 1000.0)
    return describe_others(folder, own, len(others) + 1, since_unix_s=100.0, late_s=20.0)


def test_what_is_told_of_other_ranks(tmp_path):
    assert signs(tmp_path, (1, 3.0, {})) == ""
    assert signs(tmp_path, (1, 47.0, {})) == (
        "rank 1 (process 71 on node) has not given a sign for 47 s; it was at step 5 in 'step'"
    )
    assert (
        signs(tmp_path, (1, 3.0, {"phase": "read"})) == "rank 1 (process 71 on node) is at step 5 in 'read' since 5 s"
    )
    assert signs(tmp_path, (1, 40.0, {"phase": "ended with OSError", "left": True})) == (
        "rank 1 (process 71 on node) ended with OSError 40 s ago, at step 5"
    )
    assert signs(tmp_path, (1, 950.0, {})) == "rank 1 has given no sign since this rank began"
    assert signs(tmp_path, *((rank, 950.0, {}) for rank in range(1, 12))).endswith(
        "rank 8 has given no sign since this rank began; and 3 more ranks"
    )
