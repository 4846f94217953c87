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
  fourd data index films/ --out films.parquet                    a folder, with those below it
  fourd data index '/data/*/clips' list.csv --out films.parquet  patterns, and lists with a column `path`
  fourd data index s3://bucket/films --out films.parquet         an object store (pip install fourd[s3])

Each film is read once from end to end, in a process that may fail, and becomes a row: its path, size, fingerprint,
codec, width and height, rotation, the time of every frame, key frames, sound or not, and the reason if it cannot be
used. The same command again reads only what is new or changed, and goes on where it was stopped."""


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
    look_again: bool = False
    """Look once more into films that crashed, hung or took too much memory, for instance with higher limits."""


def run(arguments: list[str]) -> None:
    """Make the index or bring it up to date, and say what it holds."""
    options = tyro.cli(Arguments, prog="fourd data index", description=_ABOUT, args=arguments)
    if options.out.suffix != ".parquet":
        raise ValueError(f"--out {options.out}: the index is a Parquet file; expected a name that ends in .parquet")
    if not options.sources:
        raise ValueError("nothing to index: expected folders, films, patterns, lists or URLs")
    summary = build_index(
        options.sources,
        options.out,
        extensions=options.extensions,
        num_workers=options.num_workers,
        limits=Limits(options.seconds, options.memory_mib * 2**20),
        looks_again=options.look_again,
    )
    print(describe(summary))
    print(f"index:    {options.out}")
    if summary.num_usable:
        print(f"train:    fourd pretrain --data {options.out} --out runs/mine")


def describe(summary: IndexSummary) -> str:
    """Say what an index holds, and why the rest cannot be used."""
    damaged = f", {summary.num_damaged} of them up to a damage" if summary.num_damaged else ""
    gone = f", {summary.num_gone} gone" if summary.num_gone else ""
    lines = [
        f"films:    {summary.num_usable} usable{damaged}",
        f"          {summary.seconds / 3600:.2f} hours, {summary.num_frames} frames, {summary.num_bytes / 1e9:.3g} GB",
        f"read:     {summary.num_read} new or changed{gone}",
    ]
    if summary.reasons:
        lines.append(f"not used: {summary.reasons.total()} files; the index names all, in its column `reason`")
        lines += [f"  {count:>7}  {reason}" for reason, count in summary.reasons.most_common(_MOST_REASONS)]
        lines += [
            "          the first of them:",
            *(f"          {_shown(path)}: {why}" for path, why in summary.examples),
        ]
    return "\n".join(lines)


_MOST_REASONS = 10


def _shown(path: str) -> str:
    """Write a path on one line, whatever is in its name."""
    return path if path.isprintable() else repr(path)
