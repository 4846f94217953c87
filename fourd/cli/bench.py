"""`fourd bench`: measure every backbone beside its rival's own code."""

from __future__ import annotations

import shlex

import tyro

from fourd.bench import BenchConfig, bench_backbones, terminal_table
from fourd.bench.backbones import require_right

SUBJECTS = ("backbones",)


def run(arguments: list[str]) -> None:
    """Measure, print the table, and fail where a backbone's features are not those of its rival."""
    about = (
        "Measure every backbone, with random weights, beside the code that its weights were published with: "
        "are the features the same, and how many clips a second does each encode?"
    )
    subject, *rest = arguments or [""]
    if subject in ("-h", "--help"):
        subject, rest = SUBJECTS[0], ["--help"]
    if subject not in SUBJECTS:
        raise ValueError(f"say what to measure: fourd bench {SUBJECTS[0]}; found {subject!r}")
    config = tyro.cli(BenchConfig, prog=f"fourd bench {subject}", description=about, args=rest)
    rows = bench_backbones(config, shlex.join(["fourd", "bench", *arguments]))
    terminal_table(rows)
    if config.out is not None:
        print(f"rows: {config.out}\ntable: {config.out.with_suffix('.md')}")
    require_right(rows)
