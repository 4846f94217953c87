"""Perception Test: films of staged everyday scenes, with points followed in every frame and boxes once a second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64

from fourd import video
from fourd.datasets._files import identity, read_json
from fourd.datasets._labelled import About, Found, LabelledConfig, LabelledDataset, Recording
from fourd.datasets._sampling import FrameNumbers
from fourd.datasets._view import Labelled
from fourd.media import UnreadableVideo, VideoInfo
from fourd.types import BoxTracks, PointTracks, Unreadable

_URL = "https://storage.googleapis.com/dm-perception-test/zip_data"
ABOUT = About(
    title="Perception Test",
    licence="CC BY 4.0 (films and labels); nothing to sign",
    how_to_get=(
        f"For points: {_URL}/point_tracking_valid_videos.zip (1.1 GB) and "
        f"{_URL}/point_tracking_valid_annotations.zip (11 MB); the same with `train` (398 MB). "
        f"For boxes: {_URL}/sot_valid_videos_challenge2023.zip (11.6 GB) and "
        f"{_URL}/sot_valid_annotations_challenge2023.zip (9 MB); of the train split all "
        f"together, {_URL}/train_videos.zip (26.5 GB) and {_URL}/train_annotations.zip. Unpack them into ROOT. "
        "The labels of the test split are not public."
    ),
    layout="videos/video_1234.mp4; *<split>*.json, in ROOT or ROOT/annotations, such as point_tracking_valid.json",
    source="Patraucean et al., Perception Test: A Diagnostic Benchmark for Multimodal Video Models (NeurIPS 2023)",
    # films with point tracks; 145 in all splits together. These two counts are from memory
    official={"train": 28, "valid": 73},
)
_KEYS = {"point_tracking": "point_tracking", "box_tracking": "object_tracking"}
_FARTHEST = 1.0  # how far outside of the picture a label may lie, in widths and heights of it


@dataclass(frozen=True, kw_only=True)
class PerceptionTestConfig(LabelledConfig):
    """Describe a split of Perception Test.

    annotations: the JSON file's name, in ROOT or ROOT/annotations; empty takes all whose name holds the split's, which
    may each tell of other films and other kinds of labels.
    frames_per_annotation: which frames clips for boxes are cut from; points alone are asked for in all frames of a
    film. With a number, a film is taken to consist of the frames in which boxes are annotated, about one a second, and
    of as many frames between two of them as make that number: 1 leaves the annotated ones alone, 4 adds three evenly
    between. Clips then begin with an annotated frame wherever `sampling` begins them at a multiple of it. None takes
    all frames, of which few have boxes.
    frame_tolerance: by how many frames the film may differ from `metadata.num_frames`. Labels are found by the frame's
    number in order of showing; a film that lost or repeats many frames has them in the wrong places.
    Neither number is from the paper.
    """

    split: str = "valid"
    annotations: str = ""
    frames_per_annotation: int | None = 1
    frame_tolerance: int = 2

    kinds: ClassVar[tuple[str, ...]] = ("point_tracking", "box_tracking")

    def __post_init__(self) -> None:
        """Refuse what no clip can have."""
        super().__post_init__()
        if self.frames_per_annotation is not None and self.frames_per_annotation < 1:
            raise ValueError(
                f"PerceptionTestConfig.frames_per_annotation: found {self.frames_per_annotation}; expected None, "
                "or 1 or more"
            )

    def build(self) -> PerceptionTest:
        """Build what this config describes."""
        return PerceptionTest(self)


@dataclass(frozen=True, eq=False)
class _Track:
    """Hold where something was marked: in which frames, rising, and the labels there."""

    frames: Int64[np.ndarray, " n"]
    values: Float32[np.ndarray, "n C"]


@dataclass(frozen=True, eq=False)
class _Source:
    """Hold all that is known of a film before it is opened; labels are shares of its width and height."""

    film: Path
    json: Path
    num_frames: int
    resolution: tuple[int, int]
    tracks: Mapping[str, tuple[_Track, ...]]
    timeline: Int64[np.ndarray, " F"]


class PerceptionTest(LabelledDataset):
    """Give clips of Perception Test's films."""

    name = "perception_test"

    def __init__(self, config: PerceptionTestConfig) -> None:
        """Find the films; see `LabelledDataset`."""
        self._infos: dict[str, VideoInfo] = {}
        super().__init__(config)

    def find(self) -> Found:
        """List the films that the JSON files name; one is unreadable without its film or the labels that are asked."""
        described, unreadable = self._described()
        recordings = []
        for key, parts in sorted(described.items()):
            try:
                recordings.append(self._recording(key, parts))
            except UnreadableVideo as error:
                unreadable.append(Unreadable(str(error.path), error.reason))
        return Found(tuple(recordings), tuple(unreadable))

    def load(self, recording: Recording, frames: FrameNumbers) -> Labelled:
        """Decode frames of a film, and look up the points and boxes that are marked in them."""
        source: _Source = recording.source
        shown = source.timeline[frames]
        info = self._info(recording.key, source)
        if shown[-1] >= info.num_frames:
            raise UnreadableVideo(
                str(source.film), f"frame {shown[-1]} was asked for, and the film has {info.num_frames}: get it again"
            )
        size = np.array((info.width, info.height), np.float32)
        tracks = {kind: _look_up(source.tracks[kind], shown) for kind in self.config.tasks}
        return Labelled(
            video=video.decode(source.film, shown, info),
            time_s=torch.from_numpy(info.frame_times_s[shown]),
            points=_points(*tracks["point_tracking"], size) if "point_tracking" in tracks else None,
            boxes=_boxes(*tracks["box_tracking"], size) if "box_tracking" in tracks else None,
        )

    def _described(self) -> tuple[dict[str, list[tuple[Path, Any]]], list[Unreadable]]:
        """Collect what each JSON file says of each film, and the files that say nothing."""
        pattern = self.config.annotations or f"*{self.config.split}*.json"
        paths = sorted((*self.root.glob(pattern), *self.root.glob(f"annotations/{pattern}")))
        described: dict[str, list[tuple[Path, Any]]] = {}
        unreadable = [] if paths else [Unreadable(str(self.root / pattern), "no such file: expected the labels")]
        for path in paths:
            try:
                for key, labels in _table(path).items():
                    described.setdefault(key, []).append((path, labels))
            except UnreadableVideo as error:
                unreadable.append(Unreadable(str(error.path), error.reason))
        return described, unreadable

    def _recording(self, key: str, parts: Sequence[tuple[Path, Any]]) -> Recording:
        path, first = parts[0]
        where = f"{path}[{key}]"
        metadata = _field(first, "metadata", dict, where)
        film = self.root / "videos" / f"{key}.mp4"
        if not film.is_file():
            raise UnreadableVideo(str(film), f"no such film; {path.name} tells of it. Get it, or take it off that file")
        num_frames = _field(metadata, "num_frames", int, f"{where}.metadata")
        tracks = {kind: _tracks(kind, parts, key, num_frames) for kind in self.config.tasks}
        timeline = self._timeline(tracks, num_frames)
        height, width = _resolution(metadata, f"{where}.metadata")
        return Recording(
            key=key,
            group=key,
            num_frames=len(timeline),
            identity=identity(film, *(part for part, _ in parts)),
            source=_Source(film, path, num_frames, (height, width), tracks, timeline),
            num_points=len(tracks.get("point_tracking", ())),
            num_boxes=len(tracks.get("box_tracking", ())),
        )

    def _timeline(self, tracks: Mapping[str, tuple[_Track, ...]], num_frames: int) -> Int64[np.ndarray, " F"]:
        """Say which frames of the film a recording consists of."""
        per_annotation = self.config.frames_per_annotation
        if per_annotation is None or "box_tracking" not in tracks:
            return np.arange(num_frames)
        marked = np.unique(np.concatenate([track.frames for track in tracks["box_tracking"]]))
        between = [np.linspace(a, b, per_annotation, endpoint=False).round() for a, b in pairwise(marked)]
        return np.unique(np.concatenate([*between, marked[-1:]])).astype(np.int64)

    def _info(self, key: str, source: _Source) -> VideoInfo:
        """Probe a film once, and compare it with what the JSON file says of it."""
        if key not in self._infos:
            info = video.probe(source.film)
            self._compare(source, info)
            self._infos[key] = info
        return self._infos[key]

    def _compare(self, source: _Source, info: VideoInfo) -> None:
        difference = f"{source.json.name} says metadata.num_frames {source.num_frames}, the film has {info.num_frames}"
        if abs(info.num_frames - source.num_frames) > self.config.frame_tolerance:
            raise UnreadableVideo(
                str(source.film),
                f"{difference}: its labels may stand in the wrong frames. Get it again, or raise frame_tolerance",
            )
        height, width = source.resolution
        if (height > width) != (info.height > info.width) and height != width:
            raise UnreadableVideo(
                str(source.film),
                f"{source.json.name} says metadata.resolution [{height}, {width}] (height, width), the film shows "
                f"{info.height} x {info.width}: it was turned. Get it again",
            )
        if info.num_frames != source.num_frames:
            self.damaged = (*self.damaged, Unreadable(str(source.film), difference))


