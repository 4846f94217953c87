"""What a prepared corpus is like. None of the values is from the paper, except for pieces of 30 seconds."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from fourd.index.pieces import Timing

_LEAST_TICKS_PER_S = 10_000
"""MP4 counts time in ticks; players expect about this many."""


@dataclass(frozen=True)
class PrepareConfig:
    """Describe the pieces that films are made into, and which of them are kept."""

    short_side: int = 256
    """Pixels of the shorter side. A film that is smaller keeps its size; sizes are made even."""
    fps: float = 12.5
    """Frames per second, the same for all films: for each time the frame nearest to it."""
    gop: int = 16
    """Frames of a closed group of pictures, each of which can be decoded alone: as many as a clip has."""
    crf: int = 23
    """x264's constant quality, 0 to 51: 6 more halve the bytes, about."""
    piece_s: float | None = 30.0
    """Seconds of a piece; None leaves films whole."""
    min_piece_s: float = 3.0
    """A film, or what remains of it after the last whole piece, is dropped where it is shorter."""
    min_motion: float = 0.0
    """Drop pieces that move less: the median of the grey levels (of 255) by which small pictures half a second apart
    differ. 0 drops none."""
    drop_duplicates: bool = False
    """Drop pieces that look like one that comes before it by key, whichever films they are from."""
    duplicate_bits: int = 15
    """Of the 256 bits that say how a piece looks, how many may differ between duplicates; 31 at most."""
    held_out: float = 0.01
    """Share of the films that is kept for validation, by a hash of each film's path."""
    shard_mb: float = 750.0
    """Megabytes of a shard, about."""
    seed: int = 0
    """Chooses the order of the pieces in the shards."""
    item_s: float = 600.0
    """Seconds of film that are worked on in one go, and lost where a machine is lost."""

    def __post_init__(self) -> None:
        """Refuse values that no corpus can have."""
        for name in ("short_side", "gop", "shard_mb", "fps", "item_s"):
            self._require(name, getattr(self, name) > 0, "more than 0")
        self._require("short_side", self.short_side >= 16 and self.short_side % 2 == 0, "an even number from 16 on")
        self._require("fps", self.fps <= 1000, "at most 1000")
        self._require("crf", 0 < self.crf <= 51, "1 to 51")
        self._require("piece_s", self.piece_s is None or self.piece_s * self.fps >= 1, "a frame or more, or None")
        self._require("min_piece_s", self.min_piece_s >= 0, "0 or more")
        longest = self.piece_s
        self._require("min_piece_s", longest is None or self.min_piece_s <= longest, f"at most piece_s, {longest}")
        self._require("min_motion", self.min_motion >= 0, "0 or more")
        self._require("duplicate_bits", 0 <= self.duplicate_bits < 32, "0 to 31")
        self._require("held_out", 0 <= self.held_out < 1, "0 to 1")

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            option = name.replace("_", "-")
            raise ValueError(f"--{option} is {getattr(self, name)}: expected {expected}")

    @property
    def rate(self) -> Fraction:
        """Give the frames per second as a fraction; 29.97 and its like are television's 30000/1001."""
        television = Fraction(1000 * round(self.fps), 1001)
        is_near = 0 < abs(self.fps - television) < 5e-4 * self.fps / 24
        return television if is_near else Fraction(self.fps).limit_denominator(1001)

    @property
    def timing(self) -> Timing:
        """Say what is true of the times and key frames of all pieces."""
        per_s = self.rate.numerator
        factor = -(-_LEAST_TICKS_PER_S // per_s)
        return Timing("h264", Fraction(1, per_s * factor), self.rate.denominator * factor, self.gop)
