"""Kubric's MOVi-C, D, E and F: simulated films of falling objects, with depth, cameras, boxes, and tracks of any point.

The files are TFRecords of TensorFlow Datasets, and are read without either. Lengths are the simulation's metres.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import av
import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64, UInt8, UInt16
from torch import Tensor

from fourd.datasets._files import colour, frames_of, identity, raster
from fourd.datasets._labelled import About, Found, LabelledConfig, LabelledDataset, Recording
from fourd.datasets._movi_tracks import Camera, Scene, track
from fourd.datasets._sampling import FrameNumbers, RandomWindow, Sampling, Windows
from fourd.datasets._tfrecord import Example, Record, find_records
from fourd.datasets._view import Labelled
from fourd.media import UnreadableVideo
from fourd.types import BoxTracks, CameraPoses, Depth, PointTracks, Unreadable

ABOUT = About(
    title="Kubric MOVi (C, D, E, F)",
    licence="Kubric is Apache-2.0; its objects are CC BY 4.0 and its backgrounds CC0 (both from memory)",
    how_to_get=(
        "From a bucket that is open to all: `gcloud storage cp -r gs://kubric-public/tfds/movi_e/256x256/1.0.0 ROOT`. "
        "A part of the split's files serves too"
    ),
    layout="movi_e-<split>.tfrecord-00000-of-01024, ..., in ROOT or in a folder of it",
    source="Greff et al., Kubric: A scalable dataset generator (CVPR 2022)",
)
FPS = 12.0
MOST_OBJECTS = 25
"""Slots for boxes: as many segments as the official tracker looks at; MOVi-E has at most 23 objects."""
NUM_TRACKS = 256
"""Points that are followed in a film: the official tracker's number."""
NUM_POINTS = 64
"""Points that are asked for: the number in SciVid, by the paper's group, which trains on MOVi-E."""
_WHOLE = 65535
_SHARD = re.compile(r"(?P<name>.+)-(?P<split>[^-]+)\.tfrecord-(?P<number>\d+)-of-(?P<count>\d+)")
_OPENCV_FROM_BLENDER = np.diag([1.0, -1.0, -1.0, 1.0])  # Blender's cameras look along -z, with y up
_LEAST_QUATERNION, _MOST_QUATERNION = 0.99, 1.01


@dataclass(frozen=True, kw_only=True)
class MoviConfig(LabelledConfig):
    """Describe a split of one of the MOVi sets, at one size.

    num_tracks: points that are followed, from which those that are asked for are drawn. They are chosen in the first
    frame of a clip, always the same, as evenly among the objects as their sizes allow.
    """

    split: str = "train"
    sampling: Sampling = field(default_factory=RandomWindow)
    num_tracks: int = NUM_TRACKS

    kinds: ClassVar[tuple[str, ...]] = ("point_tracking", "depth", "box_tracking", "camera_pose")

    def build(self) -> Movi:
        """Build what this config describes."""
        return Movi(self)


