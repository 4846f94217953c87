"""What is known of a film: its picture, and the time stamp of every frame."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Float, Int64


@dataclass(frozen=True, eq=False)
class VideoInfo:
    """Describe a film: its picture, and the time stamp of every frame that can be shown.

    `width` and `height` are pixels as stored, after turning the picture upright by `rotation` degrees
    counter-clockwise; pixels that are not square stay so. `pts` are the frames' time stamps in order of showing, in
    units of `time_base` seconds; `key_pts` those of the frames at which decoding can start. `counted` says that the
    file's own stamps are missing or ambiguous, so that frames are found by counting from the first (slower).
    `damage` says what is wrong with a film of which only a part is whole; the table then holds that part.
    `has_sound` says whether the file holds sound as well.
    """

    width: int
    height: int
    rotation: int
    codec: str
    time_base: Fraction
    pts: Int64[np.ndarray, " F"]
    key_pts: Int64[np.ndarray, " K"]
    counted: bool = False
    damage: str | None = None
    has_sound: bool = False

    @property
    def num_frames(self) -> int:
        """Count the frames."""
        return len(self.pts)

    @property
    def frame_times_s(self) -> Float[np.ndarray, " F"]:
        """Say when each frame is shown, in seconds after the first."""
        return (self.pts - self.pts[0]) * float(self.time_base)

    @property
    def duration_s(self) -> float:
        """Say how long the film lasts, in seconds; its last frame as long as the one before."""
        times = self.frame_times_s
        return float(2 * times[-1] - times[-2]) if len(times) > 1 else 0.0

    @property
    def keyframes(self) -> Int64[np.ndarray, " K"]:
        """Number the first frame that can be shown after each start of decoding."""
        return np.unique(np.searchsorted(self.pts, self.key_pts))
