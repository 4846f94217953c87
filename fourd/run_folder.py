"""A run's folder: whose it is, and what it could not read."""

from __future__ import annotations

import csv
import errno
import json
import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from filelock import FileLock, Timeout

from fourd import provenance
from fourd.types import Unreadable

log = logging.getLogger(__name__)

_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)
_IDENTITY = ("config.json", "inputs.json", "environment.json", "restarts.jsonl")


@contextmanager
def alone_in(out: Path) -> Iterator[None]:
    """Keep other processes out of a folder, which is made if need be.

    Raises ValueError naming the process that is at work there. The system lets go of a folder when its process ends,
    somehow.
    """
    lock, holder = FileLock(out / ".lock", timeout=0), out / ".holder"
    try:
        make(out)
        lock.acquire()
    except Timeout as error:
        by = holder.read_text().strip() if holder.exists() else "another process"
        raise ValueError(f"{by} is at work in {out}: wait for it, end it, or name another --out") from error
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise ValueError(
                f"--out {out} cannot be written to ({error}): let it be written to, or name another folder"
            ) from error
        log.warning("%s lies on a file system without locks (%s): see that no other process writes there", out, error)
    try:
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()} (since {since})\n")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def make(folder: Path, option: str = "--out") -> None:
    """Make a folder that can be written to, or raise ValueError that names the option."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{option} {folder} is a file: name a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{option} {folder} cannot be made ({error}): name another folder") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"{option} {folder} cannot be written to: let it be written to, or name another folder")


def claim(
    out: Path,
    config: object,
    free_to_change: Sequence[str] = (),
    inputs: Mapping[str, str] | None = None,
    *,
    nothing_done: bool = False,
) -> None:
    """Take a folder for a run, or take it up again; raise ValueError if it holds another run.

    inputs: fingerprints of what the config only names, such as files; they must be the same as before.
    Fields named in `free_to_change` (dotted; `*` stands for any part) may differ from the earlier call's: they change
    nothing of the result. The environment of the first call is kept; later ones are added to `restarts.jsonl`.
    nothing_done: an earlier call got nowhere, so that this one may be another run.
    """
    make(out)
    if nothing_done:
        for name in _IDENTITY:
            (out / name).unlink(missing_ok=True)
    described: dict[str, tuple[object, Sequence[str]]] = {
        "config.json": (provenance.describe(config), free_to_change),
        "inputs.json": (dict(inputs or {}), ()),  # a file may lie elsewhere, and must be the same
    }
    for name, (value, free) in described.items():
        _require_same(out / name, value, free)
    for name, (value, _) in described.items():
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
    differences = _differences(_completed(_read_json(path)), now)
    differing = {
        name: values for name, values in differences.items() if not any(fnmatch(name, pattern) for pattern in free)
    }
    if differing:
        told = [f"{name} was {_short(was)} and is {_short(now)}" for name, (was, now) in list(differing.items())[:4]]
        more = f", and {len(differing) - 4} more" if len(differing) > 4 else ""
        raise ValueError(
            f"{path} belongs to another run: {'; '.join(told)}{more}. Give the values of before, or give this run an "
            "--out of its own"
        )


def _read_json(path: Path) -> object:
    try:
        found = json.loads(path.read_text())
        if not isinstance(found, dict):
            raise ValueError(f"found a {type(found).__name__}")
        return found
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({error}): expected the JSON that an earlier call wrote. Put it back from a copy; or "
            "delete it, and the same command writes it anew and goes on, without a check that it is the same run"
        ) from error


def _completed(earlier: object) -> object:
    """Give a config that an earlier version wrote the fields that came since, at their defaults."""
    if not (isinstance(earlier, dict) and "type" in earlier):
        return earlier
    try:
        return provenance.describe(provenance.rebuild(earlier))
    except (TypeError, ValueError):  # of parts that are no more, or were never found from here: compared as written
        return earlier


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _differences(earlier: object, now: object, path: str = "") -> dict[str, tuple[object, object]]:
    """Give the dotted paths at which two descriptions are not the same, with both values."""
    if isinstance(earlier, dict) and isinstance(now, dict):
        names = sorted(earlier.keys() | now.keys())
        nested = [_differences(earlier.get(n), now.get(n), f"{path}.{n}" if path else n) for n in names]
        return {name: values for part in nested for name, values in part.items()}
    if isinstance(earlier, list) and isinstance(now, list) and len(earlier) == len(now):
        pairs = enumerate(zip(earlier, now, strict=True))
        return {
            name: values
            for place, (one, other) in pairs
            for name, values in _differences(one, other, f"{path}.{place}").items()
        }
    return {} if earlier == now else {path: (earlier, now)}


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
