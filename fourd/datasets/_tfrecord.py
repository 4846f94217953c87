"""TFRecord files and the examples in them, without TensorFlow: a few bytes are read to find what is asked for.

A file is a row of records: a length of eight bytes, its checksum, the data, their checksum. The data are a
`tf.train.Example`, a protocol buffer that maps names to lists of bytes, of float32 or of int64. Records are long, and
most of what they hold is not asked for, so that nothing is read before it is.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from fourd.media import UnreadableVideo

Kind = Literal["bytes", "floats", "ints"]
_HEADER = struct.Struct("<QI")
_FOOTER_BYTES = 4
_KINDS: dict[int, Kind] = {1: "bytes", 2: "floats", 3: "ints"}
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10
_LONGEST_NAME = 1000


# ----------------------------------------------------------------------------- records


@dataclass(frozen=True)
class Record:
    """Say where a record's data stand in its file."""

    path: Path
    offset: int
    num_bytes: int


def find_records(path: Path) -> tuple[Record, ...]:
    """Find all records of a file by their lengths, each of which is checked by its checksum.

    The data's own checksums are not looked at: that would read every byte.
    Raises: UnreadableVideo where a length is wrong or the file ends within a record; OSError where reading failed.
    """
    size = path.stat().st_size
    records = []
    with path.open("rb", buffering=0) as file:
        while (start := file.tell()) < size:
            records.append(_next_record(file, path, start, size))
    if not records:
        raise UnreadableVideo(str(path), "an empty file, expected records: get it again")
    return tuple(records)


def _next_record(file: BinaryIO, path: Path, start: int, size: int) -> Record:
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        raise UnreadableVideo(str(path), f"cut off within the length of the record at byte {start}: get it again")
    length, checksum = _HEADER.unpack(header)
    if masked_crc32c(header[:8]) != checksum:
        found = f"record at byte {start}: its length is {length}, which its checksum does not fit"
        raise UnreadableVideo(str(path), f"{found}: no TFRecord file, or damaged: get it again")
    end = start + _HEADER.size + length + _FOOTER_BYTES
    if end > size:
        expected = f"record at byte {start} should end at {end}, the file ends at {size}"
        raise UnreadableVideo(str(path), f"{expected}: cut off, get it again")
    file.seek(end)
    return Record(path, start + _HEADER.size, length)


def masked_crc32c(data: bytes) -> int:
    """Compute the checksum of a few bytes as TFRecord stores it: turned by 15 bits, plus a constant.

    Slow: byte by byte.
    """
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC_TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _crc_of_byte(byte: int) -> int:
    for _ in range(8):
        byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
    return byte


_CRC_TABLE = tuple(_crc_of_byte(byte) for byte in range(256))


# ----------------------------------------------------------------------------- examples


@dataclass(frozen=True)
class _Span:
    """Say where bytes of a file stand."""

    offset: int
    num_bytes: int

    @property
    def end(self) -> int:
        """Say where they end."""
        return self.offset + self.num_bytes


