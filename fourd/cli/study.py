"""`fourd study`: a question, answered by arms that are pretrained, measured and compared; ends with a page."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, get_args

import tyro

from fourd.benchmark.work import Means
from fourd.cli.beside import beside, devices_of
from fourd.provenance import find
from fourd.study import Study
from fourd.study.work import run_study

Scale = Literal["tiny", "here", "gpu", "node"]
_MODULES = tuple(f"fourd.recipes.{name}" for name in ("ablations", "reading", "inputs", "scaling"))

ABOUT = """Answer a question by experiment: pretrain what differs, measure it, and write down what the numbers support.

Examples:
  fourd study                                                             list the studies that come with fourd
  fourd study ablations:masking --out runs/masking --dry-run              how long it would take here
  fourd study ablations:masking --out runs/masking --seeds 0 1 2
  fourd study ablations:masking --out runs/masking --arms "tube 0.95" --seeds 3
  fourd study ablations:masking --scale gpu --out runs/masking_gpu --runs runs/pretrainings
  fourd study my_lab.questions:mine --out runs/mine                       one of your own

RECIPE is one of that list, or the dotted path of a function that returns a fourd.study.Study; it may take the scale:
tiny (minutes), here (a small machine), gpu (one GPU), node (eight).

The same command goes on where it was stopped; with more seeds or arms it does only what is missing. Any number of
processes, on as many machines as see the folder, may work on one --out: each takes runs that no other holds. Arms of
the same pretraining share its run, and studies do with the same --runs. What fails is listed, does not stop the
others, and is tried again by the next call. With several GPUs here, a process is started for each.

In --out at the end: report.html, table.md, plots, rows.parquet (every score of every clip), figures.parquet (every
figure, with its interval and each seed), arms.parquet (what each arm cost with each seed)."""


@dataclass(frozen=True)
class Arguments:
    """Hold what the command line says."""

    recipe: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE")]
    """One of those that come with fourd (ablations:masking), or your function's dotted path, package.module:name."""
    out: Path
    """Folder of the study. The same command again does only what is missing."""
    scale: Scale = "here"
    """Which form of the recipe, if it has several."""
    seeds: tuple[int, ...] = ()
    """Of pretraining, random weights and readouts alike; those of the study by default."""
    arms: tuple[str, ...] = ()
    """Names of the arms to work on; all by default. The page shows whatever is there."""
    runs: Path | None = None
    """Folder of the pretrainings and their readouts, which several studies may share; by default within --out."""
    device: str = "auto"
    """cpu, cuda, cuda:N; by default what the recipe says."""
    processes: int = 0
    """How many to start, each with runs and units of its own; by default one for each GPU, without a GPU one."""
    num_workers: int = 0
    """Processes that read clips ahead; by default as many as the recipe says."""
    page: bool = True
    """Show what is there at the end; not needed of a process that shares the work of another one."""
    dry_run: bool = False
    """Say what would be done and what it would take, and end."""


def run(arguments: list[str]) -> None:
    """Do what is missing of a study, and show it; without a recipe, list those that are there."""
    if not arguments:
        print(listed())
        return
    options = tyro.cli(Arguments, prog="fourd study", description=ABOUT, args=arguments)
    study = study_of(options.recipe, options.scale)
    if not study.command:
        study = replace(study, command=_repeated(options))
    devices = devices_of(options.processes, options.device)
    others = () if options.dry_run else devices[1:]
    with beside(["study", *arguments], options.out, others):
        outcome = run_study(
            study,
            options.out,
            options.seeds,
            Means(devices[0], options.num_workers),
            arms=options.arms,
            runs=options.runs,
            dry_run=options.dry_run,
            page=options.page,
            say=lambda text: print(text, flush=True),
        )
    if outcome.reasons:
        told = "\n".join(f"  {reason}" for reason in outcome.reasons)
        raise ValueError(f"{len(outcome.reasons)} parts failed; the same command tries them again:\n{told}")


def _repeated(options: Arguments) -> str:
    """Write the command that repeats all that a page shows; which seeds those are is added when it is made."""
    scale = [] if options.scale == Arguments.scale else ["--scale", options.scale]
    runs = [] if options.runs is None else ["--runs", str(options.runs)]
    return shlex.join(["fourd", "study", options.recipe, *scale, "--out", str(options.out), *runs])


def study_of(dotted: str, scale: str) -> Study:
    """Call the function at a dotted path, with the scale if it takes one; a study that lies there is taken as it is.

    Studies that come with fourd may be named without `fourd.recipes.`, as in ablations:masking.
    """
    function = find(_whole(dotted))
    if isinstance(function, Study):
        return function
    if not callable(function):
        raise ValueError(f"{dotted} is a {type(function).__name__}; expected a function that returns a Study")
    takes_scale = "scale" in inspect.signature(function).parameters
    study = function(scale=scale) if takes_scale else function()
    if not isinstance(study, Study):
        raise ValueError(f"recipe {dotted} returned a {type(study).__name__}; expected a fourd.study.Study")
    return replace(study, scale=scale) if takes_scale and not study.scale else study


def _whole(dotted: str) -> str:
    """Give the whole dotted path of a recipe that comes with fourd; raise ValueError with those of a similar name."""
    name, colon, recipe = dotted.partition(":")
    if colon and f"fourd.recipes.{name}" in _MODULES and not importlib.util.find_spec(name):
        return f"fourd.recipes.{dotted}"
    known = [f"{module.removeprefix('fourd.recipes.')}:{own}" for module in _MODULES for own in _names(module)]
    spellings = {**{one.partition(":")[2]: one for one in known}, **{one: one for one in known}}
    close = difflib.get_close_matches(dotted.removeprefix("fourd.recipes."), spellings, 2, cutoff=0.75)
    near = dict.fromkeys(spellings[one] for one in close)
    if near and not (colon and recipe and _is_there(name)):
        raise ValueError(f"there is no recipe {dotted!r}; is it {' or '.join(near)}?")
    if not colon:
        raise ValueError(f"there is no recipe {dotted!r}: expected module:name; `fourd study` lists what is there")
    return dotted


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _names(module: str) -> list[str]:
    return [one.__name__ for one in _own(importlib.import_module(module))]


def listed() -> str:
    """List the recipes of studies that come with fourd, with what each asks."""
    found = [
        line for name in _MODULES if importlib.util.find_spec(name) for line in _recipes(importlib.import_module(name))
    ]
    told = "\n".join(found) if found else "  (none comes with this version: write a function that returns a Study)"
    scales = ", ".join(get_args(Scale))
    return f"studies, each at a scale of {scales}:\n\n{told}\n\nfourd study RECIPE --out FOLDER; fourd study --help"


def _recipes(module: ModuleType) -> list[str]:
    short = module.__name__.removeprefix("fourd.recipes.")
    return [f"  {short}:{one.__name__}\n      {_first_line(one)}" for one in _own(module)]


def _own(module: ModuleType) -> list[Callable[..., Any]]:
    return [value for name, value in vars(module).items() if not name.startswith("_") and _gives_study(value)]


def _gives_study(value: Any) -> bool:
    returned = getattr(value, "__annotations__", {}).get("return")
    return inspect.isfunction(value) and returned in (Study, "Study")


def _first_line(function: Callable[..., Any]) -> str:
    return (function.__doc__ or "").strip().partition("\n")[0]
