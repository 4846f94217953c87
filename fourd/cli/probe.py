"""`fourd probe`: learn readouts on a backbone, and score them on held-out clips."""

from __future__ import annotations

from pathlib import Path

from fourd import results
from fourd.cli.recipe import parse
from fourd.evaluate import Subject, evaluate
from fourd.objectives.probe import Probe, ProbeConfig
from fourd.report import terminal_table
from fourd.trainer import fit

DEFAULT_RECIPE = "fourd.recipes.probe:toy_frozen"


def run(arguments: list[str]) -> None:
    """Train the readouts, write `rows.parquet`, and print the scores."""
    about = "Learn readouts on a backbone (--init names its weights), frozen or finetuned, and score them."
    options = parse(arguments, DEFAULT_RECIPE, "fourd probe", about)
    if options.run.held_out is None:
        raise ValueError("the recipe has no held_out clips to score; give its RunConfig some")
    if not isinstance(options.run.objective, ProbeConfig):
        found = type(options.run.objective).__name__
        raise ValueError(f"the recipe trains what {found} describes; fourd probe expects a ProbeConfig")
    probe = fit(options.run, options.out, "probe")
    assert isinstance(probe, Probe)
    weights = Path(options.run.init).parent.parent.name if options.run.init else "random"
    backbone = type(probe.config.backbone).__module__.rpartition(".")[2]
    subject = Subject(options.out.name, backbone, weights, options.run.seed)
    rows = evaluate(probe, options.run.held_out.build(), subject, options.run.precision)
    results.write_rows(options.out / "rows.parquet", rows.table, rows.metrics)
    terminal_table(rows.table, rows.metrics)
    print(f"rows: {options.out}/rows.parquet")
