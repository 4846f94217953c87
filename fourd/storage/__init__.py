"""Bytes by address: local folders and object stores, read in ranges, with retries and a bounded local cache."""

from __future__ import annotations

from fourd.storage.cache import CacheConfig, CachedStore
from fourd.storage.paths import checked_relative
from fourd.storage.ranged import open_ranged
from fourd.storage.retrying import Retries, StorageError
from fourd.storage.store import LocalStore, RemoteStore, Store, open_root

__all__ = [
    "CacheConfig",
    "CachedStore",
    "LocalStore",
    "RemoteStore",
    "Retries",
    "StorageError",
    "Store",
    "checked_relative",
    "open_ranged",
    "open_store",
]


def open_store(root: str, cache: CacheConfig | None = None, retries: Retries | None = None) -> Store:
    """Open a local folder, or a URL such as s3://bucket/prefix, which may go through a cache."""
    store = open_root(root, retries)
    return CachedStore(store, cache) if cache is not None and isinstance(store, RemoteStore) else store
