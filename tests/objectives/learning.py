"""Clips that are easy to learn, and what tells learning from collapse."""

from __future__ import annotations

import torch
from torch import Tensor

from fourd.backbones.video_vit import VideoViT
from fourd.types import Batch, Objective


def moving_squares(num_clips: int, frames: int = 4, size: int = 32) -> Batch:
    """Make clips of a bright square that moves evenly over a dark ground, each with a colour and a way of its own."""
    generator = torch.Generator().manual_seed(0)
    video = torch.full((num_clips, frames, 3, size, size), 40, dtype=torch.uint8)
    side = size // 3
    for clip in range(num_clips):
        colour = torch.randint(120, 256, (3, 1, 1), generator=generator, dtype=torch.uint8)
        y, x, dy, dx = (int(n) for n in torch.randint(0, size // 4, (4,), generator=generator))
        for frame in range(frames):
            top, left = ((start + frame * step) % (size - side) for start, step in ((y, dy), (x, dx)))
            video[clip, frame, :, top : top + side, left : left + side] = colour
    names = tuple(f"square-{clip}" for clip in range(num_clips))
    times = torch.arange(float(frames)).expand(num_clips, -1) / 25
    return Batch(video, times, names, names, torch.arange(num_clips))


def learn(objective: Objective, batch: Batch, steps: int = 60, rate: float = 3e-3) -> list[float]:
    """Train on one batch over and over; give the losses."""
    optimizer = torch.optim.AdamW(objective.parameters(), lr=rate)
    losses = []
    for _ in range(steps):
        loss = objective(batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@torch.no_grad()
def deviation(backbone: VideoViT, video: Tensor) -> float:
    """Measure by how much features at one place differ from clip to clip, as a share of how much all features differ.

    0 where every clip has the same features, which is what collapse comes to; at most about 1.
    """
    (features,) = backbone(video, (0.95,))
    tokens = features.grid.flatten(1, 3)
    tokens = tokens - tokens.mean(dim=(0, 1))
    return float(tokens.std(dim=0).mean() / tokens.square().mean().sqrt())
