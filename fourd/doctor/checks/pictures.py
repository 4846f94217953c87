"""Do the pictures show something, and do their times rise?"""

from __future__ import annotations

from fourd.datasets import Labelled
from fourd.doctor.findings import Finding, Plausible

_LEAST_CONTRAST = 1.0  # grey levels


def pictures_show_something(clip: Labelled, plausible: Plausible) -> Finding:
    """Refuse pictures of one colour; find it odd if no frame differs from the first."""
    name = "pictures_show_something"
    contrast = float(clip.video.float().std(dim=(1, 2, 3)).median())
    measured = {"contrast_grey_levels": contrast}
    if contrast < _LEAST_CONTRAST:
        told = f"pictures of one colour (contrast {contrast:.2f} grey levels, expected {_LEAST_CONTRAST:g} or more)"
        return Finding(name, "fault", told, "get these films again", measured)
    if len(clip.video) > 1 and bool((clip.video == clip.video[:1]).all()):
        told = f"{len(clip.video)} frames without any difference, expected pictures that change"
        return Finding(name, "odd", told, "look at the film: was it made from one still?", measured)
    return Finding(name, "fine", measured=measured)


def times_rise(clip: Labelled, plausible: Plausible) -> Finding | None:
    """Refuse times that do not rise from frame to frame."""
    if len(clip.time_s) < 2:
        return None
    least = float(clip.time_s.diff().min())
    measured = {"least_step_s": least}
    if not least > 0:  # also where a time is not a number
        told = f"time_s does not rise: a step of {least:.4g} s, expected more than 0"
        return Finding("times_rise", "fault", told, "get the time stamps of these films again", measured)
    return Finding("times_rise", "fine", measured=measured)
