"""What clips that are never trained on say along the way: their loss, and whether features are healthy."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from fourd import loader, run_folder
from fourd.metrics import feature_rank, feature_std, nearest_neighbour_accuracy
from fourd.parallel import Ranks, autocast, give_up_gathered, to_device, uncompiled
from fourd.trainer.config import RunConfig
from fourd.types import Batch, Dataset, Label, Objective, Unreadable


def look_at_held_out(
    objective: Objective, dataset: Dataset, config: RunConfig, out: Path, ranks: Ranks
) -> dict[str, float]:
    """Take the mean loss over held-out clips, and the health of what a trained backbone says of them.

    One view of each clip, the same with the same random numbers each time. `feature_rank` and `feature_std` are of the
    mean over a clip's last tokens, `nearest_neighbour/TASK` is there for each task whose labels the clips bring. Every
    rank takes a share of the clips, in as many batches as the others, since sharded weights are gathered by all ranks
    together; a rank that has run out of clips takes the first one again, and does not count it.
    """
    objective.eval()
    num_clips = min(config.num_held_out, len(dataset))
    at_once = max(config.batch_size // (ranks.size * config.parallel.parts), 1)
    total = torch.zeros((), device=ranks.device)
    seen: list[tuple[Tensor, dict[str, Tensor]]] = []
    lost: list[Unreadable] = []
    for counts, loaded in loader.shared(dataset, at_once, num_clips, ranks.rank, ranks.size):
        batch = to_device(loaded.batch, ranks.device)
        with torch.no_grad(), autocast(ranks.device, config.precision), uncompiled():
            loss = objective(batch).loss.float()
            features = objective.clip_features(batch)
        if counts:
            total += loss * len(batch.key)
            if features is not None:
                seen.append((features.float().cpu(), _labels(loaded.batch)))
        lost += [Unreadable(one.path, one.reason) for one in loaded.replaced]
    give_up_gathered(objective)
    told = ranks.gather((seen, lost))
    if ranks.is_first:
        run_folder.list_unreadable(out, [one for _, share in told for one in share])
    loss = float(ranks.add_up(total)) / num_clips
    return {"held_out_loss": loss} | _health([one for share, _ in told for one in share])


def _labels(batch: Batch) -> dict[str, Tensor]:
    return {sample.task: sample.target.index for sample in batch.tasks if isinstance(sample.target, Label)}


def _health(seen: list[tuple[Tensor, dict[str, Tensor]]]) -> dict[str, float]:
    if sum(len(features) for features, _ in seen) < 2:
        return {}
    features = torch.cat([features for features, _ in seen])
    found = {"feature_rank": feature_rank(features), "feature_std": feature_std(features)}
    for task in seen[0][1]:
        labels = torch.cat([labels[task] for _, labels in seen])
        found[f"nearest_neighbour/{task}"] = nearest_neighbour_accuracy(features, labels)
    return found
