"""What a run leaves behind: held-out losses along the way, final weights and pictures at the end."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from PIL import Image

from fourd import loader, provenance, run_folder, weights
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
from fourd.types import Dataset, Objective, Unreadable

_NUM_SHOWN = 4


def held_out_loss(objective: Objective, dataset: Dataset, config: RunConfig, out: Path, ranks: Ranks) -> float:
    """Take the mean loss over held-out clips, one view of each, the same with the same random numbers each time.

    Every rank takes a share of them, in as many batches as the others, since sharded weights are gathered by all ranks
    together; a rank that has run out of clips takes the first one again, and does not count it.
    """
    objective.eval()
    num_clips = min(config.num_held_out, len(dataset))
    at_once = max(config.batch_size // (ranks.size * config.parallel.parts), 1)
    total = torch.zeros((), device=ranks.device)
    lost: list[Unreadable] = []
    for counts, loaded in loader.shared(dataset, at_once, num_clips, ranks.rank, ranks.size):
        with torch.no_grad(), autocast(ranks.device, config.precision), uncompiled():
            loss = objective(to_device(loaded.batch, ranks.device)).loss.float()
        if counts:
            total += loss * len(loaded.batch.key)
        lost += [Unreadable(one.path, one.reason) for one in loaded.replaced]
    give_up_gathered(objective)
    found = [one for share in ranks.gather(lost) for one in share]
    if ranks.is_first:
        run_folder.list_unreadable(out, found)
    return float(ranks.add_up(total)) / num_clips


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
