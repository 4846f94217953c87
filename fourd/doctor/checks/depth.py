"""Is there depth, and is it in metres?"""

from __future__ import annotations

from fourd.datasets import Labelled
from fourd.doctor.findings import Finding, Plausible


def depth_is_there(clip: Labelled, plausible: Plausible) -> Finding | None:
    """Refuse depth that hardly a pixel has, that is not finite or negative, or that is the same everywhere."""
    if clip.depth is None:
        return None
    known = clip.depth.metres[clip.depth.valid]
    share = known.numel() / max(clip.depth.valid.numel(), 1)
    measured = {"valid_share": share}
    if share < plausible.least_valid:
        told = f"{share:.1%} of the pixels have a depth, expected {plausible.least_valid:.0%} or more"
        return Finding("depth_is_there", "fault", told, "get the depth of these recordings again", measured)
    if not bool((known.isfinite() & (known > 0)).all()):
        told = "valid depth that is not finite or not above 0"
        return Finding("depth_is_there", "fault", told, "get the depth again, or mark such pixels invalid", measured)
    if bool((known == known[0]).all()):
        told = f"every valid pixel has the depth {float(known[0]):.4g} m, expected depth that differs"
        return Finding("depth_is_there", "fault", told, "get the depth again: these files hold a constant", measured)
    return Finding("depth_is_there", "fine", measured=measured)


def depth_range(clip: Labelled, plausible: Plausible) -> Finding | None:
    """Refuse a median depth out of the plausible range, and say which unit it looks like."""
    if clip.depth is None or not bool(clip.depth.valid.any()):
        return None
    median = float(clip.depth.metres[clip.depth.valid].median())
    measured = {"median_metres": median}
    near, far = plausible.near_metres, plausible.far_metres
    if near <= median <= far:
        return Finding("depth_range", "fine", measured=measured)
    told = f"median depth {median:.4g} m, expected {near:g} to {far:g} m"
    for factor, unit in ((1000.0, "millimetres"), (0.001, "kilometres")):
        if near <= median / factor <= far:
            told += f": it looks like {unit}"
            advice = f"bring depth to the unit that the reader expects (here divide by {factor:g}), or get it again"
            return Finding("depth_range", "fault", told, advice, measured)
    advice = "look at the unit of the depth files; --plausible.near-metres and .far-metres change what is expected"
    return Finding("depth_range", "fault", told, advice, measured)
