"""RealEstate10K: walks through houses, cut from films on YouTube, with the camera's path from structure from motion."""

from __future__ import annotations

import io
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import parse_qs, urlsplit

import numpy as np
import torch
from jaxtyping import Float64, Int64, UInt8
from PIL import Image
from rich.console import Console
from rich.progress import track
from torch import Tensor

from fourd import video
from fourd.datasets._files import colour, frames_of, identity, read_json
from fourd.datasets._labelled import About, Found, LabelledConfig, LabelledDataset, Recording
from fourd.datasets._sampling import FrameNumbers, Sampling, Spread
from fourd.datasets._view import Labelled
from fourd.geometry import rigid, rigid_inverse
from fourd.media import UnreadableVideo, VideoInfo
from fourd.types import CameraPoses, Unreadable

ABOUT = About(
    title="RealEstate10K",
    licence="camera files: CC BY 4.0 (from memory); the films belong to those who put them on YouTube",
    how_to_get=(
        "Camera files: https://google.github.io/realestate10k/download.html. Films are not given out: get those that "
        "are still there from the address in each camera file's first line, whole, as <split>/<clip>.mp4 or "
        "videos/<YouTube id>.mp4, or cut their frames out as <split>/<clip>/<timestamp>.png. Or get the chunks of "
        "https://github.com/dcharatan/pixelsplat. Films vanish, so every copy holds other clips: a number must name "
        "its clips"
    ),
    layout=(
        "<split>/<clip>.txt with <split>/<clip>/<timestamp>.png or .jpg, <split>/<clip>.mp4 or "
        "videos/<YouTube id>.mp4; or <split>/index.json with <split>/000000.torch, ..."
    ),
    source="Zhou et al., Stereo Magnification: Learning View Synthesis using Multiplane Images (SIGGRAPH 2018)",
    overlaps=("corpora of films from YouTube",),
)
NUM_FRAMES = 16
"""Frames of a clip, spread evenly over it, as another group says of the paper's protocol; the pose is the last's."""
CHUNK_SHAPE = (360, 640)
"""Height and width that readers of pixelSplat's chunks expect; they leave out clips of other shapes."""
NEAREST_S = 0.008
"""How far a film's frame may be from a camera's time stamp: what the makers call normal (stereo-magnification #5)."""

Form = Literal["files", "chunks"]
_FILMS = (".mp4", ".mkv", ".webm")
_PICTURES = (".png", ".jpg", ".jpeg")
_NUM_CAMERA = 18
_OPEN_CHUNKS = 2
_MANY_FILES, _MANY_CHUNKS = 1000, 10  # from which on it takes seconds to look at all
_ROTATION_TOLERANCE = 1e-3
_Frames = Int64[np.ndarray, " N"]


@dataclass(frozen=True, kw_only=True)
class RealEstate10KConfig(LabelledConfig):
    """Describe a split of RealEstate10K.

    Poses are in the unit of each clip's own reconstruction, not in metres.
    form: camera files, or pixelSplat's chunks; None takes what the split's folder holds. pictures: the folder, below
    ROOT, that holds <split>/<clip>/<timestamp>.png, where they do not lie beside the camera files. least_frames: share
    of a clip's frames of which pictures must be there; a clip with fewer is not used, one that lacks some is told as
    damaged. films_are_cut: whether a film begins with its clip's first frame, and is not the whole one. nearest_s: how
    far a film's frame may be from the camera's time stamp, in seconds. chunk_shape: height and width that the pictures
    of a chunk must have; None takes all.
    """

    split: str = "test"
    sampling: Sampling = field(default_factory=Spread)
    form: Form | None = None
    pictures: str = ""
    least_frames: float = 1.0
    films_are_cut: bool = False
    nearest_s: float = NEAREST_S
    chunk_shape: tuple[int, int] | None = CHUNK_SHAPE

    kinds: ClassVar[tuple[str, ...]] = ("camera_pose",)

    def build(self) -> RealEstate10K:
        """Build what this config describes."""
        return RealEstate10K(self)


@dataclass(frozen=True, eq=False)
class _Cameras:
    """Hold a clip's cameras as its file does: fx, fy, cx, cy as shares of the picture, two zeros, camera from world."""

    url: str
    times_us: _Frames
    numbers: Float64[np.ndarray, "N 18"]


