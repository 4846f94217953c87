"""`fourd data doctor`: is a copy of a labelled dataset complete and right, and how is one got?"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from fourd.doctor.examine import ExamineConfig, Report, SplitReport, examine
from fourd.doctor.files import write_lists, write_report
from fourd.doctor.looking import Look
from fourd.doctor.page import Figure, figure, write_page
from fourd.doctor.readers import Reader, all_readers, find_reader
from fourd.doctor.story import how_to_get, listing, text

_ABOUT = """Say whether a copy of a labelled dataset is complete and right, or how to get one.

Examples:
  fourd data doctor                                     which datasets there are, with their licences
  fourd data doctor scannet                             how to get ScanNet, and how its files have to lie
  fourd data doctor scannet /data/scannet               examine a copy: all official splits, 16 clips of each
  fourd data doctor scannet /data/scannet --split val --num-clips 200
  fourd data doctor scannet /data/scannet --split val --all          load every clip
  fourd data doctor kinetics:k400 /data/k400            a reader's other config, here of Kinetics-400
  fourd data doctor my_lab.marbles data/marbles         a reader of your own, by its module (see docs/protocol.md)

It counts recordings against the official lists, loads a sample of clips at their own size, and checks every label:
depth in metres, rigid poses, depth that fits intrinsics and poses (a pose that is inverted does not), points and boxes
in the picture and with their numbers in order, classes that exist, times that rise. OUT holds:

  pictures.html         clips with their labels drawn in: look at them, no check sees what you see
  doctor.json           all that is printed
  SPLIT/clips.txt       the clips that can be had; its sha256 names them beside every figure
  SPLIT/*.csv           what cannot be used or loaded, and why

The verdict is good, usable with gaps (recordings are missing, or some clips are at fault), or broken (a label is wrong
in more than one clip in ten, or more than 1% of the clips cannot be loaded). The exit code is 1 where it is broken."""


@dataclass(frozen=True)
class Arguments:
    """Hold what the command line says."""

    dataset: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="DATASET")] = ""
    """A reader of ours, or package.module[:function] of another one; none lists ours."""
    root: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ROOT")] = ""
    """The folder of the copy; none tells how to get one."""
    split: tuple[str, ...] = ()
    """Splits to examine; by default those of the official lists, of which some may be absent."""
    out: Path | None = None
    """Where lists, pictures and the report are written; by default runs/doctor/DATASET."""
    num_pictures: int = 16
    """Clips of each split that are drawn, and as many again of those that are not fine."""
    config: Annotated[ExamineConfig, tyro.conf.arg(name="")] = field(default_factory=ExamineConfig)


def run(arguments: list[str]) -> None:
    """List the readers, tell about one, or examine a copy; exit with 1 where it is broken or not there."""
    options = tyro.cli(Arguments, prog="fourd data doctor", description=_ABOUT, args=arguments)
    if not options.dataset:
        print(listing(all_readers()))
        return
    reader = find_reader(options.dataset)
    if not options.root:
        print(how_to_get(reader.name, reader.about))
        return
    root = Path(options.root).expanduser()
    _require_copy(reader, root)
    out = options.out or Path("runs/doctor") / reader.name.replace(":", "-")
    report = _examined(reader, root, options, out)
    if report.verdict.word == "broken":
        raise SystemExit(1)


def _require_copy(reader: Reader, root: Path) -> None:
    """Say how to get a copy where there is none, and end."""
    if root.is_dir() and any(root.iterdir()):
        return
    print(how_to_get(reader.name, reader.about))
    raise SystemExit(f"\nfourd data doctor: {root}: {'nothing in it' if root.is_dir() else 'no such folder'}")


def _examined(reader: Reader, root: Path, options: Arguments, out: Path) -> Report:
    """Examine a copy, and write and print what was found."""
    figures: list[Figure] = []

    def draw(split: SplitReport, look: Look) -> None:
        is_fine = look.loaded is not None and all(finding.level == "fine" for finding in look.findings)
        drawn = sum(one.split == split.split for one in figures)
        if drawn < options.num_pictures or (not is_fine and drawn < 2 * options.num_pictures):
            figures.append(figure(split, look))

    report = examine(reader, root, options.split, options.config, draw)
    told = text(report)
    write_report(out / "doctor.json", report)
    write_page(out / "pictures.html", report, told, figures)
    lists = [path for split in report.splits for path in write_lists(out, split)]
    print(told)
    print("\n".join(["", f"pictures: {out / 'pictures.html'}", f"report:   {out / 'doctor.json'}"]))
    print("\n".join(f"list:     {path}" for path in lists))
    return report