class Example:
    """Give the features of a record by their names; what is not asked for is not read.

    Raises: UnreadableVideo, naming the file and the feature, where one is not there, is of another kind, or has
    another number of values than is asked for; OSError where reading failed.
    """

    def __init__(self, record: Record) -> None:
        """Find where each feature stands."""
        self.record = record
        with self._opened() as file:
            self._features = dict(self._find(file))

    @property
    def names(self) -> tuple[str, ...]:
        """Name the features."""
        return tuple(self._features)

    def floats(self, name: str, shape: tuple[int, ...]) -> Float32[np.ndarray, "..."]:
        """Read float32 values; at most one side of `shape` may be -1."""
        with self._opened() as file:
            parts = [self._float32(_read(file, span), name) for span in self._values(file, name, "floats")]
        return self._shaped(np.concatenate(parts) if parts else np.empty(0, np.float32), name, shape)

    def ints(self, name: str, shape: tuple[int, ...]) -> Int64[np.ndarray, "..."]:
        """Read int64 values; at most one side of `shape` may be -1."""
        with self._opened() as file:
            parts = [self._varints(_read(file, span), name) for span in self._values(file, name, "ints")]
        return self._shaped(np.concatenate(parts) if parts else np.empty(0, np.int64), name, shape)

    def blobs(self, name: str, places: Sequence[int]) -> list[bytes]:
        """Read some of a feature's values that are bytes, by their places."""
        with self._opened() as file:
            spans = self._values(file, name, "bytes")
            if max(places) >= len(spans):
                raise self._error(name, f"{len(spans)} values", f"more than {max(places)}")
            return [_read(file, spans[place]) for place in places]

    def count(self, name: str) -> int:
        """Count the values of a feature that are bytes."""
        with self._opened() as file:
            return len(self._values(file, name, "bytes"))

    # ------------------------------------------------------------------------- within

    def _opened(self) -> BinaryIO:
        return self.record.path.open("rb", buffering=2**12)

    def _find(self, file: BinaryIO) -> Iterator[tuple[str, tuple[Kind, _Span]]]:
        """Go through Example.features.feature, a map from names to features."""
        whole = _Span(self.record.offset, self.record.num_bytes)
        for features in self._fields(file, whole):
            for entry in self._fields(file, features):
                name, feature = "", None
                for number, span in self._all_fields(file, entry):
                    if number == 1 and span.num_bytes <= _LONGEST_NAME:
                        name = _read(file, span).decode(errors="replace")
                    elif number == 2:
                        feature = span
                for number, span in self._all_fields(file, feature) if feature else ():
                    if number in _KINDS:
                        yield name, (_KINDS[number], span)

    def _values(self, file: BinaryIO, name: str, kind: Kind) -> list[_Span]:
        """Find the values of a feature, singly or packed together as the writer pleased."""
        found, span = self._features.get(name, (None, None))
        if found != kind or span is None:
            raise self._error(name, "a list of " + found if found else "none", f"a list of {kind}")
        return list(self._fields(file, span))

    def _fields(self, file: BinaryIO, span: _Span) -> Iterator[_Span]:
        """Go through the values of a message's first field, the only one of most of these messages."""
        for number, inner in self._all_fields(file, span):
            if number == 1:
                yield inner

    def _all_fields(self, file: BinaryIO, span: _Span) -> Iterator[tuple[int, _Span]]:
        """Go through the fields of a message; each says its number, and where its value stands."""
        place = span.offset
        while place < span.end:
            file.seek(place)
            tag = self._varint(file, span)
            number, wire = tag >> 3, tag & 7
            inner = self._span(file, wire, span)
            if inner.end > span.end:
                raise self._damage(f"field {number} at byte {place} ends after what it is a part of")
            yield number, inner
            place = inner.end

    def _span(self, file: BinaryIO, wire: int, around: _Span) -> _Span:
        if wire == _LENGTH:
            length = self._varint(file, around)
            return _Span(file.tell(), length)
        start = file.tell()
        if wire == _VARINT:
            self._varint(file, around)
            return _Span(start, file.tell() - start)
        if wire in (_FIXED32, _FIXED64):
            return _Span(start, 4 if wire == _FIXED32 else 8)
        raise self._damage(f"a field of wire type {wire} at byte {start}")

    def _varint(self, file: BinaryIO, around: _Span) -> int:
        start, value = file.tell(), 0
        for place in range(min(_LONGEST_VARINT, around.end - start)):
            byte = file.read(1)
            if not byte:
                break
            value |= (byte[0] & 0x7F) << (7 * place)
            if byte[0] < 0x80:
                return value
        raise self._damage(f"a number at byte {start} that does not end")

    def _float32(self, data: bytes, name: str) -> Float32[np.ndarray, " n"]:
        if len(data) % 4:
            raise self._damage(f"feature {name!r} holds {len(data)} bytes of float32")
        return np.frombuffer(data, "<f4").astype(np.float32)

    def _varints(self, data: bytes, name: str) -> Int64[np.ndarray, " n"]:
        """Decode numbers of seven bits a byte, the lowest first; the last byte of each is below 128."""
        stored: UInt8[np.ndarray, " m"] = np.frombuffer(data, np.uint8)
        ends = np.flatnonzero(stored < 0x80)
        lengths = np.diff(ends, prepend=-1)
        if len(stored) and (not len(ends) or ends[-1] != len(stored) - 1 or lengths.max() > _LONGEST_VARINT):
            raise self._damage(f"feature {name!r} holds a number that does not end")
        values = np.zeros(len(ends), np.uint64)
        for place in range(int(lengths.max()) if len(lengths) else 0):
            has = lengths > place
            digits = stored[ends[has] - lengths[has] + 1 + place].astype(np.uint64) & np.uint64(0x7F)
            values[has] |= digits << np.uint64(7 * place)
        return values.astype(np.int64)

    def _shaped(self, values: np.ndarray, name: str, shape: tuple[int, ...]) -> np.ndarray:
        known = int(np.prod([side for side in shape if side >= 0]))
        fits = len(values) % known == 0 if -1 in shape and known else len(values) == known
        if not fits:
            raise self._error(name, f"{len(values)} values", f"as many as fit {shape}")
        return values.reshape(shape) if len(values) else values.reshape([max(side, 0) for side in shape])

    def _error(self, name: str, found: str, expected: str) -> UnreadableVideo:
        where = f"{os.fspath(self.record.path)}[byte {self.record.offset}]"
        return UnreadableVideo(where, f"feature {name!r}: found {found}, expected {expected}")

    def _damage(self, what: str) -> UnreadableVideo:
        where = f"{os.fspath(self.record.path)}[byte {self.record.offset}]"
        return UnreadableVideo(where, f"{what}: no tf.train.Example, or damaged: get the file again")


def _read(file: BinaryIO, span: _Span) -> bytes:
    file.seek(span.offset)
    return file.read(span.num_bytes)