@dataclass(frozen=True)
class _Files:
    """Say where a clip's cameras stand, and its frames: a folder of pictures or a film."""

    cameras: Path
    frames: Path


@dataclass(frozen=True)
class _InChunk:
    """Say in which chunk a clip stands, and where in its list."""

    chunk: Path
    place: int


class RealEstate10K(LabelledDataset):
    """Give clips with the path of the camera, in the unit of each clip's own reconstruction."""

    name = "realestate10k"

    def __init__(self, config: RealEstate10KConfig) -> None:
        """Find the clips; see `LabelledDataset`."""
        self._infos: dict[Path, VideoInfo] = {}
        self._chunks = _Chunks()
        super().__init__(config)

    def find(self) -> Found:
        """List the clips, and those whose pictures are not there."""
        self.damaged = ()
        folder = self.root / self.config.split
        form = self.config.form or _form_of(folder)
        if form is None:
            expected = "camera files (*.txt) or chunks (index.json and *.torch)"
            return Found((), (Unreadable(str(folder), f"holds no clips: expected {expected}"),))
        clips = self._clips_of_files(folder) if form == "files" else self._clips_of_chunks(folder)
        every = list(clips)
        return Found(
            tuple(clip for clip in every if isinstance(clip, Recording)),
            tuple(clip for clip in every if isinstance(clip, Unreadable)),
        )

    def load(self, recording: Recording, frames: FrameNumbers) -> Labelled:
        """Read pictures of a clip, and the cameras that took them."""
        source = recording.source
        if isinstance(source, _InChunk):
            cameras, shown, pixels = self._load_from_chunk(recording.key, source, frames)
        else:
            cameras, shown, pixels = self._load_from_files(recording.key, source, frames)
        where = f"realestate10k/{recording.key}"
        return Labelled(
            video=pixels,
            time_s=torch.from_numpy((cameras.times_us[shown] - cameras.times_us[0]) / 1e6),
            camera=_poses(cameras.numbers[shown], tuple(pixels.shape[2:]), where),
        )

    # ------------------------------------------------------------------------- camera files

    def _clips_of_files(self, folder: Path) -> Iterator[Recording | Unreadable]:
        for path in _shown(sorted(folder.glob("*.txt")), "looking for clips", _MANY_FILES):
            try:
                yield self._clip_of_file(path)
            except UnreadableVideo as error:
                yield Unreadable(error.path, error.reason)

    def _clip_of_file(self, path: Path) -> Recording:
        cameras = _read_cameras(path)
        key, group = path.stem, _film_of(cameras.url)
        frames = self._frames_of(path, group)
        if frames is None:
            wanted = f"{key}/<timestamp>.png, {key}.mp4 or videos/{group}.mp4"
            raise UnreadableVideo(f"{self.name}/{key}", f"no pictures of {cameras.url}: expected {wanted}")
        num_frames, changed = len(cameras.times_us), identity(path, frames)
        if frames.is_dir():
            num_frames = len(self._present(key, cameras, _pictures_in(frames), frames))
        return Recording(key=key, group=group, num_frames=num_frames, identity=changed, source=_Files(path, frames))

    def _frames_of(self, path: Path, group: str) -> Path | None:
        """Find a clip's folder of pictures, or its film."""
        folders = [path.with_suffix(""), self.root / self.config.pictures / self.config.split / path.stem]
        films = [path.with_suffix(suffix) for suffix in _FILMS]
        whole = [self.root / "videos" / f"{group}{suffix}" for suffix in _FILMS]
        return next((place for place in (*folders, *films, *whole) if place.exists()), None)

    def _present(self, key: str, cameras: _Cameras, pictures: Mapping[int, Path], folder: Path) -> _Frames:
        """Find the cameras whose picture is there; raise UnreadableVideo where too many are not."""
        present = np.flatnonzero(np.isin(cameras.times_us, list(pictures))).astype(np.int64)
        lost = len(cameras.times_us) - len(present)
        where, told = f"{self.name}/{key}", f"{lost} of {len(cameras.times_us)} frames have no picture in {folder}"
        if len(present) == 0 or len(present) < self.config.least_frames * len(cameras.times_us):
            raise UnreadableVideo(where, f"{told}: get them, or lower least_frames ({self.config.least_frames})")
        if lost:
            self.damaged = tuple({*self.damaged, Unreadable(where, told)})
        return present

    def _load_from_files(
        self, key: str, source: _Files, frames: FrameNumbers
    ) -> tuple[_Cameras, _Frames, UInt8[Tensor, "T 3 H W"]]:
        cameras = _read_cameras(source.cameras)
        if not source.frames.is_dir():
            times_s = cameras.times_us / 1e6 - (cameras.times_us[0] / 1e6 if self.config.films_are_cut else 0.0)
            return cameras, frames, self._decode(source.frames, times_s[frames])
        pictures = _pictures_in(source.frames)
        present = self._present(key, cameras, pictures, source.frames)
        if len(present) <= frames[-1]:
            raise UnreadableVideo(str(source.frames), f"{len(present)} pictures, frame {frames[-1]} is asked")
        shown = present[frames]
        read = {time: colour(pictures[time]) for time in np.unique(cameras.times_us[shown]).tolist()}
        pixels = frames_of([read[time] for time in cameras.times_us[shown].tolist()], str(source.frames))
        return cameras, shown, pixels

    def _decode(self, film: Path, times_s: Float64[np.ndarray, " T"]) -> UInt8[Tensor, "T 3 H W"]:
        """Decode the frames of a film that are nearest to some times."""
        if film not in self._infos:
            self._infos[film] = video.probe(film)
        info = self._infos[film]
        middles = (info.frame_times_s[1:] + info.frame_times_s[:-1]) / 2
        nearest = np.searchsorted(middles, times_s)
        apart = np.abs(info.frame_times_s[nearest] - times_s)
        if apart.max() > self.config.nearest_s:
            time = times_s[apart.argmax()]
            raise UnreadableVideo(
                str(film),
                f"its frame nearest to {time:.3f} s is {apart.max():.3f} s away, expected at most "
                f"{self.config.nearest_s}: another film, one that is cut (films_are_cut), or at another rate",
            )
        return video.decode(film, nearest, info)

    # ------------------------------------------------------------------------- pixelSplat's chunks

    def _clips_of_chunks(self, folder: Path) -> Iterator[Recording | Unreadable]:
        index = _read_index(folder / "index.json")
        for chunk in _shown(sorted({*index.values()}), "looking into chunks", _MANY_CHUNKS):
            path = folder / chunk
            expected = {key for key, name in index.items() if name == chunk}
            try:
                examples = self._chunks.open(path)
            except UnreadableVideo as error:
                yield Unreadable(error.path, f"{error.reason} (clips {', '.join(sorted(expected))})")
                continue
            changed = identity(path)
            found = set()
            for place, example in enumerate(examples):
                clip = self._clip_of_chunk(_InChunk(path, place), example, changed)
                found.add(example.get("key") if isinstance(example, dict) else None)
                yield clip
            for key in sorted(expected - found):
                yield Unreadable(f"{self.name}/{key}", f"{folder / 'index.json'} puts it into {chunk}, which lacks it")

    def _clip_of_chunk(self, source: _InChunk, example: Any, changed: str) -> Recording | Unreadable:
        try:
            _check_example(example, source)
            key = example["key"]
            shape = _shape_of(example["images"][0], f"{source.chunk}[{source.place}].images[0]")
        except UnreadableVideo as error:
            return Unreadable(error.path, error.reason)
        if self.config.chunk_shape not in (None, shape):
            wanted = f"expected {self.config.chunk_shape}; chunk_shape=None keeps it"
            return Unreadable(f"{self.name}/{key}", f"pictures of {shape} (height, width), {wanted}")
        return Recording(
            key=key,
            group=_film_of(example["url"]),
            num_frames=len(example["images"]),
            identity=f"{changed}-{source.place}",
            source=source,
        )

    def _load_from_chunk(
        self, key: str, source: _InChunk, frames: FrameNumbers
    ) -> tuple[_Cameras, _Frames, UInt8[Tensor, "T 3 H W"]]:
        examples = self._chunks.open(source.chunk)
        example: Any = examples[source.place] if source.place < len(examples) else None
        _check_example(example, source)
        if example["key"] != key or len(example["images"]) <= frames[-1]:
            raise UnreadableVideo(str(source.chunk), f"no longer holds clip {key} at {source.place}: it was changed")
        where = f"{source.chunk}[{source.place}].images"
        read = {
            frame: colour(example["images"][frame].numpy().tobytes(), f"{where}[{frame}]")
            for frame in np.unique(frames).tolist()
        }
        cameras = _Cameras(example["url"], example["timestamps"].numpy(), example["cameras"].double().numpy())
        _check_cameras(cameras, f"{source.chunk}[{source.place}]")
        return cameras, frames, frames_of([read[frame] for frame in frames.tolist()], where)


