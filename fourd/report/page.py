"""The page: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pyarrow as pa

from fourd.report import plots
from fourd.report.summary import Comparison, Contender, Entry, comparisons, contenders, entries, seeds_of, summarise
from fourd.results import Interval, select
from fourd.types import Metric

MAX_BYTES = 25 * 2**20
"""A page above this size does not travel by mail."""

_MIME = {".webp": "image/webp", ".png": "image/png"}


@dataclass(frozen=True)
class Story:
    """Hold what a page says that is not in the rows."""

    title: str
    lead: str
    facts: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    commands: tuple[str, ...]
    entry_notes: Mapping[str, str]
    """What each entry asks, in a sentence for somebody who has not read the paper."""


@dataclass(frozen=True)
class _Shown:
    """Hold one picture of the gallery."""

    kind: str
    caption: str
    film: str
    strip: str


def write_report(
    out: Path,
    table: pa.Table,
    metrics: Mapping[str, Metric],
    story: Story,
    pictures: Path,
    curves: Sequence[tuple[str, Path]] = (),
    chosen: Mapping[str, str] | None = None,
) -> Path:
    """Write a page from rows, a folder of pictures with its `pictures.json`, and the curves of runs.

    chosen: which metric stands for an entry, where that is not its first. Raises FileNotFoundError for
    a picture that is named and missing, ValueError for a page above 25 MB.
    """
    shown = entries(table, metrics, chosen or {})
    lines = [curve for name, path in curves for curve in plots.read_curves(path, name)]
    attention = comparisons(table, shown, "attention")
    page = _template().render(
        story=story,
        entries=shown,
        contenders=[c for c in contenders(table) if any(c in entry.figures for entry in shown)],
        readouts=_by_readout(table),
        plots=[(name, plots.interval_plot(group)) for name, group in _by_baseline(attention)],
        gains=[(name, group) for name, group in _by_baseline(attention)],
        per_seed=_per_seed(table, shown),
        summary=_summary(attention),
        curves=plots.curve_plot(lines, "step", "mean squared error") if lines else "",
        reconstruction=embed(pictures / "reconstruction.png") if (pictures / "reconstruction.png").exists() else "",
        gallery=_gallery(pictures),
        details=_details(table, metrics),
        seeds=seeds_of(table),
        num_clips=len(set(table["clip"].to_pylist())),
    )
    size = len(page.encode())
    if size > MAX_BYTES:
        raise ValueError(f"{out}: the page has {size / 2**20:.1f} MB, more than 25: show fewer or smaller films")
    out.write_text(page)
    return out


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fourd.report", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters.update(words=_words, figure=_figure, gain=_gain)
    return environment.get_template("page.html.j2")


def _words(name: str) -> str:
    return name.replace("_", " ")


def _figure(interval: Interval) -> str:
    return f"{interval.value:.3g}"


def _gain(interval: Interval) -> str:
    return f"{interval.value:+.3g} [{interval.low:+.3g}, {interval.high:+.3g}]"


def _by_readout(table: pa.Table) -> list[tuple[str, list[Contender]]]:
    """Group the columns of the table: attention, linear, then what needs no readout."""
    grouped: dict[str, list[Contender]] = {}
    for contender in contenders(table):
        grouped.setdefault("knows nothing" if contender.is_control else contender.readout, []).append(contender)
    return list(grouped.items())


def _by_baseline(found: Sequence[Comparison]) -> list[tuple[str, list[Comparison]]]:
    grouped: dict[str, list[Comparison]] = {}
    for comparison in found:
        grouped.setdefault(comparison.baseline.title, []).append(comparison)
    return list(grouped.items())


def _per_seed(table: pa.Table, shown: Sequence[Entry]) -> list[tuple[int, list[Comparison]]]:
    """Compare each seed by itself, where there are several."""
    seeds = seeds_of(table)
    if len(seeds) < 2:
        return []
    return [(seed, comparisons(table, shown, "attention", [seed])) for seed in seeds]


def _summary(found: Sequence[Comparison]) -> list[str]:
    """Say in sentences what the intervals show; nothing here is written by hand."""
    sentences = []
    for name, group in _by_baseline(found):
        names = {
            verdict: [c.entry.replace("_", " ") for c in group if c.verdict == verdict]
            for verdict in ("better", "no difference shown", "worse")
        }
        parts = [f"better on {', '.join(names['better'])}"] if names["better"] else []
        if names["no difference shown"]:
            parts.append(f"not shown to differ on {', '.join(names['no difference shown'])}")
        if names["worse"]:
            parts.append(f"worse on {', '.join(names['worse'])}")
        sentences.append(f"Against {name}, pretrained features are {'; '.join(parts)}.")
    return sentences


def _details(table: pa.Table, metrics: Mapping[str, Metric]) -> list[Entry]:
    """Summarise every metric of every entry."""
    found = []
    for name in dict.fromkeys(table["entry"].to_pylist()):
        for metric in dict.fromkeys(select(table, entry=name)["metric"].to_pylist()):
            of_metric = select(table, entry=name, metric=metric)
            if max(of_metric["weight"].to_pylist()) > 0:
                found.append(summarise(table, name, metrics[metric]))
    return found


def _gallery(pictures: Path) -> list[tuple[str, list[_Shown]]]:
    """Embed the films and strips that `pictures.json` lists, by entry."""
    grouped: dict[str, list[_Shown]] = {}
    for item in json.loads((pictures / "pictures.json").read_text()):
        shown = _Shown(item["kind"], item["caption"], embed(pictures / item["film"]), embed(pictures / item["strip"]))
        grouped.setdefault(item["entry"], []).append(shown)
    return list(grouped.items())


def embed(path: Path) -> str:
    """Turn a picture into an address that holds it; raise FileNotFoundError where it is not there."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is named in pictures.json and is not there: draw the pictures again")
    return f"data:{_MIME[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"
