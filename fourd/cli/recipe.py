"""From a recipe's dotted path and the command line to a config."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, fields, replace
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
    """Films to train on: a folder, an index made by `fourd data index`, or a folder made by `fourd data prepare`."""


def parse(arguments: list[str], default_recipe: str, program: str, about: str) -> Arguments:
    """Read `[RECIPE] --out RUN [--data DIR] [overrides]`; every leaf of the recipe's config is an option."""
    recipe, rest = split_recipe(arguments, default_recipe)
    asks_for_help = any(word in ("-h", "--help") for word in rest)
    config = call_recipe(recipe, _value_of("--data", rest), asks_for_help)
    options = tyro.cli(
        Arguments,
        prog=f"{program} [RECIPE]",
        description=f"{about}\n\nRECIPE is the dotted path of a function that returns a run's config, "
        f"now {recipe}; the options below show its values.",
        default=Arguments(out=tyro.MISSING, run=config),
        args=rest,
        config=(tyro.conf.AvoidSubcommands,),
    )
    return replace(options, run=_let_held_out_follow(config, options.run))


def split_recipe(arguments: list[str], default: str) -> tuple[str, list[str]]:
    """Part the recipe, which comes first if it is given at all, from the options."""
    given = bool(arguments) and not arguments[0].startswith("-")
    return (arguments[0], arguments[1:]) if given else (default, arguments)


def _let_held_out_follow(recipe: RunConfig, asked: RunConfig) -> RunConfig:
    """Change held-out clips as the training clips were changed, wherever the recipe has the same value for both."""
    if asked.held_out is None or type(recipe.held_out) is not type(recipe.data):
        return asked
    follows = {}
    for field in fields(recipe.data):
        before, after = getattr(recipe.data, field.name), getattr(asked.data, field.name)
        held_out = getattr(recipe.held_out, field.name)
        if before != after and held_out == before == getattr(asked.held_out, field.name):
            follows[field.name] = after
    return replace(asked, held_out=replace(asked.held_out, **follows))


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