# ----------------------------------------------------------------------------- from JSON to arrays


def _table(path: Path) -> dict[str, Any]:
    """Read a JSON file of labels; raise UnreadableVideo where it is no table of tables."""
    told = read_json(path)
    if not isinstance(told, dict) or not all(isinstance(labels, dict) for labels in told.values()):
        raise UnreadableVideo(str(path), f"found {_short(told)}, expected a table from video ids to their labels")
    return told


def _field(table: Any, name: str, kind: type, where: str) -> Any:
    value = table.get(name) if isinstance(table, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise UnreadableVideo(where, f"field {name!r}: found {_short(value)}, expected a {kind.__name__}")
    return value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:57]}..."


def _resolution(metadata: Any, where: str) -> tuple[int, int]:
    value = _field(metadata, "resolution", list, where)
    if len(value) != 2 or not all(isinstance(side, int) and side > 0 for side in value):
        raise UnreadableVideo(where, f"field 'resolution': found {_short(value)}, expected [height, width]")
    return value[0], value[1]


def _tracks(kind: str, parts: Sequence[tuple[Path, Any]], key: str, num_frames: int) -> tuple[_Track, ...]:
    """Read the tracks of one kind."""
    tracks, where = _agreed(kind, parts, key)
    by_frame = any(_is_by_frame(track) for track in tracks)
    read = []
    for number, track in enumerate(tracks):
        named = f"{where}[{number}]"
        is_point = kind == "point_tracking"
        read.append(_point_track(track, named, by_frame) if is_point else _box_track(track, named))
        _check(read[-1], num_frames, named)
    return tuple(read)


