"""What the tests of all metrics share: golden numbers, comparisons, poses."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from fourd.types import Score

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "metrics.json").read_text())
F64 = torch.float64
EXACT = {"rel": 1e-12, "abs": 1e-12}

seeds = st.integers(0, 10**6)
few = settings(max_examples=30)


def tensor(values: Any) -> Tensor:
    return torch.tensor(values, dtype=F64)


def by_name(scores: tuple[Score, ...]) -> dict[str, Score]:
    return {score.metric.name: score for score in scores}


def assert_same(a: tuple[Score, ...], b: tuple[Score, ...]) -> None:
    for left, right in zip(a, b, strict=True):
        assert left.metric == right.metric
        torch.testing.assert_close(left.score, right.score, msg=lambda text, s=left: f"{s.metric.name}: {text}")
        torch.testing.assert_close(left.weight, right.weight)


def assert_undefined(scores: tuple[Score, ...]) -> None:
    for score in scores:
        assert score.score.tolist() == [0], score.metric.name
        assert score.weight.tolist() == [0], score.metric.name


def pose(rotation: Tensor | None = None, translation: tuple[float, float, float] = (0, 0, 0)) -> Tensor:
    matrix = torch.eye(4, dtype=F64)
    matrix[:3, :3] = torch.eye(3, dtype=F64) if rotation is None else rotation
    matrix[:3, 3] = tensor(translation)
    return matrix


def turn(axis: str, degrees: float) -> Tensor:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return tensor({"y": [[c, 0, s], [0, 1, 0], [-s, 0, c]], "z": [[c, -s, 0], [s, c, 0], [0, 0, 1]]}[axis])
