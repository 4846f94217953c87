"""`fourd plan`: what a training takes, before it is started."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import tyro

from fourd.backbones.video_vit import SIZES
from fourd.objectives.simple_mae import SimpleMAEConfig
from fourd.planner import MatrixConfig, PlanConfig, as_json, as_text, make_matrix, make_plan
from fourd.planner.matrix import markdown
from fourd.provenance import find
from fourd.trainer import RunConfig
from fourd.types import ObjectiveConfig

_ABOUT = """Say what a training takes: memory, time, money, and the layout that is fastest.

Memory is measured, by a step of the real code on tensors without numbers; that takes seconds to a minute, once.

Examples:
  fourd plan --model B                                        one H200
  fourd plan --model j --gpus 64 --batch 2048 --price 3       a cluster, and its bill
  fourd plan --model j --fit --batch 2048                     the fewest GPUs that do
  fourd plan --model L --gpu rtx-4090 --gpus 1 --batch 128    what you have at home
  fourd plan --model my_lab.recipes:j --gpus 8 --json         a recipe of yours, for a program; its batch and clips
                                                              stand unless --batch and --clips are given
  fourd plan matrix --out plan.parquet                        every size on 1, 8, 64 and 256 GPUs
"""


def run(arguments: list[str]) -> None:
    """Plan a run, or every size on several numbers of GPUs."""
    if arguments[:1] == ["matrix"]:
        about = "Build, lay out and step every size without numbers, and write down the memory of a rank."
        print(
            markdown(
                make_matrix(tyro.cli(MatrixConfig, prog="fourd plan matrix", description=about, args=arguments[1:]))
            )
        )
        return
    config, objective = resolve(arguments)
    plan = make_plan(config, objective)
    print(as_json(plan) if config.json else as_text(plan))


def resolve(arguments: list[str]) -> tuple[PlanConfig, ObjectiveConfig]:
    """Read the options, and find what is to be trained; a recipe's own values stand where no option is given."""
    config = tyro.cli(PlanConfig, prog="fourd plan", description=_ABOUT, args=arguments)
    if config.model in SIZES:
        return config, SimpleMAEConfig(SIZES[config.model]())
    if ":" not in config.model:
        raise ValueError(
            f"--model {config.model}: expected one of {' '.join(SIZES)}, or the dotted path of a recipe, "
            "package.module:name"
        )
    found = _call(config.model)
    if isinstance(found, ObjectiveConfig):
        return config, found
    if not isinstance(found, RunConfig):
        raise ValueError(
            f"--model {config.model} returned a {type(found).__name__}; expected a fourd.trainer.RunConfig or an "
            "objective's config, such as fourd.objectives.simple_mae:SimpleMAEConfig"
        )
    of_recipe: dict[str, Any] = {"batch": found.batch_size, "repeat": found.repeat, "precision": found.precision}
    of_recipe |= {"reduce": found.parallel.reduce, "clips": float(found.steps * found.batch_size)}
    config = tyro.cli(PlanConfig, prog="fourd plan", args=arguments, default=replace(PlanConfig(), **of_recipe))
    return config, found.objective


def _call(recipe: str) -> Any:
    """Call the function at a dotted path; of films that it would train on, none are looked at."""
    function = find(recipe)
    takes_data = "data" in inspect.signature(function).parameters
    return function(data="DIR") if takes_data else function()
