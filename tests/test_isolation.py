"""An item that crashes, hangs, or eats memory costs itself alone; order, errors and ends are kept."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import joblib
import psutil
import pytest

from fourd.isolation import Failure, Limits, isolated_map

QUICK = Limits(seconds=30.0, memory_bytes=2**29)


def square(number: int) -> int:
    return number * number


def crash_on_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGSEGV)
    return number


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def take_memory(num_bytes: int) -> int:
    return len(bytearray(num_bytes))


def refuse(number: int) -> int:
    raise FileNotFoundError(2, "no such film", f"film-{number}")


class _StubbornError(Exception):
    def __init__(self, one: int, other: int) -> None:
        super().__init__("cannot be rebuilt from its arguments")


def refuse_stubbornly(number: int) -> int:
    raise _StubbornError(number, number)


def leave(number: int) -> int:
    os._exit(7)


def process_id(_: object) -> int:
    return os.getpid()


def nested(number: int) -> list[int]:
    return [result for _, result in isolated_map(square, range(number), 1, QUICK)]


@pytest.mark.parametrize("num_workers", [1, 3])
def test_results_come_in_the_order_of_items(num_workers: int):
    assert list(isolated_map(square, range(20), num_workers, QUICK)) == [(n, n * n) for n in range(20)]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_crash_costs_its_own_item_alone(num_workers: int):
    results = dict(isolated_map(crash_on_three, range(8), num_workers, QUICK))
    assert results.pop(3) == Failure("the worker crashed (SIGSEGV)")
    assert results == {n: n for n in range(8) if n != 3}


def test_a_hung_item_is_ended():
    results = dict(isolated_map(sleep, [0.0, 60.0, 0.1], 2, Limits(seconds=1.0)))
    assert results == {0.0: 0.0, 60.0: Failure("hung: no end after 1 s"), 0.1: 0.1}


def test_an_item_that_takes_memory_fails_and_the_worker_goes_on():
    results = dict(isolated_map(take_memory, [10, 2**30, 20], 1, QUICK))
    assert results == {10: 10, 2**30: Failure("needs more than 512 MiB of memory"), 20: 20}


def test_a_worker_that_leaves_is_told():
    assert dict(isolated_map(leave, [1], 1, QUICK)) == {1: Failure("the worker ended with exit code 7")}


def test_an_exception_arrives_as_it_was_raised_and_says_where():
    with pytest.raises(FileNotFoundError, match="film-4") as caught:
        list(isolated_map(refuse, [4], 1, QUICK))
    assert "test_isolation.py" in caught.value.__notes__[0]


def test_an_exception_that_cannot_travel_is_told():
    with pytest.raises(RuntimeError, match="cannot be rebuilt from its arguments"):
        list(isolated_map(refuse_stubbornly, [4], 1, QUICK))


def test_a_function_that_a_worker_cannot_import_is_an_error_and_no_failed_item(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(square, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "square", square, raising=False)
    with pytest.raises(AttributeError, match="square"):
        list(isolated_map(square, [1], 1, QUICK))


def die_in_the_middle_of_an_answer(_: object) -> int:
    connection = sys._getframe(2).f_locals["connection"]
    os.write(connection.fileno(), struct.pack("!i", 100) + b"only the beginning")
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def test_half_an_answer_is_none():
    results = dict(isolated_map(die_in_the_middle_of_an_answer, [1], 1, QUICK))
    assert results == {1: Failure("the worker crashed (SIGKILL)")}


def test_workers_stay_for_many_items_and_end_with_the_generator():
    results = isolated_map(process_id, range(100), 2, QUICK)
    workers = {next(results)[1] for _ in range(50)}
    assert len(workers) <= 2
    results.close()
    assert not any(psutil.pid_exists(worker) for worker in workers)


def test_only_a_few_items_are_begun_ahead():
    begun = []

    def items():
        for number in range(100):
            begun.append(number)
            yield number

    results = isolated_map(sleep_briefly, items(), 2, QUICK)
    next(results)
    assert len(begun) < 20
    results.close()


def sleep_briefly(number: int) -> int:
    time.sleep(0.01)
    return number


def test_no_torch_is_imported_in_a_worker():
    assert dict(isolated_map(is_imported, ["torch", "fourd"], 1, QUICK)) == {"torch": False, "fourd": True}


def is_imported(name: str) -> bool:
    return name in sys.modules


def test_it_works_within_the_workers_of_joblib():
    assert joblib.Parallel(n_jobs=2)(joblib.delayed(nested)(number) for number in (2, 3)) == [[0, 1], [0, 1, 4]]


def test_a_killed_caller_leaves_no_worker_behind(tmp_path: Path):
    script = (
        "from fourd.isolation import isolated_map\nfrom tests.test_isolation import note_and_sleep\n"
        f"list(isolated_map(note_and_sleep, ['{tmp_path / 'pid'}'], 1))"
    )
    caller = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[1])
    file = tmp_path / "pid"
    wait_until(lambda: file.exists() and file.read_text().endswith("\n"))
    worker = int(file.read_text())
    caller.kill()
    caller.wait()
    wait_until(lambda: not psutil.pid_exists(worker) or psutil.Process(worker).status() == psutil.STATUS_ZOMBIE)


def note_and_sleep(file: str) -> None:
    Path(file).write_text(f"{os.getpid()}\n")
    time.sleep(600)


def wait_until(holds, seconds: float = 15.0) -> None:
    limit = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < limit, "it did not come to hold"
        time.sleep(0.05)


def test_no_workers_are_refused():
    with pytest.raises(ValueError, match="num_workers is 0: expected 1 or more"):
        list(isolated_map(square, [1], 0))
