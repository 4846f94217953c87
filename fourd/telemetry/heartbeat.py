"""A watchdog for each rank: it gives signs of life, and ends a process that hangs."""

from __future__ import annotations

import faulthandler
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from fourd.telemetry.signs import Sign, describe_others

log = logging.getLogger(__name__)

HUNG = 70
"""Exit code of a process that was ended because it hung (EX_SOFTWARE of sysexits.h)."""
_LOOK_EVERY_S = 0.5
_STOOD_STILL_S = 5.0
"""Time without a look at the clock from which the whole process is taken to have been stopped."""
_MISSED_SIGNS = 4
"""Signs that another rank may miss before it is named."""
_REPORT_WITHIN_S = 20.0
"""Time to write down why: a disk that hangs must not keep the process alive."""


@dataclass(frozen=True)
class _Phase:
    """Say what a process is at, since when on the monotonic clock, and how long it may take (0: for ever)."""

    name: str
    since: float
    timeout_s: float
    step: int
    left: bool = False


class Watchdog:
    """Give signs of life in a folder, and end the process where it hangs.

    A context manager; inside, the loop says what it is at: `watchdog.phase("step", step=12)`. A thread writes
    `rank_00000.json` every few seconds. Where a phase takes longer than it may, the stacks of all threads are added to
    `rank_00000_stacks.txt`, the log says what hangs since when and which other ranks give no sign, and the process
    ends with exit code 70, so that whatever launched it starts it again. Time in which the whole process stood still
    (Ctrl-Z, a frozen container) does not count. Code that never lets go of Python's interpreter lock stops the
    watchdog too: then it is the other ranks that name this one.
    """

    def __init__(
        self,
        folder: Path,
        rank: int,
        timeout_s: float | Mapping[str, float],
        *,
        num_ranks: int = 1,
        ends_process: bool = True,
        every_s: float = 5.0,
        leaves: Path | None = None,
    ) -> None:
        """Watch over the process of `rank` among `num_ranks`; the folder, shared by all, is made if need be.

        timeout_s: of every phase, or of each by its name; 0 waits for ever. ends_process: end it, or only say what
        hangs, once for each phase. every_s: time between two signs. leaves: a file to write when it ends the process,
        for whatever may start it again and does not learn of the exit code. Raises ValueError for a time below 0.
        """
        for name, seconds in (timeout_s if isinstance(timeout_s, Mapping) else {"phases": timeout_s}).items():
            if not seconds >= 0:
                raise ValueError(f"Watchdog.timeout_s of {name} is {seconds}: expected 0 (for ever) or more seconds")
        self.folder, self.rank, self.num_ranks = folder, rank, num_ranks
        self.timeout_s, self.ends_process, self.every_s, self.leaves = timeout_s, ends_process, every_s, leaves
        self._phase = _Phase("start", time.monotonic(), 0.0, 0)
        self._began_unix_s = time.time()
        self._done, self._writing = threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._give_signs, self._watch)]

    def phase(self, name: str, timeout_s: float | None = None, step: int | None = None) -> None:
        """Say what begins now; costs about a microsecond.

        timeout_s: for this once, in the place of what the phase usually may take. step: kept from before if None.
        Raises ValueError for a phase without a timeout.
        """
        if timeout_s is None:
            timeout_s = self._usual_timeout_s(name)
        self._phase = _Phase(name, time.monotonic(), timeout_s, self._phase.step if step is None else step)

    def _usual_timeout_s(self, name: str) -> float:
        if not isinstance(self.timeout_s, Mapping):
            return self.timeout_s
        if name not in self.timeout_s:
            raise ValueError(f"phase {name!r} has no timeout: expected one of {tuple(self.timeout_s)}, or timeout_s")
        return self.timeout_s[name]

    def __enter__(self) -> Watchdog:
        self.folder.mkdir(parents=True, exist_ok=True)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave("ended" if kind is None else f"ended with {kind.__name__}")
        self._done.set()
        for thread in self._threads:
            thread.join(self.every_s)  # writing to a disk that hangs is left behind

    def _leave(self, how: str) -> None:
        self._phase = replace(self._phase, name=how, timeout_s=0.0, left=True)

    def _write_sign(self) -> None:
        with self._writing:
            self._sign(self._phase).write(self.folder)

    def _sign(self, phase: _Phase) -> Sign:
        in_phase_s = time.monotonic() - phase.since
        whose = (self.rank, os.getpid(), socket.gethostname())
        return Sign(*whose, phase.step, phase.name, in_phase_s, time.time(), phase.left)

    def _give_signs(self) -> None:
        """Write a sign now and then, and a last one; the first of several that cannot be written is told."""
        could = True
        while True:
            is_last = self._done.is_set()
            try:
                self._write_sign()
                could = True
            except OSError as error:
                if could:
                    log.warning("rank %d cannot leave signs of life in %s: %s", self.rank, self.folder, error)
                could = False
            if is_last:
                return
            self._done.wait(self.every_s)

    def _watch(self) -> None:
        """Look at the clock; touch no disk, so that nothing but the lock of the interpreter can stop it."""
        seen, excused_s, told = self._phase, 0.0, self._phase
        last = time.monotonic()
        while not self._done.wait(_LOOK_EVERY_S):
            now, phase = time.monotonic(), self._phase
            if phase is not seen:
                seen, excused_s = phase, 0.0
            if now - last > _STOOD_STILL_S:
                excused_s += now - max(last, phase.since)
            last = now
            in_phase_s = now - phase.since - excused_s
            if 0 < phase.timeout_s < in_phase_s and phase is not told:
                told = phase
                self._act(phase, in_phase_s)

    def _act(self, phase: _Phase, in_phase_s: float) -> None:
        """Say what hangs, and end the process."""
        if not _within(_REPORT_WITHIN_S, lambda: self._report(phase, in_phase_s)):
            _within(_REPORT_WITHIN_S, lambda: faulthandler.dump_traceback(sys.__stderr__ or 2))
        if self.ends_process:
            os._exit(HUNG)

    def _report(self, phase: _Phase, in_phase_s: float) -> None:
        """Write down what hangs: first of all in the log, since the disk may be what hangs."""
        log.error(
            "rank %d hangs: %r of step %d takes %.0f s by now, and may take %g s",
            *(self.rank, phase.name, phase.step, in_phase_s, phase.timeout_s),
        )
        stacks = self._write_stacks(phase, in_phase_s)
        others = self._others(phase)
        end = f"; the process ends with exit code {HUNG}, the same command goes on from the last checkpoint"
        log.error("stacks of rank %d: %s; %s%s", self.rank, stacks, others, end if self.ends_process else "")
        _flush_logs()
        if self.ends_process:
            self._leave(f"hung in {phase.name!r} and was ended")
            self._write_sign()
            if self.leaves is not None:
                self.leaves.write_text(f"rank {self.rank} hung in {phase.name!r} of step {phase.step}\n")

    def _write_stacks(self, phase: _Phase, in_phase_s: float) -> str:
        """Add the stacks of all threads to the rank's file, or show them where it cannot be written."""
        path = self.folder / f"rank_{self.rank:05d}_stacks.txt"
        when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        try:
            with path.open("a") as file:
                file.write(f"{when}: {phase.name!r} of step {phase.step} hangs, {in_phase_s:.0f} s by now\n")
                file.flush()
                faulthandler.dump_traceback(file)
                file.write("\n")
        except OSError as error:
            faulthandler.dump_traceback(sys.__stderr__ or 2)
            return f"shown above, since {path} cannot be written ({error})"
        return str(path)

    def _others(self, phase: _Phase) -> str:
        if self.num_ranks == 1:
            return "there is no other rank"
        late_s = _MISSED_SIGNS * self.every_s
        told = describe_others(self.folder, self._sign(phase), self.num_ranks, self._began_unix_s, late_s)
        return told or "all other ranks are at the same"


def _within(seconds: float, function: Callable[[], None]) -> bool:
    """Run a function in a thread, and tell whether it came to its end in time."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()


def _flush_logs() -> None:
    for handler in logging.getLogger().handlers:
        handler.flush()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
