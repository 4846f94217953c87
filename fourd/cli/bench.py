"""`fourd bench`: measure training beside VideoMAE, and every backbone beside its rival's own code."""

from __future__ import annotations

import shlex

import tyro

from fourd.bench import BenchConfig, bench_backbones, pretraining_rows, terminal_table
from fourd.bench.backbones import require_right
from fourd.bench.pretraining import PretrainingConfig, bench_pretraining

SUBJECTS = {
    "pretraining": "a training step beside VideoMAE's: clips per second, and their ratio",
    "backbones": "every backbone beside the code that its weights were published with: the same features, how fast?",
}


def run(arguments: list[str]) -> None:
    """Measure what is named first."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return
    subject, *rest = arguments
    if subject not in SUBJECTS:
        raise ValueError(f"there is no bench {subject!r}; expected one of {', '.join(SUBJECTS)}")
    command = shlex.join(["fourd", "bench", *arguments])
    {"pretraining": _pretraining, "backbones": _backbones}[subject](rest, command)


def usage() -> str:
    """List the subjects."""
    lines = [f"  {name:<13}{does}" for name, does in SUBJECTS.items()]
    return "\n".join(
        ["usage: fourd bench SUBJECT [OPTIONS]", "", *lines, "", "fourd bench SUBJECT --help lists its options."]
    )


def _pretraining(arguments: list[str], command: str) -> None:
    about = (
        "Measure a training step of SimpleMAE beside one of transformers' VideoMAEForPreTraining, in turns, in one "
        "process: same clips, precision, optimiser and threads."
    )
    config = tyro.cli(PretrainingConfig, prog="fourd bench pretraining", description=about, args=arguments)
    rows = bench_pretraining(config, command)
    if config.json:
        print(pretraining_rows.as_json(rows))
        return
    pretraining_rows.show(rows)
    if config.out is not None:
        print(f"rows: {config.out}\ntable: {config.out.with_suffix('.md')}\npicture: {config.out.with_suffix('.png')}")


def _backbones(arguments: list[str], command: str) -> None:
    """Measure, print the table, and fail where a backbone's features are not those of its rival."""
    about = (
        "Measure every backbone, with random weights, beside the code that its weights were published with: "
        "are the features the same, and how many clips a second does each encode?"
    )
    config = tyro.cli(BenchConfig, prog="fourd bench backbones", description=about, args=arguments)
    rows = bench_backbones(config, command)
    terminal_table(rows)
    if config.out is not None:
        print(f"rows: {config.out}\ntable: {config.out.with_suffix('.md')}")
    require_right(rows)
