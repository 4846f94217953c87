"""Read clips from a folder of films.

Every file below the folder is looked at: films become items in the order of their paths, everything else is listed
with the reason why it is not read, so that nothing is skipped without a word. One look per film makes its frame
table, and an index file keeps the tables for the next start.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Int64, UInt8
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from fourd import video
from fourd.media import UnreadableVideo, VideoInfo
from fourd.types import Batch, Dataset, DatasetConfig, Unreadable

EXTENSIONS = (
    *(".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi"),
    *(".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".flv", ".wmv", ".ogv"),
)
"""The endings of a film's name, in small letters."""


Part = Literal["all", "train", "held_out"]


@dataclass(frozen=True)
class VideoFilesConfig(DatasetConfig):
    """Describe a folder of films, and the clip that is drawn from each.

    root: the folder; hidden files and symbolic links in it are not read. stride: frames from one frame of a clip to
    the next; fps: if given, frames per second of a clip instead, for films of different rates. size: of a clip, as
    (height, width) or one number for both. crop_scale, crop_ratio: see `random_resized_crop`. flip: mirror half of
    the clips. extensions: the endings of a film's name. index_path: a file, outside of the folder, that keeps what
    is known of each film for the next start. part: all films, or those to train on, or those held out of it, one in
    twenty by a hash of the path, and at least one once there are four. None of the defaults is from the paper, except
    for 16 frames of 224.
    """

    root: str
    num_frames: int = 16
    stride: int = 2
    fps: float | None = None
    size: int | tuple[int, int] = 224
    crop_scale: tuple[float, float] = (0.3, 1.0)
    crop_ratio: tuple[float, float] = (0.75, 1.33)
    flip: bool = True
    extensions: tuple[str, ...] = EXTENSIONS
    index_path: str | None = None
    part: Part = "all"

    def __post_init__(self) -> None:
        """Refuse values that no clip can have."""
        counts = {"num_frames": self.num_frames, "stride": self.stride, "size": min(self.height_width)}
        for name, count in counts.items():
            if count < 1:
                raise ValueError(f"VideoFilesConfig.{name} is {getattr(self, name)}: expected 1 or more")
        if self.fps is not None and not self.fps > 0:
            raise ValueError(f"VideoFilesConfig.fps is {self.fps}: expected more than 0, or None to use the stride")
        if not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError(f"VideoFilesConfig.crop_scale is {self.crop_scale}: expected 0 < least <= largest <= 1")
        if not 0 < self.crop_ratio[0] <= self.crop_ratio[1]:
            raise ValueError(f"VideoFilesConfig.crop_ratio is {self.crop_ratio}: expected 0 < least <= largest")

    @property
    def height_width(self) -> tuple[int, int]:
        """Give a clip's size as (height, width)."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    def build(self) -> VideoFiles:
        """Look at every file of the folder; raise an error that says why, where no film can be read."""
        return VideoFiles(self)


def folder(root: str) -> VideoFilesConfig:
    """Describe a folder of films, with every other value at its default."""
    return VideoFilesConfig(root)


@dataclass(frozen=True, eq=False)
class Film:
    """Name a film by its path from the folder, and say what is known of it."""

    path: str
    info: VideoInfo


class VideoFiles(Dataset):
    """Give one random clip from each film of a folder.

    `films` are the items, in the order of their paths; `unreadable` lists everything else below the folder, by its
    path from there.
    """

    def __init__(self, config: VideoFilesConfig) -> None:
        """Look at every file of the folder, or look it up in the index."""
        self.config = config
        self.root = _checked_root(config)
        found = list(_scan(self.root, config.extensions))
        candidates = [file for file in found if isinstance(file, _File)]
        infos = _describe(self.root, candidates, config.index_path)
        self.films, self.unreadable = _sort_out(found, infos, config)
        if not self.films:
            raise _nothing_to_read(self.root, self.unreadable, infos.values(), config)
        self.films = _choose_part(self.films, config.part)
        self.damaged = tuple(
            Unreadable(film.path, f"used up to the damage: {film.info.damage}")
            for film in self.films
            if film.info.damage
        )
        listed = "\n".join(f"{film.path} {film.info.num_frames}" for film in self.films)
        self.fingerprint = hashlib.sha256(listed.encode()).hexdigest()[:16]

    def __len__(self) -> int:
        """Count the films."""
        return len(self.films)

    def read(self, index: int, rng: np.random.Generator) -> Batch:
        """Draw a clip, a crop and a flip from film `index`.

        Times are seconds after the film's first frame. The key and the group are the film's path.
        Raises: UnreadableVideo, with that path, where the film is damaged in the middle.
        """
        if not 0 <= index < len(self.films):
            raise IndexError(f"film {index} of {self.root}: expected 0 to {len(self.films) - 1}")
        film, config = self.films[index], self.config
        info, times_s = film.info, film.info.frame_times_s
        frames = video.clip_frame_indices(times_s, config.num_frames, rng, stride=config.stride, fps=config.fps)
        scale, ratio = config.crop_scale, config.crop_ratio
        box = video.random_resized_crop(info.height, info.width, rng, scale=scale, ratio=ratio)
        flipped = rng.random() < 0.5 and config.flip
        seed = int(rng.integers(np.iinfo(np.int64).max))
        clip = video.crop_resize(self._decode(film, frames), box, config.height_width)
        return Batch(
            video=(video.flip(clip) if flipped else clip).contiguous()[None],
            time_s=torch.from_numpy(times_s[frames]).float()[None],
            key=(film.path,),
            group=(film.path,),
            seed=torch.tensor([seed]),
        )

    def _decode(self, film: Film, frames: Int64[np.ndarray, " T"]) -> UInt8[Tensor, "T 3 H W"]:
        """Decode frames, and name the film as `unreadable` does where that fails."""
        try:
            return video.decode(self.root / film.path, frames, film.info)
        except UnreadableVideo as error:
            raise UnreadableVideo(film.path, error.reason) from error


# ----------------------------------------------------------------------------- looking through the folder


@dataclass(frozen=True)
class _File:
    """Name a file that may be a film; size and time of change tell whether it is still the same."""

    path: str
    num_bytes: int
    mtime_ns: int


def _checked_root(config: VideoFilesConfig) -> Path:
    """Resolve the folder, and refuse an index inside of it."""
    root = Path(config.root).expanduser().resolve()
    if not root.exists():
        raise FileNotFoundError(f"VideoFilesConfig.root: there is no {root}: expected a folder of films")
    if not root.is_dir():
        raise NotADirectoryError(f"VideoFilesConfig.root: {root} is a file: expected a folder of films")
    if config.index_path is not None and Path(config.index_path).expanduser().resolve().is_relative_to(root):
        raise ValueError(f"VideoFilesConfig.index_path: {config.index_path} lies in {root}: expected a place outside")
    return root


def _scan(root: Path, extensions: Sequence[str], below: str = "") -> Iterator[_File | Unreadable]:
    """List everything in the folder that is not hidden, and in the folders below it."""
    try:
        with os.scandir(root / below) as listing:
            entries = [entry for entry in listing if not entry.name.startswith(".")]
    except PermissionError:
        yield Unreadable(_printable(below), "folder: permission denied")
        return
    for entry in entries:
        path = below + entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from _scan(root, extensions, f"{path}/")
        else:
            yield _look_at(path, entry, extensions)


def _look_at(path: str, entry: os.DirEntry[str], extensions: Sequence[str]) -> _File | Unreadable:
    """Take a file as a possible film, or say why not, without opening it."""
    if _printable(path) != path:
        return Unreadable(_printable(path), "its name is not valid UTF-8: rename it")
    if entry.is_symlink():
        return Unreadable(path, "symbolic link, which is not followed: set root to where it leads, or copy the film")
    if not entry.is_file(follow_symlinks=False):
        return Unreadable(path, "not a regular file")
    if Path(path).suffix.lower() not in extensions:
        return Unreadable(path, "not a video file")
    status = entry.stat(follow_symlinks=False)
    return _File(path, status.st_size, status.st_mtime_ns)


def _printable(path: str) -> str:
    """Write bytes of a file name that are no text as escapes."""
    return path.encode("utf-8", "backslashreplace").decode()


_Infos = dict[_File, VideoInfo | Unreadable]


def _describe(root: Path, files: Sequence[_File], index_path: str | None) -> _Infos:
    """Look up every file in the index, probe those that are new or changed, and write the index again."""
    index = Path(index_path).expanduser() if index_path is not None else None
    known = _load_index(index) if index is not None and index.exists() else {}
    infos: _Infos = {file: known[file] for file in files if file in known}
    infos |= _probe_all(root, [file for file in files if file not in known])
    readable = {file: info for file, info in infos.items() if isinstance(info, VideoInfo)}
    if index is not None and readable.keys() != known.keys():
        _save_index(index, readable)
    return infos


def _probe_all(root: Path, files: Sequence[_File]) -> _Infos:
    """Probe films side by side, and show the time left; the work is reading, so threads serve."""

    def probe(file: _File) -> VideoInfo | Unreadable:
        try:
            return video.probe(root / file.path)
        except UnreadableVideo as error:
            return Unreadable(file.path, error.reason)

    if not files:
        return {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress, ThreadPoolExecutor(os.cpu_count()) as threads:
        infos = progress.track(threads.map(probe, files), total=len(files), description="Looking through the films")
        return dict(zip(files, infos, strict=True))


_HELD_OUT_SHARE = 0.05
_MIN_FILMS_TO_HOLD_OUT = 4


def _choose_part(films: tuple[Film, ...], part: Part) -> tuple[Film, ...]:
    """Keep the films of a part, chosen by the hashes of their paths."""
    if part == "all":
        return films
    num_held_out = max(round(_HELD_OUT_SHARE * len(films)), 1) if len(films) >= _MIN_FILMS_TO_HOLD_OUT else 0
    shuffled = sorted(films, key=lambda film: hashlib.sha256(film.path.encode()).digest())
    held_out = {film.path for film in shuffled[:num_held_out]}
    return tuple(film for film in films if (film.path in held_out) == (part == "held_out"))


def index_in_cache(root: str) -> str:
    """Name a place in the user's cache for the index of a folder."""
    name = hashlib.sha256(str(Path(root).expanduser().resolve()).encode()).hexdigest()[:16]
    return f"~/.cache/fourd/films/{name}.parquet"


