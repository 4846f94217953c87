"""The pretrainings of a study: which there are, where each lies, and doing those that are missing."""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from fourd import provenance
from fourd.benchmark.work import Means
from fourd.media import UnreadableVideo
from fourd.study.config import Arm, Study, referred, texts_of
from fourd.telemetry import duration
from fourd.trainer import FREE_TO_CHANGE, RunConfig, fit
from fourd.types import DatasetConfig
from fourd.weights.starting import identity

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LOOKS = 2.0
_FREE = ("seed", *(name for name in FREE_TO_CHANGE if name != "init"))
"""What two runs may differ in and still be the same pretraining; what `init` names counts."""


@dataclass(frozen=True)
class Run:
    """Describe one pretraining with one seed; arms of the same pretraining share it.

    config: with `arm:NAME` where another arm's weights are meant. after: the runs that those are of.
    """

    arms: tuple[str, ...]
    config: RunConfig
    slug: str
    after: tuple[Run, ...] = ()

    @property
    def title(self) -> str:
        """Name it for people."""
        return f"{', '.join(self.arms)}, seed {self.config.seed}"

    def folder(self, runs: Path) -> Path:
        """Say where its work lies."""
        return runs / self.slug / f"seed_{self.config.seed}"

    def weights(self, runs: Path) -> Path:
        """Say where its weights lie when it is complete."""
        return self.folder(runs) / "final" / "model.safetensors"

    def is_done(self, runs: Path) -> bool:
        """Say whether it is complete."""
        return self.weights(runs).exists()

    def resolved(self, runs: Path, means: Means) -> RunConfig:
        """Give the config to train by, with files in the place of references, and by the means that are there."""
        of = {name: run for run in self.after for name in run.arms}
        config = rewritten(self.config, lambda arm: str(of[arm].weights(runs)))
        device = config.device if means.device == "auto" else means.device
        return dataclasses.replace(config, device=device, num_workers=means.num_workers or config.num_workers)


@dataclass(frozen=True)
class FailedRun:
    """Name a run that could not be done, and why."""

    run: Run
    reason: str


def rewritten(value: Any, weights: Callable[[str], str]) -> Any:
    """Put something in the place of each `arm:NAME` of a config."""
    if isinstance(value, str):
        name = referred(value)
        return value if name is None else weights(name)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = {one.name: rewritten(getattr(value, one.name), weights) for one in dataclasses.fields(value)}
        return dataclasses.replace(value, **changed)
    return tuple(rewritten(item, weights) for item in value) if isinstance(value, tuple) else value


# ----------------------------------------------------------------------------- which there are


class Runs:
    """Find the run of each arm, as often as asked, looking at the clips of each dataset once."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self._slugs: dict[str, str] = {}
        self._clips: dict[str, str] = {}

    def of(self, arm: Arm, seed: int) -> Run | None:
        """Give the run of an arm; None for one that is not pretrained."""
        if arm.pretraining is None:
            return None
        slug = self.slug(arm)
        sharing = tuple(one.name for one in self.study.arms if one.pretraining is not None and self.slug(one) == slug)
        after = [self.of(self.study.arm(name), seed) for name in arm.after]
        config = dataclasses.replace(arm.pretraining, seed=seed)
        return Run(sharing, config, slug, tuple(run for run in after if run is not None))

    def all(self, arms: Sequence[Arm], seeds: Sequence[int]) -> list[Run]:
        """List the runs of arms, each once, those first that others wait for."""
        found: dict[tuple[str, int], Run] = {}

        def add(run: Run) -> None:
            for other in run.after:
                add(other)
            found.setdefault((run.slug, run.config.seed), run)

        for seed in seeds:
            for arm in arms:
                run = self.of(arm, seed)
                if run is not None:
                    add(run)
        return list(found.values())

    def slug(self, arm: Arm) -> str:
        """Name the folder of an arm's pretraining: another constant or other clips are another folder."""
        if arm.name not in self._slugs:
            assert arm.pretraining is not None
            config = rewritten(arm.pretraining, lambda name: "run:" + self.slug(self.study.arm(name)))
            clips = [self._clips_of(data) for data in (config.data, config.held_out) if data is not None]
            parts = json.dumps([_decisive(provenance.describe(config)), clips, *_files_of(config)], sort_keys=True)
            kind = type(config.objective).__module__.rpartition(".")[2]
            self._slugs[arm.name] = f"{kind}_{hashlib.sha256(parts.encode()).hexdigest()[:10]}"
        return self._slugs[arm.name]

    def _clips_of(self, data: DatasetConfig) -> str:
        described = json.dumps(provenance.describe(data), sort_keys=True)
        if described not in self._clips:
            self._clips[described] = data.build().fingerprint
        return self._clips[described]


