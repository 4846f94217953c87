"""Try again what may work the next time, and say so when it never does."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

log = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")

_jitter = random.SystemRandom()  # apart from every seeded generator, and different in every process


class StorageError(OSError):
    """Say that bytes could not be had although they should be there; it says nothing of what they hold."""


class CutOffError(StorageError):
    """Say that a file ends before what is asked of it; another try would change nothing."""


@dataclass(frozen=True)
class Retries:
    """Say how often reading is tried, and how long to wait in between.

    Each wait is twice as long as the one before, up to `longest_s`, and half more or less by chance, so that many
    readers do not come back at once. The defaults wait for a bit more than a minute altogether; they are not from the
    paper.
    """

    tries: int = 10
    first_s: float = 0.25
    longest_s: float = 20.0

    def __post_init__(self) -> None:
        """Refuse never to try."""
        if self.tries < 1 or self.first_s < 0 or self.longest_s < 0:
            raise ValueError(f"{self}: expected one try or more, and waits of 0 s or more")

    def wait_s(self, number: int) -> float:
        """Say how long to wait after failure `number`, from 0 on."""
        return min(self.first_s * 2**number, self.longest_s) * _jitter.uniform(0.5, 1.5)


def retrying(
    work: Callable[[], ResultT], what: str, retries: Retries, refusal: Callable[[Exception], Exception | None]
) -> ResultT:
    """Do `work` until it succeeds; raise StorageError, naming `what`, when all tries have failed.

    refusal: turns an error that another try cannot mend into the one to raise at once; gives None for all others.
    """
    for number in range(retries.tries):
        try:
            return work()
        except Exception as error:
            if (refused := refusal(error)) is not None:
                raise refused from (error if refused is not error else error.__cause__)
            last = error
        if number < retries.tries - 1:
            wait_s = retries.wait_s(number)
            log.info("%s failed (%s: %s): trying again in %.2f s", what, type(last).__name__, last, wait_s)
            time.sleep(wait_s)
    raise StorageError(f"{what}: {retries.tries} tries failed, the last with {type(last).__name__}: {last}") from last
