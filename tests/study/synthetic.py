"""Rows of a study that nobody measured: scores of three arms that are known to be better, worse or alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pyarrow as pa

from fourd import results
from fourd.backbones import video_vit
from fourd.results import ROW_SCHEMA, Rows
from fourd.study import Arm, Study
from fourd.study.costs import Cost
from fourd.study.figures import Figures
from fourd.types import Metric
from tests.study.small_ablation import ablation

METRICS = {
    "camera_pose": Metric("pose_epe", "Endpoint error", higher_is_better=False),
    "camera_motion": Metric("top_1", "Accuracy", higher_is_better=True),
}
NUM_GROUPS, PER_GROUP = 40, 2


def study(ratios: Sequence[float], **fields: object) -> Study:
    """Describe arms of random weights, called by their ratio."""
    arms = tuple(Arm(f"at {ratio:g}", (("mask ratio", ratio),), video_vit.tiny()) for ratio in ratios)
    return dataclasses.replace(ablation(), **{"arms": arms, "plots": (), "claims": (), **fields})


def figures(
    of: Study,
    gains: Sequence[float],
    seeds: Sequence[int] = (0, 1, 2),
    seed_spread: float = 0.0,
    noise: float = 0.05,
    controls: Mapping[str, float] = MappingProxyType({}),
) -> Figures:
    """Give each arm scores that are higher by its gain; clips are much harder than arms differ.

    controls: the gains of answers that see no pixels, by their names.
    """
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 1, (len(METRICS), NUM_GROUPS * PER_GROUP))
    tables = []
    for arm, gain in zip(of.arms, gains, strict=True):
        for seed in seeds:
            luck = seed_spread * (-1) ** seed * gain
            for number, (entry, metric) in enumerate(METRICS.items()):
                scores = hard[number] + gain + luck + rng.normal(0, noise, hard.shape[1])
                tables.append(_rows(of, arm.name, entry, metric, seed, scores))
    for name, gain in controls.items():
        for number, (entry, metric) in enumerate(METRICS.items()):
            tables.append(_rows(of, f"control:{name}", entry, metric, 0, hard[number] + gain, depth=None))
    costs = {(arm.name, seed): Cost(parameters=10) for arm in of.arms for seed in seeds}
    return Figures(of, Rows(pa.concat_tables(tables), {m.name: m for m in METRICS.values()}), costs)


def _rows(
    of: Study, arm: str, entry: str, metric: Metric, seed: int, scores: np.ndarray, depth: float | None = 1.0
) -> pa.Table:
    clips = [f"clip {n:03}" for n in range(len(scores))]
    cell = results.Cell(of.suite.label, entry, arm, "random", "attention", entry, depth, 2, seed)
    same = {name: [value] * len(clips) for name, value in {**dataclasses.asdict(cell), "metric": metric.name}.items()}
    groups = [f"group {n // PER_GROUP}" for n in range(len(scores))]
    own = {"clip": clips, "group": groups, "score": scores.tolist(), "weight": [1.0] * len(clips)}
    return pa.table({**same, **own}, schema=ROW_SCHEMA)
