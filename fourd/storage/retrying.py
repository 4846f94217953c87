"""Try again what may work the next time, and say so when it never does."""

from __future__ import annotations

import errno
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

ResultT = TypeVar("ResultT")

_TRANSIENT = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.ECONNRESET, errno.ENOTCONN, errno.EBUSY}
_jitter = random.Random()  # apart from every seeded generator: waiting changes no result


class StorageError(OSError):
    """Say that bytes could not be had although they should be there; it says nothing of what they hold."""


@dataclass(frozen=True)
class Retries:
    """Say how often reading is tried, and how long to wait in between. The numbers are not from the paper.

    Each wait is twice as long as the one before, and a bit more or less, so that many readers do not come back at once.
    """

    tries: int = 6
    first_s: float = 0.25
    longest_s: float = 8.0

    def waits_s(self, number: int) -> float:
        """Say how long to wait after failure `number`, from 0 on."""
        return min(self.first_s * 2**number, self.longest_s) * _jitter.uniform(0.5, 1.5)


def retrying(
    work: Callable[[], ResultT], what: str, retries: Retries, may_pass: Callable[[Exception], bool]
) -> ResultT:
    """Do `work` until it succeeds; raise StorageError, naming `what`, when all tries have failed.

    may_pass: says of an error whether another try may succeed; one that may not is raised at once.
    """
    for number in range(retries.tries):
        try:
            return work()
        except Exception as error:
            if not may_pass(error):
                raise
            last = error
        if number < retries.tries - 1:
            time.sleep(retries.waits_s(number))
    raise StorageError(f"{what}: failed {retries.tries} times, at last with {type(last).__name__}: {last}") from last


def local_may_pass(error: Exception) -> bool:
    """Tell whether a local read may succeed the next time: network disks fail now and then."""
    return isinstance(error, OSError) and error.errno in _TRANSIENT


def remote_may_pass(error: Exception) -> bool:
    """Tell whether a remote read may succeed the next time: all but what says that the request itself is wrong."""
    return not isinstance(error, (FileNotFoundError, PermissionError, ImportError, ValueError, TypeError))
