"""Before a run begins: whether its config can be laid over these ranks, and whether its folder may be taken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fourd import run_folder
from fourd.parallel import Ranks
from fourd.trainer.config import FREE_TO_CHANGE, RunConfig
from fourd.types import Dataset, Objective
from fourd.weights.starting import identity


def require_layout(config: RunConfig, ranks: Ranks) -> None:
    """Raise ValueError where a config cannot be laid over the ranks, so that no folder is taken for it."""
    ranks.shard_of(config.parallel)
    if config.clips_per_step < ranks.size * config.parallel.parts:
        views = f" (--batch-size {config.batch_size} by --repeat {config.repeat})" if config.repeat > 1 else ""
        raise ValueError(
            f"a step has {config.clips_per_step} clips{views}, fewer than the {ranks.size} ranks by "
            f"{config.parallel.parts} parts that each take one at least: expected --batch-size "
            f"{ranks.size * config.parallel.parts * config.repeat} or more, fewer ranks, or a lower --parallel.parts"
        )


def starting_weights(config: RunConfig, objective: Objective) -> Mapping[str, str]:
    """Name the parts that start from weights of others, and the sources of those."""
    return {**objective.starting_weights(), **({"backbone": config.init} if config.init else {})}


@contextmanager
def alone_in(out: Path, ranks: Ranks) -> Iterator[None]:
    """Let the first rank keep other runs out of a folder; all ranks raise ValueError where one is at work there."""
    with ExitStack() as held:
        ranks.first_does(lambda: held.enter_context(run_folder.alone_in(out)))
        yield


def take(out: Path, config: RunConfig, dataset: Dataset, held_out: Dataset | None, sources: Mapping[str, str]) -> None:
    """Take the folder, and list what cannot be read; raise ValueError where it holds another run's results."""
    # what the config only names: the clips, the weights to start from
    inputs = {
        "data": dataset.fingerprint,
        "held_out": held_out.fingerprint if held_out is not None else "",
        "init": identity(config.init) if config.init else "",
    }
    inputs |= {part: identity(source) for part, source in sources.items() if part != "backbone"}
    try:
        run_folder.claim(out, config, FREE_TO_CHANGE, inputs, nothing_done=not _has_results(out))
    except ValueError as error:
        weights = out / "final" / "model.safetensors"
        if not weights.exists():
            raise
        raise ValueError(f"{error}, and start it from the weights of this one: --init {weights}") from error
    run_folder.list_unreadable(out, (*dataset.unreadable, *dataset.damaged))


def _has_results(out: Path) -> bool:
    """Tell whether anything was saved: what was only recorded is done again by any call."""
    return any(out.glob("checkpoints/*step_*")) or (out / "final").exists()
