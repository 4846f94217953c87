"""Which clips to look at: where one contender beats another, where it fails, and the usual case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fourd.results import Rows, select

Kind = Literal["win", "failure", "typical"]


@dataclass(frozen=True)
class GalleryPick:
    """Name a clip, why it is shown, and what both contenders score on it."""

    kind: Kind
    clip: str
    subject_score: float
    rival_score: float


def choose_gallery(
    rows: Rows, entry: str, metric: str, subject: Mapping[str, Any], rival: Mapping[str, Any], num: int
) -> list[GalleryPick]:
    """Choose up to `num` wins and failures of a subject against a rival, and one typical clip, no clip twice.

    subject, rival: the columns of their cells. Clips on which either is not defined are never shown.
    """
    mine, theirs = (_scores(rows, entry, metric, cell) for cell in (subject, rival))
    sign = 1.0 if rows.metrics[metric].higher_is_better else -1.0
    gains = sorted((sign * (mine[clip] - theirs[clip]), clip) for clip in mine.keys() & theirs.keys())
    half = len(gains) // 2
    wins = [clip for gain, clip in reversed(gains) if gain > 0][: min(num, half)]
    failures = [clip for gain, clip in gains if gain < 0 and clip not in wins][: min(num, half)]
    usual = [clip for _, clip in gains[half : half + 1] if clip not in (*wins, *failures)]
    chosen: list[tuple[Kind, list[str]]] = [("win", wins), ("failure", failures), ("typical", usual)]
    return [GalleryPick(kind, clip, mine[clip], theirs[clip]) for kind, clips in chosen for clip in clips]


def _scores(rows: Rows, entry: str, metric: str, cell: Mapping[str, Any]) -> dict[str, float]:
    chosen = {**cell, "entry": entry, "metric": metric}
    return {row["clip"]: row["score"] for row in select(rows.table, **chosen).to_pylist() if row["weight"] > 0}
