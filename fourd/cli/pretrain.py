"""`fourd pretrain`: train from scratch, on your own videos or on the embedded world."""

from __future__ import annotations

from fourd.cli.recipe import parse
from fourd.trainer import fit

DEFAULT_RECIPE = "fourd.recipes.pretrain:laptop"


def run(arguments: list[str]) -> None:
    """Train, or go on training; say where the result lies."""
    about = "Pretrain a video transformer with SimpleMAE. Resumes when the run was stopped."
    options = parse(arguments, DEFAULT_RECIPE, "fourd pretrain", about)
    fit(options.run, options.out, "pretrain")
    print(f"weights:  {options.out}/final/model.safetensors")
    print(f"picture:  {options.out}/reconstruction.png")
    print(f"metrics:  {options.out}/metrics.jsonl (tensorboard --logdir {options.out}/tensorboard)")
    unreadable = (options.out / "unreadable.csv").read_text().count("\n") - 1
    if unreadable:
        print(f"not used: {unreadable} files, see {options.out}/unreadable.csv")
    replaced = (options.out / "quarantine.jsonl").read_text().count("\n")
    if replaced:
        print(f"replaced: {replaced} times a clip that could not be decoded, see {options.out}/quarantine.jsonl")
