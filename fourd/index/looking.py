"""Look into one film. A process of its own does this for each, so nothing is imported here that it does not need."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache

from fourd.media import FilmSource, StoredFile, UnreadableVideo, VideoInfo, probe
from fourd.storage import CacheConfig, Store, checked_relative, open_ranged, open_store

_SAMPLE_BYTES = 2**20

NO_FILE, FORBIDDEN = "no such file", "permission denied"
"""Reasons that are the folder's, not the film's: they may be gone the next time without a change of the file."""


@dataclass(frozen=True)
class FilmAddress:
    """Say where a film lies: its path below a folder or URL, and its size and version when it was found."""

    root: str
    path: str
    num_bytes: int
    version: str


@dataclass(frozen=True)
class Seen:
    """Say what was found in a film: `info`, or the `reason` why it cannot be used.

    fingerprint: see `sample_sha256`; empty where not even that could be read.
    """

    info: VideoInfo | None
    reason: str | None
    fingerprint: str


def look_into(address: FilmAddress) -> Seen:
    """Describe one film; raise OSError where it cannot be read for no fault of its own."""
    source = film_source(address.root, address.path, address.num_bytes)
    try:
        fingerprint = sample_sha256(source, address.num_bytes)
    except FileNotFoundError:
        return Seen(None, NO_FILE, "")
    except PermissionError:
        return Seen(None, FORBIDDEN, "")
    try:
        return Seen(probe(source), None, fingerprint)
    except UnreadableVideo as error:
        return Seen(None, error.reason, fingerprint)


def sample_sha256(source: FilmSource, num_bytes: int) -> str:
    """Hash a file's size, its first and its last MiB, by which it is known again wherever it lies."""
    digest = hashlib.sha256(str(num_bytes).encode())
    try:
        with source.open() if isinstance(source, StoredFile) else open(source, "rb") as file:
            digest.update(file.read(_SAMPLE_BYTES))
            file.seek(max(num_bytes - _SAMPLE_BYTES, 0))
            digest.update(file.read(_SAMPLE_BYTES))
    except OSError as error:
        if error.errno and error.filename is None:
            error.filename = str(source)  # the system names a file only when it opens it
        raise
    return digest.hexdigest()


def film_source(root: str, film_path: str, num_bytes: int, cache: CacheConfig | None = None) -> FilmSource:
    """Give what a film is read from: a local file, or an object of a store, through a cache if one is given."""
    if "://" not in root:
        return os.path.join(root, checked_relative(film_path, root))
    store = store_of(root, cache)
    return StoredFile(store.address(film_path), num_bytes, lambda: open_ranged(store, film_path))


@lru_cache(maxsize=16)
def store_of(root: str, cache: CacheConfig | None = None) -> Store:
    """Give the store of a root; the same one each time, since to open one takes long."""
    return open_store(root, cache)
