"""Several masked views of each decoded clip, made where the training runs."""

from __future__ import annotations

import dataclasses

import torch

from fourd.tokens import splitmix64
from fourd.types import Batch

_STEP = 0x9E3779B97F4A7C15 - (1 << 64)  # the golden ratio in 64 bits


def masked_views(batch: Batch, repeat: int) -> Batch:
    """Show each clip of a pretraining batch `repeat` times in a row, each time with a mask of its own.

    Clip, crop and flip are the same in all views: they were made when the clip was decoded. The first view keeps the
    clip's own seed; the others' are a function of it and of their number. Raises ValueError for a batch with tasks.
    """
    if repeat == 1:
        return batch
    if batch.tasks or batch.features:
        raise ValueError("only pretraining shows a clip several times: batches with tasks or features have repeat 1")
    number = torch.arange(repeat, device=batch.seed.device)
    mixed = splitmix64(batch.seed[:, None] + number * _STEP) & ((1 << 63) - 1)
    seeds = torch.where(number == 0, batch.seed[:, None], mixed)
    return dataclasses.replace(
        batch,
        video=batch.video.repeat_interleave(repeat, 0),
        time_s=batch.time_s.repeat_interleave(repeat, 0),
        key=tuple(key for key in batch.key for _ in range(repeat)),
        group=tuple(group for group in batch.group for _ in range(repeat)),
        seed=seeds.flatten(),
    )
