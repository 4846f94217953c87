"""The deepest folder or prefix that holds everything."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable

from fourd.index.remote import is_url


class CommonRoot:
    """Find the deepest folder, or prefix of a store, that holds all addresses which are included."""

    def __init__(self) -> None:
        """Begin with none."""
        self._root: str | None = None

    def include_folder(self, folder: str) -> None:
        """Widen the root to a folder or prefix."""
        if self._root is None:
            self._root = folder
        elif folder != self._root and not folder.startswith(self._root.rstrip("/") + "/"):
            self._root = _common(self._root, folder)

    def include(self, addresses: Iterable[str]) -> None:
        """Widen the root to the folders of addresses."""
        for address in addresses:
            self.include_folder(address.rstrip("/").rpartition("/")[0] or "/")

    def __str__(self) -> str:
        """Give the root; raise FileNotFoundError where nothing was included."""
        if self._root is None:
            raise FileNotFoundError("no file found in what was named")
        return self._root


def _common(one: str, other: str) -> str:
    if not is_url(one) and not is_url(other):
        return os.path.commonpath([one, other])
    (scheme, _, first), (other_scheme, _, second) = one.partition("://"), other.partition("://")
    shared = posixpath.commonpath([first, second]) if (scheme == other_scheme and "://" in one) else ""
    if not shared.strip("/"):
        raise ValueError(
            f"{one} and {other} in one index: expected films of one disk or one bucket; make an index of each"
        )
    return f"{scheme}://{shared}"


def moved(path: str, root: str, new_root: str) -> str | None:
    """Write a path below one root as a path below another; None where it does not lie there."""
    address, start = f"{root.rstrip('/')}/{path}", new_root.rstrip("/") + "/"
    return address[len(start) :] if address.startswith(start) else None
