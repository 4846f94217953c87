"""Waymo Open Dataset, Perception: what a car's cameras saw, with boxes round other cars, people and cyclists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from fourd.datasets._files import colour, frames_of, identity
from fourd.datasets._labelled import About, Found, LabelledConfig, LabelledDataset, Recording
from fourd.datasets._sampling import FrameNumbers, Sampling, Windows
from fourd.datasets._view import Labelled
from fourd.geometry import box_from_centre_size
from fourd.media import UnreadableVideo
from fourd.types import Batch, BoxQuery, BoxTracks, TaskSample, Unreadable

ABOUT = About(
    title="Waymo Open Dataset, Perception (version 2, camera images and camera boxes)",
    licence="Waymo Dataset License Agreement for Non-Commercial Use: sign in and accept it; the data may not be shared",
    how_to_get=(
        "https://waymo.com/open/download: choose Perception, version 2 (Parquet). Only the folders camera_image and "
        "camera_box are needed, such as gs://waymo_open_dataset_v_2_0_1/validation/camera_image"
    ),
    layout="<split>/camera_image/<segment>.parquet; <split>/camera_box/<segment>.parquet",
    source="Sun et al., Scalability in Perception for Autonomous Driving: Waymo Open Dataset (CVPR 2020)",
    # from memory; the test split's labels are not public
    official={"training": 798, "validation": 202},
)

CAMERAS: Mapping[str, int] = {"front": 1, "front_left": 2, "front_right": 3, "side_left": 4, "side_right": 5}
TYPES: Mapping[str, int] = {"unknown": 0, "vehicle": 1, "pedestrian": 2, "sign": 3, "cyclist": 4}

# The paper does not describe how clips are cut and boxes chosen. These are the rules by which the supplement of
# InternVideo-Next builds this benchmark again, in the order in which it applies them; it says that the paper's own code
# for this is not public.
STRIDE = 2
"""Frames from one of a clip to the next: 10 frames a second become 5."""
HOP = 3 * STRIDE
"""Frames from one clip's start to the next one's: at least 3 at 5 frames a second."""
LEAST_BOX_AREA = 0.005
"""Share of the crop that a box must cover."""
LEAST_PRESENCE = 0.7
"""Share of a clip's frames in which an object must be there."""
LEAST_TOGETHER = 10
"""Frames of a clip in which all of its objects must be there at once."""
LARGEST_GAP = 5
"""Frames of a clip for which an object may be gone between two in which it is there."""
NUM_BOXES = 25
"""Objects of a clip; also the number of slots in MooG's published configuration."""

_PARTS = ("camera_image", "camera_box")
_CLIP_KEYS = ("key.segment_context_name", "key.frame_timestamp_micros", "key.camera_name")
_SEGMENT, _TIME, _CAMERA = _CLIP_KEYS
_IMAGE = "[CameraImageComponent].image"
_OBJECT = "key.camera_object_id"
_TYPE = "[CameraBoxComponent].type"
_BOX = tuple(f"[CameraBoxComponent].box.{part}.{axis}" for part in ("center", "size") for axis in ("x", "y"))
_USUAL_STEP_US = 100_000
_ROWS_AT_ONCE = 8  # pictures of some 300 kB that are in memory at a time, where rows of a group are passed over


@dataclass(frozen=True, kw_only=True)
class WaymoConfig(LabelledConfig):
    """Describe a split of the Waymo Open Dataset.

    cameras: of `CAMERAS`; each makes a recording of its own, since objects are named anew in each. The three at the
    front have pictures of 1920 x 1280 pixels, those at the sides are lower (886, from memory). types: of `TYPES`; what
    is followed. least_together: frames of a clip in which all of its boxes must count at once; where they do not, the
    one that counts least often is left out, then the next. largest_gap: frames of a clip for which a box may not count
    between two in which it does; one with a longer gap is left out. None asks nothing. Both are judged in the crop.
    """

    split: str = "training"
    cameras: tuple[str, ...] = ("front",)
    types: tuple[str, ...] = ("vehicle", "pedestrian", "cyclist")
    sampling: Sampling = field(default_factory=lambda: Windows(stride=STRIDE, hop=HOP))
    least_together: int = 0
    largest_gap: int | None = None

    kinds: ClassVar[tuple[str, ...]] = ("box_tracking",)

    def __post_init__(self) -> None:
        """Refuse names that the dataset does not have."""
        super().__post_init__()
        for name, known in (("cameras", CAMERAS), ("types", TYPES)):
            asked = getattr(self, name)
            if not asked or any(value not in known for value in asked):
                raise ValueError(f"WaymoConfig.{name}: found {asked}; expected some of {', '.join(known)}")

    def build(self) -> Waymo:
        """Build what this config describes."""
        return Waymo(self)


