"""Let a readout learn two clips by heart, and look at the gradient of a loss."""

from __future__ import annotations

from typing import Any

import torch

from fourd.types import ClipShape, Features, FeatureShape, ReadoutKind, Task, TaskSample, map_tensors
from tests.contracts.nouns import tensors_in

SHAPE = FeatureShape(t=2, h=4, w=4, width=32)


def features(num_clips: int = 2) -> Features:
    """Make features that tell clips and places apart."""
    size = (num_clips, SHAPE.t, SHAPE.h, SHAPE.w, SHAPE.width)
    return Features(torch.randn(size, generator=torch.Generator().manual_seed(1)))


def learn(
    task: Task[Any, Any, Any], clip: ClipShape, sample: TaskSample[Any, Any], kind: ReadoutKind = "attention"
) -> tuple[float, float, Any]:
    """Train a readout for 150 steps on one batch; give the loss before and after, and what it answers then."""
    readout = task.build_readout(SHAPE, clip, kind)
    readout.init_weights(torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(readout.parameters(), lr=3e-3, weight_decay=0)
    losses = []
    for step in range(150):
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / 150)
        loss = task.loss(readout(features(), sample.query), sample.target).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    with torch.no_grad():
        return losses[0], losses[-1], readout.eval()(features(), sample.query)


def gradients(task: Task[Any, Any, Any], prediction: Any, target: Any) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Compute a loss, and its gradient with respect to each tensor of a prediction."""
    leaf = map_tensors(lambda x: x.detach().clone().requires_grad_(), prediction)
    loss = task.loss(leaf, target).loss
    loss.backward()
    return loss.detach(), [x.grad if x.grad is not None else torch.zeros_like(x) for x in tensors_in(leaf)]


def values(task: Task[Any, Any, Any], prediction: Any, sample: TaskSample[Any, Any]) -> dict[str, torch.Tensor]:
    """Score a prediction; the scores by the name of their metric."""
    return {s.metric.name: s.score for s in task.scores(prediction, sample.query, sample.target)}
