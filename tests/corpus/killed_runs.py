"""Prepare a corpus in processes that are killed again and again: `killed_runs.py random|commits FILMS OUT`.

It is a program of its own, since each attempt is a fork of a process that has already imported what it needs.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time

from fourd.corpus.backends import Workers
from fourd.corpus.prepare import folder
from fourd.corpus.prepare.run import prepare
from tests.corpus.small_corpus import MANY_ITEMS

_KILLS = 10
_MOST_ATTEMPTS = 100


def attempt(films: str, out: str, kill_after_s: float | None, around: tuple[str, int] | None = None) -> bool:
    """Prepare in a group of processes of its own; say whether it came to an end before it was killed."""
    child = os.fork()
    if child == 0:
        os.setsid()
        if around is not None:
            _die_around_commit(*around)
        prepare([films], out, MANY_ITEMS, Workers(workers=2))
        os._exit(0)
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        os.killpg(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit(f"an attempt failed with exit code {os.WEXITSTATUS(status)}")
    return os.WIFEXITED(status)


def _die_around_commit(when: str, number: int) -> None:
    """Let the process die by its own hand where it gives its n-th file a name: just before, or just after."""
    replace, lock = os.replace, threading.Lock()
    left = number

    def deadly(source: object, target: object) -> None:
        nonlocal left
        with lock:
            left -= 1
            if left or when == "after":
                replace(source, target)  # type: ignore[arg-type]
            if not left:
                os.killpg(os.getpid(), signal.SIGKILL)

    folder.os.replace = deadly  # type: ignore[assignment]


def main() -> None:
    """Kill at random moments, or around commits; then let one attempt come to its end; say how often was killed."""
    how, films, out = sys.argv[1:]
    kills = 0
    rng = random.Random(4)
    for number in range(_MOST_ATTEMPTS):
        if how == "random" and kills == _KILLS:
            break
        after_s = rng.uniform(0.1, 1.2) if how == "random" else None
        # a step gives up to five files a name, so that a later commit of an attempt is sure to bring it forward
        around = None if how == "random" else (("before", "after")[number % 2], 1 + number // 2 % 6)
        if attempt(films, out, after_s, around):
            break
        kills += 1
    attempt(films, out, None)
    print(kills)


if __name__ == "__main__":
    main()
