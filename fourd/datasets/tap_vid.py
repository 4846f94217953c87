"""TAP-Vid and RoboTAP: films with points followed by hand, or by a simulator, kept as pickled arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from fourd.datasets._files import colour, frames_of, identity
from fourd.datasets._labelled import About, Found, LabelledConfig, LabelledDataset, Recording
from fourd.datasets._pickles import StoredArray, StoredBytes, look_into
from fourd.datasets._sampling import FrameNumbers
from fourd.datasets._view import Labelled
from fourd.media import UnreadableVideo
from fourd.types import PointTracks, Unreadable

_URL = "https://storage.googleapis.com/dm-tapnet"
ABOUT = About(
    title="TAP-Vid (DAVIS, RGB-stacking, Kinetics) and RoboTAP",
    licence=(
        "CC BY 4.0 for the labels and for the films of RGB-stacking and RoboTAP; the films of DAVIS under the Creative "
        "Commons licences of their makers; those of Kinetics are YouTube's, under its terms"
    ),
    how_to_get=(
        f"{_URL}/tapvid_davis.zip, {_URL}/tapvid_rgb_stacking.zip and {_URL}/robotap/robotap.zip hold films and "
        f"labels. {_URL}/tapvid_kinetics.zip holds labels alone, as a table: with the films of the Kinetics-700-2020 "
        "validation set, generate_tapvid.py of github.com/google-deepmind/tapnet makes the pickles from it."
    ),
    layout=(
        "in ROOT or a folder below: tapvid_davis.pkl, tapvid_rgb_stacking.pkl, robotap_split0.pkl to "
        "robotap_split4.pkl, 0000_of_0010.pkl to 0009_of_0010.pkl"
    ),
    source="Doersch et al., TAP-Vid (NeurIPS 2022); Vecerik et al., RoboTAP (ICRA 2024)",
    official={"davis": 30, "rgb_stacking": 50},
    overlaps=("kinetics", "davis"),
)


@dataclass(frozen=True)
class _Part:
    """Describe one of the sets. fps: frames a second, from memory: the files hold no times."""

    files: str
    fps: float
    centred: bool = False
    """Whether (0, 0) is the middle of the first pixel, not its corner."""


_PARTS = {
    "davis": _Part("tapvid_davis.pkl", 24.0),
    "rgb_stacking": _Part("tapvid_rgb_stacking.pkl", 25.0),
    "robotap": _Part("robotap_split*.pkl", 25.0),
    # the script that makes these takes 25 frames a second, and half a pixel from each place
    "kinetics": _Part("*_of_*.pkl", 25.0, centred=True),
}
_FIELDS = ("video", "points", "occluded")
_FARTHEST = 1.0  # how far outside of the picture a visible point may lie, in widths and heights of it


@dataclass(frozen=True, kw_only=True)
class TapVidConfig(LabelledConfig):
    """Describe one of the sets: split is "davis", "rgb_stacking", "robotap" or "kinetics".

    All are for testing. Films are as large as they are kept: the official scores are of 256 x 256, to which films are
    stretched, not cropped.
    """

    split: str = "davis"

    kinds: ClassVar[tuple[str, ...]] = ("point_tracking",)

    def __post_init__(self) -> None:
        """Refuse a set that is not one of TAP-Vid's."""
        super().__post_init__()
        if self.split not in _PARTS:
            raise ValueError(f"TapVidConfig.split: found {self.split!r}; expected one of {', '.join(_PARTS)}")

    def build(self) -> TapVid:
        """Build what this config describes."""
        return TapVid(self)


@dataclass(frozen=True, eq=False)
class _Film:
    """Say where the arrays of a film stand in which file."""

    path: Path
    name: str
    video: StoredArray | Sequence[StoredBytes]
    points: StoredArray
    occluded: StoredArray

    @property
    def called(self) -> str:
        """Give what errors call it."""
        return f"{self.path}[{self.name}]"


class TapVid(LabelledDataset):
    """Give clips of TAP-Vid's films, with the points that are visible in their first frame."""

    name = "tap_vid"

    def find(self) -> Found:
        """List the films in the pickles, without reading their pixels."""
        files = _PARTS[self.config.split].files
        paths = sorted({*self.root.glob(files), *self.root.glob(f"*/{files}")})
        recordings: list[Recording] = []
        unreadable = [] if paths else [Unreadable(str(self.root / files), "no such file")]
        for path in paths:
            try:
                held = look_into(path)
            except UnreadableVideo as error:
                unreadable.append(Unreadable(str(error.path), error.reason))
                continue
            for name, example in _named(held, path):
                try:
                    recordings.append(self._recording(_film(path, name, example)))
                except UnreadableVideo as error:
                    unreadable.append(Unreadable(str(error.path), error.reason))
        return Found(tuple(recordings), tuple(unreadable))

    def load(self, recording: Recording, frames: FrameNumbers) -> Labelled:
        """Read frames of a film and the places of its points."""
        film: _Film = recording.source
        pictures = _pictures(film, frames)
        part = _PARTS[self.config.split]
        return Labelled(
            video=pictures,
            time_s=torch.from_numpy(frames / part.fps),
            points=_points(film, frames, pictures.shape[3], pictures.shape[2], part.centred),
        )

    def _recording(self, film: _Film) -> Recording:
        num_points, num_frames = film.occluded.shape
        key = film.name
        if self.config.split == "kinetics":
            # films have no names there, and their order depends on which could be had: the labels are their own
            key = hashlib.sha256(film.points.read(film.path).tobytes()).hexdigest()[:16]
        return Recording(
            key=f"{self.config.split}/{key}",
            group=f"{self.config.split}/{key}",
            num_frames=num_frames,
            identity=identity(film.path),
            source=film,
            num_points=num_points,
        )


