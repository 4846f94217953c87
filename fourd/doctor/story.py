"""Tell a report: as text, and as a table for JSON that holds all that is printed."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from fourd.datasets import About
from fourd.doctor.checks import LABEL_OF
from fourd.doctor.examine import Report, SplitReport
from fourd.doctor.readers import Reader
from fourd.doctor.tally import CheckTally
from fourd.types import Unreadable

_SHOWN = 3


def listing(readers: Sequence[Reader]) -> str:
    """List readers with title and licence."""
    width = max((len(reader.name) for reader in readers), default=0)
    rows = [
        f"{reader.name:<{width}}  {reader.about.title}\n{'':<{width}}  {reader.about.licence}" for reader in readers
    ]
    return "\n".join([*rows, "", "fourd data doctor DATASET        says how to get one of them", _EXAMINE])


_EXAMINE = "fourd data doctor DATASET ROOT   says whether a copy is complete and right"


def how_to_get(name: str, about: About) -> str:
    """Say what a dataset is, how it is got, and how its files have to lie."""
    official = ", ".join(f"{split} {number:,}" for split, number in about.official.items()) or "no official numbers"
    lines = {
        "dataset": f"{about.title} ({name})",
        "licence": about.licence,
        "get it": about.how_to_get,
        "layout": about.layout,
        "source": about.source,
        "official": official,
    }
    if about.overlaps:
        lines["overlaps"] = f"shares films with {', '.join(about.overlaps)}: do not train there what is tested here"
    return "\n".join(
        [
            *(_wrapped(f"{word + ':':<10}", told) for word, told in lines.items()),
            f"then:     fourd data doctor {name} ROOT",
        ]
    )


def _wrapped(word: str, told: str) -> str:
    """Wrap a text beside its word; addresses and paths are never cut."""
    return textwrap.fill(
        told,
        110,
        initial_indent=word,
        subsequent_indent=" " * len(word),
        break_long_words=False,
        break_on_hyphens=False,
    )


def text(report: Report) -> str:
    """Tell a report."""
    about = report.reader.about
    head = [f"{about.title} ({report.reader.name}) in {report.root}", f"licence: {about.licence}"]
    parts = ["\n".join(head), *(_split(split) for split in report.splits), _verdict(report)]
    return "\n\n".join(parts)


def table(report: Report) -> dict[str, Any]:
    """Give a report as plain values."""
    return {
        "dataset": report.reader.name,
        "title": report.reader.about.title,
        "licence": report.reader.about.licence,
        "root": str(report.root),
        "verdict": report.verdict.word,
        "reasons": list(report.verdict.reasons),
        "advice": list(report.verdict.advice),
        "splits": {split.split: _split_table(split) for split in report.splits},
    }


def _split(split: SplitReport) -> str:
    lines = [f"split {split.split}: {split.verdict.word}"]
    if split.counts is None:
        return "\n".join([*lines, *(f"  {reason}" for reason in split.verdict.reasons)])
    lines += [f"  {line}" for line in _counted(split)]
    lines += [f"  {line}" for line in _looked(split)]
    return "\n".join(lines)


def _counted(split: SplitReport) -> list[str]:
    counts = split.counts
    if counts is None:
        return []
    official = "" if counts.official is None else f" of {counts.official:,}, {counts.num_missing:,} missing"
    if counts.official is not None and counts.num_found > counts.official:
        official += f" ({counts.num_found - counts.official:,} more than the official list has)"
    lines = [
        f"found:      {counts.num_found:,}{official}",
        f"clips:      {len(counts.clips):,} of {split.num_frames} frames, from {counts.num_recordings:,} recordings "
        f"with {counts.num_frames:,} frames",
        f"list:       sha256 {counts.clips_sha256}",
    ]
    for word, lost in (("not usable", counts.unreadable), ("in part", counts.damaged), ("too short", counts.too_short)):
        lines += _examples(word, lost)
    return lines


def _looked(split: SplitReport) -> list[str]:
    tally = split.tally
    sizes = ", ".join(f"{size} ({number})" for size, number in tally.sizes.most_common())
    labels = ", ".join(f"{name} ({number})" for name, number in tally.labels.items()) or "none"
    lines = [f"looked at:  {tally.num_looked} clips; pictures {sizes or 'none'}; labels {labels}"]
    if tally.classes:
        of = f" of {len(split.class_names)}" if split.class_names else ""
        often = ", ".join(f"{_class(split, index)} ({number})" for index, number in tally.classes.most_common(_SHOWN))
        lines.append(f"classes:    {len(tally.classes)}{of} seen; most often {often}")
    lines += _examples("not loaded", tally.unloaded)
    lines += [line for check in tally.checks.values() if check.num_judged for line in _check(check)]
    there = [check for check in tally.checks.values() if LABEL_OF.get(check.name) in tally.labels]
    unjudged = [check.name for check in there if not check.num_judged]
    if unjudged:
        lines.append(f"not judged: {', '.join(unjudged)}: no clip holds all that it takes")
    return [*lines, *(f"remark:     {remark}" for remark in split.remarks)]


def _class(split: SplitReport, index: int) -> str:
    names = split.class_names or ()
    return names[index] if 0 <= index < len(names) else f"class {index}"


def _examples(word: str, lost: Sequence[Unreadable]) -> list[str]:
    if not lost:
        return []
    more = [f"  and {len(lost) - _SHOWN:,} more"] if len(lost) > _SHOWN else []
    return [f"{word + ':':<12}{len(lost):,}", *(f"  {at.path}: {at.reason}" for at in lost[:_SHOWN]), *more]


def _check(check: CheckTally) -> list[str]:
    measured = ", ".join(f"{name} {_range(*values)}" for name, values in check.ranges.items())
    fine = check.num_judged - check.num_faults - check.num_odd
    word = "FAULT" if check.num_faults else "odd" if check.num_odd else "fine"
    lines = [f"{word:<6}{check.name:<26}{fine} of {check.num_judged} fine; {measured}"]
    for key, finding in check.told[:_SHOWN]:
        lines.append(f"        {key}: {finding.told}; {finding.advice}")
    return lines


def _range(least: float, middle: float, most: float) -> str:
    """Write the middle value, and the others where they differ."""
    same = f"{least:.3g}" == f"{most:.3g}"
    return f"{middle:.3g}" if same else f"{middle:.3g} ({least:.3g} to {most:.3g})"


def _verdict(report: Report) -> str:
    lines = [f"verdict: {report.verdict.word}"]
    lines += [f"  because {reason}" for reason in report.verdict.reasons]
    lines += [f"  do:     {advice}" for advice in report.verdict.advice]
    return "\n".join(lines)


def _split_table(split: SplitReport) -> dict[str, Any]:
    verdict = {
        "verdict": split.verdict.word,
        "reasons": list(split.verdict.reasons),
        "advice": list(split.verdict.advice),
    }
    counts, tally = split.counts, split.tally
    if counts is None:
        return verdict
    return {
        **verdict,
        "official": counts.official,
        "found": counts.num_found,
        "missing": counts.num_missing if counts.official is not None else None,
        "recordings": counts.num_recordings,
        "frames": counts.num_frames,
        "clips": len(counts.clips),
        "frames_of_a_clip": split.num_frames,
        "clips_sha256": counts.clips_sha256,
        "not_usable": _lost(counts.unreadable),
        "in_part": _lost(counts.damaged),
        "too_short": _lost(counts.too_short),
        "looked_at": tally.num_looked,
        "not_loaded": _lost(tally.unloaded),
        "picture_sizes": dict(tally.sizes),
        "labels": dict(tally.labels),
        "classes": {_class(split, index): number for index, number in tally.classes.most_common()},
        "num_classes": len(split.class_names) if split.class_names else None,
        "checks": {check.name: _check_table(check) for check in tally.checks.values()},
        "remarks": list(split.remarks),
    }


def _lost(lost: Sequence[Unreadable]) -> list[dict[str, str]]:
    return [{"path": at.path, "reason": at.reason} for at in lost]


def _check_table(check: CheckTally) -> dict[str, Any]:
    return {
        "judged": check.num_judged,
        "faults": check.num_faults,
        "odd": check.num_odd,
        "measured": {
            name: dict(zip(("least", "middle", "most"), three, strict=True)) for name, three in check.ranges.items()
        },
        "told": [
            {"clip": key, "level": finding.level, "told": finding.told, "advice": finding.advice}
            for key, finding in check.told
        ],
    }
