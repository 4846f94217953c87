"""Look into pickled NumPy arrays without running what a pickle says, and without reading the arrays.

A pickle is a program. Here no name in it is ever looked up or called: the few steps that dictionaries, lists, numbers,
texts and NumPy arrays need are taken by a small machine, and everything else is refused. What is large stays in the
file: of an array only its place is kept, so that a file of gigabytes is listed at once and a clip reads its own frames.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fourd.media import UnreadableVideo


@dataclass(frozen=True)
class StoredBytes:
    """Say where bytes stand in a file."""

    offset: int
    length: int

    def read(self, path: Path) -> bytes:
        """Read them."""
        with path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.length)


@dataclass
class StoredArray:
    """Say where an array stands in a file; an array of objects (`dtype` None) has them in `data`."""

    shape: tuple[int, ...] = ()
    dtype: np.dtype[Any] | None = None
    data: StoredBytes | list[Any] | None = None
    by_column: bool = False

    def read(self, path: Path, where: Any = ...) -> np.ndarray:
        """Copy a part of it into memory, chosen as NumPy chooses; the rest is not read."""
        if self.dtype is None or not isinstance(self.data, StoredBytes):
            raise TypeError(f"{path}: an array of objects cannot be read as numbers")
        if not self.data.length:
            return np.zeros(self.shape, self.dtype)[where]
        order: Any = "F" if self.by_column else "C"
        try:
            stored = np.memmap(path, self.dtype, "r", self.data.offset, self.shape, order)
        except ValueError as error:  # the file ends before the array does
            raise UnreadableVideo(str(path), f"it was cut off or changed while it was in use ({error})") from error
        return np.array(stored[where])


def look_into(path: Path, offset: int = 0) -> Any:
    """List what a pickle holds: dictionaries, lists, tuples, numbers and texts, with `StoredArray` for each array.

    offset: where in the file it begins. Bytes come as `StoredBytes`.
    Raises: UnreadableVideo for a pickle that holds anything else, or is cut off; OSError where reading failed.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(offset)
        try:
            return _Machine(file, size).run()
        except _RefusedError as error:
            raise UnreadableVideo(str(path), str(error)) from error
        except (LookupError, TypeError, ValueError, AttributeError, struct.error) as error:
            reason = f"not a pickle that can be followed, at byte {file.tell()} of {size} ({error!r}): get it again"
            raise UnreadableVideo(str(path), reason) from error


class _RefusedError(Exception):
    """Say why a pickle is not followed."""


# ----------------------------------------------------------------------------- what NumPy's pickles are made of


@dataclass
class _Dtype:
    """Hold a type of numbers, whose byte order comes later."""

    code: str
    order: str = "|"

    def build(self, state: Any) -> None:
        self.order = state[1]

    def resolve(self) -> np.dtype[Any] | None:
        """Give NumPy's type; None for objects."""
        if self.code in ("O", "O8"):
            return None
        if not re.fullmatch(r"[biuf][1248]|S[1-9][0-9]*", self.code) or self.order not in ("<", ">", "|", "="):
            raise _RefusedError(f"an array of type {self.order}{self.code}: expected numbers or bytes")
        return np.dtype(self.code if self.order == "|" else self.order + self.code)


class _PendingArray(StoredArray):
    """An array that NumPy makes empty and fills afterwards."""

    def build(self, state: Any) -> None:
        version, shape, dtype, by_column, data = state
        if version != 1:
            raise _RefusedError(f"an array in version {version} of NumPy's form: expected 1")
        _fill(self, shape, dtype, data, by_column)


def _fill(array: StoredArray, shape: Any, dtype: _Dtype, data: Any, by_column: bool) -> None:
    array.shape, array.dtype, array.data, array.by_column = tuple(shape), dtype.resolve(), data, bool(by_column)
    if not all(isinstance(side, int) and side >= 0 for side in array.shape):
        raise _RefusedError(f"an array of shape {array.shape}: expected whole numbers from 0")
    if array.dtype is not None:
        wanted = math.prod(array.shape) * array.dtype.itemsize
        if data.length != wanted:
            raise _RefusedError(f"an array of shape {array.shape} with {data.length} bytes: expected {wanted}")


def _new_array(*_: Any) -> _PendingArray:
    return _PendingArray()


def _new_dtype(code: str, *_: Any) -> _Dtype:
    return _Dtype(code)


def _from_buffer(data: StoredBytes, dtype: _Dtype, shape: Any, order: str) -> StoredArray:
    array = StoredArray()
    _fill(array, shape, dtype, data, order == "F")
    return array


class _ArrayType:
    """Stand for `numpy.ndarray`, which a pickle names and never calls."""


_NAMES: dict[tuple[str, str], Any] = {("numpy", "ndarray"): _ArrayType, ("numpy", "dtype"): _new_dtype}
for _core in ("numpy.core", "numpy._core"):  # before and since NumPy 2
    _NAMES[_core + ".multiarray", "_reconstruct"] = _new_array
    _NAMES[_core + ".numeric", "_frombuffer"] = _from_buffer
_CALLED = (_new_array, _new_dtype, _from_buffer)

# ----------------------------------------------------------------------------- the machine

