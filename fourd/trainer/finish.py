"""What a run leaves behind at its end: final weights and pictures."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from PIL import Image

from fourd import loader, provenance, weights
from fourd.parallel import (
    Ranks,
    autocast,
    build_blank,
    give_up_gathered,
    require_finite,
    to_device,
    uncompiled,
    whole_state,
)
from fourd.trainer.config import RunConfig
from fourd.types import Dataset, Objective

_NUM_SHOWN = 4


def worth_showing(held_out: Dataset | None, dataset: Dataset) -> Dataset:
    """Take the held-out clips for pictures, unless they are too few to say anything."""
    return held_out if held_out is not None and len(held_out) >= _NUM_SHOWN else dataset


def finish(objective: Objective, config: RunConfig, out: Path, dataset: Dataset, ranks: Ranks) -> None:
    """Write the final weights and pictures; the pictures show clips of `dataset`. All ranks call it."""
    require_finite(objective)
    objective.eval()
    shown = next(loader.batches(dataset, min(_NUM_SHOWN, len(dataset)), seed=0, steps=range(1)))
    with autocast(ranks.device, config.precision), uncompiled():
        pictures = objective.pictures(to_device(shown.batch, ranks.device))
    give_up_gathered(objective)
    if ranks.is_first:
        for name, picture in pictures.items():
            Image.fromarray(picture.cpu().numpy()).save(out / f"{name}.png")
        (out / "final").mkdir(exist_ok=True)
    # last of all the weights: where they lie, the run is complete
    for name, module in objective.export().items():
        state = whole_state(module, ranks)
        described = json.dumps(provenance.describe(getattr(module, "config", config.objective)))
        ranks.first_does(lambda: weights.save_weights(state, _final(out, name), described))  # noqa: B023 - called at once


def finished(config: RunConfig, out: Path, device: torch.device) -> Objective:
    """Build the objective of a run that is over, whole, with its final weights."""
    objective = build_blank(config.objective)
    objective.to_empty(device=device)
    for name, module in objective.export().items():
        weights.load_module(module, _final(out, name))
    require_finite(objective)
    return objective.eval()


def _final(out: Path, part: str) -> Path:
    return out / "final" / f"{part}.safetensors"
