"""PointOdyssey: long simulated films with point tracks, depth and the camera's path."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float

from fourd.datasets._files import colour, frames_of, identity, raster
from fourd.datasets._labelled import About, Found, LabelledConfig, LabelledDataset, Recording
from fourd.datasets._sampling import FrameNumbers
from fourd.datasets._view import Labelled
from fourd.geometry import rigid_inverse
from fourd.media import UnreadableVideo
from fourd.types import CameraPoses, Depth, PointTracks, Unreadable

ABOUT = About(
    title="PointOdyssey, version 1.2",
    licence="CC BY-NC-SA 4.0 by its project page; MIT by the page that hosts the files",
    how_to_get=(
        "https://huggingface.co/datasets/aharley/pointodyssey: train (134.5 GB in four parts, to be joined), "
        "val.tar.gz (20.4 GB), test.tar.gz (26.5 GB), sample.tar.gz (3.3 GB); unpack them into ROOT"
    ),
    layout="{train,val,test,sample}/<film>/{rgbs/rgb_00000.jpg, depths/depth_00000.png, anno.npz}",
    source="Zheng et al., PointOdyssey (ICCV 2023)",
)
FPS = 30.0
"""Frames a second; from memory, since the files hold no times."""
_FARTHEST_METRES = 1000.0
_SATURATED = 65500  # sky, and all that is farther than can be stored
_ARRAYS = {
    "trajs_2d": (None, None, 2),
    "trajs_3d": (None, None, 3),
    "visibs": (None, None),
    "valids": (None, None),
    "intrinsics": (None, 3, 3),
    "extrinsics": (None, 4, 4),
}
_NEEDED = {
    "point_tracking": ("trajs_2d", "visibs", "valids"),
    "depth": (),
    "camera_pose": ("intrinsics", "extrinsics", "trajs_2d", "trajs_3d", "visibs", "valids"),
}
_MOST_SHIFT_PX = 3.0


@dataclass(frozen=True, kw_only=True)
class PointOdysseyConfig(LabelledConfig):
    """Describe a split of PointOdyssey: train, val, test or sample.

    A film has thousands of points: set `num_points` to draw some of those that are visible in a clip's first frame.
    """

    kinds: ClassVar[tuple[str, ...]] = ("point_tracking", "depth", "camera_pose")

    def build(self) -> PointOdyssey:
        """Build what this config describes."""
        return PointOdyssey(self)


class PointOdyssey(LabelledDataset):
    """Give clips of PointOdyssey's films."""

    name = "point_odyssey"

    def __init__(self, config: PointOdysseyConfig) -> None:
        """Find the films; see `LabelledDataset`."""
        self._checked: set[str] = set()
        super().__init__(config)

    def find(self) -> Found:
        """List the films of the split by their folders, and look at the shapes of their labels."""
        folder = self.root / self.config.split
        needed = {name: None for kind in self.config.tasks for name in _NEEDED[kind]}
        recordings, unreadable = [], []
        for film in sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else ():
            try:
                recordings.append(_recording(film, tuple(needed), "depth" in self.config.tasks))
            except UnreadableVideo as error:
                unreadable.append(Unreadable(str(error.path), error.reason))
        return Found(tuple(recordings), tuple(unreadable))

    def load(self, recording: Recording, frames: FrameNumbers) -> Labelled:
        """Read pictures and depth, and those rows of the labels that belong to them."""
        film: Path = recording.source
        tasks = self.config.tasks
        pictures = [colour(film / "rgbs" / f"rgb_{frame:05d}.jpg") for frame in frames]
        needed = [name for name in ("trajs_2d", "visibs", "valids") if "point_tracking" in tasks]
        needed += [name for name in ("intrinsics", "extrinsics") if "camera_pose" in tasks]
        rows = {name: _rows(film / "anno.npz", name, frames) for name in needed}
        if "camera_pose" in tasks and recording.key not in self._checked:
            _check_camera(film / "anno.npz", int(frames[0]))
            self._checked.add(recording.key)
        return Labelled(
            video=frames_of(pictures, str(film / "rgbs")),
            time_s=torch.from_numpy(frames / FPS),
            points=_points(rows) if "point_tracking" in tasks else None,
            depth=_depth(film, frames) if "depth" in tasks else None,
            camera=_camera(rows, film / "anno.npz") if "camera_pose" in tasks else None,
        )


