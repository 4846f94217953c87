"""Bytes by address: local folders and object stores, read in ranges, with retries and a bounded local cache."""

from fourd.storage.paths import checked_relative
from fourd.storage.store import StorageError, Store, open_ranged, open_store

__all__ = ["StorageError", "Store", "checked_relative", "open_ranged", "open_store"]
