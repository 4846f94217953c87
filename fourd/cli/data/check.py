"""`fourd data check`: verify what an index or shards hold, and leave out what is broken."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from fourd.corpus.check.apply import apply, require_applicable
from fourd.corpus.check.report import Reasons, Report, problem_list
from fourd.corpus.check.run import CheckConfig, check
from fourd.corpus.check.subjects import Subject, subjects_of
from fourd.corpus.contact_sheet import contact_sheet
from fourd.isolation import Limits

_ABOUT = """Verify what an index or shards hold: fingerprints, and the first, middle and last frame of everything.

Examples:
  fourd data check films.parquet                                 every film of an index
  fourd data check corpus --sample 1000                          of a prepared corpus, a thousand pieces of each part
  fourd data check s3://bucket/corpus --sample 1000              of one in an object store
  fourd data check corpus --picture sheet.png                    and a page of pictures to look at
  fourd data check shards/*.tar                                  tar files of films that have no index
  fourd data check films.parquet --quarantine runs/mine/quarantine.jsonl --apply films-2.parquet

All that is wrong is listed in a CSV file, which is written while the check goes on. --apply writes a new index without
what is at fault, and never over another file; with --sample, only the rows that were checked are judged. What could not
be read is listed as not checked, and stays in the index. The exit code is 0 only if all is well."""

_SHOWN = 10


@dataclass(frozen=True)
class Arguments:
    """Hold what the command line says."""

    paths: tyro.conf.Positional[tuple[str, ...]]
    """Indexes of films or of pieces, prepared folders, uncompressed tar files."""
    apply: Path | None = None
    """Write a new version of the index, the only one named, without what is at fault. One of pieces has to be in the
    same folder as the old one, since shards are found from there."""
    picture: Path | None = None
    """Write a page of pictures: a frame of those that are well, and the reason of those that are not."""
    problems: Path | None = None
    """List all that is wrong in this CSV file; by default beside the first index, with the ending .problems.csv."""
    config: Annotated[CheckConfig, tyro.conf.arg(name="")] = field(default_factory=CheckConfig)
    seconds: float = Limits.seconds
    """End a check of one film that takes longer than this: only against hanging."""
    memory_mib: int = Limits.memory_bytes // 2**20
    """Memory that checking one film may take."""


def run(arguments: list[str]) -> None:
    """Check, say what was found, and exit with 1 where anything is wrong."""
    options = tyro.cli(Arguments, prog="fourd data check", description=_ABOUT, args=arguments)
    if not options.paths:
        raise ValueError("nothing to check: expected an index, a prepared folder or tar files")
    limits = Limits(options.seconds, options.memory_mib * 2**20)
    subjects = subjects_of(options.paths, limits)
    problems = options.problems or _beside(subjects[0])
    _require_apart(subjects, problems, options.picture)
    if options.apply is not None:
        require_applicable(subjects, options.apply)
    with problem_list(problems) as on_problem:
        report = check(subjects, options.config, limits, on_problem)
    print(summary(report, options.config))
    print(f"listed:   {problems}")
    _write_picture(report, options.picture)
    if options.apply is not None:
        print(_applied(apply(subjects[0], report, options.apply), report, options.apply))
    if not report.is_well:
        print(_verdict(report), file=sys.stderr)
        raise SystemExit(1)


def _beside(subject: Subject) -> Path:
    """Name the list of problems of an index; that of a store's index lies in the working folder."""
    path = Path(subject.name)
    return Path(f"{path.name if '://' in subject.name else path}.problems.csv")


def _require_apart(subjects: Sequence[Subject], problems: Path, picture: Path | None) -> None:
    """Refuse to write over what is checked."""
    read = {Path(subject.name).resolve() for subject in subjects}
    for option, path in (("--problems", problems), ("--picture", picture)):
        if path is not None and path.resolve() in read:
            raise ValueError(f"{option} {path} is what is checked: name another file")


def _write_picture(report: Report, path: Path | None) -> None:
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(report.pictures).save(path, format="PNG")
    print(f"picture:  {path}")


def _applied(num_removed: int, report: Report, out: Path) -> str:
    unjudged = report.num_rows - report.num_checked
    note = f"; {unjudged} rows were not in the sample, and stay as they are" if unjudged else ""
    return f"index:    {out}, without {num_removed} that are at fault{note}"


def _verdict(report: Report) -> str:
    """Say in a sentence why the exit code is not 0."""
    if not report.at_fault and not report.not_judged:
        return "fourd data check: nothing that was checked is usable"
    return (
        f"fourd data check: {len(report.at_fault)} of {report.num_checked} are at fault, "
        f"{len(report.not_judged)} could not be checked"
    )


def summary(report: Report, config: CheckConfig) -> str:
    """Say how much was checked, how much is usable, and what is wrong, most frequent first."""
    share = report.num_usable / max(report.num_checked, 1)
    sample = f", a sample (seed {config.seed})" if report.num_checked < report.num_rows else ""
    damaged = f", {report.num_damaged} of them up to a damage" if report.num_damaged else ""
    lines = [
        f"checked:  {report.num_checked} of {report.num_rows}{sample}",
        f"usable:   {report.num_usable} ({share:.1%}){damaged}, {report.seconds / 3600:.2f} hours, "
        f"{report.num_bytes / 1e9:.3g} GB",
    ]
    if config.quarantine is not None:
        lines.append(f"quarantine: {report.num_quarantined} clips named; {report.num_found} rows of them are checked")
    if report.known:
        lines.append(f"not used: {report.known.total()}, as the index says")
    for name, reasons in (("at fault", report.at_fault), ("not checked", report.not_judged)):
        if reasons:
            lines += [f"{name}: {len(reasons)}", *_examples(reasons)]
    return "\n".join(lines)


def _examples(reasons: Reasons) -> list[str]:
    return [
        f"  {count:>7}  {_shown(first.reason)} (first: {_shown(first.key)})"
        for count, first in reasons.most_common(_SHOWN)
    ]


def _shown(text: str) -> str:
    """Write a text on one line, whatever is in it."""
    return text if text.isprintable() else repr(text)
