"""`fourd probe`: learn readouts on a backbone, and score them on held-out clips."""

from __future__ import annotations

from fourd import results, weights
from fourd.cli.recipe import parse, split_recipe
from fourd.evaluate import Subject, evaluate
from fourd.objectives.probe import Probe, ProbeConfig
from fourd.parallel import join
from fourd.report import terminal_table
from fourd.trainer import RunConfig, finished, fit

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
    ranks = join(options.run.device)
    if not ranks.is_first:
        return
    if ranks.many:  # the readouts are spread over the ranks: take the whole ones that were written
        probe = finished(options.run, options.out, ranks.device)
    assert isinstance(probe, Probe)
    suite, _ = split_recipe(arguments, DEFAULT_RECIPE)
    subject = Subject(suite, _backbone(probe.config), _weights(options.run), options.run.seed)
    rows = evaluate(probe, options.run.held_out.build(), subject, options.run.precision)
    results.write_rows(options.out / "rows.parquet", rows.table, rows.metrics)
    terminal_table(rows.table, rows.metrics)
    print(f"rows: {options.out}/rows.parquet")


def _backbone(config: ProbeConfig) -> str:
    """Name the architecture, and say so where it was trained along."""
    name = type(config.backbone).__module__.rpartition(".")[2]
    return f"{name} finetuned" if config.use == "finetuned" else name


def _weights(run: RunConfig) -> str:
    """Name weights by what they are, not by where they lie."""
    return f"weights {weights.sha256(run.init)[:8]}" if run.init else "random"
