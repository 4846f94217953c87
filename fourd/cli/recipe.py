"""From a recipe's dotted path and the command line to a config."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from fourd.provenance import find
from fourd.trainer import RunConfig


@dataclass(frozen=True)
class Arguments:
    """Hold what the command line of a run says."""

    out: Path
    """Folder of the run. The same command again goes on where it stopped."""
    run: Annotated[RunConfig, tyro.conf.arg(name="")]
    data: str = ""
    """Folder of videos, for recipes that train on your own."""


def parse(arguments: list[str], default_recipe: str, program: str, about: str) -> Arguments:
    """Read `[RECIPE] --out RUN [--data DIR] [overrides]`; every leaf of the recipe's config is an option."""
    given = bool(arguments) and not arguments[0].startswith("-")
    recipe, rest = (arguments[0], arguments[1:]) if given else (default_recipe, arguments)
    asks_for_help = any(word in ("-h", "--help") for word in rest)
    config = call_recipe(recipe, _value_of("--data", rest), asks_for_help)
    return tyro.cli(
        Arguments,
        prog=f"{program} [RECIPE]",
        description=f"{about}\n\nRECIPE is the dotted path of a function that returns a run's config, "
        f"now {recipe}; the options below show its values.",
        default=Arguments(out=tyro.MISSING, run=config),
        args=rest,
        config=(tyro.conf.AvoidSubcommands,),
    )


def call_recipe(recipe: str, data: str, asks_for_help: bool = False) -> RunConfig:
    """Call the function at a dotted path, with the folder of videos if it takes one."""
    function = find(recipe)
    takes_data = "data" in inspect.signature(function).parameters
    if takes_data and not data and not asks_for_help:
        raise ValueError(f"recipe {recipe} trains on your own videos: say where they are with --data DIR")
    if data and not takes_data:
        raise ValueError(f"recipe {recipe} brings its own data and takes no --data")
    config = function(data=data or "DIR") if takes_data else function()
    if not isinstance(config, RunConfig):
        raise ValueError(f"recipe {recipe} returned a {type(config).__name__}; expected a fourd.trainer.RunConfig")
    return config


def _value_of(option: str, arguments: list[str]) -> str:
    """Find an option's value before the options are known: the recipe is called with it."""
    for position, word in enumerate(arguments):
        if word == option and position + 1 < len(arguments):
            return arguments[position + 1]
        if word.startswith(option + "="):
            return word.partition("=")[2]
    return ""