def _agreed(kind: str, parts: Sequence[tuple[Path, Any]], key: str) -> tuple[list[Any], str]:
    """Find the tracks of one kind, and what errors call them; where several files have them, they must agree."""
    name = _KEYS[kind]
    having = [(path, labels[name]) for path, labels in parts if labels.get(name)]
    if not having:
        files = ", ".join(path.name for path, _ in parts)
        raise UnreadableVideo(f"{parts[0][0]}[{key}]", f"no {name!r} in {files}, and task {kind!r} is asked for")
    path, tracks = having[0]
    for other, others in having[1:]:
        if others != tracks:
            raise UnreadableVideo(f"{other}[{key}].{name}", f"differs from {path.name}: name one file by `annotations`")
    return _field({name: tracks}, name, list, f"{path}[{key}]"), f"{path}[{key}].{name}"


def _is_by_frame(track: Any) -> bool:
    """Say whether a point's places are one pair for each frame; of two frames, neither form can be told."""
    stored = track.get("points") if isinstance(track, dict) else None
    return isinstance(stored, list) and len(stored) != 2


def _point_track(track: Any, where: str, by_frame: bool) -> _Track:
    """Read a point's places as (x, y).

    by_frame: whether the file holds a pair (y, x) for each frame, as its description says, or one list of all y and
    one of all x, as the files are.
    """
    frames = _field(track, "frame_ids", list, where)
    stored = _array(_field(track, "points", list, where), "points", where)
    expected = (len(frames), 2) if by_frame else (2, len(frames))
    if stored.shape != expected:
        found = f"shape {stored.shape} for {len(frames)} frame_ids"
        raise UnreadableVideo(where, f"field 'points': found {found}, expected {expected}, y before x")
    return _Track(_frame_ids(frames, where), (stored if by_frame else stored.T)[:, ::-1].copy())


