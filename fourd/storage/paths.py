"""Paths that stay below their root."""

from __future__ import annotations

from pathlib import PurePosixPath


def checked_relative(path: str, owner: str) -> str:
    """Give a path that is written relative to a root; raise ValueError, naming `owner`, where it leaves that root."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\0" in path:
        raise ValueError(f"{owner}: path {path!r} leaves its root; expected one below it, without '..'")
    return path