class Movi(LabelledDataset):
    """Give clips of simulated films, with all that the simulation knows of them."""

    name = "movi"

    def find(self) -> Found:
        """List the films of the split's files; only the first is looked into, since all have as many frames."""
        shards, unreadable = self._shards()
        recordings: list[Recording] = []
        for path in shards:
            try:
                recordings.extend(self._films(path, find_records(path)))
            except UnreadableVideo as error:
                unreadable.append(Unreadable(error.path, error.reason))
        while recordings:
            try:
                num_frames = _Film(recordings[0].source).num_frames
                return Found(tuple(replace(film, num_frames=num_frames) for film in recordings), tuple(unreadable))
            except UnreadableVideo as error:
                unreadable.append(Unreadable(error.path, error.reason))
                recordings.pop(0)
        return Found((), tuple(unreadable))

    def load(self, recording: Recording, frames: FrameNumbers) -> Labelled:
        """Decode frames of a film, and the labels that are asked for."""
        film, tasks = _Film(recording.source), self.config.tasks
        if film.num_frames != recording.num_frames:
            found = f"found {film.num_frames}, expected {recording.num_frames} as in the split's first film"
            raise UnreadableVideo(film.where, f"feature 'metadata/num_frames': {found}")
        shown, back = np.unique(frames, return_inverse=True)
        return Labelled(
            video=film.video(shown)[back],
            time_s=torch.from_numpy(frames / FPS),
            depth=_depth(film, shown, back) if "depth" in tasks else None,
            points=self._points(film, shown, back) if "point_tracking" in tasks else None,
            boxes=film.boxes(frames) if "box_tracking" in tasks else None,
            camera=_poses(film.camera(frames)) if "camera_pose" in tasks else None,
        )

    def _shards(self) -> tuple[list[Path], list[Unreadable]]:
        """Find the files of the split, and say how many of them are not there."""
        named = {path: _SHARD.fullmatch(path.name) for depth in ("*", "*/*") for path in self.root.glob(depth)}
        found = {path: name for path, name in named.items() if name and name["split"] == self.config.split}
        sets = {(path.parent, name["name"], int(name["count"])) for path, name in found.items()}
        if len(sets) > 1:
            listed = ", ".join(sorted(f"{folder}/{name}, {count} files" for folder, name, count in sets))
            raise ValueError(f"{self.root} holds several sets ({listed}): name the folder of one as root")
        if not sets:
            expected = f"files <name>-{self.config.split}.tfrecord-00000-of-01024"
            return [], [Unreadable(str(self.root), f"found none of the expected {expected}")]
        [(folder, name, count)] = sets
        lost = sorted(set(range(count)) - {int(shard["number"]) for shard in found.values()})
        first = folder / f"{name}-{self.config.split}.tfrecord-{lost[0] if lost else 0:05d}-of-{count:05d}"
        told = f"no such file; {len(lost)} of the split's {count} files are not there"
        return sorted(found), [Unreadable(str(first), told)] if lost else []

    def _films(self, path: Path, records: Sequence[Record]) -> list[Recording]:
        """Name films by their places, which are the same in every copy of a set."""
        file = path.name.rpartition("-of-")[0].replace(".tfrecord", "")
        changed = identity(path)
        return [
            Recording(
                key=f"{file}/{place}",
                group=f"{file}/{place}",
                num_frames=0,
                identity=changed,
                source=record,
                num_points=self.config.num_tracks,
                num_boxes=MOST_OBJECTS,
            )
            for place, record in enumerate(records)
        ]

    def _points(self, film: _Film, shown: FrameNumbers, back: Int64[np.ndarray, " C"]) -> PointTracks:
        seed = hashlib.sha256(f"{film.name} {shown[0]}".encode()).digest()
        tracks = track(film.scene(shown), self.config.num_tracks, np.random.default_rng(int.from_bytes(seed[:8])))
        return PointTracks(
            torch.from_numpy(tracks.xy_px).float()[None, :, back],
            torch.from_numpy(tracks.visible)[None, :, back],
            torch.from_numpy(tracks.known)[None, :, back],
        )


# ----------------------------------------------------------------------------- one film


