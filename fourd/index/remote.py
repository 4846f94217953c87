"""What lies below a URL, through fsspec."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

import fsspec

from fourd.storage import Retries, version_of
from fourd.storage.retrying import retrying


def is_url(source: str) -> bool:
    """Tell whether a source is the address of an object store, not a local path."""
    return "://" in source


def local_path_of(source: str) -> str:
    """Give the path of a file:// URL, and anything else as it is."""
    return source.removeprefix("file://")


Listed = tuple[str, int, str]
"""The address, size and version of a file."""


def list_remote(url: str) -> Iterator[Listed]:
    """List the files below a URL, or that match it where it holds a `*`, or that file itself; hidden ones are left out.

    Raises: FileNotFoundError where there is nothing; StorageError where it cannot be listed; ImportError where the
    package for it is missing.
    """
    files, prefix = _files_of(url)
    search = files.glob if "*" in prefix else files.find
    listed = _retried(lambda: search(prefix, detail=True), url)
    if not listed:
        raise FileNotFoundError(f"there is nothing below {url}")
    for name, about in listed.items():
        below = PurePosixPath(name.removeprefix(prefix)).parts
        if about.get("type") != "directory" and not any(part.startswith(".") for part in below):
            yield _listed(files, name, about)


def look_up(urls: Iterable[str]) -> Iterator[Listed | str]:
    """Look up files by their URLs, many at once, in order; of one that is not there, its URL."""
    urls = iter(urls)
    with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as threads:
        while part := list(islice(urls, _REQUESTS_AT_ONCE * 8)):
            yield from threads.map(_look_up, part)


_REQUESTS_AT_ONCE = 32


def _look_up(url: str) -> Listed | str:
    files, name = _files_of(url)
    try:
        about = _retried(lambda: files.info(name), url)
    except FileNotFoundError:
        return str(files.unstrip_protocol(name))
    return _listed(files, name, about) if about["type"] == "file" else str(files.unstrip_protocol(name))


def _files_of(url: str) -> tuple[Any, str]:
    """Give the store of a URL, which forgets what it listed before, and the name there."""
    try:
        files, name = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        raise ImportError(f"{url}: {error}; for s3:// run `pip install fourd[s3]`") from error
    return files, name


def _retried(ask: Callable[[], Any], url: str) -> Any:
    return retrying(ask, f"listing {url}", Retries(), _refusal)


def _refusal(error: Exception) -> Exception | None:
    """Give what another try cannot mend."""
    final = (FileNotFoundError, PermissionError, ImportError, ValueError, TypeError, NotImplementedError)
    return error if isinstance(error, final) else None


def _listed(files: Any, name: str, about: Mapping[str, Any]) -> Listed:
    return files.unstrip_protocol(name), int(about["size"] or 0), version_of(about)