def _sort_out(
    found: Sequence[_File | Unreadable], infos: Mapping[_File, VideoInfo | Unreadable], config: VideoFilesConfig
) -> tuple[tuple[Film, ...], tuple[Unreadable, ...]]:
    """Part the films that hold a clip from everything that does not, each in the order of paths."""
    films, unreadable = [], []
    for file in sorted(found, key=lambda file: file.path):
        info = infos[file] if isinstance(file, _File) else file
        if isinstance(info, Unreadable):
            unreadable.append(info)
        elif _holds_clip(info, config):
            films.append(Film(file.path, info))
        else:
            reason = info.damage or f"too short: {_length(info, config)}"
            unreadable.append(Unreadable(file.path, f"{reason}, {_needed_length(config)} needed"))
    return tuple(films), tuple(unreadable)


def _holds_clip(info: VideoInfo, config: VideoFilesConfig) -> bool:
    """Tell whether a film is long enough for one clip."""
    return video.latest_clip_start(info.frame_times_s, config.num_frames, stride=config.stride, fps=config.fps) >= 0


def _length(info: VideoInfo, config: VideoFilesConfig) -> str:
    """Say how long a film is, in what a clip of this config is measured in."""
    return f"{info.num_frames} frames" if config.fps is None else f"{info.frame_times_s[-1]:.2f} s"


