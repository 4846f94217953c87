"""Run a function on items in processes of their own, so that an item that crashes, hangs or eats memory costs itself.

FFmpeg reads files that anyone may have made. What it does with a bad one (a crash in C, a loop without end, gigabytes)
must not touch the process that works through a million others.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

_AHEAD = 2
"""Items that are begun for each worker before the first of them has to be taken."""


@dataclass(frozen=True)
class Limits:
    """Say what one item may cost. The numbers are not from the paper.

    seconds: by the clock, only to end a worker that hangs; what is wrong with a film is never judged by time.
    memory_bytes: beyond what the worker holds when it starts; needs a system with RLIMIT_DATA, such as Linux.
    """

    seconds: float = 600.0
    memory_bytes: int = 4 * 2**30

    def __post_init__(self) -> None:
        """Refuse limits that every item would break."""
        if not self.seconds > 0 or self.memory_bytes < 2**20:
            raise ValueError(
                f"limits of {self.seconds:g} s and {self.memory_bytes} bytes of memory: expected more than 0 s, and a "
                "MiB or more"
            )


@dataclass(frozen=True)
class Failure:
    """Say why there is no result for an item."""

    reason: str


def isolated_map(
    function: Callable[[ItemT], ResultT], items: Iterable[ItemT], num_workers: int, limits: Limits | None = None
) -> Generator[tuple[ItemT, ResultT | Failure], None, None]:
    """Give each item with the result of `function`, in order; workers are at most a few items ahead.

    function: importable by its name, and without torch, which takes seconds to import. Works within workers of joblib,
    Ray and Dask. What `function` raises is raised here. Leaving the generator ends the workers.
    Raises: ValueError for fewer than one worker.
    """
    if num_workers < 1:
        raise ValueError(f"num_workers is {num_workers}: expected 1 or more")
    crew = _Crew[Any](function, num_workers, limits or Limits())
    pending: deque[_Job[Any]] = deque()
    try:
        for item in items:
            pending.append(crew.begin(item))
            while len(pending) > _AHEAD * num_workers or (pending and pending[0].is_done):
                yield _taken(crew, pending.popleft())
        while pending:
            yield _taken(crew, pending.popleft())
    finally:
        crew.close()


def _taken(crew: _Crew[Any], job: _Job[Any]) -> tuple[Any, Any]:
    while not job.is_done:
        crew.wait()
    if isinstance(job.result, _Raised):
        raise job.result.error
    return job.item, job.result


# ----------------------------------------------------------------------------- the caller's side


class _Job(Generic[ItemT]):
    """Hold an item, and its result once there is one."""

    def __init__(self, item: ItemT) -> None:
        self.item = item
        self.is_done = False
        self.result: Any = None

    def finish(self, result: Any) -> None:
        self.is_done, self.result = True, result


class _Crew(Generic[ItemT]):
    """Hand jobs to workers, and see to it that each comes back."""

    def __init__(self, function: Callable[[ItemT], Any], num_workers: int, limits: Limits) -> None:
        self._function, self._num_workers, self._limits = function, num_workers, limits
        self._workers: list[_Worker] = []
        self._waiting: deque[_Job[ItemT]] = deque()

    def begin(self, item: ItemT) -> _Job[ItemT]:
        job = _Job(item)
        self._waiting.append(job)
        self._collect(0.0)
        return job

    def _assign(self) -> None:
        while self._waiting:
            worker = next((worker for worker in self._workers if worker.job is None), None)
            if worker is None:
                if len(self._workers) == self._num_workers:
                    return
                worker = _Worker(self._function, self._limits)
                self._workers.append(worker)
            worker.begin(self._waiting.popleft())

    def wait(self) -> None:
        """Wait until a worker has finished, or has to be ended."""
        deadline = min(worker.deadline for worker in self._busy())
        self._collect(max(deadline - time.monotonic(), 0.0))

    def _collect(self, timeout: float) -> None:
        """Take what workers have finished, end those that hang, and give all of them something to do."""
        busy = {worker.connection: worker for worker in self._busy()}
        for connection in wait(list(busy), timeout):
            self._receive(busy[connection])  # type: ignore[index]
        for worker in [worker for worker in self._busy() if worker.deadline <= time.monotonic()]:
            self._end(worker, f"hung: no end after {self._limits.seconds:g} s")
        self._assign()

    def _busy(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.job is not None]

    def _receive(self, worker: _Worker) -> None:
        try:
            result = worker.connection.recv()
        except (EOFError, OSError):  # it is gone, perhaps in the middle of its answer
            self._end(worker, _why_it_died(worker.process.wait()))
        else:
            assert worker.job is not None
            worker.job.finish(result)
            worker.job = None

    def _end(self, worker: _Worker, reason: str) -> None:
        assert worker.job is not None
        worker.job.finish(Failure(reason))
        worker.close()
        self._workers.remove(worker)

    def close(self) -> None:
        for worker in self._workers:
            worker.close()


class _Worker:
    """Hold a process, the way to talk to it, and what it works on."""

    def __init__(self, function: Callable[..., Any], limits: Limits) -> None:
        self.job: _Job[Any] | None = None
        self.deadline = 0.0
        self._seconds = limits.seconds
        self.connection, theirs = Pipe()
        command = [sys.executable, "-P", "-m", "fourd.isolation", str(theirs.fileno()), str(limits.memory_bytes)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
        with theirs:
            self.process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL, start_new_session=True
            )
        self._send(function)

    def begin(self, job: _Job[Any]) -> None:
        self.job = job
        self.deadline = time.monotonic() + self._seconds
        self._send(job.item)

    def _send(self, value: Any) -> None:
        with suppress(BrokenPipeError):  # it died: whoever waits for its answer finds out
            self.connection.send(value)

    def close(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.wait()


def _why_it_died(code: int) -> str:
    if code < 0:
        return f"the worker crashed ({signal.Signals(-code).name})"
    return f"the worker ended with exit code {code}"


# ----------------------------------------------------------------------------- the worker's side


@dataclass(frozen=True)
class _Raised:
    """Bring an exception to the caller."""

    error: BaseException


def _serve(connection: Connection, memory_bytes: int) -> None:
    """Answer one item after the other, until the caller hangs up."""
    with suppress(EOFError, ConnectionResetError, BrokenPipeError):
        function = connection.recv_bytes()
        with suppress(Exception):  # import what it needs before memory is limited; what fails here fails there, too
            pickle.loads(function)
        _limit_memory(memory_bytes)
        while True:
            item = connection.recv_bytes()
            connection.send_bytes(_answer(function, item, memory_bytes))


def _answer(function: bytes, item: bytes, memory_bytes: int) -> bytes:
    """Give the result, or what was raised, as it is sent."""
    try:
        return pickle.dumps(pickle.loads(function)(pickle.loads(item)))
    except MemoryError:
        return pickle.dumps(Failure(f"needs more than {memory_bytes / 2**20:.0f} MiB of memory"))
    except Exception as error:
        return pickle.dumps(_Raised(_portable(error)))


def _portable(error: Exception) -> Exception:
    """Give the error itself if it survives the way to the caller, or one that tells of it."""
    error.add_note("in a worker: " + "".join(traceback.format_exception(error)[-3:]).strip())
    try:
        return error if type(pickle.loads(pickle.dumps(error))) is type(error) else RuntimeError(repr(error))
    except Exception:
        return RuntimeError("".join(traceback.format_exception(error)))


def _limit_memory(memory_bytes: int) -> None:
    try:
        import resource
        from pathlib import Path

        status = Path("/proc/self/status").read_text()
    except (ImportError, OSError):
        return  # no such limit on this system, as `Limits` says
    used = int(next(line for line in status.splitlines() if line.startswith("VmData")).split()[1]) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (used + memory_bytes, used + memory_bytes))


def _end_with(parent: int) -> None:
    """End this process when the one that began it is gone, whatever it works on."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _main() -> None:
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    from fourd import isolation  # the module under its own name: what is sent is pickled by it

    isolation._serve(Connection(int(sys.argv[1])), int(sys.argv[2]))


if __name__ == "__main__":
    _main()
