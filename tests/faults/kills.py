"""Kill training runs with SIGKILL at random moments, start them again, and compare with a run that was left alone.

`python -m tests.faults.kills FOLDER NUMBER [SEED]` does NUMBER runs, whose victims take turns: the trainer, a worker of
its loader, one of two ranks. Each run is killed once at a random moment of its life and started again to its end. It
prints a line for each, and fails where a byte of the weights, of the optimiser's state, of the losses or of the ledger
of clips is another than without the kill.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import torch

from fourd.trainer import fit
from tests import forked_ranks
from tests.small_runs import long_run

VICTIMS = ("trainer", "worker", "rank")
_SPEED = ("clips_per_s", "unique_clips_per_s", "data_wait", "memory_gb", "memory_peak_gb")
_PARTS = ("model", "head")
_LEAST_KILLED = 0.5
"""Share of the runs that have to be alive when they are killed, or the kills say nothing."""


def start(victim: str, out: Path) -> list[int]:
    """Start the run that a victim belongs to."""
    workers = 1 if victim == "worker" else 0
    config = replace(long_run(), num_workers=workers, hang_timeout_s=20.0)
    ranks = 2 if victim == "rank" else 1
    return forked_ranks.start(ranks, lambda: fit(config, out), log=f"{out}.log")


def kill(victim: str, pids: list[int], chance: random.Random) -> bool:
    """Kill the victim; tell whether it was alive."""
    pid = chance.choice(pids)
    if victim == "worker":
        workers = _workers(pid)
        while not workers and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.05)  # not yet started
            workers = _workers(pid)
        if not workers:
            return False
        pid = chance.choice(workers)
        time.sleep(chance.uniform(0.0, 1.0))
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _workers(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children() if "spawn_main" in " ".join(child.cmdline())]
    except psutil.NoSuchProcess:
        return []


def whole(victim: str, folder: Path) -> tuple[Path, float]:
    """Run without a kill; give where, and how long it took."""
    out = folder / f"whole_{victim}"
    began = time.monotonic()
    codes = forked_ranks.wait(start(victim, out))
    if any(codes):
        raise SystemExit(f"the run that nobody killed ended with {codes}: {_log(out)}")
    return out, time.monotonic() - began


def killed(victim: str, out: Path, duration: float, chance: random.Random) -> tuple[bool, float, list[int]]:
    """Run, kill, and run again to the end; give whether the victim lived, when it died, and how that ended."""
    moment = chance.uniform(0.05, 0.95) * duration
    pids = start(victim, out)
    time.sleep(moment)
    lived = kill(victim, pids, chance)
    codes = forked_ranks.wait(pids)
    again = forked_ranks.wait(start(victim, out))
    if any(again):
        raise SystemExit(f"{out} did not go on: {again}: {_log(out)}")
    return lived and any(codes), moment, codes


def _log(out: Path) -> str:
    return Path(f"{out}.log").read_text()[-3000:]


def state(out: Path) -> dict[str, object]:
    """Hold everything that a kill must not change."""
    metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    found: dict[str, object] = {
        "metrics": [{name: value for name, value in line.items() if name not in _SPEED} for line in metrics]
    }
    for name in ("ledger.jsonl", "quarantine.jsonl", "unreadable.csv", *(f"final/{p}.safetensors" for p in _PARTS)):
        found[name] = (out / name).read_bytes()
    last = sorted((out / "checkpoints").glob("step_*"))[-1]
    for path in sorted(last.glob("*.distcp")):
        found[f"{last.name}/{path.name}"] = path.read_bytes()
    return found


def main() -> None:
    """Do as the module says."""
    torch.set_num_threads(1)
    folder, number, seed = Path(sys.argv[1]), int(sys.argv[2]), int((sys.argv[3:] or ["0"])[0])
    folder.mkdir(parents=True, exist_ok=True)
    chance, alive, expected = random.Random(seed), 0, {}
    for run in range(number):
        victim = VICTIMS[run % len(VICTIMS)]
        if victim not in expected:
            path, duration = whole(victim, folder)
            expected[victim] = (state(path), duration)
        out = folder / f"run_{run:02d}_{victim}"
        lived, moment, codes = killed(victim, out, expected[victim][1], chance)
        found, wanted = state(out), expected[victim][0]
        differing = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
        if differing:
            raise SystemExit(f"run {run}: {victim} killed after {moment:.2f} s: {differing} differ, see {out}")
        alive += lived
        print(f"run {run + 1}/{number}: {victim:7} killed after {moment:5.2f} s {codes}, same to the byte", flush=True)
        shutil.rmtree(out)
    print(f"{number} runs, {alive} of them killed while they ran: weights, optimiser, losses and ledger are the same")
    if alive < _LEAST_KILLED * number:
        raise SystemExit("too few were alive when they were killed")


if __name__ == "__main__":
    main()