def _form_of(folder: Path) -> Form | None:
    """Tell which form a folder holds; raise ValueError where it holds both."""
    files, chunks = next(folder.glob("*.txt"), None) is not None, (folder / "index.json").is_file()
    if files and chunks:
        raise ValueError(f"{folder} holds camera files and chunks: say which by RealEstate10KConfig.form")
    return "files" if files else "chunks" if chunks else None


def _shown(things: Sequence[Any], doing: str, many: int) -> Iterator[Any]:
    """Show how far a long search has come."""
    console = Console(stderr=True)
    return iter(track(things, doing, console=console, transient=True, disable=len(things) < many))


# ----------------------------------------------------------------------------- camera files


def _read_cameras(path: Path) -> _Cameras:
    """Read a camera file: a film's address, then 19 numbers for each frame."""
    first, *lines = path.read_text(errors="replace").splitlines() or [""]
    rows = [line.split() for line in lines if line.strip()]
    if "://" not in first or not rows:
        raise UnreadableVideo(str(path), f"found {first[:60]!r} and {len(rows)} lines, expected an address and cameras")
    for number, row in enumerate(rows):
        if len(row) != 1 + _NUM_CAMERA:
            found = f"line {number + 2} has {len(row)} numbers"
            raise UnreadableVideo(str(path), f"{found}, expected {1 + _NUM_CAMERA}: it was cut off, get it again")
    try:
        times_us = np.array([int(row[0]) for row in rows], np.int64)
        numbers = np.array([row[1:] for row in rows], np.float64)
    except ValueError as error:
        raise UnreadableVideo(str(path), f"found something that is no number ({error})") from error
    cameras = _Cameras(first.strip(), times_us, numbers)
    _check_cameras(cameras, str(path))
    return cameras