def _recording(film: Path, needed: tuple[str, ...], with_depth: bool) -> Recording:
    """Compare what a film's folder holds; raise UnreadableVideo where one part tells of other frames than another."""
    labels = film / "anno.npz"
    count = _numbered(film / "rgbs", "rgb_", ".jpg")
    if with_depth and _numbered(film / "depths", "depth_", ".png") != count:
        found = _numbered(film / "depths", "depth_", ".png")
        raise UnreadableVideo(str(film / "depths"), f"{found} depth_*.png beside {count} rgb_*.jpg: get them again")
    shapes = {name: _shape(labels, name) for name in needed}
    for name, shape in shapes.items():
        if len(shape) != len(_ARRAYS[name]) or shape[0] != count or shape[1:] != _expected(name, shapes):
            expected = (count, *_expected(name, shapes))
            raise UnreadableVideo(str(labels), f"field {name!r}: shape {shape}, expected {expected}, by rgb_*.jpg")
    return Recording(
        key=film.name,
        group=film.name,
        num_frames=count,
        identity=identity(labels, film / "rgbs") if needed else identity(film / "rgbs"),
        source=film,
        num_points=shapes["trajs_2d"][1] if "trajs_2d" in shapes else 0,
    )


def _expected(name: str, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """Say what follows the number of frames in an array's shape: as many points as `trajs_2d` has."""
    num_points = shapes["trajs_2d"][1] if len(shapes.get("trajs_2d", ())) == 3 else 0
    return tuple(num_points if side is None else side for side in _ARRAYS[name][1:])


def _numbered(folder: Path, prefix: str, suffix: str) -> int:
    """Count pictures; raise UnreadableVideo where there is none, or one in between is missing."""
    names = {path.name for path in folder.glob(f"{prefix}*{suffix}")}
    missing = next((name for i in range(len(names)) if (name := f"{prefix}{i:05d}{suffix}") not in names), None)
    if not names or missing:
        what = f"{missing} is missing, of {len(names)}" if names else f"found no {prefix}*{suffix}"
        raise UnreadableVideo(str(folder), f"{what}: expected pictures numbered from 00000 without a gap")
    return len(names)


# ----------------------------------------------------------------------------- arrays in an archive, row by row


@contextmanager
def _array(path: Path, name: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype[Any]]]:
    """Open an array of an .npz at its first number; raise UnreadableVideo where there is none that can be read."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, by_column, dtype = read(file)
            if by_column or dtype.hasobject:
                raise UnreadableVideo(str(path), f"field {name!r}: {dtype} kept by column or as objects: get it again")
            yield file, shape, dtype
    except FileNotFoundError as error:
        raise UnreadableVideo(str(path), "no such file: expected the film's labels (version 1.2 of the set)") from error
    except KeyError as error:
        raise UnreadableVideo(str(path), f"field {name!r} is missing: get it again") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError) as error:
        raise UnreadableVideo(str(path), f"field {name!r} cannot be read ({error}): get it again") from error


def _shape(path: Path, name: str) -> tuple[int, ...]:
    with _array(path, name) as (_, shape, _):
        return shape


def _rows(path: Path, name: str, frames: FrameNumbers) -> np.ndarray:
    """Read the rows of some frames, which do not fall, and keep no others in memory."""
    with _array(path, name) as (file, shape, dtype):
        length = math.prod(shape[1:]) * dtype.itemsize
        rows: dict[int, np.ndarray] = {}
        start = file.tell()
        for frame in np.unique(frames).tolist():
            file.seek(start + frame * length)
            data = file.read(length)
            if len(data) < length:
                raise EOFError(f"it ends within frame {frame}")
            rows[frame] = np.frombuffer(data, dtype).reshape(shape[1:])
        return np.stack([rows[frame] for frame in frames.tolist()])


# ----------------------------------------------------------------------------- labels


def _points(rows: Mapping[str, np.ndarray]) -> PointTracks:
    """Turn frames by points into points by frames; what is not finite, or not `valids`, does not count."""
    xy = rows["trajs_2d"].astype(np.float32).swapaxes(0, 1)
    valid = (rows["valids"] != 0).T & np.isfinite(xy).all(-1)
    # 2 meant "not known" in the first version of the set; pixels are taken to count from the corner of the first one
    visible = (rows["visibs"] == 1).T & valid
    xy = np.where(valid[..., None], xy, 0)
    return PointTracks(*(torch.from_numpy(np.ascontiguousarray(a))[None] for a in (xy, visible, valid)))


def _depth(film: Path, frames: FrameNumbers) -> Depth:
    paths = [film / "depths" / f"depth_{frame:05d}.png" for frame in frames]
    stored = [raster(path) for path in paths]
    if any(depth.dtype == np.uint8 for depth in stored) or len({depth.shape for depth in stored}) > 1:
        found = sorted({(str(depth.dtype), depth.shape) for depth in stored})
        raise UnreadableVideo(str(film / "depths"), f"found {found}, expected pictures of 16 bits and one size")
    raw = np.stack(stored).astype(np.float32)
    valid = (raw > 0) & (raw <= _SATURATED)
    metres = np.where(valid, raw / 65535 * _FARTHEST_METRES, 0).astype(np.float32)
    return Depth(torch.from_numpy(metres)[None], torch.from_numpy(valid)[None])


def _camera(rows: Mapping[str, np.ndarray], path: Path) -> CameraPoses:
    """Invert camera-from-world; raise UnreadableVideo for what is no rigid motion, or a lens that changes."""
    camera_from_world = torch.from_numpy(rows["extrinsics"].astype(np.float64))
    intrinsics = torch.from_numpy(rows["intrinsics"].astype(np.float64))
    rotation = camera_from_world[:, :3, :3]
    identities = torch.eye(3, dtype=torch.float64).expand_as(rotation)
    is_rotation = torch.allclose(rotation @ rotation.mT, identities, atol=1e-3) and bool((rotation.det() > 0).all())
    if not is_rotation or not camera_from_world.isfinite().all():
        raise UnreadableVideo(str(path), "field 'extrinsics': no rotation, or no numbers, expected camera-from-world")
    # NaN is close to nothing, so that this refuses it too
    if not torch.allclose(intrinsics, intrinsics[:1].expand_as(intrinsics), rtol=1e-3):
        raise UnreadableVideo(str(path), "field 'intrinsics': changes within a clip, expected one lens")
    return CameraPoses(rigid_inverse(camera_from_world).float()[None], intrinsics[:1].float())


def _check_camera(path: Path, frame: int) -> None:
    """Compare `trajs_2d` with what the camera sees of `trajs_3d`, since the first version had other axes.

    Raises: UnreadableVideo where half of the visible points are more than a few pixels off.
    """
    names = ("trajs_2d", "trajs_3d", "visibs", "valids", "intrinsics", "extrinsics")
    row = {name: _rows(path, name, np.array([frame]))[0].astype(np.float64) for name in names}
    known = (row["visibs"] == 1) & (row["valids"] != 0)
    known &= np.isfinite(row["trajs_2d"]).all(-1) & np.isfinite(row["trajs_3d"]).all(-1)
    if known.any():
        shift = _shifts(row, known)
        if not np.median(shift) <= _MOST_SHIFT_PX:
            raise UnreadableVideo(
                str(path),
                f"frame {frame}: 'trajs_3d' seen by 'extrinsics' and 'intrinsics' lie {np.median(shift):.1f} pixels "
                "from 'trajs_2d' (median), expected less than 3: get version 1.2 of the set",
            )


def _shifts(row: Mapping[str, np.ndarray], known: np.ndarray) -> Float[np.ndarray, " N"]:
    """Measure how far, in pixels, points lie from where the camera sees them; behind it is far away."""
    world = np.concatenate([row["trajs_3d"][known], np.ones((known.sum(), 1))], axis=1)
    seen = (world @ row["extrinsics"].T)[:, :3] @ row["intrinsics"].T
    in_front = seen[:, 2] > 0
    xy = seen[:, :2] / np.where(in_front, seen[:, 2], 1)[:, None]
    return np.where(in_front, np.linalg.norm(xy - row["trajs_2d"][known], axis=-1), np.inf)


def base(root: str, split: str = "val") -> PointOdysseyConfig:
    """Describe a split with all its kinds of labels, in clips that share no frame."""
    return PointOdysseyConfig(root=root, split=split, tasks=PointOdysseyConfig.kinds)
