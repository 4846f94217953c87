"""The 4DS models that are published, by name.

Source: the table of checkpoints in the README of google-deepmind/representations4d.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fourd.backbones import video_vit
from fourd.backbones.video_vit import VideoViTConfig
from fourd.weights.download import download

_ADDRESS = "https://storage.googleapis.com/representations4d/checkpoints"
_BYTES_PER_NUMBER = 4


@dataclass(frozen=True)
class Published:
    """Say where a model lies, and what has to be in its file."""

    file_name: str
    backbone: VideoViTConfig
    num_parameters: int

    @property
    def url(self) -> str:
        """Give the address of the file."""
        return f"{_ADDRESS}/{self.file_name}"

    @property
    def num_bytes(self) -> tuple[int, int]:
        """Bound the size of the file: its numbers, compressed at best by half, and a little for their names."""
        plain = _BYTES_PER_NUMBER * self.num_parameters
        return plain // 2, plain + plain // 100 + 2**20


PUBLISHED = {
    "4ds-b-dist-e": Published("scaling4d_dist_b.npz", video_vit.base(), 87_439_104),
    "4ds-e": Published("scaling4d_e.npz", video_vit.size_e(), 3_809_464_064),
    "4ds-b-dist-e-depth": Published("scaling4d_dist_b_depth.npz", video_vit.base(), 105_026_944),
}


def fetch(name: str, folder: Path) -> Path:
    """Download a published file into a folder, or go on where that was stopped, or take the file that is there."""
    published = PUBLISHED[name]
    path = folder / published.file_name
    return download(published.url, path, expected_bytes=published.num_bytes, what=name)
