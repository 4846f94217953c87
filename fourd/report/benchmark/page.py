"""The page of a benchmark: one HTML file that needs nothing else."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import jinja2

from fourd.report.benchmark.figures import Part, metric_of, parts
from fourd.report.benchmark.plots import depth_curves, depth_plot, dot_plot, dots_of
from fourd.report.benchmark.story import BenchmarkStory, EntryStory
from fourd.report.benchmark.table import EXPLAINED, headline, rank_text, remarks, text
from fourd.report.page import MAX_BYTES, embed
from fourd.results import Rows


@dataclass(frozen=True)
class _Picture:
    """Hold one picture of the gallery."""

    kind: str
    caption: str
    film: str
    strip: str


@dataclass(frozen=True)
class _Section:
    """Hold what is shown of one entry."""

    entry: EntryStory
    dots: str
    depths: str
    pictures: tuple[_Picture, ...]


def write_benchmark(out: Path, rows: Rows, about: BenchmarkStory, pictures: Path | None = None) -> Path:
    """Write the page from rows, a story, and a folder of pictures with its `pictures.json`.

    Raises FileNotFoundError for a picture that is named and missing, ValueError for a page above 25 MB.
    """
    shown = parts(rows, about)
    page = _template().render(
        story=about,
        parts=shown,
        headline=lambda entry: headline(rows, entry).replace("\n", ", "),
        cell=text,
        rank=rank_text,
        explained=EXPLAINED,
        remarks=remarks(about),
        sections=[_section(rows, about, shown, entry, pictures) for entry in about.entries],
    )
    size = len(page.encode())
    if size > MAX_BYTES:
        raise ValueError(f"{out}: the page has {size / 2**20:.1f} MB, more than 25: show fewer or smaller films")
    out.write_text(page)
    return out


def _section(
    rows: Rows, about: BenchmarkStory, shown: list[Part], entry: EntryStory, pictures: Path | None
) -> _Section:
    metric = metric_of(rows, entry)
    dots = dots_of(shown, entry, metric.higher_is_better) if metric is not None else []
    curves = depth_curves(rows, about, entry)
    return _Section(
        entry,
        dot_plot(dots) if dots else "",
        depth_plot(curves) if curves else "",
        tuple(_pictures(pictures, entry)) if pictures is not None else (),
    )


def _pictures(folder: Path, entry: EntryStory) -> list[_Picture]:
    listed = json.loads((folder / "pictures.json").read_text())
    return [
        _Picture(
            item["kind"],
            f"{item['caption']} ({item['clip']})",
            embed(folder / item["film"]),
            embed(folder / item["strip"]),
        )
        for item in listed
        if item["entry"] == entry.name
    ]


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fourd.report", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("benchmark/page.html.j2")
