"""Simulated films of falling objects with dense point tracks: Kubric's MOVi-F as prepared for CoTracker3."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from fourd.datasets._files import by_number, colour, frames_of, identity
from fourd.datasets._labelled import About, Found, LabelledConfig, LabelledDataset, Recording
from fourd.datasets._pickles import StoredArray, look_into
from fourd.datasets._sampling import FrameNumbers, RandomWindow
from fourd.datasets._view import Labelled
from fourd.media import UnreadableVideo
from fourd.types import PointTracks, Unreadable

ABOUT = About(
    title="CoTracker3_Kubric (point tracks on Kubric MOVi-F)",
    licence="not stated here: read it at the address below; Kubric itself is Apache-2.0",
    how_to_get=(
        "https://huggingface.co/datasets/facebook/CoTracker3_Kubric: download and unpack it, so that ROOT, or a folder "
        "in it named as the split, holds one folder for each film"
    ),
    layout="[<split>/]<film>/frames/*.png; [<split>/]<film>/<film>.npy (pickled: coords, visibility)",
    source="Karaev et al., CoTracker3 (2024); Greff et al., Kubric (CVPR 2022)",
)
FPS = 12.0
"""Frames a second of MOVi; from memory, since the files hold no times."""


@dataclass(frozen=True, kw_only=True)
class KubricConfig(LabelledConfig):
    """Describe a folder of films; it has no official splits."""

    kinds: ClassVar[tuple[str, ...]] = ("point_tracking",)

    def build(self) -> Kubric:
        """Build what this config describes."""
        return Kubric(self)


@dataclass(frozen=True, eq=False)
class _Film:
    """Say where a film's pictures and labels stand."""

    folder: Path
    coords: StoredArray
    visibility: StoredArray

    @property
    def labels(self) -> Path:
        """Name the file of labels."""
        return self.folder / f"{self.folder.name}.npy"


class Kubric(LabelledDataset):
    """Give clips of simulated films, with the points that are visible in their first frame."""

    name = "kubric"

    def find(self) -> Found:
        """List the films, and look at the shapes of their labels."""
        inner = self.root / self.config.split
        recordings, unreadable = [], []
        for folder in by_number([path for path in (inner if inner.is_dir() else self.root).iterdir() if path.is_dir()]):
            try:
                recordings.append(_recording(folder))
            except UnreadableVideo as error:
                unreadable.append(Unreadable(str(error.path), error.reason))
        return Found(tuple(recordings), tuple(unreadable))

    def load(self, recording: Recording, frames: FrameNumbers) -> Labelled:
        """Read pictures, and the places of all points in them."""
        film: _Film = recording.source
        paths = _pictures(film.folder)
        if len(paths) <= frames[-1]:
            raise UnreadableVideo(str(film.folder / "frames"), f"{len(paths)} pictures, frame {frames[-1]} is asked")
        return Labelled(
            video=frames_of([colour(paths[frame]) for frame in frames], str(film.folder / "frames")),
            time_s=torch.from_numpy(frames / FPS),
            points=_points(film, frames),
        )


def _pictures(folder: Path) -> list[Path]:
    return by_number(list((folder / "frames").glob("*.png")))


def _recording(folder: Path) -> Recording:
    labels = folder / f"{folder.name}.npy"
    if not labels.is_file():
        raise UnreadableVideo(str(labels), "no such file: expected the labels of the film in this folder")
    held = _held(labels)
    coords, hidden = (_array(held, name, labels) for name in ("coords", "visibility"))
    num_pictures = len(_pictures(folder))
    if coords.shape != (*hidden.shape, 2) or hidden.shape[1:] != (num_pictures,):
        raise UnreadableVideo(
            str(labels),
            f"field 'coords' of shape {coords.shape}, 'visibility' of shape {hidden.shape}, beside {num_pictures} "
            f"pictures: expected (N, {num_pictures}, 2) and (N, {num_pictures})",
        )
    return Recording(
        key=folder.name,
        group=folder.name,
        num_frames=num_pictures,
        identity=identity(labels, folder / "frames"),
        source=_Film(folder, coords, hidden),
        num_points=coords.shape[0],
    )


def _held(path: Path) -> dict[str, Any]:
    """Look into an .npy file that holds one pickled table; raise UnreadableVideo where it does not."""
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
            offset = file.tell()
    except ValueError as error:
        raise UnreadableVideo(str(path), f"not an .npy file ({error}): get it again") from error
    table = look_into(path, offset) if dtype.hasobject and shape == () else None
    held = table.data[0] if isinstance(table, StoredArray) and isinstance(table.data, list) and table.data else None
    if not isinstance(held, dict):
        raise UnreadableVideo(str(path), f"{dtype} of shape {shape}: expected one table with 'coords' and 'visibility'")
    return held


def _array(held: dict[str, Any], name: str, path: Path) -> StoredArray:
    array = held.get(name)
    if not isinstance(array, StoredArray) or array.dtype is None:
        raise UnreadableVideo(str(path), f"field {name!r}: found {type(array).__name__}, expected an array of numbers")
    return array


def _points(film: _Film, frames: FrameNumbers) -> PointTracks:
    """Read points; what the file calls visibility is true where a point is hidden."""
    xy = film.coords.read(film.labels, (slice(None), frames)).astype(np.float32)
    hidden = film.visibility.read(film.labels, (slice(None), frames)).astype(bool)
    known = np.asarray(np.isfinite(xy).all(-1))
    # that pixels count from the corner of the first one is Kubric's convention, from memory
    return PointTracks(
        torch.from_numpy(np.where(known[..., None], xy, 0))[None],
        torch.from_numpy(~hidden & known)[None],
        torch.from_numpy(known)[None],
    )


def base(root: str, split: str = "train") -> KubricConfig:
    """Describe a folder of films, each giving one random window, as SciVid trains on such films."""
    return KubricConfig(root=root, split=split, tasks=KubricConfig.kinds, sampling=RandomWindow())
