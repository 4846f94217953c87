"""`fourd report`: make the table and the page of a study again, from its rows and pictures."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from fourd import provenance, results
from fourd.demonstration import StudyConfig
from fourd.objectives.simple_mae import SimpleMAEConfig
from fourd.report import Story, terminal_table, write_report
from fourd.report.summary import seeds_of
from fourd.study import Study


@dataclass(frozen=True)
class Arguments:
    """Make the table and the page of a study again, from its rows and pictures."""

    out: Path = Path("runs/demo")
    """Folder of the study."""


def run(arguments: list[str]) -> None:
    """Read the study's config from its folder, and show it."""
    options = tyro.cli(Arguments, prog="fourd report", args=arguments)
    path = options.out / "config.json"
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; expected the folder of a study, such as runs/demo")
    config = provenance.rebuild(json.loads(path.read_text()))
    if isinstance(config, Study):
        raise ValueError(f"{options.out} is of `fourd study`: its page is made again by {config.command or 'it'}")
    if not isinstance(config, StudyConfig):
        raise ValueError(f"{path} describes a {type(config).__name__}; expected a study")
    show(config, options.out)


def show(config: StudyConfig, out: Path) -> None:
    """Write the page of a study, print its table, and say where both are."""
    table, metrics = results.read_rows(out / "rows.parquet")
    headlines = dict(config.presentation.headlines)
    curves = [(f"seed {seed}", out / f"seed_{seed}" / "pretrain" / "metrics.jsonl") for seed in seeds_of(table)]
    environment = json.loads((out / "environment.json").read_text())
    page = write_report(
        out / "report.html", table, metrics, story(config, environment), out / "pictures", curves[:2], headlines
    )
    terminal_table(table, metrics, headlines)
    print(f"rows: {out}/rows.parquet")
    print(f"page: {page}")


def story(config: StudyConfig, environment: dict[str, Any]) -> Story:
    """Say what was done, from the config and the machine's description."""
    shown = config.presentation
    git = environment["git"]
    commit = (git["commit"] or "unknown")[:10] + (" (changed since)" if git["changed"] else "")
    machine = environment["gpu"] or f"{environment['num_cpus']} CPU cores, {environment['processor']}"
    facts = (
        *_pretraining_facts(config),
        ("readouts", f"{config.probe_steps} steps of {config.probe_batch_size} labelled clips"),
        ("depth read out", ", ".join(f"{depth:g}" for depth in config.depths)),
        ("suite", config.suite),
        ("commit", commit),
        ("machine", machine),
        ("software", f"fourd {environment['fourd']}, torch {environment['torch']}"),
    )
    return Story(shown.title, shown.lead, facts, shown.notes, (shown.command,), dict(shown.entry_notes))


def _pretraining_facts(config: StudyConfig) -> tuple[tuple[str, str], ...]:
    pretraining, objective = config.pretraining, config.pretraining.objective
    facts = [("pretraining", f"{pretraining.steps} steps of {pretraining.batch_size} clips, no labels")]
    if isinstance(objective, SimpleMAEConfig):
        backbone = objective.backbone
        facts += [
            ("input", f"{backbone.num_frames} frames of {backbone.size[0]} x {backbone.size[1]} pixels"),
            ("patches hidden", f"{objective.mask_ratio:.0%}, {objective.mask_pattern}"),
            ("encoder", f"{backbone.depth} blocks, {backbone.width} wide"),
            (
                "position tables start as",
                "sine waves" if backbone.position_init == "sincos" else "small random numbers",
            ),
        ]
    return tuple(facts)