def _needed_length(config: VideoFilesConfig) -> str:
    """Say how long a film has to be."""
    steps = config.num_frames - 1
    return f"{steps * config.stride + 1} frames" if config.fps is None else f"{steps / config.fps:.2f} s"


def _nothing_to_read(
    root: Path, unreadable: Sequence[Unreadable], infos: Iterable[VideoInfo | Unreadable], config: VideoFilesConfig
) -> Exception:
    """Make the error that says what was found instead of films."""
    if not unreadable:
        return FileNotFoundError(f"{root} holds no file: expected films ({', '.join(config.extensions)})")
    readable = [info for info in infos if isinstance(info, VideoInfo)]
    if readable:
        longest = max(readable, key=lambda info: info.num_frames if config.fps is None else info.frame_times_s[-1])
        return ValueError(
            f"all films in {root} are shorter than a clip: the longest has {_length(longest, config)}, "
            f"{_needed_length(config)} are needed. Set num_frames and stride (or fps) so that a clip fits"
        )
    first = "; ".join(f"{file.path}: {file.reason}" for file in unreadable[:5])
    return ValueError(f"{root} holds no readable film among {len(unreadable)} files. The first: {first}")


# ----------------------------------------------------------------------------- the index file

_INDEX_KIND = b"fourd video index 1"
_WAY_OUT = "delete it, or name another place"
_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("num_bytes", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("rotation", pa.int32()),
        ("codec", pa.string()),
        ("time_base", pa.string()),
        ("pts", pa.large_list(pa.int64())),
        ("key_pts", pa.large_list(pa.int64())),
        ("counted", pa.bool_()),
        ("damage", pa.string()),
    ],
    metadata={b"kind": _INDEX_KIND},
)


