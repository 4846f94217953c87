"""DAVIS-2017: short films with the masks of their objects in every frame, which are given in the first one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional

from fourd.datasets._files import colour, frames_of, identity
from fourd.datasets._labelled import About, Found, LabelledConfig, LabelledDataset, Recording
from fourd.datasets._sampling import FrameNumbers, Sampling, Spread
from fourd.datasets._view import Labelled, View
from fourd.media import UnreadableVideo
from fourd.types import Batch, ObjectMasks, TaskSample, Unreadable
from fourd.video import CropBox

ABOUT = About(
    title="DAVIS 2017",
    licence="CC BY-NC 4.0 (as the site says; from memory)",
    how_to_get="https://davischallenge.org/davis2017/code.html, TrainVal, 480p (DAVIS-2017-trainval-480p.zip, 0.8 GB)",
    layout=(
        "JPEGImages/480p/<film>/00000.jpg, Annotations/480p/<film>/00000.png, ImageSets/2017/val.txt, in ROOT or in "
        "DAVIS/ below it; Full-Resolution in place of 480p"
    ),
    source="Pont-Tuset et al., The 2017 DAVIS Challenge on Video Object Segmentation (arXiv 1704.00675)",
    official={"train": 60, "val": 30},
    overlaps=("tap_vid",),
)
FPS = 24.0
"""Frames a second; the files hold no times (from memory)."""
_VOID = 255  # in the masks of the unsupervised task alone, from memory


class WholeFilm(Spread):
    """Take one clip of a recording: all of it."""

    def frames(self, recorded: int, num_frames: int, clip: int, rng: np.random.Generator) -> FrameNumbers:
        """Give the numbers of all frames."""
        return np.arange(recorded, dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class DavisConfig(LabelledConfig):
    """Describe films of DAVIS, each a clip as long as it is, whatever `num_frames` says.

    size: height and width that pictures are stretched to; 480 x 880, a multiple of 16, is what the notebook that was
    released with RVM uses. resolution: the folder's name. A clip's sample asks with the first frame's mask in this
    size; its target is all masks as large as they are kept, since they are compared there.
    """

    split: str = "val"
    resolution: str = "480p"
    size: tuple[int, int] = (480, 880)
    sampling: Sampling = field(default_factory=WholeFilm)

    kinds: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        """Refuse what would part pictures from masks."""
        super().__post_init__()
        if self.crop != "centre" or self.flip or self.num_views > 1:
            raise ValueError("DavisConfig: found a crop, a flip or views; expected whole pictures, each seen once")

    def build(self) -> Davis:
        """Find the films."""
        return Davis(self)


@dataclass(frozen=True)
class _Film:
    """Say where the frames of a film lie, and their masks."""

    pictures: tuple[Path, ...]
    masks: tuple[Path, ...]


class Davis(LabelledDataset):
    """Give films with the masks of their objects."""

    name = "davis"

    def find(self) -> Found:
        """List the films that the split's list names, and see that no frame lacks its mask."""
        root = self.root if (self.root / "ImageSets").is_dir() else self.root / "DAVIS"
        listed = root / "ImageSets" / "2017" / f"{self.config.split}.txt"
        if not listed.is_file():
            raise FileNotFoundError(f"{listed}: no such file; `fourd data doctor davis` says how to get DAVIS")
        recordings: list[Recording] = []
        unreadable: list[Unreadable] = []
        for name in listed.read_text().split():
            film = self._film(root, name)
            if isinstance(film, Unreadable):
                unreadable.append(film)
            else:
                known = identity(*(paths[0].parent for paths in (film.pictures, film.masks)))
                recordings.append(Recording(name, name, len(film.pictures), known, film))
        return Found(tuple(recordings), tuple(unreadable))

    def _film(self, root: Path, name: str) -> _Film | Unreadable:
        folders = [root / part / self.config.resolution / name for part in ("JPEGImages", "Annotations")]
        pictures, masks = (
            sorted(folder.glob(f"*.{ending}")) for folder, ending in zip(folders, ("jpg", "png"), strict=True)
        )
        numbers = [f"{number:05d}" for number in range(len(pictures))]
        if not pictures or [path.stem for path in pictures] != numbers:
            return Unreadable(
                str(folders[0]), f"found {len(pictures)} pictures, expected 00000.jpg and so on without a gap"
            )
        if [path.stem for path in masks] != numbers:
            return Unreadable(
                str(folders[1]), f"{len(masks)} masks for {len(pictures)} pictures; expected one for each"
            )
        return _Film(tuple(pictures), tuple(masks))

    def load(self, recording: Recording, frames: FrameNumbers) -> Labelled:
        """Read pictures."""
        pictures = [colour(recording.source.pictures[frame]) for frame in frames.tolist()]
        return Labelled(video=frames_of(pictures, recording.key), time_s=torch.from_numpy(frames / FPS))

    def read(self, index: int, rng: np.random.Generator) -> Batch:
        """Read a film: the query is the first frame's mask, the target all masks."""
        batch = super().read(index, rng)
        recording, _ = self.locate(index)
        masks = self._masks(recording.source)
        first = functional.interpolate(masks[:, :1].float(), self.config.size, mode="nearest").to(torch.uint8)
        sample = TaskSample(ObjectMasks(first), ObjectMasks(masks), "segmentation")
        return replace(batch, tasks=(sample,))

    def _masks(self, film: _Film) -> UInt8[Tensor, "1 T H W"]:
        with Image.open(film.pictures[0]) as picture:
            size = (picture.height, picture.width)
        return torch.from_numpy(np.stack([_mask(path, size) for path in film.masks]))[None]

    def _view(self, clip: Labelled, looked: int, rng: np.random.Generator) -> View:
        """Show whole pictures, stretched."""
        height, width = clip.video.shape[2:]
        return View(CropBox(0, 0, width, height), self.config.size)


def _mask(path: Path, size: tuple[int, int]) -> UInt8[np.ndarray, "H W"]:
    """Read the numbers of a palette picture; raise UnreadableVideo where it is none, or of another size."""
    try:
        with Image.open(path) as image:
            if image.mode not in ("P", "L"):
                raise UnreadableVideo(str(path), f"a picture of mode {image.mode}, expected numbers of objects (P)")
            numbers = np.asarray(image)
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise UnreadableVideo(str(path), f"not a picture that can be decoded ({error}): get it again") from error
    if numbers.shape != size:
        raise UnreadableVideo(str(path), f"{numbers.shape[::-1]} pixels, its picture has {size[::-1]}: get it again")
    if numbers.max() == _VOID:
        raise UnreadableVideo(str(path), "found 255, expected numbers of objects: are these the unsupervised masks?")
    return numbers


def base(root: str, split: str = "val") -> DavisConfig:
    """Describe the films that DAVIS-2017 is reported on."""
    return DavisConfig(root=root, split=split)