class _Film:
    """Read what a record holds, feature by feature, as it is asked for."""

    def __init__(self, record: Record) -> None:
        self.example = Example(record)
        self.where = f"{record.path}[byte {record.offset}]"
        self.num_frames, self.height, self.width = (
            int(self.example.ints(f"metadata/{name}", (1,))[0]) for name in ("num_frames", "height", "width")
        )

    @property
    def name(self) -> str:
        """Give the name by which the set's makers know the film."""
        return self.example.blobs("metadata/video_name", [0])[0].decode(errors="replace")

    def video(self, frames: FrameNumbers) -> UInt8[Tensor, "T 3 H W"]:
        """Decode frames."""
        pictures = [colour(data, f"{self.where}.video") for data in self._frames("video", frames)]
        self._require_size("video", pictures)
        return frames_of(pictures, f"{self.where}.video")

    def distance(self, frames: FrameNumbers) -> Float32[np.ndarray, "T H W"]:
        """Read how far what a pixel shows is from the camera's centre, along the ray."""
        least, most = self.example.floats("metadata/depth_range", (2,)).tolist()
        if not 0 <= least < most < np.inf:
            found = f"found {least}, {most}, expected 0 <= least < largest"
            raise UnreadableVideo(self.where, f"feature 'metadata/depth_range': {found}")
        return self._rasters("depth", frames).astype(np.float32) * np.float32((most - least) / _WHOLE) + np.float32(
            least
        )

    def camera(self, frames: FrameNumbers) -> Camera:
        """Read where the camera is; focal length and the sensor's width have one unit, and pixels are square."""
        blender = np.tile(np.eye(4), (len(frames), 1, 1))
        blender[:, :3, :3] = self._rotations("camera/quaternions", (self.num_frames,))[frames]
        blender[:, :3, 3] = self.example.floats("camera/positions", (self.num_frames, 3))[frames]
        focal, sensor = (
            float(self.example.floats(f"camera/{name}", (1,))[0]) for name in ("focal_length", "sensor_width")
        )
        if not (focal > 0 and sensor > 0):
            found = f"found {focal} and {sensor}, expected more than 0"
            raise UnreadableVideo(self.where, f"features 'camera/focal_length', 'camera/sensor_width': {found}")
        return Camera(blender @ _OPENCV_FROM_BLENDER, focal / sensor * self.width, self.height, self.width)

    def boxes(self, frames: FrameNumbers) -> BoxTracks:
        """Look up the boxes of all objects; one counts where some of its object is seen."""
        edges = self.example.floats("instances/bboxes/ragged_flat_values", (-1, 4))
        marked = self.example.ints("instances/bbox_frames/ragged_flat_values", (-1,))
        counts = self.example.ints("instances/bboxes/ragged_row_lengths_0", (-1,))
        if not len(edges) == len(marked) == counts.sum() or not ((marked >= 0) & (marked < self.num_frames)).all():
            found = f"{len(edges)} boxes for {len(marked)} frames, and for objects that have {counts.sum()}"
            raise UnreadableVideo(self.where, f"features 'instances/bboxes', 'instances/bbox_frames': {found}")
        held = np.zeros((len(counts), self.num_frames, 4), np.float32)
        valid = np.zeros((len(counts), self.num_frames), bool)
        objects = np.repeat(np.arange(len(counts)), counts)
        # stored as y, x, y, x, in shares of height and width
        held[objects, marked] = edges[:, [1, 0, 3, 2]] * (self.width, self.height, self.width, self.height)
        valid[objects, marked] = True
        return BoxTracks(torch.from_numpy(held[:, frames])[None], torch.from_numpy(valid[:, frames])[None])

    def scene(self, frames: FrameNumbers) -> Scene:
        """Read all that tracks are computed from."""
        first = int(frames[0])
        corners = self.example.floats("instances/bboxes_3d", (-1, self.num_frames, 8, 3)).astype(np.float64)
        rotations = self._rotations("instances/quaternions", (-1, self.num_frames))
        segments = self._rasters("segmentations", frames).astype(np.int64)
        if segments.max() > min(len(corners), len(rotations)):
            found = f"found object {segments.max()}, 'instances/bboxes_3d' has {len(corners)}"
            raise UnreadableVideo(self.where, f"feature 'segmentations': {found}")
        return Scene(
            camera=self.camera(frames),
            distance=self.distance(frames),
            segments=segments,
            object_places=self._wide("object_coordinates", first) / _WHOLE,
            normals=self._wide("normal", first) / _WHOLE * 2 - 1,
            corners=corners[:, frames],
            rotations=rotations[:, frames],
        )

    def _frames(self, name: str, frames: FrameNumbers) -> list[bytes]:
        count = self.example.count(name)
        if count != self.num_frames:
            raise UnreadableVideo(self.where, f"feature {name!r}: found {count} frames, expected {self.num_frames}")
        return self.example.blobs(name, frames.tolist())

    def _require_size(self, name: str, pictures: Sequence[np.ndarray]) -> None:
        wrong = [pixels.shape[:2] for pixels in pictures if pixels.shape[:2] != (self.height, self.width)]
        if wrong:
            expected = f"expected {(self.height, self.width)} as in 'metadata/height', 'metadata/width'"
            raise UnreadableVideo(self.where, f"feature {name!r}: found a picture of {wrong[0]}, {expected}")

    def _rasters(self, name: str, frames: FrameNumbers) -> np.ndarray:
        pictures = [raster(data, f"{self.where}.{name}") for data in self._frames(name, frames)]
        self._require_size(name, pictures)
        return np.stack(pictures)

    def _wide(self, name: str, frame: int) -> Float64[np.ndarray, "H W 3"]:
        [data] = self._frames(name, np.array([frame], np.int64))
        return _decode_wide(data, (self.height, self.width), f"{self.where}.{name}").astype(np.float64)

    def _rotations(self, name: str, shape: tuple[int, ...]) -> Float64[np.ndarray, "*shape 3 3"]:
        """Read rotations, which are quaternions with their real part first."""
        stored = self.example.floats(name, (*shape, 4)).astype(np.float64)
        length = np.linalg.norm(stored, axis=-1)
        if not ((length > _LEAST_QUATERNION) & (length < _MOST_QUATERNION)).all():
            raise UnreadableVideo(self.where, f"feature {name!r}: found quaternions that are not of length 1")
        return _rotation(stored / length[..., None])


