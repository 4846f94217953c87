"""Read clips from films as they are: a folder of them, or an index made by `fourd data index`.

Films become items in the order of their paths; everything else that was found is listed with the reason why it is not
read, so that nothing is skipped without a word. Only rows of the index that are asked for are in memory.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import shutil
import tempfile
import uuid
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, overload

import av
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, UInt64

from fourd.datasets._clips import ClipConfig, OpenedClip, plan_clip, read_clip
from fourd.index.build import build_index, earlier_index
from fourd.index.films import Film, FilmIndex
from fourd.index.looking import film_source, store_of
from fourd.index.remote import is_url
from fourd.index.scan import EXTENSIONS
from fourd.index.table import Selection
from fourd.media import UnreadableVideo
from fourd.storage import CacheConfig
from fourd.types import Batch, Dataset, Unreadable

__all__ = ["EXTENSIONS", "Part", "VideoFiles", "VideoFilesConfig", "folder", "index_in_cache"]

Part = Literal["all", "train", "held_out"]


@dataclass(frozen=True)
class VideoFilesConfig(ClipConfig):
    """Describe films, and the clip that is drawn from each.

    root: a folder or a URL, which is indexed first; hidden files and symbolic links in it are not read. Empty takes the
    films of the index at `index_path` as it stands. extensions: the endings of a film's name. index_path: a file,
    outside of the folder, that keeps what is known of each film for the next start. part: all films, or those to train
    on, or those held out of it, one in twenty by a hash of the path, and at least one once there are four (not from the
    paper). cache: keep what is read from an object store on a local disk. The rest: see `ClipConfig`.
    """

    root: str = ""
    extensions: tuple[str, ...] = EXTENSIONS
    index_path: str | None = None
    part: Part = "all"
    cache: CacheConfig | None = None

    def __post_init__(self) -> None:
        """Refuse values that no clip can have."""
        super().__post_init__()
        if not self.root and self.index_path is None:
            raise ValueError("VideoFilesConfig: neither root nor index_path is given; expected a folder or an index")

    def build(self) -> VideoFiles:
        """Index the folder, or open the index; raise an error that says why, where no film can be read."""
        return VideoFiles(self)


def folder(root: str) -> VideoFilesConfig:
    """Describe a folder of films, with every other value at its default."""
    return VideoFilesConfig(root)


def index(path: str) -> VideoFilesConfig:
    """Describe the films of an index, with every other value at its default."""
    return VideoFilesConfig(index_path=path)


class VideoFiles(Dataset):
    """Give one random clip from each film.

    `films` are the items, in the order of their paths; `unreadable` lists everything else, by its path from the root.
    """

    def __init__(self, config: VideoFilesConfig) -> None:
        """Bring the index up to date, and choose from it."""
        self.config = config
        self.index = _open_index(config)
        self.root = self.index.root
        fits = Selection(self.index.table, _COLUMNS, _Fits(config))
        if not len(fits):
            raise _nothing_to_read(self.index, config)
        test = _Fits(config, _highest_held_out(fits, config.part))
        self.films = Films(self.index, fits if test.highest is None else Selection(self.index.table, _COLUMNS, test))
        self.unreadable, self.damaged = _list_others(self.index, test)
        self.fingerprint = _fingerprint(self.index, test)

    def __len__(self) -> int:
        """Count the films."""
        return len(self.films)

    def read(self, index: int, rng: np.random.Generator) -> Batch:
        """Draw a clip, a crop and a flip from film `index`.

        Times are seconds after the film's first frame. The key and the group are the film's path.
        Raises: UnreadableVideo, with that path, where the film is damaged in the middle or was changed; OSError where
        it cannot be read for no fault of its own.
        """
        opened = self.open(index, rng)
        try:
            return read_clip(opened, self.config)
        except UnreadableVideo as error:
            raise UnreadableVideo(opened.key, error.reason) from error

    def open(self, index: int, rng: np.random.Generator) -> OpenedClip:
        """Draw what `read` decodes; raise UnreadableVideo where the film was changed."""
        film = self.films[index]
        assert film.info is not None  # only such films are selected
        _require_unchanged(self.root, film, self.config.cache)
        source = film_source(self.root, film.path, film.num_bytes, self.config.cache)
        return OpenedClip(source, film.info, plan_clip(film.info, self.config, rng), film.path, film.path)


class Films(Sequence[Film]):
    """Give the selected films of an index, each looked up when it is asked for."""

    def __init__(self, index: FilmIndex, selection: Selection) -> None:
        """Keep the index and which of its rows count."""
        self._index, self._selection = index, selection

    def __len__(self) -> int:
        """Count the films."""
        return len(self._selection)

    @overload
    def __getitem__(self, number: int) -> Film: ...
    @overload
    def __getitem__(self, number: slice) -> list[Film]: ...
    def __getitem__(self, number: int | slice) -> Film | list[Film]:
        """Look up a film, or several; raise IndexError where there are fewer."""
        if isinstance(number, slice):
            return [self[place] for place in range(*number.indices(len(self)))]
        if not 0 <= number < len(self):
            raise IndexError(f"film {number} of {self._index.root}: expected 0 to {len(self) - 1}")
        return self._index.film(self._selection.row_number(number))


def _require_unchanged(root: str, film: Film, cache: CacheConfig | None) -> None:
    """Refuse a film that is not the one that was indexed, whose frames would be others.

    That one is gone says nothing of it: a disk may be away. So it stops whoever reads, and is never replaced.
    """
    store = store_of(root, cache)
    try:
        found = store.about(film.path)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{store.address(film.path)} is in the index and no longer there: is its disk away? If it is gone for "
            "good, run fourd data index again"
        ) from error
    if found != (film.num_bytes, film.version):
        raise UnreadableVideo(film.path, "changed since it was indexed: run fourd data index again")


# ----------------------------------------------------------------------------- the index


def _open_index(config: VideoFilesConfig) -> FilmIndex:
    """Open the index, after bringing that of a folder up to date."""
    if not config.root:
        assert config.index_path is not None  # checked by the config
        return FilmIndex(Path(config.index_path).expanduser())
    root = config.root if is_url(config.root) else str(_checked_root(config))
    if config.index_path is not None:
        path = Path(config.index_path).expanduser()
        try:
            earlier_index(path)
        except ValueError as error:
            raise ValueError(f"VideoFilesConfig.index_path: {error}") from error
        build_index([root], path, extensions=config.extensions)
        return FilmIndex(path)
    return _temporary_index(root, config)


def _temporary_index(root: str, config: VideoFilesConfig) -> FilmIndex:
    """Keep an index for as long as this process needs it."""
    place = tempfile.mkdtemp(prefix="fourd-index-")
    path = Path(place) / "films.parquet"
    try:
        build_index([root], path, extensions=config.extensions)
        index = FilmIndex(path)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    weakref.finalize(index, _remove_in, os.getpid(), place)
    return index


def _remove_in(process: int, place: str) -> None:
    """Remove the folder, unless this is a fork of the process that made it."""
    if os.getpid() == process:
        shutil.rmtree(place, ignore_errors=True)


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


def index_in_cache(root: str) -> str:
    """Name a place in the user's cache for the index of a folder."""
    place = root if is_url(root) else str(Path(root).expanduser().resolve())
    return f"~/.cache/fourd/films/{hashlib.sha256(place.encode()).hexdigest()[:16]}.parquet"


