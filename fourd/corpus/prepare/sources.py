"""Where the bytes of a film are, and whether they still are what the index says."""

from __future__ import annotations

from fourd.index.build import sample_sha256
from fourd.index.films import Film, film_source
from fourd.media import FilmSource, UnreadableVideo
from fourd.storage import open_store


def checked_source(root: str, film: Film) -> FilmSource:
    """Find a film below a local folder or an object store's root.

    Raises: UnreadableVideo where it is not what it was when it was indexed; FileNotFoundError where it is not there,
    since nothing tells a film that was deleted from a disk that is not mounted; OSError where it cannot be read.
    """
    try:
        num_bytes = open_store(root).num_bytes(film.path)
        source = film_source(root, film.path, num_bytes)
        is_same = num_bytes == film.num_bytes and sample_sha256(source, num_bytes) == film.fingerprint
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{root.rstrip('/')}/{film.path} is not there, although it was indexed: mount its disk, or put it back, "
            "and give the same command again. If it is gone for good, run `fourd data index` again and prepare that "
            "index in a new --out"
        ) from error
    if not is_same:
        raise UnreadableVideo(film.path, "changed since it was indexed")
    return source
