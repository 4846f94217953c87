"""Ranks of a run as forks of a process that has imported everything, so that a start takes milliseconds."""

from __future__ import annotations

import os
import socket
import sys
import traceback
from collections.abc import Callable

FAILED = 1


def free_port() -> int:
    """Find a port that nobody listens to."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def start(size: int, work: Callable[[], object], log: str = "") -> list[int]:
    """Fork `size` ranks that do `work`, and give their process ids; what they print goes to `log`, if named."""
    port = free_port()
    return [_fork(rank, size, port, work, log) for rank in range(size)]


def _fork(rank: int, size: int, port: int, work: Callable[[], object], log: str) -> int:
    pid = os.fork()
    if pid:
        return pid
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(size)}
    if log:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
    code = FAILED
    try:
        work()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(pids: list[int]) -> list[int]:
    """Wait for all; give exit codes, negative ones for signals."""
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
