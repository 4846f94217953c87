"""Keep what a finished study found: its rows and tables in results/studies, its plots among the pictures of the docs.

    python benchmarks/keep_study.py runs/masking runs/readouts

Of the rows it keeps those of the metrics that figures are of. Refuses a study that is not finished (`--with-gaps` keeps
it all the same, where a run diverged, say: its table names what is missing), or shown by code with uncommitted changes.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from fourd.results import read_rows, write_rows

_ROOT = Path(__file__).resolve().parents[1]
_KEPT = {"figures.parquet": "figures.parquet", "arms.parquet": "arms.parquet", "table.md": "md"}


def keep(folder: Path, with_gaps: bool) -> list[Path]:
    """Copy what stays of one study; raise ValueError for one that is not to be kept yet."""
    table = (folder / "table.md").read_text()
    missing = [line for line in table.splitlines() if line.startswith("- missing: ")]
    if missing and not with_gaps:
        raise ValueError(f"{folder}: {len(missing)} parts are missing, the first is {missing[0]!r}; run it to its end")
    if json.loads((folder / "shown.json").read_text())["git"]["changed"]:
        raise ValueError(f"{folder}: shown by code with uncommitted changes; commit them and run the command again")
    results, pictures = _ROOT / "results/studies", _ROOT / "docs/images/studies"
    results.mkdir(parents=True, exist_ok=True)
    pictures.mkdir(parents=True, exist_ok=True)
    pairs = [(folder / name, results / f"{folder.name}.{ending}") for name, ending in _KEPT.items()]
    drawn = sorted([*folder.glob("plot_*.png"), *folder.glob("law_*.png")])
    pairs += [(path, pictures / f"{folder.name}_{path.stem}.png") for path in drawn]
    for source, target in pairs:
        shutil.copyfile(source, target)
    return [_keep_rows(folder, results / f"{folder.name}.parquet"), *(target for _, target in pairs)]


def _keep_rows(folder: Path, target: Path) -> Path:
    shown = pq.read_table(folder / "figures.parquet", columns=["metric"])["metric"].unique()
    rows = read_rows(folder / "rows.parquet")
    write_rows(target, rows.table.filter(pc.is_in(rows.table["metric"], value_set=shown)), rows.metrics)
    return target


def main() -> None:
    """Keep the studies that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--with-gaps", action="store_true", help="keep studies of which parts are missing")
    options = parser.parse_args()
    for folder in options.folders:
        for path in keep(folder, options.with_gaps):
            print(path.relative_to(_ROOT))


if __name__ == "__main__":
    main()