_NUMBERS = {b"K": "<B", b"M": "<H", b"J": "<i", b"G": ">d"}
_TEXTS = {b"\x8c": "<B", b"X": "<I", b"\x8d": "<Q"}
_BYTES = {b"C": "<B", b"B": "<I", b"\x8e": "<Q", b"\x96": "<Q"}
_SKIPPED = {b"\x80": 1, b"\x95": 8}  # the protocol's number, the length of a frame
_CONSTANTS = {b"N": None, b"\x88": True, b"\x89": False}
_TUPLES = {b")": 0, b"\x85": 1, b"\x86": 2, b"\x87": 3}
_PUTS, _GETS = {b"q": "<B", b"r": "<I"}, {b"h": "<B", b"j": "<I"}
_LONGEST_TEXT = 2**16


class _Machine:
    """Follow a pickle, step by step."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size = file, size
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """Follow it to its end and give what it makes."""
        while (step := self._take(1)) != b".":
            if not (self._constant(step) or self._memory(step)):
                self._special(step)
        return self.stack.pop()

    def _constant(self, step: bytes) -> bool:
        """Push what stands in the file."""
        if step in _NUMBERS:
            self.stack.append(self._number(_NUMBERS[step]))
        elif step in _TEXTS:
            self.stack.append(self._text(self._number(_TEXTS[step])))
        elif step in _BYTES:
            self.stack.append(self._skip(self._number(_BYTES[step])))
        elif step in _CONSTANTS:
            self.stack.append(_CONSTANTS[step])
        elif step == b"\x8a":
            self.stack.append(int.from_bytes(self._take(self._number("<B")), "little", signed=True))
        else:
            return False
        return True

    def _memory(self, step: bytes) -> bool:
        """Remember, recall, or pass over."""
        if step in _PUTS:
            self.memo[self._number(_PUTS[step])] = self.stack[-1]
        elif step == b"\x94":
            self.memo[len(self.memo)] = self.stack[-1]
        elif step in _GETS:
            self.stack.append(self.memo[self._number(_GETS[step])])
        elif step in _SKIPPED:
            self._take(_SKIPPED[step])
        elif step in _TUPLES:
            self._gather(len(self.stack) - _TUPLES[step])
        else:
            return False
        return True

    def _special(self, step: bytes) -> None:
        if step not in _STEPS:
            raise _RefusedError(
                f"a pickle with the step {step!r}, which no array needs: expected protocol 3 to 5; "
                "for an older one, load it where you trust it and pickle it again with protocol 4"
            )
        _STEPS[step](self)

    def _mark(self) -> None:
        self.marks.append(len(self.stack))

    def _since_mark(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _gather(self, start: int) -> None:
        if start < 0:
            raise ValueError("a tuple of more than there is")
        items = tuple(self.stack[start:])
        self.stack[start:] = [items]

    def _append(self) -> None:
        item = self.stack.pop()
        self._target(list).append(item)

    def _extend(self) -> None:
        items = self._since_mark()
        self._target(list).extend(items)

    def _set(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._target(dict)[key] = value

    def _set_all(self) -> None:
        items = self._since_mark()
        self._target(dict).update(zip(items[::2], items[1::2], strict=True))

    def _target(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise _RefusedError(f"a pickle that fills a {type(self.stack[-1]).__name__}: expected a {kind.__name__}")
        return self.stack[-1]

    def _old_name(self) -> None:
        module, name = (self.file.readline(_LONGEST_TEXT).decode().rstrip("\n") for _ in range(2))
        self._push_name(module, name)

    def _name(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self._push_name(module, name)

    def _push_name(self, module: str, name: str) -> None:
        if (module, name) not in _NAMES:
            raise _RefusedError(
                f"a pickle that names {module}.{name}, which no array needs: it is not loaded, since it could run "
                "anything. Get the file from its official address"
            )
        self.stack.append(_NAMES[module, name])

    def _call(self) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        if called not in _CALLED:
            raise _RefusedError(f"a pickle that calls {called!r}: expected an array or its type")
        self.stack.append(called(*arguments))

    def _build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], _PendingArray | _Dtype):
            raise _RefusedError(f"a pickle that sets the state of a {type(self.stack[-1]).__name__}: expected an array")
        self.stack[-1].build(state)

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _text(self, length: int) -> str:
        if length > _LONGEST_TEXT:
            raise _RefusedError(
                f"a text of {length} bytes: expected names; pickles before protocol 3 hold arrays as text"
            )
        return self._take(length).decode()

    def _take(self, length: int) -> bytes:
        data = self.file.read(length)
        if len(data) < length:
            raise _RefusedError(f"cut off at byte {self.size}: get it again")
        return data

    def _skip(self, length: int) -> StoredBytes:
        offset = self.file.tell()
        if offset + length > self.size:
            raise _RefusedError(
                f"cut off: {length} bytes should follow byte {offset}, the file ends at {self.size}: get it again"
            )
        self.file.seek(length, 1)
        return StoredBytes(offset, length)


_STEPS: dict[bytes, Callable[[_Machine], None]] = {
    b"(": _Machine._mark,
    b"t": lambda machine: machine._gather(machine.marks.pop()),
    b"}": lambda machine: machine.stack.append({}),
    b"]": lambda machine: machine.stack.append([]),
    b"a": _Machine._append,
    b"e": _Machine._extend,
    b"s": _Machine._set,
    b"u": _Machine._set_all,
    b"c": _Machine._old_name,
    b"\x93": _Machine._name,
    b"R": _Machine._call,
    b"b": _Machine._build,
}
