"""From windows to tokens: batches filled across inputs, pooled and brought to the type in which they are stored."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fourd.extraction.config import ExtractConfig, Pooling, StoredType, precision_on
from fourd.extraction.reading import End, Piece
from fourd.parallel import autocast
from fourd.types import Backbone

Tokens = Float[Tensor, "k ..."]


@dataclass(frozen=True, eq=False)
class Encoded:
    """Hold what became of a window's kept token steps: for each depth `k t h w D` or `k D`, and the grid for pictures.

    Pooling over the clip is finished by whoever sees all its windows, so here it is pooling over space.
    """

    piece: Piece
    tokens: tuple[Tokens, ...]
    grid: Float[Tensor, "k h w D"] | None = None
    problem: str | None = None
    """Why these tokens cannot be stored; there are none then."""


class UnstorableFeatures(Exception):  # noqa: N818 - it names the thing, which the caller lists
    """Say why the features of an input do not fit the type in which they are to be stored."""


class Encoder:
    """Run a backbone over windows, `batch_size` at a time, whichever inputs they come from."""

    def __init__(
        self, backbone: Backbone, config: ExtractConfig, device: torch.device, batch_size: int, with_grid: bool
    ) -> None:
        """Move the backbone to the device, and set it to evaluation. config: as `settle` gives it."""
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}: expected 1 or more")
        self.backbone, self.config, self.device = backbone.eval().to(device), config, device
        self.batch_size, self.with_grid = batch_size, with_grid

    def run(self, events: Iterable[Piece | End]) -> Generator[Encoded | End, None, None]:
        """Encode all windows, and pass on each input's end after its last window; order is kept."""
        waiting: list[Piece | End] = []
        for event in events:
            if isinstance(event, Piece) and not self._goes_with(event, waiting):
                yield from self._encode(waiting)
                waiting = []
            waiting.append(event)
            num_pieces = sum(isinstance(item, Piece) for item in waiting)
            if num_pieces in (0, self.batch_size):
                yield from self._encode(waiting)
                waiting = []
        yield from self._encode(waiting)

    def _goes_with(self, piece: Piece, waiting: list[Piece | End]) -> bool:
        """Tell whether a window has the size of those that wait."""
        first = next((item for item in waiting if isinstance(item, Piece)), piece)
        return first.window.clip.shape == piece.window.clip.shape

    def _encode(self, items: list[Piece | End]) -> list[Encoded | End]:
        """Encode the windows among what waits, and put the results in their places."""
        pieces = [item for item in items if isinstance(item, Piece)]
        if not pieces:
            return [item for item in items if isinstance(item, End)]
        clips = torch.stack([piece.window.clip for piece in pieces]).to(self.device, non_blocking=True)
        with torch.inference_mode(), autocast(self.device, precision_on(self.device, self.config.precision)):
            grids = [features.grid for features in self.backbone(clips, self.config.depths)]
            encoded = iter([self._kept(piece, [grid[n] for grid in grids]) for n, piece in enumerate(pieces)])
        return [next(encoded) if isinstance(item, Piece) else item for item in items]

    def _kept(self, piece: Piece, grids: list[Float[Tensor, "t h w D"]]) -> Encoded:
        """Take the time steps of a window that count, pooled and as they are stored."""
        kept = [grid[piece.window.kept] for grid in grids]
        tokens = tuple(pooled(grid, self.config.pooling) for grid in kept)
        if self.config.pooling != "clip":
            try:
                tokens = tuple(as_stored(part, self.config.dtype) for part in tokens)
            except UnstorableFeatures as problem:
                return Encoded(piece, (), problem=str(problem))
        shown = kept[-1].float().cpu() if self.with_grid else None
        return Encoded(piece, tuple(part.cpu() for part in tokens), shown)


def pooled(grid: Float[Tensor, "k h w D"], pooling: Pooling) -> Tokens:
    """Average over space, unless nothing is to be pooled; over time a sum is kept elsewhere, in float32 till then."""
    return grid if pooling == "none" else grid.float().mean(dim=(1, 2))


def as_stored(tokens: Float[Tensor, "..."], dtype: StoredType) -> Float[Tensor, "..."]:
    """Bring features to the type in which they are stored; raise UnstorableFeatures if they do not fit."""
    stored = tokens.to(getattr(torch, dtype))
    if bool(stored.isfinite().all()):
        return stored
    if bool(tokens.isfinite().all()):
        largest = f"{float(tokens.abs().max()):.4g}"
        raise UnstorableFeatures(f"features reach {largest}, which {dtype} cannot hold: use dtype float32 or bfloat16")
    raise UnstorableFeatures("the backbone gives features that are not finite: look at its weights and its precision")
