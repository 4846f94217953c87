"""What a checkpoint says of itself: its step, its files' digests, and a digest of that."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAME = "manifest.json"


def write(folder: Path, content: Mapping[str, Any]) -> None:
    """Write the manifest of a folder, and force it to the disk."""
    with (folder / NAME).open("w") as file:
        file.write(_text(content))
        file.flush()
        os.fsync(file.fileno())


def read(folder: Path) -> dict[str, Any]:
    """Read the manifest of a folder; raise ValueError where it is missing or any byte of it is another."""
    path = folder / NAME
    if not path.is_file():
        raise ValueError(f"no {NAME}")
    text = path.read_bytes()
    try:
        content = json.loads(text)["manifest"]
        same = _text(content).encode() == text
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{NAME} is not what was written: {error!r}") from error
    if not same:
        raise ValueError(f"{NAME} has changed since it was written")
    found: dict[str, Any] = content
    return found


def digest(path: Path) -> str:
    """Take the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _text(content: Mapping[str, Any]) -> str:
    own = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return json.dumps({"manifest": content, "sha256": own}, indent=1, sort_keys=True) + "\n"
