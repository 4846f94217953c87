"""What every labelled dataset shares: recordings are cut into clips, seen through a crop, and asked about.

A reader is one file: it finds the recordings of a split and loads frames with their labels, converted to our
conventions. What is done with them from there on stands here and in `_view`, the same for all.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from fourd import video
from fourd.datasets._queries import ask
from fourd.datasets._sampling import FrameNumbers, Sampling, Segments, Windows
from fourd.datasets._view import Labelled, View, see
from fourd.types import Batch, Dataset, DatasetConfig, Unreadable
from fourd.video import CropBox

Crop = Literal["centre", "random", "three"]
Portion = Literal["all", "learn", "choose"]
_ONE_IN = 10
KINDS = ("depth", "point_tracking", "box_tracking", "camera_pose", "action")


@dataclass(frozen=True)
class About:
    """Say what a dataset is and how one comes by it; `fourd data doctor` tells it.

    official: recordings of each split by the official lists, where they are known. overlaps: corpora that share films
    with it, on which a model that is tested here must not have been trained. layout: what ROOT holds, in a few lines.
    """

    title: str
    licence: str
    how_to_get: str
    layout: str
    source: str
    """The paper or page that defines it."""
    official: Mapping[str, int] = field(default_factory=dict)
    overlaps: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recording:
    """Name a sequence of frames from which clips are cut.

    key: its own within the dataset, for good. group: the scene or film it comes from, that others may share.
    identity: changes when its files do (sizes, times). source: what the reader needs to load it.
    num_points, num_boxes: how many are labelled, for slots that hold all of them.
    """

    key: str
    group: str
    num_frames: int
    identity: str = ""
    source: Any = field(default=None, compare=False, repr=False)
    num_points: int = 0
    num_boxes: int = 0


@dataclass(frozen=True)
class Found:
    """Hold the recordings of a split, in a fixed order, and what cannot be used."""

    recordings: tuple[Recording, ...]
    unreadable: tuple[Unreadable, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LabelledConfig(DatasetConfig):
    """Describe a split of a labelled dataset, and the clips that are cut from it.

    root: the folder of the dataset. portion: of the split's groups (scenes, films) one in ten, by its name, is for
    choosing, such as learning rates, and the others for learning. tasks: kinds of labels that `Batch.tasks` holds, in
    its order. size: height and width of a clip. crop: the largest box of that shape in the middle, a random part
    (`crop_scale`, `crop_ratio`: see `random_resized_crop`), or three boxes along the longer side, which are views of
    one clip. flip: mirror half of the clips. num_points, num_boxes: slots for queries; None holds all that any
    recording has, and a recording with more gives as many, drawn at random. least_box_area, least_box_share: see
    `see`. least_presence: share of the frames in which a box must count to be asked for. Defaults are not from the
    paper, except for 16 frames of 224.
    """

    root: str
    split: str = "train"
    portion: Portion = "all"
    tasks: tuple[str, ...] = ()
    num_frames: int = 16
    sampling: Sampling = field(default_factory=Windows)
    size: tuple[int, int] = (224, 224)
    crop: Crop = "centre"
    crop_scale: tuple[float, float] = (0.3, 1.0)
    crop_ratio: tuple[float, float] = (0.75, 1.33)
    flip: bool = False
    num_points: int | None = None
    num_boxes: int | None = None
    least_box_area: float = 0.0
    least_box_share: float = 0.0
    least_presence: float = 0.0

    kinds: ClassVar[tuple[str, ...]] = ()
    """The kinds of labels that this dataset has."""

    def __post_init__(self) -> None:
        """Refuse what no clip can have."""
        name = type(self).__name__
        unknown = [kind for kind in self.tasks if kind not in self.kinds]
        if unknown:
            raise ValueError(f"{name}.tasks: found {unknown}; this dataset has labels for {', '.join(self.kinds)}")
        if self.num_frames < 1 or min(self.size) < 1:
            raise ValueError(f"{name}: found num_frames {self.num_frames}, size {self.size}; expected 1 or more")

    @property
    def num_views(self) -> int:
        """Count the views of a clip, whose answers are averaged."""
        segments = self.sampling.num_segments if isinstance(self.sampling, Segments) else 1
        return segments * (3 if self.crop == "three" else 1)


class LabelledDataset(Dataset, ABC):
    """Give labelled clips of recordings."""

    name: ClassVar[str]
    """What the keys of its clips begin with: the module's name."""

    def __init__(self, config: LabelledConfig) -> None:
        """Find the recordings; raise FileNotFoundError where there is no such folder, ValueError where it has none."""
        self.config: Any = config
        self.root = Path(config.root).expanduser()
        if not self.root.is_dir():
            raise FileNotFoundError(
                f"{self.root}: no such folder; expected the files of {self.name}. "
                f"`fourd data doctor {self.name} ROOT` says how to get them"
            )
        found = self.find()
        self.recordings = tuple(recording for recording in found.recordings if self._is_of_portion(recording))
        counts = [config.sampling.count(recording.num_frames, config.num_frames) for recording in self.recordings]
        short = [recording for recording, count in zip(self.recordings, counts, strict=True) if not count]
        self.unreadable = (*found.unreadable, *(self._too_short(recording) for recording in short))
        self._ends = list(accumulate(counts))
        self.num_views = config.num_views
        self.num_points = self._slots(config.num_points, "num_points")
        self.num_boxes = self._slots(config.num_boxes, "num_boxes")
        self.fingerprint = self._fingerprint()
        if not len(self):
            reasons = "; ".join(f"{lost.path}: {lost.reason}" for lost in self.unreadable[:3])
            raise ValueError(
                f"{self.root}: no clip of split {config.split!r} can be had from it ({reasons or 'it has no recording'}"
                f"). `fourd data doctor {self.name} {self.root}` says what is expected"
            )

    @abstractmethod
    def find(self) -> Found:
        """List the recordings of the split, quickly: open no film that need not be opened."""

    @abstractmethod
    def load(self, recording: Recording, frames: FrameNumbers) -> Labelled:
        """Load frames with their labels; the numbers do not fall, and may repeat.

        Raises: UnreadableVideo, naming the file, the field, what was found and what was expected, where the data are
        at fault; OSError where reading failed.
        """

    def __len__(self) -> int:
        """Count the clips, each view by itself."""
        return (self._ends[-1] if self._ends else 0) * self.num_views

    def read(self, index: int, rng: np.random.Generator) -> Batch:
        """Read a view of a clip as a batch of one."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name}: clip {index} does not exist; expected 0 to {len(self) - 1}")
        number, looked = divmod(index, self.num_views)
        recording, clip = self.locate(number)
        seed = int(rng.integers(np.iinfo(np.int64).max))
        frames = self._frames(recording, clip, looked, rng)
        loaded = self.load(recording, frames)
        seen = see(loaded, self._view(loaded, looked, rng), self.config.least_box_area, self.config.least_box_share)
        slots = {"point_tracking": self.num_points, "box_tracking": self.num_boxes}
        key = f"{self.name}/{recording.key}/{clip}" + (f"/view{looked}" if self.num_views > 1 else "")
        return Batch(
            video=seen.video[None],
            time_s=_rising(seen.time_s)[None],
            key=(key,),
            group=(f"{self.name}/{recording.group}",),
            seed=torch.tensor([seed]),
            tasks=tuple(
                ask(kind, seen, slots.get(kind, 0), self.config.least_presence, rng) for kind in self.config.tasks
            ),
        )

    def locate(self, number: int) -> tuple[Recording, int]:
        """Find the recording of a clip, and which of its clips it is."""
        place = bisect_right(self._ends, number)
        return self.recordings[place], number - (self._ends[place - 1] if place else 0)

    def _frames(self, recording: Recording, clip: int, looked: int, rng: np.random.Generator) -> FrameNumbers:
        sampling = self.config.sampling
        which = looked % sampling.num_segments if isinstance(sampling, Segments) else clip
        frames: FrameNumbers = sampling.frames(recording.num_frames, self.config.num_frames, which, rng)
        return frames

    def _view(self, clip: Labelled, looked: int, rng: np.random.Generator) -> View:
        config = self.config
        height, width = clip.video.shape[2:]
        if config.crop == "random":
            box = video.random_resized_crop(height, width, rng, scale=config.crop_scale, ratio=config.crop_ratio)
        else:
            box = video.center_crop(height, width, config.size[1] / config.size[0])
            if config.crop == "three":
                box = _along_the_longer_side(box, height, width, looked // (self.num_views // 3))
        return View(box, config.size, bool(rng.random() < 0.5 and config.flip))

    def _is_of_portion(self, recording: Recording) -> bool:
        if self.config.portion == "all":
            return True
        number = int.from_bytes(hashlib.sha256(f"{self.name}/{recording.group}".encode()).digest()[:8])
        return (number % _ONE_IN == 0) == (self.config.portion == "choose")

    def _slots(self, asked: int | None, name: str) -> int:
        return max(1, asked or max((getattr(recording, name) for recording in self.recordings), default=1))

    def _too_short(self, recording: Recording) -> Unreadable:
        found = f"{recording.num_frames} frames are too few for a clip of {self.config.num_frames}"
        return Unreadable(f"{self.name}/{recording.key}", f"{found} by {self.config.sampling}")

    def _fingerprint(self) -> str:
        described = (replace(self.config, root=""), *((r.key, r.num_frames, r.identity) for r in self.recordings))
        return hashlib.sha256(repr(described).encode()).hexdigest()[:16]


def _along_the_longer_side(box: CropBox, height: int, width: int, place: int) -> CropBox:
    """Move a centred box to the beginning, the middle or the end of the longer side."""
    return replace(box, left=(width - box.width) * place // 2, top=(height - box.height) * place // 2)


def _rising(time_s: Tensor) -> Tensor:
    """Let frames that were repeated follow each other at the usual rate."""
    steps = time_s.diff()
    if bool((steps > 0).all()):
        return time_s.float()
    usual = steps[steps > 0].median() if bool((steps > 0).any()) else torch.ones(())
    return torch.cat([time_s[:1], time_s[0] + torch.where(steps > 0, steps, usual).cumsum(0)]).float()


def numbered(count: int) -> tuple[str, ...]:
    """Name classes by number, where their names are not at hand."""
    return tuple(f"class {number}" for number in range(count))


def require_some(paths: Sequence[Path], root: Path, expected: str) -> Sequence[Path]:
    """Return the paths that were found; raise ValueError where there are none."""
    if not paths:
        raise ValueError(f"{root}: found no {expected}; look at what `fourd data doctor` expects there")
    return paths