def _named(held: Any, path: Path) -> Iterator[tuple[str, Any]]:
    """Name the films of a pickle, by number where it is a list."""
    if isinstance(held, dict):
        yield from ((str(name), example) for name, example in held.items())
    elif isinstance(held, list):
        yield from ((f"{number:04d}", example) for number, example in enumerate(held))
    else:
        yield "whole", None


def _film(path: Path, name: str, example: Any) -> _Film:
    """Look at the shapes of a film's arrays; raise UnreadableVideo where they do not fit each other."""
    called = f"{path}[{name}]"
    if not isinstance(example, dict) or not all(name in example for name in _FIELDS):
        found = sorted(map(str, example)) if isinstance(example, dict) else type(example).__name__
        raise UnreadableVideo(called, f"found {found}, expected a table with {', '.join(_FIELDS)}")
    points, occluded, video = example["points"], example["occluded"], example["video"]
    for field in ("points", "occluded"):
        if not isinstance(example[field], StoredArray):
            raise UnreadableVideo(called, f"field {field!r}: found {type(example[field]).__name__}, expected an array")
    length = _length(video, called)
    if len(points.shape) != 3 or points.shape[1:] != (length, 2) or occluded.shape != points.shape[:2]:
        raise UnreadableVideo(
            called,
            f"{length} frames, 'points' of shape {points.shape}, 'occluded' of shape {occluded.shape}: expected "
            f"(N, {length}, 2) and (N, {length})",
        )
    return _Film(path, name, video, points, occluded)


def _length(video: Any, called: str) -> int:
    """Count the frames of an array of pixels, or of an array or a list of pictures as JPEG."""
    if isinstance(video, list | tuple) and all(isinstance(picture, StoredBytes) for picture in video):
        return len(video)
    if isinstance(video, StoredArray) and video.shape:
        is_encoded = video.dtype is not None and video.dtype.kind == "S" and len(video.shape) == 1
        if is_encoded or (video.dtype == np.uint8 and len(video.shape) == 4 and video.shape[3] == 3):
            return video.shape[0]
    found = f"{video.dtype} of shape {video.shape}" if isinstance(video, StoredArray) else type(video).__name__
    raise UnreadableVideo(called, f"field 'video': found {found}, expected uint8 (T, H, W, 3), or T pictures as JPEG")


def _pictures(film: _Film, frames: FrameNumbers) -> UInt8[Tensor, "T 3 H W"]:
    if isinstance(film.video, StoredArray) and film.video.dtype == np.uint8:
        return torch.from_numpy(film.video.read(film.path, frames)).permute(0, 3, 1, 2)
    if isinstance(film.video, StoredArray):
        encoded = film.video.read(film.path, frames).tolist()
    else:
        encoded = [film.video[frame].read(film.path) for frame in frames]
    decoded = [colour(data, f"{film.called}.video[{frame}]") for data, frame in zip(encoded, frames, strict=True)]
    return frames_of(decoded, f"{film.called}.video")


def _points(film: _Film, frames: FrameNumbers, width: int, height: int, centred: bool) -> PointTracks:
    """Turn shares of width and height into continuous pixels, as the official scores do."""
    shares = film.points.read(film.path, (slice(None), frames)).astype(np.float32)
    visible = ~film.occluded.read(film.path, (slice(None), frames)).astype(bool)
    seen = shares[visible]
    if not np.isfinite(seen).all() or (seen.size and (seen.min() < -_FARTHEST or seen.max() > 1 + _FARTHEST)):
        raise UnreadableVideo(
            film.called,
            f"field 'points': visible ones from {seen.min()} to {seen.max()}, expected shares of width and height",
        )
    xy = np.nan_to_num(shares, nan=0.0, posinf=0.0, neginf=0.0) * np.array((width, height), np.float32)
    shown = torch.from_numpy(visible)[None]
    return PointTracks(torch.from_numpy(xy + (0.5 if centred else 0.0))[None], shown, torch.ones_like(shown))


def base(root: str, split: str = "davis") -> TapVidConfig:
    """Describe one of the sets, in clips that share no frame."""
    return TapVidConfig(root=root, split=split, tasks=TapVidConfig.kinds)