@dataclass(frozen=True, eq=False)
class _Source:
    """Say where the pictures of one camera stand: rows of a file, in the order of their times."""

    images: Path
    boxes: Path
    camera: int
    rows: Int64[np.ndarray, " F"]
    times_us: Int64[np.ndarray, " F"]


class Waymo(LabelledDataset):
    """Give clips of single cameras, with the boxes of what is followed in them."""

    name = "waymo"

    def find(self) -> Found:
        """List the cameras of all segments; one without a single box was never labelled, and is not used."""
        self.damaged = ()
        folder = self.root / self.config.split
        files = [path for part in _PARTS for path in folder.glob(f"{part}/*.parquet")]
        segments = sorted({path.stem for path in files})
        recordings: list[Recording] = []
        unreadable: list[Unreadable] = [] if segments else [_nothing_in(folder)]
        for segment in segments:
            images, boxes = (folder / part / f"{segment}.parquet" for part in _PARTS)
            try:
                found = self._segment(segment, images, boxes)
            except UnreadableVideo as error:
                unreadable.append(Unreadable(error.path, error.reason))
                continue
            recordings.extend(found.recordings)
            unreadable.extend(found.unreadable)
        return Found(tuple(recordings), tuple(unreadable))

    def load(self, recording: Recording, frames: FrameNumbers) -> Labelled:
        """Read the pictures of some frames, and the boxes that are marked in them."""
        source: _Source = recording.source
        pictures = _read_pictures(source.images, source.rows[frames])
        decoded = {row: colour(data, f"{source.images}[row {row}][{_IMAGE}]") for row, data in sorted(pictures.items())}
        return Labelled(
            video=frames_of([decoded[row] for row in source.rows[frames].tolist()], f"{source.images}[{_IMAGE}]"),
            time_s=torch.from_numpy((source.times_us[frames] - source.times_us[0]) / 1e6),
            boxes=self._boxes(source, source.times_us[frames]),
        )

    def read(self, index: int, rng: np.random.Generator) -> Batch:
        """Read a clip as a batch of one, and leave out boxes that are seen too little in it."""
        batch = super().read(index, rng)
        return replace(batch, tasks=tuple(self._settled(sample) for sample in batch.tasks))

    def _segment(self, segment: str, images: Path, boxes: Path) -> Found:
        """List the cameras of one segment."""
        shown = _read(images, _CLIP_KEYS, also=(_IMAGE,))
        marked = _read(boxes, (*_CLIP_KEYS, _OBJECT, _TYPE), also=_BOX)
        for path, table in ((images, shown), (boxes, marked)):
            _require_segment(path, table, segment)
        recordings, unreadable = [], []
        for name in self.config.cameras:
            try:
                recordings.append(self._recording(segment, name, (images, shown), (boxes, marked)))
            except UnreadableVideo as error:
                unreadable.append(Unreadable(error.path, error.reason))
        return Found(tuple(recordings), tuple(unreadable))

    def _recording(
        self, segment: str, camera: str, images: tuple[Path, Mapping[str, Any]], boxes: tuple[Path, Mapping[str, Any]]
    ) -> Recording:
        (path, shown), (boxes_path, marked) = images, boxes
        key = f"{segment}/{camera}"
        source = _one_camera(path, shown, boxes_path, camera)
        mine = marked[_CAMERA] == CAMERAS[camera]
        if not mine.any():
            raise UnreadableVideo(f"waymo/{key}", f"{boxes_path} has no row for camera {camera}: it was not labelled")
        lost = np.setdiff1d(marked[_TIME][mine], source.times_us)
        if len(lost):
            found = f"boxes of camera {camera} at {len(lost)} times without a picture, the first {lost[0]}"
            raise UnreadableVideo(str(boxes_path), f"{_TIME}: {found}; expected those of {path}: get both again")
        self._note_lost_frames(key, source.times_us)
        wanted = mine & np.isin(marked[_TYPE], [TYPES[name] for name in self.config.types])
        return Recording(
            key=key,
            group=segment,
            num_frames=len(source.rows),
            identity=identity(path, boxes_path),
            source=source,
            num_boxes=len(np.unique(marked[_OBJECT][wanted].astype(str))),
        )

    def _note_lost_frames(self, key: str, times_us: Int64[np.ndarray, " F"]) -> None:
        steps = np.diff(times_us)
        late = steps > 1.5 * _USUAL_STEP_US
        if late.any():
            found = f"{late.sum()} steps of more than 0.15 s between frames, the longest of {steps.max() / 1e6:.2f} s"
            self.damaged = (*self.damaged, Unreadable(f"waymo/{key}", f"{found}: frames are missing; expected 0.1 s"))

    def _boxes(self, source: _Source, times_us: Int64[np.ndarray, " T"]) -> BoxTracks:
        """Look up the boxes of one camera at certain times: one that is not marked at a time does not count there."""
        filters = [(_CAMERA, "=", source.camera), (_TYPE, "in", [TYPES[name] for name in self.config.types])]
        marked = _read(source.boxes, (_TIME, _OBJECT, *_BOX), filters=filters)
        every, back = np.unique(times_us, return_inverse=True)
        here = np.isin(marked[_TIME], every)
        names, objects = np.unique(marked[_OBJECT].astype(str), return_inverse=True)
        places = np.stack([objects[here], np.searchsorted(every, marked[_TIME][here])], axis=-1)
        values = np.stack([marked[name][here] for name in _BOX], axis=-1)
        _check_boxes(source, values, places)
        held, counts = np.zeros((len(names), len(every), 4)), np.zeros((len(names), len(every)), bool)
        held[tuple(places.T)], counts[tuple(places.T)] = values, True
        centre, size = torch.from_numpy(held[:, back]).float().split(2, dim=-1)
        # that pixels are counted from the first one's corner is an assumption; half a pixel of 1920 either way
        return BoxTracks(box_from_centre_size(centre, size)[None], torch.from_numpy(counts[:, back])[None])

    def _settled(self, sample: TaskSample[BoxQuery, BoxTracks]) -> TaskSample[BoxQuery, BoxTracks]:
        """Leave out boxes that are gone for too long, or are not there when the others are."""
        valid = sample.target.valid[0]
        kept = valid.any(-1)
        if self.config.largest_gap is not None:
            kept = kept & (_longest_gap(valid) <= self.config.largest_gap)
        kept = _together(valid, kept, self.config.least_together)
        xyxy = torch.where(kept[None, :, None, None], sample.target.xyxy_px, 0.0)
        target = BoxTracks(xyxy, sample.target.valid & kept[None, :, None])
        query = replace(sample.query, xyxy_px=torch.where(kept[None, :, None], sample.query.xyxy_px, 0.0))
        return replace(sample, query=query, target=target)