def _check_cameras(cameras: _Cameras, where: str) -> None:
    """Refuse times that do not rise, and intrinsics that are no shares of a picture."""
    if (np.diff(cameras.times_us) <= 0).any():
        frame = int(np.flatnonzero(np.diff(cameras.times_us) <= 0)[0]) + 1
        raise UnreadableVideo(where, f"timestamp of frame {frame} is {cameras.times_us[frame]}: expected rising ones")
    if not np.isfinite(cameras.numbers).all():
        raise UnreadableVideo(where, "cameras: some numbers are not finite, expected finite ones")
    focal, centre = cameras.numbers[:, :2], cameras.numbers[:, 2:4]
    if (focal <= 0).any() or (centre <= 0).any() or (centre >= 1).any():
        found = cameras.numbers[0, :4].tolist()
        raise UnreadableVideo(where, f"intrinsics fx, fy, cx, cy are {found}: expected shares of width and height")


def _film_of(url: str) -> str:
    """Give the name of a film on YouTube, which several clips may come from; another address as it is."""
    parts = urlsplit(url)
    named = parse_qs(parts.query).get("v", [])
    name = named[0] if named else parts.path.strip("/") if parts.netloc.endswith("youtu.be") else url
    return re.sub(r"[^\w.:-]", "_", name)


def _pictures_in(folder: Path) -> dict[int, Path]:
    """Find pictures by their time stamps, which are their names."""
    paths = [path for path in folder.iterdir() if path.suffix.lower() in _PICTURES and path.stem.isdigit()]
    return {int(path.stem): path for path in sorted(paths, reverse=True)}


# ----------------------------------------------------------------------------- chunks


