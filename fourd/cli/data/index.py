"""`fourd data index`: list films, wherever they lie, with all that training needs to know of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from fourd.index.build import IndexSummary, build_index
from fourd.index.scan import EXTENSIONS
from fourd.isolation import Limits

_ABOUT = """List films, wherever they lie, with all that training needs to know of each.

Examples:
  fourd data index films/ --out films.parquet                  a folder, with those below it
  fourd data index '/data/*/clips' list.csv --out all.parquet  patterns, and lists with a column `path`
  fourd data index s3://bucket/films --out films.parquet       an object store (pip install fourd[s3])

Each film is read once from end to end, in a process that may fail, and becomes a row: its path, size, fingerprint,
codec, width and height, rotation, the time of every frame, key frames, sound or not, and the reason if it cannot be
used. The same command again reads only what is new or changed. Then: fourd pretrain --data films.parquet."""


@dataclass(frozen=True)
class Arguments:
    """Hold what the command line says."""

    sources: tyro.conf.Positional[tuple[str, ...]]
    """Folders, films, patterns, CSV or Parquet lists, URLs."""
    out: Path
    """The index, a Parquet file. An earlier one is brought up to date."""
    num_workers: int | None = None
    """Films that are looked into at once; by default one for each processor."""
    seconds: float = Limits.seconds
    """End a film that takes longer than this: only against hanging, so that slow disks change no result."""
    memory_mib: int = Limits.memory_bytes // 2**20
    """Memory that looking into one film may take."""
    extensions: tuple[str, ...] = EXTENSIONS
    """Endings of the names of films."""


def run(arguments: list[str]) -> None:
    """Make the index or bring it up to date, and say what it holds."""
    options = tyro.cli(Arguments, prog="fourd data index", description=_ABOUT, args=arguments)
    if not options.sources:
        raise ValueError("nothing to index: expected folders, films, patterns, lists or URLs")
    limits = Limits(options.seconds, options.memory_mib * 2**20)
    summary = build_index(
        options.sources,
        options.out,
        extensions=tuple(extension.lower() for extension in options.extensions),
        num_workers=options.num_workers,
        limits=limits,
    )
    print(describe(summary))
    print(f"index:    {options.out}")


def describe(summary: IndexSummary) -> str:
    """Say what an index holds, and why the rest cannot be used."""
    lines = [
        f"films:    {summary.num_usable} usable ({summary.seconds / 3600:.2f} hours, {summary.num_frames} frames, "
        f"{summary.num_bytes / 1e9:.2f} GB)" + (f", {summary.num_damaged} of them in part" * bool(summary.num_damaged)),
        f"read:     {summary.num_read} new or changed" + f", {summary.num_gone} gone" * bool(summary.num_gone),
    ]
    if summary.reasons:
        lines.append(f"not used: {summary.reasons.total()}, each with its reason in the index")
    lines += [f"  {count:>7} {reason}" for reason, count in summary.reasons.most_common(10)]
    return "\n".join(lines)