# ----------------------------------------------------------------------------- which films

_COLUMNS = ("path_hash", "reason", "num_frames", "last_s")
_ROUNDING_S = 1e-6
_HELD_OUT_SHARE = 0.05
_MIN_FILMS_TO_HOLD_OUT = 4


@dataclass(frozen=True)
class _Fits:
    """Tell which rows are films that hold a clip, and belong to a part: that of hashes up to `highest`, or the rest."""

    config: VideoFilesConfig
    highest: int | None = None

    def __call__(self, rows: pa.Table) -> Bool[np.ndarray, " n"]:
        fits = rows["reason"].is_null().to_numpy() & _long_enough(rows, self.config)
        if self.highest is None:
            return fits
        is_held_out = rows["path_hash"].to_numpy() <= self.highest
        return fits & (is_held_out == (self.config.part == "held_out"))


def _long_enough(rows: pa.Table, config: VideoFilesConfig) -> Bool[np.ndarray, " n"]:
    """Tell which films are long enough for a clip."""
    steps = config.num_frames - 1
    if config.fps is None:
        return rows["num_frames"].fill_null(0).to_numpy() > steps * config.stride
    return rows["last_s"].fill_null(-1.0).to_numpy() >= steps / config.fps - _ROUNDING_S


def _highest_held_out(fits: Selection, part: Part) -> int | None:
    """Find the hash up to which films are held out, -1 for none of them; None where the part is all of them."""
    if part == "all":
        return None
    num_held_out = max(round(_HELD_OUT_SHARE * len(fits)), 1) if len(fits) >= _MIN_FILMS_TO_HOLD_OUT else 0
    return _nth_hash(fits, num_held_out) if num_held_out else -1


