"""`fourd data check`: verify what an index or shards hold, and leave out what is broken."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from fourd.corpus.check.run import CheckConfig, Report, apply, check, write_problems
from fourd.corpus.contact_sheet import contact_sheet
from fourd.isolation import Limits

_ABOUT = """Verify what an index or shards hold: fingerprints, and the first, middle and last frame of everything.

Examples:
  fourd data check films.parquet                                 every film of an index
  fourd data check corpus --sample 1000                          of a prepared corpus, a thousand pieces of each part
  fourd data check corpus --picture sheet.png                    and a page of pictures to look at
  fourd data check shards/*.tar                                  tar files of films that have no index
  fourd data check films.parquet --quarantine runs/mine/quarantine.jsonl --apply films-2.parquet

--apply writes a new index without what is at fault; the old one stays. Films and pieces whose bytes could not be had
are not taken out: they are listed as not checked. The exit code is 0 only if all is well."""

_SHOWN = 10


@dataclass(frozen=True)
class Arguments:
    """Hold what the command line says."""

    paths: tyro.conf.Positional[tuple[str, ...]]
    """Indexes of films or of pieces, prepared folders, uncompressed tar files."""
    apply: Path | None = None
    """Write a new version of the index, the only one named, without what is at fault."""
    picture: Path | None = None
    """Write a page of pictures: a frame of those that are well, and the reason of those that are not."""
    problems: Path | None = None
    """List all that is wrong in this CSV file; by default beside the first path, where anything is."""
    config: Annotated[CheckConfig, tyro.conf.arg(name="")] = field(default_factory=CheckConfig)
    seconds: float = Limits.seconds
    """End a check of one film that takes longer than this: only against hanging."""


def run(arguments: list[str]) -> None:
    """Check, say what was found, and exit with 1 where anything is wrong."""
    options = tyro.cli(Arguments, prog="fourd data check", description=_ABOUT, args=arguments)
    if not options.paths:
        raise ValueError("nothing to check: expected an index, a prepared folder or tar files")
    report = check(options.paths, options.config, Limits(seconds=options.seconds))
    print(summary(report))
    if report.problems:
        first = Path(options.paths[0]).expanduser()
        listed = options.problems or first.with_name(f"{first.name}.problems.csv")
        write_problems(report, listed)
        print(f"listed:   {listed}")
    if options.picture is not None:
        options.picture.parent.mkdir(parents=True, exist_ok=True)
        contact_sheet(report.pictures).save(options.picture)
        print(f"picture:  {options.picture}")
    if options.apply is not None:
        if len(options.paths) > 1:
            raise ValueError(f"--apply with {len(options.paths)} paths: name one index")
        removed = apply(options.paths[0], report, options.apply)
        print(f"index:    {options.apply}, without {removed} that are at fault")
    if not report.is_well:
        raise SystemExit(1)


def summary(report: Report) -> str:
    """Say how much was checked, how much is usable, and what is wrong, most frequent first."""
    share = report.num_usable / max(report.num_checked, 1)
    lines = [
        f"checked:  {report.num_checked} of {report.num_rows}",
        f"usable:   {report.num_usable} ({share:.1%}), {report.seconds / 3600:.2f} hours, "
        f"{report.num_bytes / 1e9:.3f} GB",
    ]
    if report.known:
        lines.append(f"not used: {report.known.total()}, as the index says")
    for name, unread in (("at fault", False), ("not read", True)):
        found = [problem for problem in report.problems if problem.unread == unread]
        if found:
            lines.append(f"{name}: {len(found)}")
            lines += _examples(Counter(problem.reason for problem in found), {p.reason: p.key for p in reversed(found)})
    return "\n".join(lines)


def _examples(reasons: Counter[str], first: dict[str, str]) -> list[str]:
    return [f"  {count:>7} {reason} (first: {first[reason]})" for reason, count in reasons.most_common(_SHOWN)]