def _save_index(path: Path, films: Mapping[_File, VideoInfo]) -> None:
    """Write what is known of each film, aside at first, so that a reader never meets half a file."""
    rows = [{**vars(file), **vars(info), "time_base": str(info.time_base)} for file, info in films.items()]
    table = pa.table({name: [row[name] for row in rows] for name in _SCHEMA.names}, schema=_SCHEMA)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        pq.write_table(table, aside, compression="zstd")
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _load_index(path: Path) -> dict[_File, VideoInfo]:
    """Read what an earlier start knew of each film."""
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"VideoFilesConfig.index_path: {path} is no Parquet file: {_WAY_OUT}") from error
    if (table.schema.metadata or {}).get(b"kind") != _INDEX_KIND:
        raise ValueError(f"VideoFilesConfig.index_path: {path} is no index of this version of fourd: {_WAY_OUT}")
    stamps = {"pts": [row.values.to_numpy() for row in table["pts"]]}
    stamps["key_pts"] = [row.values.to_numpy() for row in table["key_pts"]]
    scalars = table.drop_columns(list(stamps)).to_pylist()
    rows = [row | {"pts": pts, "key_pts": keys} for row, pts, keys in zip(scalars, *stamps.values(), strict=True)]
    return {_take(_File, row): _take(VideoInfo, row | {"time_base": Fraction(row["time_base"])}) for row in rows}


def _take(kind: type, row: Mapping[str, Any]) -> Any:
    """Build a dataclass from the columns that bear its fields' names."""
    return kind(**{field.name: row[field.name] for field in fields(kind)})


# ----------------------------------------------------------------------------- a folder for tests


def tiny() -> VideoFilesConfig:
    """Describe a folder with one small film, which is made on the first call, for tests."""
    root = Path(tempfile.gettempdir()) / f"fourd-{getpass.getuser()}" / "tiny-film"
    film = root / "moving-square.mp4"
    if not film.exists():
        root.mkdir(parents=True, exist_ok=True)
        aside = root / f".{uuid.uuid4().hex}.mp4"
        _write_moving_square(aside)
        aside.replace(film)
    return VideoFilesConfig(str(root), num_frames=4, size=32)


def _write_moving_square(path: Path) -> None:
    """Write a second of film in which a square crosses a grey ground."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=12)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(12):
            picture = np.full((48, 64, 3), 96, np.uint8)
            picture[16:32, 4 * index : 4 * index + 16] = (240, 200, 16)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode(None))
