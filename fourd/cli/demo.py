"""`fourd demo`: the whole road in minutes, ending with a table and a page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from fourd.cli.report import show
from fourd.demonstration import StudyConfig, draw_pictures, run_study
from fourd.provenance import find


@dataclass(frozen=True)
class Arguments:
    """Pretrain a small video transformer on the embedded world, then measure what it has learned."""

    out: Path = Path("runs/demo")
    """Folder of the study. The same command again does only what is missing."""
    seeds: int = 1
    """How many pretraining seeds to run."""
    recipe: str = "fourd.recipes.demo:demo"
    """Dotted path of a function that returns a StudyConfig."""


def run(arguments: list[str]) -> None:
    """Do what is missing, then show the table and say where the page is."""
    options = tyro.cli(Arguments, prog="fourd demo", args=arguments)
    config = find(options.recipe)()
    if not isinstance(config, StudyConfig):
        raise ValueError(f"recipe {options.recipe} returned a {type(config).__name__}; expected a StudyConfig")
    if options.seeds < 1:
        raise ValueError(f"--seeds is {options.seeds}: expected 1 or more")
    run_study(config, options.out, range(options.seeds))
    draw_pictures(config, options.out, seed=0)
    show(config, options.out)
