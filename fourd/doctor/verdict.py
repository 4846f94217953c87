"""Judge a copy: good, usable with gaps, or broken; and say what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fourd.doctor.counts import Counts
from fourd.doctor.tally import Tally

Word = Literal["good", "usable with gaps", "broken"]
WORDS: tuple[Word, ...] = ("good", "usable with gaps", "broken")

_LABELS = {
    "depth": "depth",
    "point_tracking": "points",
    "box_tracking": "boxes",
    "camera_pose": "camera",
    "action": "label",
}
_MOST_UNLOADED = 0.01  # a run stops when more of its clips cannot be had


@dataclass(frozen=True)
class Verdict:
    """Say how a copy is, why, and what to do; a good one needs neither."""

    word: Word
    reasons: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()


def judge(counts: Counts, tally: Tally, tasks: Sequence[str]) -> Verdict:
    """Judge a split that could be opened; tasks: kinds of labels that every clip should have."""
    parts = [*_gaps(counts), *_loading(tally), *_labels(tally, tasks), *_checks(tally)]
    if not counts.clips:
        parts.append(("broken", "no clip can be had", "every recording is too short: get whole ones, or --num-frames"))
    return _worst(parts)


def join(verdicts: dict[str, Verdict], asked: bool) -> Verdict:
    """Judge a dataset by its splits; one that is not there is a gap unless it was asked for."""
    parts: list[tuple[Word, str, str]] = []
    usable = any(verdict.word != "broken" for verdict in verdicts.values())
    for split, verdict in verdicts.items():
        absent = verdict.reasons[:1] and verdict.reasons[0].startswith(ABSENT)
        word: Word = "usable with gaps" if absent and usable and not asked else verdict.word
        parts += [(word, f"{split}: {reason}", "") for reason in verdict.reasons]
        parts += [(word, "", advice) for advice in verdict.advice]
    return _worst(parts)


ABSENT = "cannot be opened"


def absent(error: Exception) -> Verdict:
    """Judge a split that could not be opened."""
    return Verdict(
        "broken", (f"{ABSENT}: {error}",), ("put the files as the layout says: `fourd data doctor DATASET` tells it",)
    )


def _gaps(counts: Counts) -> list[tuple[Word, str, str]]:
    parts: list[tuple[Word, str, str]] = []
    if counts.num_missing:
        told = f"{counts.num_missing} of {counts.official} recordings of the official list are missing"
        parts.append(("usable with gaps", told, "get them, or name the number of clips with every figure"))
    if counts.unreadable:
        told = f"{len(counts.unreadable)} recordings or files cannot be used, {counts.unreadable[0].reason}"
        parts.append(("usable with gaps", told, "get what unreadable.csv lists again"))
    if counts.damaged:
        told = f"{len(counts.damaged)} recordings can be used in part, {counts.damaged[0].reason}"
        parts.append(("usable with gaps", told, "get what damaged.csv lists again, or live without"))
    return parts


def _loading(tally: Tally) -> list[tuple[Word, str, str]]:
    if not tally.unloaded:
        return []
    word: Word = "broken" if len(tally.unloaded) > _MOST_UNLOADED * tally.num_looked else "usable with gaps"
    told = f"{len(tally.unloaded)} of {tally.num_looked} clips cannot be loaded, {tally.unloaded[0].reason}"
    return [(word, told, "get what unloaded.csv lists again, or take it out of ROOT")]


def _labels(tally: Tally, tasks: Sequence[str]) -> list[tuple[Word, str, str]]:
    num_loaded = tally.num_looked - len(tally.unloaded)
    without = {kind: num_loaded - tally.labels[_LABELS[kind]] for kind in tasks}
    advice = "get the labels again"
    return [("broken", f"{n} of {num_loaded} clips have no {kind}", advice) for kind, n in without.items() if n]


def _checks(tally: Tally) -> list[tuple[Word, str, str]]:
    parts: list[tuple[Word, str, str]] = []
    for check in tally.checks.values():
        wrong = check.num_faults + (check.num_odd if check.is_broken else 0)
        if wrong:
            _, first = next((told for told in check.told if told[1].level == "fault"), check.told[0])
            word: Word = "broken" if check.is_broken else "usable with gaps"
            parts.append((word, f"{check.name}: {wrong} of {check.num_judged} clips: {first.told}", first.advice))
    return parts


def _worst(parts: list[tuple[Word, str, str]]) -> Verdict:
    """Take the worst word, and what is worst first; the same advice once."""
    ranked = sorted(parts, key=lambda part: -WORDS.index(part[0]))
    reasons = tuple(dict.fromkeys(reason for _, reason, _ in ranked if reason))
    advice = tuple(dict.fromkeys(told for _, _, told in ranked if told))
    return Verdict(ranked[0][0] if ranked else "good", reasons, advice)
