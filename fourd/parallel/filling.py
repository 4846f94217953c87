"""First numbers that do not depend on the number of ranks: each rank draws the whole tensor, and keeps its slice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten
_RANDOM = {
    *(_aten.normal_.default, _aten.uniform_.default, _aten.bernoulli_.float),
    *(_aten.random_.default, _aten.random_.to, getattr(_aten.random_, "from")),
}
_READ_BY_HOST = {_aten._local_scalar_dense.default, _aten.is_nonzero.default}


class sliced_filling(TorchDispatchMode):  # noqa: N801 - a context manager, named as one
    """Fill sharded tensors as if they were whole, within a `with` block.

    Random numbers, and whole tensors that are copied, come out as on one rank; a number that the host reads is that of
    the whole tensor. One tensor at a time is held whole.
    """

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation; those that would differ between ranks on whole tensors."""
        kwargs = kwargs or {}
        first = args[0] if args else None
        if not isinstance(first, DTensor):
            return func(*args, **kwargs)
        copies_whole = func is _aten.copy_.default and not isinstance(args[1], DTensor)
        if func in _RANDOM or copies_whole:
            whole = torch.empty(first.shape, dtype=first.dtype, device=first.device)
            _keep_slice(first, func(whole, *args[1:], **kwargs))
            return first
        if func in _READ_BY_HOST:
            return func(first.full_tensor())
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise NotImplementedError(
                f"{func} of a sharded tensor would give other numbers on another number of ranks: fill it with "
                "normal_, uniform_, random_ or bernoulli_(p)"
            )
        return func(*args, **kwargs)


def _keep_slice(sharded: DTensor, whole: Tensor) -> None:
    shape, offset = compute_local_shape_and_global_offset(sharded.shape, sharded.device_mesh, sharded.placements)
    own = tuple(slice(start, start + length) for start, length in zip(offset, shape, strict=True))
    sharded.to_local().copy_(whole[own])
