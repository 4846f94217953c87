"""Gather what the checks say of all clips that were looked at."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from fourd.doctor.checks import CHECKS
from fourd.doctor.findings import Finding
from fourd.doctor.looking import Look
from fourd.types import Unreadable

_MOST_FAULTY = 0.1
_FEWEST_ODD = 4


@dataclass
class CheckTally:
    """Count what one check found. told: each clip that is not fine, with its finding; measured: numbers of each."""

    name: str
    num_judged: int = 0
    num_faults: int = 0
    num_odd: int = 0
    told: list[tuple[str, Finding]] = field(default_factory=list)
    measured: dict[str, list[float]] = field(default_factory=dict)

    def add(self, key: str, finding: Finding) -> None:
        """Count a finding of a clip."""
        self.num_judged += 1
        self.num_faults += finding.level == "fault"
        self.num_odd += finding.level == "odd"
        if finding.level != "fine":
            self.told.append((key, finding))
        for name, value in finding.measured.items():
            self.measured.setdefault(name, []).append(value)

    @property
    def is_broken(self) -> bool:
        """Say whether more than one clip in ten is at fault, or every one of four or more odd (not from the paper)."""
        every = self.num_odd + self.num_faults == self.num_judged >= _FEWEST_ODD
        return self.num_faults > _MOST_FAULTY * self.num_judged or every

    @property
    def ranges(self) -> dict[str, tuple[float, float, float]]:
        """Give the least, the middle and the largest of what was measured."""
        return {
            name: (float(np.min(values)), float(np.median(values)), float(np.max(values)))
            for name, values in self.measured.items()
        }


@dataclass
class Tally:
    """Count what was found in the clips of a split. sizes: pictures, as width x height."""

    num_looked: int = 0
    unloaded: list[Unreadable] = field(default_factory=list)
    sizes: Counter[str] = field(default_factory=Counter)
    classes: Counter[int] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    checks: dict[str, CheckTally] = field(
        default_factory=lambda: {check.__name__: CheckTally(check.__name__) for check in CHECKS}
    )

    def add(self, look: Look) -> None:
        """Count a clip."""
        self.num_looked += 1
        clip = look.loaded
        if clip is None:
            self.unloaded.append(Unreadable(look.key, look.error))
            return
        height, width = clip.video.shape[2:]
        self.sizes[f"{width} x {height}"] += 1
        self.labels.update(name for name in LABELS if getattr(clip, name) is not None)
        if clip.label is not None:
            self.classes[int(clip.label.index[0])] += 1
        for finding in look.findings:
            self.checks[finding.check].add(look.key, finding)


LABELS = ("depth", "points", "boxes", "camera", "label")
