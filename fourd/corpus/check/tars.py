"""Read the list of a tar file that anyone may have made. Nothing of it is ever written to a disk."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fourd.index.scan import EXTENSIONS

MAX_MEMBERS = 2**20
"""The most members of a tar file that are looked at. Not from the paper."""

MAX_MEMBER_BYTES = 2**32
"""The largest film in a tar file. Not from the paper."""


@dataclass(frozen=True)
class Member:
    """Say where in the file a film lies."""

    name: str
    offset: int
    num_bytes: int


@dataclass(frozen=True)
class Refused:
    """Name a member that is not read, and why."""

    name: str
    reason: str


def read_members(path: Path) -> list[Member | Refused]:
    """List the films of an uncompressed tar file, and what is refused; other members (labels, texts) are passed over.

    Raises: ValueError where the file is no tar file, or a compressed one.
    """
    found: list[Member | Refused] = []
    names: set[str] = set()
    try:
        with tarfile.open(path, "r:") as tar:
            for member in _members(tar, found):
                reason = _why_refused(member, names, path.stat().st_size)
                names.add(member.name)
                if reason:
                    found.append(Refused(_printable(member.name), reason))
                elif PurePosixPath(member.name).suffix.lower() in EXTENSIONS:
                    found.append(Member(_printable(member.name), member.offset_data, member.size))
    except tarfile.ReadError as error:
        raise ValueError(
            f"{path} is no tar file, or a compressed one ({error}): expected an uncompressed one"
        ) from error
    return found


def _members(tar: tarfile.TarFile, found: list[Member | Refused]) -> Iterator[tarfile.TarInfo]:
    """Give one member after the other, up to the end, to damage, or to the most that are looked at."""
    for _ in range(MAX_MEMBERS):
        try:
            member = tar.next()
        except (tarfile.TarError, OSError, ValueError) as error:
            found.append(Refused("", f"the list of members is damaged: {error}"))
            return
        if member is None:
            return
        tar.members.clear()  # type: ignore[attr-defined] # tarfile keeps them all
        yield member
    found.append(Refused("", f"more than {MAX_MEMBERS} members: the rest is not looked at"))


def _why_refused(member: tarfile.TarInfo, names: set[str], num_bytes: int) -> str:
    if member.isdir():
        return ""
    if ".." in PurePosixPath(member.name).parts or member.name.startswith("/"):
        return "its name leads out of the folder"
    if not member.isreg() or member.issparse():
        return "not a plain file (a link, a device, with holes)"
    if member.name in names:
        return "its name stands twice in the file"
    if member.size > MAX_MEMBER_BYTES:
        return f"{member.size} bytes: expected at most {MAX_MEMBER_BYTES}"
    if member.offset_data + member.size > num_bytes:
        return "it reaches beyond the end of the file: cut off?"
    return ""


def _printable(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()
