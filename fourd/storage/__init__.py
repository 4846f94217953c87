"""Bytes by address: local folders and object stores, read in ranges, with retries and a bounded local cache."""

from __future__ import annotations

from pathlib import Path

from fourd.storage.cache import CacheConfig, CachedStore
from fourd.storage.copying import local_copy
from fourd.storage.local import LocalStore
from fourd.storage.paths import checked_relative
from fourd.storage.ranged import open_ranged
from fourd.storage.remote import RemoteStore, version_of
from fourd.storage.retrying import CutOffError, Retries, StorageError
from fourd.storage.store import Store

__all__ = [
    "CacheConfig",
    "CachedStore",
    "CutOffError",
    "LocalStore",
    "RemoteStore",
    "Retries",
    "StorageError",
    "Store",
    "checked_relative",
    "local_copy",
    "open_ranged",
    "open_store",
    "version_of",
]


def open_store(root: str, cache: CacheConfig | None = None, retries: Retries | None = None) -> Store:
    """Open a local folder, or a URL such as s3://bucket/prefix (see `RemoteStore`), which may go through a cache.

    A local folder is never cached. Nothing is read yet, and no error raised for a root that is not there.
    """
    if root.startswith("file://") or "://" not in root:
        return LocalStore(str(Path(root.removeprefix("file://")).expanduser().resolve()), retries)
    store = RemoteStore(root, retries)
    return CachedStore(store, cache) if cache is not None else store