def _files_of(config: RunConfig) -> list[str]:
    """Name the content of the files that a run starts from: another file under the same name is another run."""
    named = dict.fromkeys(text for text in (config.init, *texts_of(config.objective)) if os.sep in text)
    return [identity(text) for text in named if Path(text).exists()]


def _decisive(described: Any, path: str = "") -> Any:
    """Leave out of a described config what changes nothing of its result."""
    if isinstance(described, dict):
        named = {name: f"{path}.{name}" if path else name for name in described}
        return {name: _decisive(described[name], at) for name, at in named.items() if not _is_free(at)}
    return [_decisive(item, path) for item in described] if isinstance(described, list) else described


def _is_free(path: str) -> bool:
    return any(fnmatch(path, pattern) for pattern in _FREE)


# ----------------------------------------------------------------------------- doing them


def pretrain(runs: Sequence[Run], folder: Path, means: Means, seconds: Mapping[str, float]) -> list[FailedRun]:
    """Do what is missing, and return what could not be done.

    Any number of processes may do this on one folder: each takes runs that no other holds, and all end when all is
    done. A run that fails is left to the next call, and to the other processes; the others go on, but for those that
    need its weights. seconds: what each run, by its title, is expected to take.
    """
    failed: dict[str, FailedRun] = {}
    waiting = False
    while todo := [run for run in runs if not run.is_done(folder) and run.title not in failed]:
        took_one = False
        for run in todo:
            lost = [other for other in run.after if other.title in failed]
            if lost:
                failed[run.title] = FailedRun(run, f"it needs the weights of {lost[0].title}, which failed")
            elif all(other.is_done(folder) for other in run.after):
                took_one |= _take(run, runs, folder, means, seconds, failed)
        if not took_one and not any(run.title in failed for run in todo):
            if not waiting:
                log.info("the %d runs that are left are in the hands of other processes; waiting for them", len(todo))
            waiting = True
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        elif took_one:
            waiting = False
    return list(failed.values())


def _take(
    run: Run,
    runs: Sequence[Run],
    folder: Path,
    means: Means,
    seconds: Mapping[str, float],
    failed: dict[str, FailedRun],
) -> bool:
    """Do a run unless another process is at it; say whether it was this one's turn."""
    out = run.folder(folder)
    out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out / "study.lock", timeout=0):
            if run.is_done(folder):
                return False
            left_s = sum((seconds.get(one.title, 0.0) for one in runs if not one.is_done(folder)), 0.0)
            about = f"; about {duration(left_s)} of pretraining left" if left_s else ""
            log.info("run %d of %d: %s%s", runs.index(run) + 1, len(runs), run.title, about)
            reason = _train(run, folder, means)
            if reason:
                failed[run.title] = FailedRun(run, reason)
            return True
    except Timeout:
        return False


def _train(run: Run, folder: Path, means: Means) -> str:
    """Train to the end, or say why that cannot be."""
    reason = ""
    try:
        fit(run.resolved(folder, means), run.folder(folder), run.title)
    except (
        *(ValueError, RuntimeError, OSError, FloatingPointError, ImportError, MemoryError),
        *(TypeError, AttributeError, LookupError, AssertionError),  # an arm with a mistake must not cost the others
        UnreadableVideo,
    ) as error:
        log.exception("%s failed", run.title)
        reason = f"{type(error).__name__}: {error}"
    _forget()
    return reason


def _forget() -> None:
    """Let go of what was trained and compiled before the next run: the compiler gives up on code after a few forms."""
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
