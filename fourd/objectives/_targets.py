"""Features to be predicted: how they are normalised, brought to a grid, and compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from fourd.tokens import Triple

FeatureLoss = Literal["smooth_l1", "l1", "mse", "cosine"]


def normalised(features: Float[Tensor, "*shape D"]) -> Float[Tensor, "*shape D"]:
    """Bring each token to mean 0 and deviation 1 in float32, without learned numbers."""
    return F.layer_norm(features.float(), features.shape[-1:])


def on_grid(grid: Float[Tensor, "B t h w D"], wanted: Triple) -> Float[Tensor, "B i j k D"]:
    """Resample features to another token grid: averaged where it is coarser along all axes, else linear."""
    if tuple(grid.shape[1:4]) == tuple(wanted):
        return grid
    is_coarser = all(new <= old for new, old in zip(wanted, grid.shape[1:4], strict=True))
    mode = {"mode": "area"} if is_coarser else {"mode": "trilinear", "align_corners": False}
    resampled = F.interpolate(grid.float().movedim(-1, 1), size=wanted, **mode)  # type: ignore[arg-type]
    return resampled.movedim(1, -1)


def feature_error(
    prediction: Float[Tensor, "*shape D"], target: Float[Tensor, "*shape D"], kind: FeatureLoss
) -> Float[Tensor, ""]:
    """Take the mean error of predicted features, in float32."""
    return _ERRORS[kind](prediction.float(), target.float())


def _cosine(prediction: Tensor, target: Tensor) -> Tensor:
    return 1 - F.cosine_similarity(prediction, target, dim=-1).mean()


_ERRORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "smooth_l1": F.smooth_l1_loss,
    "l1": F.l1_loss,
    "mse": F.mse_loss,
    "cosine": _cosine,
}
