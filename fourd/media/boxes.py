"""What an MP4 claims about itself, read from its boxes before a decoder believes it and asks for the memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, runtime_checkable

import numpy as np

from fourd.media import limits

_PARENTS = frozenset((b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"))

_PLACE_OF_COUNT = {b"stsz": 8, b"stz2": 8, b"trun": 4}
"""At which byte of its content a box says how many samples there are, all of which a decoder makes room for."""


@runtime_checkable
class BinaryFile(Protocol):
    """Name what is needed of a file that is read."""

    def read(self, size: int = -1, /) -> bytes:
        """Read up to `size` bytes; none at the end."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a byte."""

    def tell(self) -> int:
        """Say at which byte the file stands."""


@dataclass(frozen=True)
class Box:
    """Name a box, and the bytes of the file that are its content."""

    name: bytes
    start: int
    stop: int


class TooManyBoxes(Exception):  # noqa: N818 - it names the thing, and `open_bytes` makes it the film's fault
    """Say that a file holds more boxes than are looked at."""


def boxes(file: BinaryFile, stop: int) -> Iterator[Box]:
    """Give the boxes that lie one behind the other up to byte `stop`, of which at most `limits.MAX_BOXES`.

    A file that is no MP4 soon gives none.
    """
    return islice(_boxes(file, file.tell(), stop), limits.MAX_BOXES)


def _boxes(file: BinaryFile, start: int, stop: int) -> Iterator[Box]:
    while start + 8 <= stop:
        file.seek(start)
        header = file.read(16)
        if len(header) < 8:
            return
        size, content = int.from_bytes(header[:4]), start + 8
        if size == 1 and len(header) == 16:  # the size follows as a 64-bit number
            size, content = int.from_bytes(header[8:]), start + 16
        yield Box(header[4:8], content, stop if size == 0 else min(start + size, stop))
        if size < content - start:  # the box reaches to the end, or this is no MP4
            return
        start += size


_BOXES_PER_FRAGMENT = 8
"""A fragment has about so many, in itself and beside it: a film may have some `limits.MAX_BOXES` fragments."""


class _Walk:
    """Look at the boxes of one file, and count each look."""

    def __init__(self, file: BinaryFile) -> None:
        self.file, self._most, self._num_seen = file, _BOXES_PER_FRAGMENT * limits.MAX_BOXES, 0

    def inside(self, parent: Box) -> Iterator[Box]:
        """Give the boxes in a box; raise TooManyBoxes where those of the file never end."""
        for box in _boxes(self.file, parent.start, parent.stop):
            self._num_seen += 1
            if self._num_seen > self._most:
                raise TooManyBoxes(f"more than {self._most} boxes: write it again, with fewer fragments")
            yield box

    def descend(self, parent: Box, names: Sequence[bytes]) -> Box | None:
        """Find a box by the names of those that it lies in."""
        found: Box | None = parent
        for name in names:
            found = found and next((box for box in self.inside(found) if box.name == name), None)
        return found

    def content(self, box: Box, start: int, num_bytes: int) -> bytes:
        """Read some bytes of a box."""
        self.file.seek(box.start + start)
        return self.file.read(num_bytes)


def claims(file: BinaryFile, num_bytes: int) -> tuple[int, int]:
    """Give how many samples an MP4's tracks and fragments claim in all, and the largest in bytes; 0 for other files.

    Sound that is kept in chunks, one sample for each instant (PCM), needs no room for each and is left out.
    Raises: TooManyBoxes where more boxes would have to be looked at than a film may have, in which claims could hide.
    """
    found = list(_claims(_Walk(file), Box(b"", 0, num_bytes), 0))
    return sum(count for count, _ in found), max((size for _, size in found), default=0)


def _claims(walk: _Walk, parent: Box, depth: int) -> Iterator[tuple[int, int]]:
    for box in walk.inside(parent):
        if box.name == b"trak" and _is_plain_sound(walk, box):
            continue
        if box.name in _PARENTS and depth < len(_PARENTS):
            yield from _claims(walk, box, depth + 1)
        elif box.name in _PLACE_OF_COUNT:
            count = int.from_bytes(walk.content(box, _PLACE_OF_COUNT[box.name], 4))
            yield count, _largest_size(walk.file, box, count) if box.name == b"stsz" else 0


def _is_plain_sound(walk: _Walk, track: Box) -> bool:
    """Tell whether a track is sound of which each sample lasts one tick, for which decoders list chunks alone."""
    handler = walk.descend(track, (b"mdia", b"hdlr"))
    times = walk.descend(track, (b"mdia", b"minf", b"stbl", b"stts"))
    if handler is None or times is None or walk.content(handler, 8, 4) != b"soun":
        return False
    num_entries, duration = walk.content(times, 4, 4), walk.content(times, 12, 4)
    return int.from_bytes(num_entries) == int.from_bytes(duration) == 1


def _largest_size(file: BinaryFile, box: Box, count: int) -> int:
    """Read the largest size in a list of sizes."""
    file.seek(box.start + 4)
    same_for_all = int.from_bytes(file.read(4))
    file.seek(box.start + 12)
    listed = file.read(4 * min(count, limits.MAX_PACKETS, (box.stop - box.start - 12) // 4))
    sizes = np.frombuffer(listed[: len(listed) // 4 * 4], ">u4")
    return same_for_all or int(sizes.max(initial=0))


_SEGMENT = b"\x18\x53\x80\x67"


def is_cut_matroska(file: BinaryFile, num_bytes: int) -> bool:
    """Tell whether a file is a Matroska one that ends before the end that it states."""
    head = file.read(256)
    start = head.find(_SEGMENT) + len(_SEGMENT)
    if not head.startswith(b"\x1a\x45\xdf\xa3") or not len(_SEGMENT) <= start < len(head) or not head[start]:
        return False
    num_digits = 9 - head[start].bit_length()
    bits = int.from_bytes(head[start : start + num_digits])
    most = 2 ** (7 * num_digits) - 1
    size = bits & most
    return size != most and start + num_digits + size > num_bytes  # all ones: a stream of unknown length
