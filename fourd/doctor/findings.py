"""What a check says of a clip, and what counts as plausible."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Level = Literal["fine", "odd", "fault"]
"""Fine; odd, which is a fault only where every clip is so; or a fault."""


@dataclass(frozen=True)
class Finding:
    """Hold what one check says of one clip.

    told: what was found and what was expected; empty where all is fine. advice: the way out. measured: numbers by
    name, with their units in the names.
    """

    check: str
    level: Level
    told: str = ""
    advice: str = ""
    measured: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Plausible:
    """Say what counts as plausible. None of the values is from the paper."""

    near_metres: float = 0.05
    """Least median depth of a clip."""
    far_metres: float = 200.0
    """Largest median depth of a clip."""
    least_valid: float = 0.01
    """Share of pixels that must have a depth."""
    most_disagreement: float = 0.15
    """Relative depth by which two frames may disagree, in the median over pixels, when one is moved onto the other."""
    most_turn_deg: float = 90.0
    """Turn of the camera from one frame of a clip to the next."""
    most_outside: float = 0.01
    """Share of visible points that may lie outside of the picture."""
    most_boxes_outside: float = 0.2
    """Share of boxes that may lie outside of the picture: they may reach beyond it, and leave it."""

    def __post_init__(self) -> None:
        """Refuse a range that holds nothing."""
        if not 0 < self.near_metres < self.far_metres:
            raise ValueError(
                f"depth between {self.near_metres} and {self.far_metres} m: expected 0 < near-metres < far-metres"
            )


@dataclass(frozen=True)
class Expected(Plausible):
    """Say also what the reader says of its dataset: how many classes there are, None where it does not tell."""

    num_classes: int | None = None
