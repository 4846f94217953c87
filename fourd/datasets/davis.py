"""DAVIS-2017: short films with the masks of their objects in every frame, which are given in the first one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from PIL import Image

from fourd import video
from fourd.datasets._files import by_number, colour, frames_of, identity
from fourd.datasets._labelled import About
from fourd.media import UnreadableVideo
from fourd.types import Batch, Dataset, DatasetConfig, ObjectMasks, TaskSample, Unreadable
from fourd.video import CropBox

ABOUT = About(
    title="DAVIS 2017",
    licence="CC BY-NC 4.0 (as the site says; from memory)",
    how_to_get="https://davischallenge.org/davis2017/code.html, TrainVal, 480p (DAVIS-2017-trainval-480p.zip, 0.8 GB)",
    layout="JPEGImages/480p/<film>/00000.jpg, Annotations/480p/<film>/00000.png, ImageSets/2017/val.txt, in ROOT",
    source="Pont-Tuset et al., The 2017 DAVIS Challenge on Video Object Segmentation (arXiv 1704.00675)",
    official={"train": 60, "val": 30},
    overlaps=("tap_vid",),
)
FPS = 24.0
"""Frames a second; the files hold no times (from memory)."""


@dataclass(frozen=True, kw_only=True)
class DavisConfig(DatasetConfig):
    """Describe films of DAVIS, each a clip as long as it is.

    size: height and width that pictures are stretched to, masks by their nearest pixel; 480 x 880 is what the released
    evaluation of the same team uses, a multiple of 16. resolution: the folder's name. num_frames: only the first so
    many of each film; None for all.
    """

    root: str
    split: str = "val"
    resolution: str = "480p"
    size: tuple[int, int] = (480, 880)
    num_frames: int | None = None

    def build(self) -> Davis:
        """Find the films."""
        return Davis(self)


class Davis(Dataset):
    """Give films with the masks of their objects."""

    def __init__(self, config: DavisConfig) -> None:
        """Find the films that the split's list names; raise FileNotFoundError where there is no list."""
        self.config = config
        self.root = Path(config.root).expanduser()
        listed = self.root / "ImageSets" / "2017" / f"{config.split}.txt"
        if not listed.is_file():
            raise FileNotFoundError(f"{listed}: no such file; `fourd data doctor davis ROOT` says how to get DAVIS")
        self.films: list[tuple[str, list[Path], list[Path]]] = []
        lost = []
        for name in listed.read_text().split():
            found = self._film(name)
            if isinstance(found, Unreadable):
                lost.append(found)
            else:
                self.films.append((name, *found))
        self.unreadable = tuple(lost)
        if not self.films:
            raise ValueError(
                f"{listed}: no film that it names can be used ({lost[0].reason if lost else 'it is empty'})"
            )
        about = (replace(config, root=""), *((name, identity(*masks)) for name, _, masks in self.films))
        self.fingerprint = hashlib.sha256(repr(about).encode()).hexdigest()[:16]

    def _film(self, name: str) -> tuple[list[Path], list[Path]] | Unreadable:
        pictures, masks = (
            by_number(list((self.root / part / self.config.resolution / name).glob(f"*.{ending}")))[
                : self.config.num_frames
            ]
            for part, ending in (("JPEGImages", "jpg"), ("Annotations", "png"))
        )
        if not pictures or [path.stem for path in pictures] != [path.stem for path in masks]:
            where = self.root / "Annotations" / self.config.resolution / name
            return Unreadable(str(where), f"{len(masks)} masks for {len(pictures)} pictures; expected one for each")
        return pictures, masks

    def __len__(self) -> int:
        """Count the films."""
        return len(self.films)

    def read(self, index: int, rng: np.random.Generator) -> Batch:
        """Read a film: the query is the first frame's mask, the target all masks."""
        name, pictures, masks = self.films[index]
        frames = frames_of([colour(path) for path in pictures], name)
        height, width = frames.shape[2:]
        shown = video.crop_resize(frames, CropBox(0, 0, width, height), self.config.size)
        index_of = torch.from_numpy(np.stack([_mask(path, (height, width)) for path in masks]))[None]
        index_of = F.interpolate(index_of.float(), self.config.size, mode="nearest-exact").to(torch.uint8)
        sample = TaskSample(ObjectMasks(index_of[:, :1].clone()), ObjectMasks(index_of), "segmentation")
        seed = torch.from_numpy(rng.integers(2**63 - 1, size=1))
        times = torch.arange(len(shown))[None] / FPS
        return Batch(shown[None], times, (f"davis/{name}",), (f"davis/{name}",), seed, (sample,))


def _mask(path: Path, size: tuple[int, int]) -> UInt8[np.ndarray, "H W"]:
    """Read the numbers of a palette picture; raise UnreadableVideo where it is none, or of another size."""
    try:
        with Image.open(path) as image:
            if image.mode not in ("P", "L"):
                raise UnreadableVideo(str(path), f"a picture of mode {image.mode}, expected numbers of objects (P)")
            numbers = np.asarray(image)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise UnreadableVideo(str(path), f"not a picture that can be decoded ({error}): get it again") from error
    if numbers.shape != size:
        raise UnreadableVideo(str(path), f"{numbers.shape[::-1]} pixels, its picture has {size[::-1]}: get it again")
    return numbers


def base(root: str, split: str = "val") -> DavisConfig:
    """Describe the films that DAVIS-2017 is reported on."""
    return DavisConfig(root=root, split=split)
