"""Whether sources have films that a corpus was not made of."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from fourd.index.films import FilmIndex
from fourd.index.scan import find_files


def tell_added(sources: Sequence[str], films: Path) -> int | None:
    """Count the films that `sources` have now and the index `films` lacks, and tell of them on the error stream.

    None where the sources cannot be searched, which is told as well: a finished corpus needs them no more.
    """
    try:
        count = _num_added(sources, FilmIndex(films))
    except OSError as error:
        _tell(f"whether films were added since is not known: the sources cannot be searched ({error})")
        return None
    if count:
        _tell(
            f"{'1 film was' if count == 1 else f'{count} films were'} added to the sources since this corpus was begun "
            "and not to it: prepare them in a new --out, and train on both as a mixture"
        )
    return count


def _num_added(sources: Sequence[str], index: FilmIndex) -> int:
    known = {_address(index.root, path) for group in index.table.groups(["path"]) for path in group["path"].to_pylist()}
    found = find_files(sources)
    return sum(file.reason is None and _address(found.root, file.path) not in known for file in found)


def _address(root: str, path: str) -> str:
    return f"{root.rstrip('/')}/{path}"


def _tell(text: str) -> None:
    print(f"note: {text}", file=sys.stderr, flush=True)
