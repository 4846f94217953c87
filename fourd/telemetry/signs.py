"""Signs of life: a small file for each rank that says what it is at, and words for what the others' files tell."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

_NUM_NAMED = 8


@dataclass(frozen=True)
class Sign:
    """Say what a rank is at, and when it said so."""

    rank: int
    pid: int
    host: str
    step: int
    phase: str
    phase_s: float
    """Seconds in this phase so far."""
    unix_s: float
    left: bool = False
    """Tell that no further sign will follow; `phase` then says how the rank came to its end."""

    def write(self, folder: Path) -> None:
        """Put it in the place of the rank's last one; readers never see half of it."""
        path = _path(folder, self.rank)
        aside = path.with_name(path.name + ".tmp")
        aside.write_text(json.dumps(asdict(self)) + "\n")
        os.replace(aside, path)


def read_sign(folder: Path, rank: int) -> Sign | None:
    """Read the last sign of a rank; None where it never gave one."""
    try:
        return Sign(**json.loads(_path(folder, rank).read_text()))
    except FileNotFoundError:
        return None


def _path(folder: Path, rank: int) -> Path:
    return folder / f"rank_{rank:05d}.json"


def describe_others(folder: Path, own: Sign, num_ranks: int, since_unix_s: float, late_s: float) -> str:
    """Say which other ranks give no sign, have left, or are at something else than this one; "" where none is.

    since_unix_s: signs from before it are of an earlier launch. late_s: age from which a sign is missed.
    """
    told = []
    for rank in range(num_ranks):
        sign = read_sign(folder, rank) if rank != own.rank else own
        if sign is None or sign.unix_s < since_unix_s:
            told.append(f"rank {rank} has given no sign since this rank began")
        else:
            told.append(_describe(sign, own, late_s))
    named = [words for words in told if words]
    rest = [f"and {len(named) - _NUM_NAMED} more ranks"] if len(named) > _NUM_NAMED else []
    return "; ".join(named[:_NUM_NAMED] + rest)


def _describe(sign: Sign, own: Sign, late_s: float) -> str:
    who = f"rank {sign.rank} (process {sign.pid} on {sign.host})"
    age_s = own.unix_s - sign.unix_s
    at = f"at step {sign.step} in {sign.phase!r}"
    if sign.left:
        return f"{who} {sign.phase} {age_s:.0f} s ago, at step {sign.step}"
    if age_s > late_s:
        return f"{who} has not given a sign for {age_s:.0f} s; it was {at}"
    if (sign.step, sign.phase) != (own.step, own.phase):
        return f"{who} is {at} since {sign.phase_s + age_s:.0f} s"
    return ""