def _rotation(quaternion: Float64[np.ndarray, "*shape 4"]) -> Float64[np.ndarray, "*shape 3 3"]:
    """Turn unit quaternions, real part first, into matrices."""
    w, x, y, z = np.moveaxis(quaternion, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def _decode_wide(data: bytes, size: tuple[int, int], name: str) -> UInt16[np.ndarray, "H W 3"]:
    """Decode a PNG of three channels of 16 bits, of which Pillow would drop half."""
    try:
        width, height, bits, channels = struct.unpack(">IIBB", data[16:26])  # channels: 2 says red, green, blue
        if (height, width, bits, channels) != (*size, 16, 2):
            found = f"{height} x {width}, {bits} bits, colour type {channels}"
            raise UnreadableVideo(name, f"found a picture of {found}, expected {size[0]} x {size[1]}, 16 bits, type 2")
        decoder = av.CodecContext.create("png", "r")
        [picture] = decoder.decode(av.Packet(data))
        pixels: np.ndarray = picture.to_ndarray()
        return pixels
    except (av.error.FFmpegError, ValueError, struct.error) as error:
        raise UnreadableVideo(name, f"not a PNG that can be decoded ({error}): get the file again") from error


# ----------------------------------------------------------------------------- our conventions


def _depth(film: _Film, shown: FrameNumbers, back: Int64[np.ndarray, " C"]) -> Depth:
    """Turn distances along rays into depth along the camera's axis."""
    distance = film.distance(shown)
    along = distance / np.linalg.norm(film.camera(shown[:1]).rays(), axis=-1)
    metres = torch.from_numpy(along).float()[back][None]
    return Depth(metres, metres > 0)


def _poses(camera: Camera) -> CameraPoses:
    intrinsics = torch.tensor(
        [[camera.focal_px, 0.0, camera.width / 2], [0.0, camera.focal_px, camera.height / 2], [0.0, 0.0, 1.0]]
    )
    return CameraPoses(torch.from_numpy(camera.world_from_camera).float()[None], intrinsics[None])


def base(root: str, split: str = "train") -> MoviConfig:
    """Describe a split: to learn from, in random clips of each film; any other in the first clip."""
    return MoviConfig(
        root=root,
        split=split,
        tasks=MoviConfig.kinds,
        sampling=RandomWindow() if split == "train" else Windows(),
        num_points=NUM_POINTS,
    )
