"""Write a small copy of Kinetics: three classes, films flat and in folders, two clips of one YouTube film."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from fourd.datasets.kinetics import KineticsConfig, base
from tests.films import write_film

WIDTH, HEIGHT, FPS = 64, 48, 25.0
CLASSES = ("abseiling", "air drumming", "zumba, slow")
HEADER = "label,youtube_id,time_start,time_end,split"


@dataclass(frozen=True)
class Clip:
    """Hold what is true of a clip, and the folder that it lies in."""

    youtube_id: str
    start: int
    end: int
    split: str
    label: int
    num_frames: int
    folder: str

    @property
    def name(self) -> str:
        """Name its film, without the ending."""
        return f"{self.youtube_id}_{self.start:06d}_{self.end:06d}"

    @property
    def line(self) -> str:
        """Write it as a line of a list."""
        label = CLASSES[self.label]
        label = f'"{label}"' if "," in label else label
        return f"{label},{self.youtube_id},{self.start},{self.end},{self.split}"


CLIPS = (
    Clip("zzzz_0-A_b_", 1, 11, "train", 2, 30, "train/zumba, slow"),
    Clip("-abcDEF_12_", 100, 110, "train", 0, 21, "train/abseiling"),
    Clip("-abcDEF_12_", 7, 17, "train", 0, 26, "train/abseiling"),
    Clip("000air___00", 59, 69, "train", 1, 9, ""),
    Clip("val_val_val", 12, 22, "val", 1, 17, "val"),
    Clip("val-VAL-val", 0, 10, "val", 0, 24, "val"),
)


def write_list(path: Path, split: str) -> None:
    """Write the list of a split."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([HEADER, *(clip.line for clip in CLIPS if clip.split == split)]) + "\n")


def write(root: Path) -> KineticsConfig:
    """Write the copy; its films show their frames' numbers."""
    for split in ("train", "val"):
        write_list(root / "annotations" / f"{split}.csv", split)
    for clip in CLIPS:
        (root / clip.folder).mkdir(parents=True, exist_ok=True)
        write_film(root / clip.folder / f"{clip.name}.mp4", clip.num_frames, size=(WIDTH, HEIGHT), fps=FPS)
    return replace(base(str(root), "train"), classes=len(CLASSES), num_frames=4, size=(HEIGHT, WIDTH))