class _Chunks:
    """Keep the chunks that were opened last; their pictures stay on the disk until they are asked for."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, Sequence[Any]] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """Leave the chunks behind: another process opens its own."""
        return {"_open": OrderedDict()}

    def open(self, path: Path) -> Sequence[Any]:
        """Open a chunk: a list of clips."""
        if path not in self._open:
            self._open[path] = _load_chunk(path)
            while len(self._open) > _OPEN_CHUNKS:
                self._open.popitem(last=False)
        self._open.move_to_end(path)
        return self._open[path]


def _load_chunk(path: Path) -> Sequence[Any]:
    if not path.is_file():
        raise UnreadableVideo(str(path), "no such file; index.json names it: get it again")
    if not zipfile.is_zipfile(path):
        raise UnreadableVideo(str(path), "not a file of tensors as torch.save writes it, or cut off: get it again")
    with _naming_damage(path):
        examples = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    if not isinstance(examples, list):
        raise UnreadableVideo(str(path), f"found a {type(examples).__name__}, expected a list of clips")
    return examples


@contextmanager
def _naming_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except pickle.UnpicklingError as error:
        refused = "a pickle of more than tensors and texts: it is not loaded, since it could run anything"
        raise UnreadableVideo(str(path), f"{refused}. Get the file from its official address") from error
    except (RuntimeError, EOFError, ValueError) as error:
        told = str(error).splitlines()[0]
        raise UnreadableVideo(str(path), f"tensors that cannot be read ({told}): get it again") from error


def _read_index(path: Path) -> dict[str, str]:
    """Read which chunk each clip stands in."""
    if not path.is_file():
        raise UnreadableVideo(str(path), "no such file: expected a table from clips to chunks")
    index = read_json(path)
    if not isinstance(index, dict) or not all(isinstance(name, str) for name in index.values()):
        raise UnreadableVideo(str(path), "expected a table from clips to names of chunks")
    return index


def _check_example(example: Any, source: _InChunk) -> None:
    """Refuse a clip of a chunk that lacks a field, or whose fields are not of one length."""
    where = f"{source.chunk}[{source.place}]"
    if not isinstance(example, dict):
        raise UnreadableVideo(where, f"found a {type(example).__name__}, expected a table")
    kinds = {"url": str, "key": str, "timestamps": Tensor, "cameras": Tensor, "images": list}
    for name, kind in kinds.items():
        if not isinstance(example.get(name), kind):
            found = type(example.get(name)).__name__
            raise UnreadableVideo(where, f"field {name!r}: found a {found}, expected a {kind.__name__}")
    count = len(example["images"])
    shapes = {"timestamps": (count,), "cameras": (count, _NUM_CAMERA)}
    for name, shape in shapes.items():
        if tuple(example[name].shape) != shape or count == 0:
            found = f"shape {tuple(example[name].shape)} beside {count} images"
            raise UnreadableVideo(where, f"field {name!r}: found {found}, expected {shape}")


def _shape_of(image: Any, where: str) -> tuple[int, int]:
    """Read a picture's height and width from its header."""
    if not isinstance(image, Tensor) or image.dtype != torch.uint8:
        raise UnreadableVideo(where, f"found a {type(image).__name__}, expected a picture's bytes as a uint8 tensor")
    try:
        with Image.open(io.BytesIO(image.numpy().tobytes())) as opened:
            return opened.height, opened.width
    except (OSError, SyntaxError) as error:
        raise UnreadableVideo(where, f"not a picture ({error}): get it again") from error


# ----------------------------------------------------------------------------- from numbers to poses


def _poses(numbers: Float64[np.ndarray, "T 18"], size: tuple[int, ...], where: str) -> CameraPoses:
    """Turn cameras as the files hold them into ours, for a picture of `size` (height, width)."""
    camera_from_world = torch.from_numpy(numbers[:, 6:].reshape(-1, 3, 4))
    rotation = camera_from_world[..., :3]
    off = (rotation @ rotation.mT - torch.eye(3, dtype=rotation.dtype)).abs().amax((-2, -1))
    if off.max() > _ROTATION_TOLERANCE or (torch.linalg.det(rotation) < 0).any():
        raise UnreadableVideo(where, f"the camera of frame {int(off.argmax())} of the clip is turned by no rotation")
    if np.abs(numbers[:, :4] - numbers[:1, :4]).max() > _ROTATION_TOLERANCE:
        raise UnreadableVideo(where, "intrinsics change within the clip: expected one camera")
    (height, width), (fx, fy, cx, cy) = size, numbers[0, :4].tolist()
    intrinsics = torch.tensor([[fx * width, 0, cx * width], [0, fy * height, cy * height], [0, 0, 1]])
    world_from_camera = rigid_inverse(rigid(rotation, camera_from_world[..., 3]))
    return CameraPoses(world_from_camera.float()[None], intrinsics.float()[None])


def base(root: str, split: str = "test") -> RealEstate10KConfig:
    """Describe a split in clips of 16 frames spread over each walk."""
    return RealEstate10KConfig(root=root, split=split, tasks=RealEstate10KConfig.kinds, num_frames=NUM_FRAMES)
