"""Rows of all ranks, in their order, through which gradients flow back to where each row was made."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor


def rows_of_all_ranks(rows: Float[Tensor, "n D"]) -> tuple[Float[Tensor, "N D"], int]:
    """Give the rows of every rank, and the place of the first own one; ranks may have different numbers.

    All ranks call it. The hosts tell each other how many rows they have; no device is waited for. A gradient that
    arrives at a row on any rank is added up on the rank that made it.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return rows, 0
    counts = [torch.zeros(1, dtype=torch.int64) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, torch.tensor([len(rows)]))
    numbers = [int(count) for count in counts]
    padded = torch.cat([rows, rows.new_zeros(max(numbers) - len(rows), rows.shape[1])])
    whole: Tensor = _Gathered.apply(padded)
    return torch.cat([part[:number] for part, number in zip(whole, numbers, strict=True)]), sum(
        numbers[: dist.get_rank()]
    )


class _Gathered(torch.autograd.Function):
    """Gather tensors of one shape; backward, add up what ranks say of each and keep one's own."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, own.contiguous())
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[dist.get_rank()]
