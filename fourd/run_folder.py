"""A run's folder: whose it is, and what it could not read."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

from fourd import provenance
from fourd.types import Unreadable


def claim(
    out: Path, config: object, free_to_change: Sequence[str] = (), inputs: Mapping[str, str] | None = None
) -> None:
    """Take a folder for a run, or take it up again; raise ValueError if it holds another run.

    inputs: fingerprints of what the config only names, such as files; they must be the same as before.
    Fields named in `free_to_change` (dotted; `*` stands for any part) may differ from the earlier call's: they change
    nothing of the result. The environment of the first call is kept; later ones are added to `restarts.jsonl`.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file: name a folder")
    out.mkdir(parents=True, exist_ok=True)
    for name, value in (("config.json", provenance.describe(config)), ("inputs.json", dict(inputs or {}))):
        _require_same(out / name, value, free_to_change)
        provenance.write_json(out / name, value)
    if (out / "environment.json").exists():
        with (out / "restarts.jsonl").open("a") as file:
            file.write(json.dumps(provenance.environment()) + "\n")
    else:
        provenance.write_json(out / "environment.json", provenance.environment())


def _require_same(path: Path, now: object, free_to_change: Sequence[str]) -> None:
    if not path.exists():
        return
    free = [pattern for name in free_to_change for pattern in (name, f"{name}.*")]
    differences = _differences(json.loads(path.read_text()), now)
    differing = [name for name in differences if not any(fnmatch(name, pattern) for pattern in free)]
    if differing:
        raise ValueError(
            f"{path} belongs to another run: {', '.join(differing[:4])} differ. "
            f"Give this run its own --out, or delete {path.parent}"
        )


def _differences(earlier: object, now: object, path: str = "") -> list[str]:
    """List the dotted paths at which two descriptions are not the same."""
    if isinstance(earlier, dict) and isinstance(now, dict):
        names = sorted(earlier.keys() | now.keys())
        nested = [_differences(earlier.get(n), now.get(n), f"{path}.{n}" if path else n) for n in names]
        return [name for part in nested for name in part]
    if isinstance(earlier, list) and isinstance(now, list) and len(earlier) == len(now):
        pairs = enumerate(zip(earlier, now, strict=True))
        return [name for place, (one, other) in pairs for name in _differences(one, other, f"{path}.{place}")]
    return [] if earlier == now else [path]


def list_unreadable(out: Path, found: Sequence[Unreadable]) -> None:
    """Add to `unreadable.csv` what it does not list yet; the file is there even when it lists nothing."""
    path = out / "unreadable.csv"
    if path.exists() and not found:
        return
    listed = {item.path: item.reason for item in (*read_unreadable(out), *found)}
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with aside.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "reason"])
        writer.writerows(sorted(listed.items()))
    os.replace(aside, path)


def read_unreadable(out: Path) -> list[Unreadable]:
    """Read what `unreadable.csv` lists; nothing where there is none."""
    path = out / "unreadable.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [Unreadable(row["path"], row["reason"]) for row in csv.DictReader(file)]