def _box_track(track: Any, where: str) -> _Track:
    frames = _field(track, "frame_ids", list, where)
    stored = _array(_field(track, "bounding_boxes", list, where), "bounding_boxes", where)
    if stored.shape != (len(frames), 4):
        found = f"shape {stored.shape} for {len(frames)} frame_ids"
        raise UnreadableVideo(where, f"field 'bounding_boxes': found {found}, expected {(len(frames), 4)}")
    if (stored[:, 2:] < stored[:, :2]).any():
        raise UnreadableVideo(where, "field 'bounding_boxes': a box ends before it begins, expected x1, y1, x2, y2")
    return _Track(_frame_ids(frames, where), stored)


def _array(values: Any, name: str, where: str) -> Float32[np.ndarray, "..."]:
    try:
        return np.asarray(values, np.float32)
    except (TypeError, ValueError) as error:
        raise UnreadableVideo(where, f"field {name!r}: rows of unequal length, or no numbers ({error})") from error


def _frame_ids(frames: Any, where: str) -> Int64[np.ndarray, " n"]:
    if not all(type(frame) is int for frame in frames):
        raise UnreadableVideo(where, f"field 'frame_ids': found {_short(frames)}, expected whole numbers")
    return np.asarray(frames, np.int64)


def _check(track: _Track, num_frames: int, where: str) -> None:
    """Refuse frames that are out of order or not there, and places that are no shares of the picture."""
    frames, values = track.frames, track.values
    if len(frames) == 0 or (np.diff(frames) <= 0).any() or frames[0] < 0 or frames[-1] >= num_frames:
        raise UnreadableVideo(
            where,
            f"field 'frame_ids': found {_short(frames.tolist())}, expected rising numbers from 0 to {num_frames - 1}, "
            "the last frame by metadata.num_frames",
        )
    if not np.isfinite(values).all() or values.min() < -_FARTHEST or values.max() > 1 + _FARTHEST:
        raise UnreadableVideo(
            where, f"places from {values.min()} to {values.max()}: expected shares of height and width, from 0 to 1"
        )


# ----------------------------------------------------------------------------- from tracks to labels


def _look_up(tracks: Sequence[_Track], shown: Int64[np.ndarray, " T"]) -> tuple[Float[np.ndarray, "Q T C"], np.ndarray]:
    """Find the label of each track in each frame, and whether it has one there."""
    places = [np.searchsorted(track.frames, shown).clip(max=len(track.frames) - 1) for track in tracks]
    values = np.stack([track.values[place] for track, place in zip(tracks, places, strict=True)])
    marked = np.stack([track.frames[place] == shown for track, place in zip(tracks, places, strict=True)])
    return np.where(marked[..., None], values, 0), marked


def _points(xy: Float[np.ndarray, "Q T 2"], marked: np.ndarray, size: np.ndarray) -> PointTracks:
    """Place points in a picture of `size` (width, height): one that is not marked in a frame is hidden there."""
    visible = torch.from_numpy(marked)[None]
    return PointTracks(torch.from_numpy(xy * size)[None], visible, torch.ones_like(visible))


def _boxes(xyxy: Float[np.ndarray, "Q T 4"], marked: np.ndarray, size: np.ndarray) -> BoxTracks:
    """Place boxes in a picture of `size` (width, height): one counts only in the frames in which it is marked."""
    return BoxTracks(torch.from_numpy(xyxy * np.tile(size, 2))[None], torch.from_numpy(marked)[None])


def base(root: str, split: str = "valid") -> PerceptionTestConfig:
    """Describe a split with all its kinds of labels, for films that have both, in the frames with boxes.

    For points, as in the paper, replace `tasks`: clips are then cut from all frames of the films that have points.
    """
    return PerceptionTestConfig(root=root, split=split, tasks=PerceptionTestConfig.kinds)