def _nothing_in(folder: Path) -> Unreadable:
    return Unreadable(str(folder), "no camera_image/*.parquet or camera_box/*.parquet in it: expected one per segment")


# ----------------------------------------------------------------------------- from Parquet to arrays


@contextmanager
def _naming_damage(path: Path) -> Iterator[None]:
    """Tell a damaged file from a disk that fails: only the latter has an error number."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise UnreadableVideo(str(path), "no such file: expected both camera_image and camera_box") from error
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UnreadableVideo(str(path), f"no Parquet file, or cut off ({error}): get it again") from error


def _read(
    path: Path, columns: tuple[str, ...], also: tuple[str, ...] = (), filters: list[tuple[str, str, Any]] | None = None
) -> dict[str, np.ndarray]:
    """Read columns of a file; `also`: columns that it must have as well."""
    with _naming_damage(path):
        present = pq.read_schema(path).names
        lost = [name for name in (*columns, *also) if name not in present]
        if lost:
            raise UnreadableVideo(str(path), f"column {lost[0]!r} is missing, found {', '.join(present)}: get it again")
        table = pq.read_table(path, columns=list(columns), filters=filters)
    empty = [name for name in columns if table[name].null_count]
    if empty:
        raise UnreadableVideo(str(path), f"column {empty[0]!r} has rows without a value: get it again")
    return {name: table[name].to_numpy() for name in columns}


def _require_segment(path: Path, table: Mapping[str, Any], segment: str) -> None:
    others = set(table[_SEGMENT].tolist()) - {segment}
    if others:
        raise UnreadableVideo(str(path), f"{_SEGMENT}: found {min(others)!r}, expected the file's name: get it again")


def _one_camera(path: Path, shown: Mapping[str, Any], boxes: Path, camera: str) -> _Source:
    """Put the rows of one camera into the order of their times."""
    rows = np.flatnonzero(shown[_CAMERA] == CAMERAS[camera])
    if not len(rows):
        raise UnreadableVideo(str(path), f"{_CAMERA}: no picture of camera {camera}; take it off `cameras`")
    rows = rows[np.argsort(shown[_TIME][rows], kind="stable")].astype(np.int64)
    times_us = shown[_TIME][rows].astype(np.int64)
    if (np.diff(times_us) == 0).any():
        twice = times_us[1:][np.diff(times_us) == 0][0]
        raise UnreadableVideo(str(path), f"{_TIME}: two pictures of camera {camera} at {twice}, expected one")
    return _Source(path, boxes, CAMERAS[camera], rows, times_us)


def _read_pictures(path: Path, rows: Int64[np.ndarray, " T"]) -> dict[int, bytes]:
    """Read the pictures in some rows: groups of rows without any are not touched, and few rows are held at a time."""
    wanted = np.unique(rows)
    pictures: dict[int, bytes] = {}
    with _naming_damage(path), pq.ParquetFile(path, buffer_size=2**20, pre_buffer=False) as file:
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        for group, start in enumerate(np.cumsum([0, *sizes[:-1]]).tolist()):
            inside = wanted[(wanted >= start) & (wanted < start + sizes[group])]
            if len(inside):
                pictures |= _pictures_of_group(file, group, start, inside)
    lost = [row for row in wanted.tolist() if pictures.get(row) is None]
    if lost:
        raise UnreadableVideo(str(path), f"row {lost[0]} has no {_IMAGE}: the file was changed, or get it again")
    return pictures


def _pictures_of_group(
    file: pq.ParquetFile, group: int, start: int, wanted: Int64[np.ndarray, " n"]
) -> dict[int, bytes]:
    """Pass over the pictures of a group of rows until all that are wanted are read."""
    pictures: dict[int, bytes] = {}
    for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, row_groups=[group], columns=[_IMAGE]):
        for row in wanted[(wanted >= start) & (wanted < start + len(batch))].tolist():
            pictures[row] = batch.column(0)[row - start].as_py()
        start += len(batch)
        if start > wanted[-1]:
            break
    return pictures


def _check_boxes(source: _Source, values: Float64[np.ndarray, "n 4"], places: Int64[np.ndarray, "n 2"]) -> None:
    """Refuse boxes without a size, and two of one object at one time."""
    wrong = ~(np.isfinite(values).all(-1) & (values[:, 2:] > 0).all(-1))
    if wrong.any():
        found = dict(zip(_BOX, values[wrong][0].tolist(), strict=True))
        raise UnreadableVideo(str(source.boxes), f"found {found}, expected finite numbers and a size above 0")
    if len(np.unique(places, axis=0)) < len(places):
        raise UnreadableVideo(str(source.boxes), f"{_OBJECT}: one object has two boxes in one frame, expected one")


# ----------------------------------------------------------------------------- which boxes stay


def _longest_gap(valid: Bool[Tensor, "Q T"]) -> Int64[Tensor, " Q"]:
    """Count the frames of the longest gap between two frames in which a box counts."""
    frames = torch.arange(valid.shape[1])
    last = torch.where(valid, frames, -1).cummax(1).values
    before = torch.cat([torch.full_like(last[:, :1], -1), last[:, :-1]], dim=1)
    gaps = torch.where(valid & (before >= 0), frames - before - 1, 0)
    return gaps.amax(1)


def _together(valid: Bool[Tensor, "Q T"], kept: Bool[Tensor, " Q"], least: int) -> Bool[Tensor, " Q"]:
    """Leave out boxes, the one that counts least often first, until all others count at once in `least` frames."""
    kept = kept.clone()
    while kept.any() and int(valid[kept].all(0).sum()) < least:
        rarest = min(kept.nonzero()[:, 0].tolist(), key=lambda box: int(valid[box].sum()))
        kept[rarest] = False
    return kept


def base(root: str, split: str = "training") -> WaymoConfig:
    """Describe a split by the rules of the benchmark as it was reconstructed (see the constants above)."""
    return WaymoConfig(
        root=root,
        split=split,
        tasks=WaymoConfig.kinds,
        num_boxes=NUM_BOXES,
        least_box_area=LEAST_BOX_AREA,
        least_presence=LEAST_PRESENCE,
        least_together=LEAST_TOGETHER,
        largest_gap=LARGEST_GAP,
    )
