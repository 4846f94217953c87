"""`fourd pretrain`: train from scratch, on your own videos or on the embedded world."""

from __future__ import annotations

from pathlib import Path

from fourd.cli.recipe import parse
from fourd.parallel import join
from fourd.trainer import fit

DEFAULT_RECIPE = "fourd.recipes.pretrain:laptop"


def run(arguments: list[str]) -> None:
    """Train, or go on training; say where the result lies."""
    about = "Pretrain a video transformer with SimpleMAE. Resumes when the run was stopped."
    options = parse(arguments, DEFAULT_RECIPE, "fourd pretrain", about)
    fit(options.run, options.out, "pretrain")
    if join(options.run.device).is_first:
        _say_where(options.out)


def _say_where(out: Path) -> None:
    print(f"weights:  {out}/final/model.safetensors")
    print(f"picture:  {out}/reconstruction.png")
    print(f"metrics:  {out}/metrics.jsonl (tensorboard --logdir {out}/tensorboard)")
    unreadable = (out / "unreadable.csv").read_text().count("\n") - 1
    if unreadable:
        print(f"not used: {unreadable} files, see {out}/unreadable.csv")
    replaced = (out / "quarantine.jsonl").read_text().count("\n")
    if replaced:
        print(f"replaced: {replaced} times a clip that could not be decoded, see {out}/quarantine.jsonl")
