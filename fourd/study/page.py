"""What a study leaves for people: one page that needs nothing else, a table, plots, and lines on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from fourd import provenance
from fourd.report.page import MAX_BYTES, embed
from fourd.study import plots, tables
from fourd.study.config import Plot, Study
from fourd.study.costs import read_environment, read_metrics
from fourd.study.figures import Figures
from fourd.study.sentences import Sentence, sentences
from fourd.study.tables import Grid, cost_grid, grids, markdown, write_arms, write_figures

_Facts = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Supplement:
    """Hold what a study adds to its page by itself, such as the fit of a law: see `Study.supplement`."""

    title: str
    sentences: tuple[str, ...] = ()
    pictures: tuple[Path, ...] = ()
    grids: tuple[Grid, ...] = ()


def write(
    figures: Figures, out: Path, run_folders: Sequence[tuple[str, Path]], command: str, gaps: Sequence[str]
) -> Path:
    """Write arms.parquet, table.md, the plots and report.html, print the table, and return the page's path.

    The plots of an earlier call are taken away first: the study may draw others by now. No other file is touched.

    run_folders: the name of an arm, and the folder of one of its runs. gaps: what is missing, in sentences.
    """
    study = figures.study
    for picture in (*out.glob("plot_*.png"), *out.glob("law_*.png")):
        picture.unlink()
    write_arms(figures, out / "arms.parquet")
    write_figures(figures, out / "figures.parquet")
    found, scores, costs = sentences(figures), grids(figures), cost_grid(figures)
    facts = _facts(figures, [folder for _, folder in run_folders])
    provenance.write_json(out / "shown.json", provenance.environment())
    more = tuple(provenance.find(study.supplement)(figures, out)) if study.supplement else ()
    about = (*facts, ("intervals", intervals_explained(figures)), ("command", f"`{command}`"))
    all_tables = [scores[0], costs, *scores[1:], *(grid for one in more for grid in one.grids)]
    said = [*found, *(Sentence(text) for one in more for text in one.sentences)]
    (out / "table.md").write_text(markdown(study, said, all_tables, (*about, *_as_facts(gaps))))
    drawn = _draw(figures, out)
    curves = out / "plot_pretraining.png"
    has_curves = plots.draw_curves([(name, read_metrics(folder)) for name, folder in run_folders], curves)
    tables.show(study, found, [scores[0], tables.brief(costs)])
    return _page(
        out / "report.html",
        study=study,
        sentences=found,
        gaps=gaps,
        facts=facts,
        intervals=intervals_explained(figures),
        plots=[(path.stem, embed(path)) for path in drawn],
        grids=scores,
        costs=costs,
        curves=embed(curves) if has_curves else "",
        asked=figures.asked,
        command=command,
        supplements=[(one, [embed(picture) for picture in one.pictures]) for one in more],
    )


def _as_facts(gaps: Sequence[str]) -> _Facts:
    return tuple(("missing", gap) for gap in gaps)


def _draw(figures: Figures, out: Path) -> list[Path]:
    """Draw the plots of a study; where it names none, one of the arms side by side."""
    wanted = figures.study.plots or (Plot("arm"),)
    paths = [out / f"plot_{number}.png" for number in range(1, len(wanted) + 1)]
    return [path for plot, path in zip(wanted, paths, strict=True) if plots.draw(figures, plot, path)]


_THICK = (
    "thick ones leave out what makes clips hard for all, so that they can be compared with each other (of few seeds "
    "they may come out wider)"
)


def intervals_explained(figures: Figures) -> str:
    """Say what the intervals of a page rest on."""
    seeds = sorted({seed for _, seed in figures.costs})
    if len(seeds) == 1:
        return (
            f"Thin bars are 95% intervals over groups of test clips, {_THICK}. There is one seed ({seeds[0]}): nothing "
            "is known of what another one would give, and no difference here is more than one of these very runs."
        )
    few = " So few seeds say little of their spread: look at each of them." if len(seeds) < 5 else ""
    return (
        f"Thin bars are 95% intervals over {len(seeds)} seeds (Student's t) and groups of test clips (bootstrap), "
        f"{_THICK}; small dots are the seeds. A difference counts as shown where its interval excludes zero and all "
        f"seeds agree.{few}"
    )


def _facts(figures: Figures, run_folders: Sequence[Path]) -> _Facts:
    study = figures.study
    environment = provenance.environment()
    trained = [read_environment(folder) for folder in run_folders]
    machines = sorted({_machine(one) for one in (*trained, environment)})
    commits = sorted({_commit(one) for one in trained})
    shown = f"{figures.main_use}, {figures.main_readout} readout, depth {study.suite.table_depth:g}"
    return (
        ("study", f"{study.name}, version {study.version}" + (f", {study.scale}" if study.scale else "")),
        ("arms", f"{len(figures.measured)} of {len(study.arms)} measured"),
        ("seeds", ", ".join(map(str, sorted({seed for _, seed in figures.costs})))),
        ("suite", f"{study.suite.label}, constants {study.suite.fingerprint}"),
        ("the table shows", shown),
        ("machine" if len(machines) == 1 else "machines", "; ".join(machines)),
        ("software", f"fourd {environment['fourd']}, torch {environment['torch']}, commit {_commit(environment)}"),
        ("pretrained by", f"commit {', '.join(commits)}" if commits else "nothing here"),
    )


def _machine(environment: dict[str, Any]) -> str:
    return str(environment["gpu"] or f"{environment['num_cpus']} CPU cores, {environment['processor']}")


def _commit(environment: dict[str, Any]) -> str:
    git = environment["git"]
    return (git["commit"] or "unknown")[:10] + (" (changed since)" if git["changed"] else "")


def _page(out: Path, **shown: Study | Sequence[Sentence] | Sequence[Grid] | Any) -> Path:
    page = _template().render(**shown)
    size = len(page.encode())
    if size > MAX_BYTES:
        raise ValueError(f"{out}: the page has {size / 2**20:.1f} MB, more than 25: name fewer plots")
    aside = out.with_name(f".{out.name}.tmp")
    aside.write_text(page)
    aside.replace(out)
    return out


def _template() -> jinja2.Template:
    loaders = [jinja2.PackageLoader("fourd.study", "."), jinja2.PackageLoader("fourd.report", ".")]
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("page.html.j2")
