"""Read the list of a tar file that anyone may have made. Nothing of it is ever written to a disk."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fourd.index.scan import EXTENSIONS

MAX_MEMBERS = 2**20
"""The most members of a tar file that are looked at. Not from the paper."""

MAX_MEMBER_BYTES = 2**30
"""The largest member of a tar file, which is read into memory to be checked. Not from the paper."""

_CHUNK_BYTES = 2**20


@dataclass(frozen=True)
class Member:
    """Say where in the file a film lies."""

    name: str
    offset: int
    num_bytes: int


@dataclass(frozen=True)
class Refused:
    """Name a member that is not read, and why; or the file itself, by an empty name."""

    name: str
    reason: str


def read_members(path: Path) -> list[Member | Refused]:
    """List the films of an uncompressed tar file, and what is refused; other members (labels, texts) are passed over.

    Only headers are read: a tar file's own words of where things are, none of which is taken for true. They may ask for
    any amount of time and memory, so call this in a process with limits. Raises: OSError where it cannot be read.
    """
    found: list[Member | Refused] = []
    names: set[str] = set()
    try:
        with tarfile.open(path, "r:", errors="backslashreplace") as tar:
            for member in _members(tar, path, found):
                found += _judged(member, names, path.stat().st_size)
    except (tarfile.TarError, ValueError, RecursionError) as error:
        found.append(Refused("", f"no tar file, a compressed one, or damaged: {error}"))
    return found


def _members(tar: tarfile.TarFile, path: Path, found: list[Member | Refused]) -> Iterator[tarfile.TarInfo]:
    """Give one member after the other, up to the end, to damage, or to the most that are looked at."""
    num_bytes = path.stat().st_size
    for _ in range(MAX_MEMBERS):
        member = tar.next()
        if member is None:
            found += _why_ended(path, tar.offset)  # type: ignore[attr-defined] # typeshed does not know it
            return
        tar.members.clear()  # type: ignore[attr-defined] # tarfile keeps them all
        yield member
        if not member.offset < tar.offset <= num_bytes:  # type: ignore[attr-defined]
            found.append(Refused("", "a header leads backwards or beyond the end: what follows is not looked at"))
            return
    found.append(Refused("", f"more than {MAX_MEMBERS} members: the rest is not looked at"))


def _why_ended(path: Path, offset: int) -> list[Refused]:
    """Tell a true end, which is zeros alone, from damage, at which Python's reader ends without a word."""
    with path.open("rb") as file:
        file.seek(offset)
        header = file.read(tarfile.BLOCKSIZE)
        if len(header) < tarfile.BLOCKSIZE:
            return [Refused("", "it ends without the mark of its end: cut off?")]
        if any(header):
            return [Refused("", f"the header at byte {offset} is damaged: what follows is not looked at")]
        while chunk := file.read(_CHUNK_BYTES):
            if chunk.strip(b"\0"):
                return [Refused("", "something follows its end (tar files put together?), which no reader sees")]
    return []


def _judged(member: tarfile.TarInfo, names: set[str], num_bytes: int) -> list[Member | Refused]:
    """Give a member as a film, as refused, or not at all."""
    if member.isdir():
        return []
    name = _printable(member.name)
    stem, dot, suffix = str(PurePosixPath(member.name)).rpartition(".")
    key = f"{stem}{dot}{suffix.lower()}"
    reason = _why_refused(member, num_bytes) or ("its name stands twice in the file" if key in names else "")
    names.add(key)
    if reason:
        return [Refused(name, reason)]
    is_film = PurePosixPath(member.name).suffix.lower() in EXTENSIONS
    return [Member(name, member.offset_data, member.size)] if is_film else []


def _why_refused(member: tarfile.TarInfo, num_bytes: int) -> str:
    if ".." in PurePosixPath(member.name).parts or member.name.startswith("/") or "\\" in member.name:
        return "its name leads out of the folder"
    if not member.isreg() or member.issparse():
        return "not a plain file (a link, a device, with holes)"
    if not 0 <= member.size <= MAX_MEMBER_BYTES:
        return f"{member.size} bytes: expected at most {MAX_MEMBER_BYTES}"
    if member.offset_data + member.size > num_bytes:
        return "it reaches beyond the end of the file: cut off?"
    return ""


def _printable(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()
