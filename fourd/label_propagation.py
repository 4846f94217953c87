"""Label propagation: follow objects through a film by the likeness of features alone, without any training.

Every cell of a frame's feature grid takes the labels of the cells that are most like it, near its place, in the first
frame and in the few before it.

Source: the protocol of Jabri et al. (Space-Time Correspondence as a Contrastive Random Walk, 2020), with the numbers
of the notebook that was released with RVM by the team of 4DS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from fourd import loader
from fourd.metrics.segmentation import segmentation
from fourd.parallel import Precision, autocast, reproducible
from fourd.results import Cell, Rows, tabulate
from fourd.telemetry import StepProgress
from fourd.types import Backbone, Dataset, Metric, Unreadable
from fourd.windows import encode_in_windows

READOUT = "propagation"
"""What stands in the column `readout` of its rows."""


@dataclass(frozen=True)
class LabelPropagationConfig:
    """Hold the constants; source: RVM's notebook.

    num_context: frames before the present one that are looked at, beside the first. num_nearest: cells whose labels are
    mixed, by a softmax of their likeness over `temperature`. radius: how far away they may lie, in cells.
    """

    num_context: int = 20
    temperature: float = 0.7
    num_nearest: int = 7
    radius: int = 20


def propagate(
    features: Float[Tensor, "T h w D"], first_mask: UInt8[Tensor, "H W"], config: LabelPropagationConfig
) -> UInt8[Tensor, "T H W"]:
    """Carry the objects of the first frame's mask through a film; 0 is the ground.

    Masks live on the feature grid as shares of each object, and are enlarged to be compared. Memory grows with the
    square of the grid, not with the film.
    """
    steps, h, w, _ = features.shape
    unit = F.normalize(features.flatten(1, 2).float(), dim=-1)
    near = _near(h, w, config.radius).to(unit.device)
    numbers = [0, *[number for number in first_mask.unique().tolist() if number]]
    shares = [_shrunk(first_mask, numbers, (h, w)).to(unit.device)]
    for step in range(1, steps):
        context = [0, *range(max(1, step - config.num_context), step)]
        shares.append(_mixed(unit[step], unit[context], torch.stack([shares[n] for n in context]), near, config))
    return torch.stack(
        [first_mask.to(unit.device), *(_enlarged(share, numbers, (h, w), first_mask) for share in shares[1:])]
    )


def _near(h: int, w: int, radius: int) -> Bool[Tensor, "cells cells"]:
    """Say which cells lie within a radius of each other."""
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    places = torch.stack([y.flatten(), x.flatten()], dim=-1).float()
    return torch.cdist(places, places) <= radius


def _shrunk(mask: UInt8[Tensor, "H W"], numbers: Sequence[int], grid: tuple[int, int]) -> Float[Tensor, "cells K"]:
    """Turn a mask into each object's share of every cell."""
    one_hot = torch.stack([mask == number for number in numbers]).float()
    return F.adaptive_avg_pool2d(one_hot[None], grid)[0].flatten(1).T


def _mixed(
    query: Float[Tensor, "cells D"],
    context: Float[Tensor, "C cells D"],
    shares: Float[Tensor, "C cells K"],
    near: Bool[Tensor, "cells cells"],
    config: LabelPropagationConfig,
) -> Float[Tensor, "cells K"]:
    """Mix the labels of the most alike cells of the context."""
    alike = [torch.where(near, query @ frame.T, -torch.inf) for frame in context]
    # the best of each frame hold the best of all, in a fraction of the memory
    best = [frame.topk(min(config.num_nearest, frame.shape[1]), dim=1) for frame in alike]
    values = torch.cat([found.values for found in best], dim=1)
    labels = torch.cat([share[found.indices] for share, found in zip(shares, best, strict=True)], dim=1)
    chosen = values.topk(min(config.num_nearest, values.shape[1]), dim=1)
    weight = (chosen.values / config.temperature).softmax(dim=1)
    picked = labels.gather(1, chosen.indices[..., None].expand(-1, -1, labels.shape[2]))
    return (weight[..., None] * picked).sum(1)


def _enlarged(
    share: Float[Tensor, "cells K"], numbers: Sequence[int], grid: tuple[int, int], like: UInt8[Tensor, "H W"]
) -> UInt8[Tensor, "H W"]:
    """Give each pixel the object with the largest share there."""
    planes = share.T.unflatten(1, grid)[None]
    pixels = F.interpolate(planes, like.shape, mode="bilinear", align_corners=False)[0].argmax(0)
    return torch.tensor(numbers, dtype=torch.uint8, device=share.device)[pixels]


@torch.no_grad()
def evaluate_label_propagation(
    backbone: Backbone,
    dataset: Dataset,
    cell: Cell,
    config: LabelPropagationConfig,
    precision: Precision = "bf16",
    excluded: list[Unreadable] | None = None,
) -> Rows:
    """Score how well a frozen encoder's features at `cell.depth` follow the objects of every film.

    The dataset gives whole films with an `ObjectMasks` query and target, such as `davis`. Films are encoded in windows
    of the encoder's own length; a step that covers several frames stands for each of them. excluded: where films that
    cannot be read are listed; None lets the first end it. Raises ValueError where no film is left.
    """
    assert cell.depth is not None
    device = next((parameter.device for parameter in backbone.parameters()), torch.device("cpu"))
    collected: list[Rows] = []
    with reproducible(device), StepProgress(f"follow objects, {cell.backbone}", len(dataset)) as progress:
        for batch in loader.in_order(dataset, 1, unreadable=excluded):
            with autocast(device, precision):
                (features,) = encode_in_windows(backbone, batch.video.to(device), (cell.depth,))
            step_of = torch.arange(batch.video.shape[1], device=device) // backbone.native_input.patch[0]
            of_frames = features.grid[0].float()[step_of]
            sample = batch.tasks[0]
            masks = propagate(of_frames, sample.query.index[0, 0], config).cpu()
            collected.append(tabulate(cell, batch.key, batch.group, segmentation(masks[None], sample.target.index)))
            progress.update(len(collected), batch.key[0])
    if not collected:
        raise ValueError("no film could be read: see what was excluded")
    metrics: dict[str, Metric] = {}
    for rows in collected:
        metrics |= rows.metrics
    return Rows(pa.concat_tables([rows.table for rows in collected]), metrics)
