"""Where the bytes of a film are, and whether they still are what the index says."""

from __future__ import annotations

import os

from fourd.index.build import sample_sha256
from fourd.index.films import Film, film_source
from fourd.media import FilmSource, UnreadableVideo
from fourd.storage import open_store


def checked_source(root: str, film: Film) -> FilmSource:
    """Find a film below a local folder or an object store's root.

    Raises: UnreadableVideo where it is gone, or not what it was when it was indexed; OSError where the root itself
    cannot be read, which is not the film's fault.
    """
    if "://" not in root:
        os.stat(root)  # a folder that is not mounted must not pass for films that are gone
    try:
        num_bytes = open_store(root).num_bytes(film.path)
    except FileNotFoundError as error:
        raise UnreadableVideo(film.path, "gone since it was indexed") from error
    source = film_source(root, film.path, num_bytes)
    if num_bytes != film.num_bytes or sample_sha256(source, num_bytes) != film.fingerprint:
        raise UnreadableVideo(film.path, "changed since it was indexed")
    return source
