"""`fourd data prepare`: encode films once for training, into shards that any tool can read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from fourd.corpus.backends import Workers
from fourd.corpus.prepare.config import PrepareConfig
from fourd.corpus.prepare.run import SPAN_LIMITS, Prepared, prepare
from fourd.isolation import Limits

_ABOUT = """Encode films once for training: short pieces, small, of one rate, quick to read at random.

Examples:
  fourd data prepare films --out corpus                                   a folder, in pieces of 30 seconds
  fourd data prepare index.parquet --out corpus                           what fourd data index listed
  fourd data prepare s3://bucket/films --out corpus --held-out 0.001      an object store's
  fourd data prepare films --out corpus --min-motion 0.5 --drop-duplicates
  fourd data prepare films --out corpus --backend ray --address auto      over many machines

DIR/shards holds tar files of <key>.mp4 and <key>.json, which WebDataset's reader takes; DIR/train.parquet and
DIR/held_out.parquet say where in them each piece lies. DIR/dropped.parquet and DIR/unusable.csv list what is not in
them, and why. The same command goes on where it was stopped, and gives the same bytes. DIR is a local or shared folder:
to train from an object store, copy it there when it is complete."""


@dataclass(frozen=True)
class Arguments:
    """Hold what the command line says."""

    sources: tyro.conf.Positional[tuple[str, ...]]
    """An index of films, or folders, patterns, lists and URLs as for fourd data index, which then come first."""
    out: Path
    """Folder of the corpus. While it is being made it needs twice the room of the shards."""
    config: Annotated[PrepareConfig, tyro.conf.arg(name="")] = field(default_factory=PrepareConfig)
    run: Annotated[Workers, tyro.conf.arg(name="")] = field(default_factory=Workers)
    seconds: float = SPAN_LIMITS.seconds
    """End work on ten minutes of film that takes longer than this: only against hanging."""
    memory_mib: int = SPAN_LIMITS.memory_bytes // 2**20
    """Memory that decoding and encoding one film may take."""


def run(arguments: list[str]) -> None:
    """Make the corpus, or what is missing of it, and say what it holds."""
    options = tyro.cli(Arguments, prog="fourd data prepare", description=_ABOUT, args=arguments)
    if not options.sources:
        raise ValueError("name an index of films, or where the films are")
    limits = Limits(options.seconds, options.memory_mib * 2**20)
    prepared = prepare(options.sources, options.out, options.config, options.run, limits)
    print(summary(prepared, options.out))
    if not prepared.counts["train"]["pieces"]:
        raise ValueError(f"{options.out} holds no piece to train on; the lists in it say why")


def summary(prepared: Prepared, out: Path) -> str:
    """Say what went in, what came out, what was left out, and what it cost."""
    counts = prepared.counts
    films = counts["films"]
    lines = [
        f"films:    {films['used']} used, {films['hours']:.2f} hours{_unless_none(films['unusable'], 'unusable')}",
        *(_split_line(name, counts[name]) for name in ("train", "held_out")),
        f"dropped:  {', '.join(f'{n} {why}' for why, n in counts['dropped'].items()) or 'none'}",
        f"unusable: {films['unusable']} films, {counts['unusable_pieces']} pieces, see {out}/unusable.csv",
    ]
    if prepared.cpu_s is not None and films["hours"]:
        lines.append(f"cost:     {prepared.cpu_s / films['hours']:.0f} core-seconds for an hour of film")
    if not counts["held_out"]["pieces"]:
        lines.append("note:     no film fell into the held-out part; a larger --held-out gives one")
    return "\n".join([*lines, f"train:    fourd pretrain --data {out} --out runs/mine"])


def _split_line(name: str, split: dict[str, Any]) -> str:
    size = f"{split['bytes'] / 1e9:.3g} GB in {split['shards']} shards"
    return f"{name + ':':<10}{split['pieces']} pieces of {split['films']} films, {split['hours']:.2f} hours, {size}"


def _unless_none(count: int, kind: str) -> str:
    return f"; {count} {kind}" if count else ""
