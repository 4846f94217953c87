"""Watch tensors come and go while a step runs without numbers."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from fourd.planner.ledger import Book, Kind

_COLLECTIVES = {"c10d", "_c10d_functional", "fsdp"}
"""Libraries whose operations move weights and gradients between ranks."""
_CAST = torch.ops.aten._to_copy.default


class Watch(TorchDispatchMode):
    """Enter every storage that an operation makes into a book, within a `with` block inside of a fake mode."""

    def __init__(self, mode: FakeTensorMode) -> None:
        super().__init__()
        self.mode = mode
        self.phase = ""
        self._number: dict[int, int] = {}
        """The living storages, by address."""
        self._references: dict[int, weakref.ref[Any]] = {}
        self._bytes: list[int] = []
        self._born: list[str] = []
        self._kind: list[Kind | None] = []
        self._entries: list[tuple[int, int, str]] = []

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation and enter what it made. Those on sharded tensors come again, on the local parts."""
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented
        made = func(*args, **(kwargs or {}))
        kind: Kind | None = None
        if func.namespace in _COLLECTIVES:
            kind = "gathered"
            self.label(kind, tree_iter((args, kwargs)))
        elif func is _CAST and self._is_weight(args[0]):
            kind = "gathered"  # autocast's copy of a weight
        self.label(kind, tree_iter(made))
        return made

    def label(self, kind: Kind | None, tensors: Iterable[Any], *, again: bool = False) -> None:
        """Say of which kind tensors are, where nothing was said before, or `again`."""
        for value in tensors:
            number = self._enter(value)
            if number is not None and kind and (again or self._kind[number] is None):
                self._kind[number] = kind

    def saved(self, phase: str) -> None:
        """Call activations what a phase has made and left alive."""
        for number in self._number.values():
            if self._kind[number] is None and self._born[number] == phase:
                self._kind[number] = "activations"

    def place(self) -> int:
        """Give the number of the next entry."""
        return len(self._entries)

    def book(self, start: int) -> Book:
        """Close the book of what happened since an entry; its first entry is all that was there before."""
        numbers, changes, phases = zip(*self._entries, strict=True)
        kinds = tuple(kind or "other" for kind in self._kind)
        return Book(numbers, changes, phases, kinds, start)

    @contextmanager
    def resizing(self) -> Iterator[None]:
        """Watch storages that are given another size beside all operations, as FSDP does."""
        plain: Callable[..., Any] = torch.UntypedStorage.resize_

        def resize(storage: torch.UntypedStorage, size: int) -> Any:
            resized = plain(storage, size)
            number = self._number.get(storage._cdata)
            if number is not None:
                self._change(number, size)
            return resized

        torch.UntypedStorage.resize_ = resize  # type: ignore[method-assign,assignment]
        try:
            yield
        finally:
            torch.UntypedStorage.resize_ = plain  # type: ignore[method-assign]

    def _enter(self, value: Any) -> int | None:
        """Enter a tensor's storage, if it is new, and give its number."""
        tensor = value.to_local() if isinstance(value, DTensor) else value
        if not isinstance(tensor, FakeTensor) or tensor.fake_mode is not self.mode:
            return None  # no tensor, or a whole one with which DTensor only works out what is sharded how
        storage = tensor.untyped_storage()
        address = storage._cdata
        if address not in self._number:
            number = self._number[address] = len(self._bytes)
            self._bytes.append(0)
            self._born.append(self.phase)
            self._kind.append(None)
            self._references[address] = weakref.ref(storage, lambda _: self._leave(address))
            self._change(number, storage.nbytes())
        return self._number[address]

    def _leave(self, address: int) -> None:
        del self._references[address]
        self._change(self._number.pop(address), 0)

    def _change(self, number: int, size: int) -> None:
        if size != self._bytes[number]:
            self._entries.append((number, size - self._bytes[number], self.phase))
            self._bytes[number] = size

    def _is_weight(self, value: Tensor) -> bool:
        number = self._enter(value)
        return number is not None and self._kind[number] == "weights"
