"""The table of a benchmark: on the terminal, as Markdown, and as a file for those who go on computing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pyarrow as pa
from rich.console import Console
from rich.table import Table

from fourd.report.benchmark.figures import Figure, Line, Part, metric_of, parts
from fourd.report.benchmark.story import BenchmarkStory, EntryStory
from fourd.results import Rows

CONTAMINATED = "†"
EXPLAINED = (
    "Each figure with half of its 95% interval over scenes, then (rank): one more than the number of encoders shown to "
    "be better on the same clips. Random weights and answers that see no pixels are never ranked."
)


def print_benchmark(rows: Rows, story: BenchmarkStory, width: int = 118) -> None:
    """Print the table, part by part, and what must be known to read it."""
    console = Console(width=width)
    for part in parts(rows, story):
        console.print(_view(rows, story, part))
    for sentence in (EXPLAINED, *remarks(story)):
        console.print(sentence, style="dim")


def _view(rows: Rows, story: BenchmarkStory, part: Part) -> Table:
    view = Table(title=part.title, title_justify="left", title_style="bold")
    view.add_column("encoder, source of its weights")
    for entry in story.entries:
        view.add_column(f"{entry.title}\n{headline(rows, entry)}", justify="right")
    view.add_column("mean\nrank", justify="right")
    for line in part.lines:
        cells = [text(line, entry) for entry in story.entries]
        view.add_row(line.name, *cells, rank_text(line))
    return view


def headline(rows: Rows, entry: EntryStory) -> str:
    """Name an entry's figure, how it is averaged, and which way is better."""
    metric = metric_of(rows, entry)
    arrow = "" if metric is None else (" ↑" if metric.higher_is_better else " ↓")
    average = "mean of clips" if entry.average == "clip_mean" else "weighted mean"
    return f"{entry.headline_metric}{arrow}\n{average}"


def text(line: Line, entry: EntryStory) -> str:
    """Write a figure for people; say what is not there."""
    figure = line.figures.get(entry.name)
    if figure is None and line.story is None:
        return "-"  # there is no such answer to this question
    if figure is None:
        return entry.num_clips_note if not entry.clips_sha256 else "not run"
    return figure_text(figure)


def figure_text(figure: Figure) -> str:
    """Write a figure, half of its interval, its rank, and a mark where the weights saw the test data."""
    interval = figure.interval
    half = (interval.high - interval.low) / 2
    spread = f"±{half:.2g}" if math.isfinite(half) else "(one scene)"  # which says nothing of the spread
    rank = f" ({figure.rank})" if figure.rank is not None else ""
    return f"{interval.value:.3g} {spread}{rank}{CONTAMINATED if figure.is_contaminated else ''}"


def rank_text(line: Line) -> str:
    """Write the mean rank, or why there is none."""
    if line.mean_rank is not None:
        return f"{line.mean_rank:.1f}"
    return "random" if line.story is not None and line.story.is_random else "-"


def remarks(story: BenchmarkStory) -> list[str]:
    """List what must be known of contenders and entries."""
    found = [
        f"{contender.display_name} ({contender.use}): {warning}"
        for contender in story.contenders
        for warning in contender.warnings
    ]
    found += [f"{entry.title}: {warning}" for entry in story.entries for warning in entry.warnings]
    for contender in story.contenders:
        if contender.contaminated:
            seen, shared = ", ".join(contender.pretraining_data), ", ".join(contender.contaminated)
            found.append(
                f"{CONTAMINATED} {contender.display_name} ({contender.use}): its weights were trained on {seen}, of "
                f"which the test clips of {shared} are a part, or share films with it"
            )
    return list(dict.fromkeys((*found, *story.notes)))


def markdown(rows: Rows, story: BenchmarkStory) -> str:
    """Write the table for a paper or a README."""
    lines = [
        f"# {story.title}",
        "",
        f"Suite `{story.suite}`, commit {story.commit}, {story.machine}. `{story.command}`",
        "",
    ]
    for part in parts(rows, story):
        lines += [f"## {part.title.capitalize()}", ""]
        heads = [f"{entry.title}: {headline(rows, entry)}".replace("\n", ", ") for entry in story.entries]
        lines += [_row(["encoder", *heads, "mean rank"]), _row(["---"] * (len(heads) + 2))]
        lines += [
            _row([line.name, *(text(line, entry) for entry in story.entries), rank_text(line)]) for line in part.lines
        ]
        lines.append("")
    clips = [
        f"- {entry.title}: {entry.num_clips_note}, list {entry.clips_sha256[:12] or 'none'}" for entry in story.entries
    ]
    return "\n".join([*lines, EXPLAINED, "", *clips, "", *(f"- {remark}" for remark in remarks(story))]) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def summary_table(rows: Rows, story: BenchmarkStory) -> pa.Table:
    """Give every figure of the table as a row, with what it rests on."""
    records = []
    for part in parts(rows, story):
        for line in part.lines:
            for entry in story.entries:
                figure = line.figures.get(entry.name)
                if figure is not None:
                    records.append(_record(story, part, line, entry, figure))
    return pa.Table.from_pylist(records)


def _record(story: BenchmarkStory, part: Part, line: Line, entry: EntryStory, figure: Figure) -> dict[str, object]:
    return {
        "suite": story.suite,
        "entry": entry.name,
        "metric": entry.headline_metric,
        "average": entry.average,
        "encoder": line.name,
        "use": part.use,
        "readout": part.readout,
        "depth": figure.depth,
        "rank": figure.rank,
        "is_random": line.story is not None and line.story.is_random,
        "is_contaminated": figure.is_contaminated,
        "clips_sha256": entry.clips_sha256,
        **{name: getattr(figure.interval, name) for name in ("value", "low", "high")},
        **{name: getattr(figure.interval, name) for name in ("num_clips", "num_groups", "num_undefined")},
    }
