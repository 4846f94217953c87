"""Is the class one of those that there are?"""

from __future__ import annotations

from fourd.datasets import Labelled
from fourd.doctor.findings import Expected, Finding


def label_range(clip: Labelled, expected: Expected) -> Finding | None:
    """Refuse a class out of range."""
    if clip.label is None or expected.num_classes is None:
        return None
    index = int(clip.label.index[0])
    measured = {"class_index": float(index)}
    if 0 <= index < expected.num_classes:
        return Finding("label_range", "fine", measured=measured)
    told = f"class {index}, expected 0 to {expected.num_classes - 1}"
    shifted = index == expected.num_classes
    advice = "classes are numbered from 1: count them from 0" if shifted else "the list of classes is another one"
    return Finding("label_range", "fault", told, advice, measured)