def _nth_hash(selection: Selection, n: int) -> int:
    """Find the n-th smallest hash, counted from 1, in memory that does not grow: first its upper bits, then itself."""
    counts = np.zeros(2**_UPPER_BITS, np.int64)
    for hashes in _hashes(selection):
        counts += np.bincount((hashes >> np.uint64(64 - _UPPER_BITS)).astype(np.int64), minlength=len(counts))
    upper = int(np.searchsorted(np.cumsum(counts), n))
    nearby = [hashes[hashes >> np.uint64(64 - _UPPER_BITS) == upper] for hashes in _hashes(selection)]
    return int(np.sort(np.concatenate(nearby))[n - 1 - int(counts[:upper].sum())])


_UPPER_BITS = 16


def _hashes(selection: Selection) -> Iterator[UInt64[np.ndarray, " n"]]:
    for rows in selection.table.groups(_COLUMNS):
        yield rows["path_hash"].to_numpy()[selection.test(rows)]


def _list_others(index: FilmIndex, fits: _Fits) -> tuple[tuple[Unreadable, ...], tuple[Unreadable, ...]]:
    """List what cannot be used, and what of the part can be used only up to a damage."""
    unreadable: list[Unreadable] = []
    damaged: list[Unreadable] = []
    for rows in index.table.groups((*_COLUMNS, "path", "damage")):
        chosen = fits(rows)
        others = rows.filter(pa.array(~_Fits(fits.config)(rows)))
        unreadable += (Unreadable(row["path"], _why_not(row, fits.config)) for row in others.to_pylist())
        cut = rows.filter(pa.array(chosen & rows["damage"].is_valid().to_numpy()))
        damaged += (Unreadable(row["path"], f"used up to the damage: {row['damage']}") for row in cut.to_pylist())
    return tuple(unreadable), tuple(damaged)


def _why_not(row: dict[str, Any], config: VideoFilesConfig) -> str:
    """Say why a file is not used: what the index says of it, or how long it is."""
    if row["reason"] is not None:
        return str(row["reason"])
    why = row["damage"] or f"too short: {_length(row['num_frames'], row['last_s'], config)}"
    return f"{why}, {_needed_length(config)} needed"


def _fingerprint(index: FilmIndex, fits: _Fits) -> str:
    """Hash the films that are used: their names, lengths and contents."""
    digest = hashlib.sha256()
    for rows in index.table.groups((*_COLUMNS, "path", "fingerprint")):
        chosen = rows.filter(pa.array(fits(rows)))
        columns = (chosen[name].to_pylist() for name in ("path", "num_frames", "fingerprint"))
        for film in zip(*columns, strict=True):
            digest.update(f"{film}\n".encode())
    return digest.hexdigest()[:16]


def _length(num_frames: int, last_s: float, config: VideoFilesConfig) -> str:
    """Say how long a film is, in what a clip of this config is measured in."""
    return f"{num_frames} frames" if config.fps is None else f"{last_s:.2f} s"


def _needed_length(config: VideoFilesConfig) -> str:
    """Say how long a film has to be."""
    steps = config.num_frames - 1
    return f"{steps * config.stride + 1} frames" if config.fps is None else f"{steps / config.fps:.2f} s"


def _nothing_to_read(index: FilmIndex, config: VideoFilesConfig) -> Exception:
    """Make the error that says what was found instead of films."""
    if not len(index):
        return FileNotFoundError(f"{index.root} holds no file: expected films ({', '.join(config.extensions)})")
    longest = [_longest(rows) for rows in index.table.groups(("num_frames", "last_s"))]
    num_frames, last_s = (max(lengths) for lengths in zip(*longest, strict=True))
    if num_frames:
        return ValueError(
            f"all films in {index.root} are shorter than a clip: the longest has "
            f"{_length(num_frames, last_s, config)}, {_needed_length(config)} are needed. Set num_frames and stride "
            "(or fps) so that a clip fits"
        )
    first = "; ".join(f"{film.path}: {film.reason}" for film in islice(index.films(), 5))
    return ValueError(f"{index.root} holds no readable film among {len(index)} files. The first: {first}")


def _longest(rows: pa.Table) -> tuple[int, float]:
    return pc.max(rows["num_frames"]).as_py() or 0, pc.max(rows["last_s"]).as_py() or 0.0


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
