"""Label propagation: follow objects through a film by the likeness of features alone, without any training.

Every cell of a frame's feature grid takes the labels of the cells that are most like it, in the first frame and, near
its place, in the few before it.

Source: the protocol of Jabri et al. (Space-Time Correspondence as a Contrastive Random Walk, 2020), with the numbers
of the notebook that was released with RVM by the team of 4DS.
"""

from __future__ import annotations

from collections import deque
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
    mixed, by a softmax of their likeness over `temperature`. radius: cells of the frames before lie less far away.
    """

    num_context: int = 20
    temperature: float = 0.7
    num_nearest: int = 7
    radius: int = 20


def propagate(
    features: Float[Tensor, "T h w D"], first_mask: UInt8[Tensor, "H W"], config: LabelPropagationConfig
) -> UInt8[Tensor, "T H W"]:
    """Carry the objects of the first frame's mask through a film; 0 is the ground.

    Masks live on the feature grid as shares of each object, and are enlarged to be compared. Of the first frame all
    cells are looked at, of the frames before only those within the radius; before there are enough of them, the first
    stands in their place. It is answered itself, from its own mask. Memory grows with the square of the grid.
    """
    h, w = features.shape[1:3]
    unit = F.normalize(features.flatten(1, 2).float(), dim=-1)
    near = _near(h, w, config.radius).to(unit.device)
    numbers = first_mask.unique().tolist()
    first = (unit[0], _shrunk(first_mask, numbers, (h, w)).to(unit.device))
    context = deque([first] * config.num_context, config.num_context)
    masks = []
    for frame in unit:
        shares = _mixed(frame, [first, *context], near, config)
        context.append((frame, shares))
        masks.append(_enlarged(shares, numbers, (h, w), first_mask))
    return torch.stack(masks)


def _near(h: int, w: int, radius: int) -> Bool[Tensor, "cells cells"]:
    """Say which cells lie within a radius of each other."""
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    places = torch.stack([y.flatten(), x.flatten()], dim=-1)
    squared = (places[:, None] - places).square().sum(-1)
    return squared < radius**2


def _shrunk(mask: UInt8[Tensor, "H W"], numbers: Sequence[int], grid: tuple[int, int]) -> Float[Tensor, "cells K"]:
    """Say how much of each object there is at the middle of every cell."""
    one_hot = torch.stack([mask == number for number in numbers]).float()
    return F.interpolate(one_hot[None], grid, mode="bilinear", align_corners=False)[0].flatten(1).T


def _mixed(
    query: Float[Tensor, "cells D"],
    context: Sequence[tuple[Float[Tensor, "cells D"], Float[Tensor, "cells K"]]],
    near: Bool[Tensor, "cells cells"],
    config: LabelPropagationConfig,
) -> Float[Tensor, "cells K"]:
    """Mix the labels of the most alike cells of the first frame, anywhere, and of the others, if they are near."""
    values, labels = [], []
    for number, (frame, shares) in enumerate(context):
        alike = query @ frame.T
        allowed = alike if number == 0 else torch.where(near, alike, -torch.inf)
        # the best of each frame hold the best of all, in a fraction of the memory
        best = allowed.topk(min(config.num_nearest, allowed.shape[1]), dim=1)
        values.append(best.values)
        labels.append(shares[best.indices])
    all_best = torch.cat(values, dim=1)
    chosen = all_best.topk(min(config.num_nearest, all_best.shape[1]), dim=1)
    weight = (chosen.values / config.temperature).softmax(dim=1)
    picked = torch.cat(labels, dim=1).take_along_dim(chosen.indices[..., None], dim=1)
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
    of the encoder's own length; between steps that cover several frames, features are interpolated. Masks are compared
    in the target's size. excluded: where films that cannot be read are listed; None lets the first end it. Raises
    ValueError where no film is left.
    """
    assert cell.depth is not None
    device = next((parameter.device for parameter in backbone.parameters()), torch.device("cpu"))
    collected: list[Rows] = []
    with reproducible(device), StepProgress(f"follow objects, {cell.backbone}", len(dataset)) as progress:
        for batch in loader.in_order(dataset, 1, unreadable=excluded):
            with autocast(device, precision):
                (features,) = encode_in_windows(backbone, batch.video.to(device), (cell.depth,))
            of_frames = _one_for_each_frame(features.grid[0].float(), batch.video.shape[1], backbone)
            sample = batch.tasks[0]
            masks = _of_size(propagate(of_frames, sample.query.index[0, 0], config), sample.target.index.shape[2:])
            scores = segmentation(masks[None], sample.target.index.to(device))
            collected.append(tabulate(cell, batch.key, batch.group, scores))
            progress.update(len(collected), batch.key[0])
    if not collected:
        raise ValueError("no film could be read: see what was excluded")
    metrics: dict[str, Metric] = {}
    for rows in collected:
        metrics |= rows.metrics
    return Rows(pa.concat_tables([rows.table for rows in collected]), metrics)


def _one_for_each_frame(
    grid: Float[Tensor, "t h w D"], num_frames: int, backbone: Backbone
) -> Float[Tensor, "T h w D"]:
    """Interpolate between token steps, each of which lies in the middle of its frames."""
    patch = backbone.native_input.patch[0]
    if patch == 1:
        return grid
    series = grid.flatten(1).T[None]
    frames = F.interpolate(series, len(grid) * patch, mode="linear", align_corners=False)[0].T[:num_frames]
    return frames.unflatten(1, grid.shape[1:])


def _of_size(masks: UInt8[Tensor, "T H W"], size: Sequence[int]) -> UInt8[Tensor, "T height width"]:
    """Take for each pixel of another size the one that lies nearest."""
    return F.interpolate(masks[:, None].float(), tuple(size), mode="nearest-exact")[:, 0].to(torch.uint8)
