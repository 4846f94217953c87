"""From what a user names to a dataset: films, an index of films, or prepared shards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fourd.datasets.video_files import VideoFilesConfig, index_in_cache
from fourd.datasets.video_shards import VideoShardsConfig
from fourd.index import films, pieces
from fourd.index.remote import is_url
from fourd.index.table import RowTable, kind_of, num_rows
from fourd.storage import Store, open_store
from fourd.types import DatasetConfig

Clips = tuple[DatasetConfig, DatasetConfig | None]
"""Those to train on, and those held out, if there are any."""


def clips_of(data: str, num_frames: int, size: int | tuple[int, int]) -> Clips:
    """Describe the clips to train on, and those held out, of whatever `--data` names.

    data: a folder or URL of films, an index of films (`fourd data index`), a folder or URL of prepared shards (`fourd
    data prepare`), or one index of such. Raises ValueError for a file that is none of these, and for a corpus that is
    not complete.
    """
    if is_url(data):
        return _clips_of_url(data.rstrip("/"), num_frames, size)
    place = Path(data).expanduser()
    if place.is_file():
        return _clips_of_index(place, num_frames, size)
    if any((place / name).exists() for name in _PREPARED):
        return _clips_of_corpus(place, num_frames, size)
    return _clips_of_films(data, num_frames, size)


def _clips_of_films(data: str, num_frames: int, size: int | tuple[int, int]) -> Clips:
    clips = VideoFilesConfig(data, num_frames=num_frames, size=size, index_path=index_in_cache(data), part="train")
    return clips, replace(clips, part="held_out")


def _clips_of_url(url: str, num_frames: int, size: int | tuple[int, int]) -> Clips:
    """Describe the clips of a prepared corpus, of one index of pieces, or of the films below a URL."""
    if url.endswith(".parquet"):
        return VideoShardsConfig(url, num_frames=num_frames, size=size), None
    store = open_store(url)
    there = [_is_there(store, name) for name in _PREPARED[:2]]
    if not any(there):
        return _clips_of_films(url, num_frames, size)
    if not all(there):
        raise ValueError(f"--data {url} is a corpus that is not complete: expected {' and '.join(_PREPARED[:2])} in it")
    clips = VideoShardsConfig(f"{url}/train.parquet", num_frames=num_frames, size=size)
    held_out = RowTable(f"{url}/held_out.parquet", pieces.KIND)
    return clips, replace(clips, index=f"{url}/held_out.parquet") if len(held_out) else None


def _is_there(store: Store, path: str) -> bool:
    try:
        return store.num_bytes(path) > 0
    except FileNotFoundError:
        return False


_PREPARED = ("train.parquet", "held_out.parquet", "work/claim.json")
"""What tells a prepared corpus, complete or not, from a folder of films."""


def _clips_of_corpus(folder: Path, num_frames: int, size: int | tuple[int, int]) -> Clips:
    """Describe the clips of a folder of shards; its held-out part may be empty."""
    train, held_out = folder / "train.parquet", folder / "held_out.parquet"
    if not train.exists() or not held_out.exists():
        raise ValueError(
            f"--data {folder} is a corpus that is not complete: expected train.parquet and held_out.parquet in it. "
            "Go on with the same `fourd data prepare` command"
        )
    clips = VideoShardsConfig(str(train), num_frames=num_frames, size=size)
    return clips, replace(clips, index=str(held_out)) if num_rows(held_out) else None


def _clips_of_index(path: Path, num_frames: int, size: int | tuple[int, int]) -> Clips:
    """Describe the clips of an index, which says of itself whether it is of films or of pieces in shards."""
    kind = _kind_of(path)
    if kind == pieces.KIND:
        return VideoShardsConfig(str(path), num_frames=num_frames, size=size), None
    if kind == films.KIND:
        clips = VideoFilesConfig(index_path=str(path), num_frames=num_frames, size=size, part="train")
        return clips, replace(clips, part="held_out")
    raise ValueError(
        f"--data {path} is a file, {kind}: expected a folder of films, an index of films ({films.KIND!r}, made by "
        f"`fourd data index`), a folder made by `fourd data prepare`, or an index in it ({pieces.KIND!r})"
    )


def _kind_of(path: Path) -> str:
    try:
        return kind_of(path)
    except ValueError:
        return "not even of Parquet"
