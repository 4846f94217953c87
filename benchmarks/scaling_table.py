"""Print the table of docs/scaling.md: which size on which hardware, as `fourd plan` says.

`python benchmarks/scaling_table.py`; measuring what was not measured before takes about a minute for each size.
"""

from __future__ import annotations

import shlex

from fourd.cli.plan import resolve
from fourd.planner import Plan, make_plan

COMMANDS = (
    *(f"--model {size}" for size in "SBLHGe"),
    *(f"--model {size} --gpu rtx-4090" for size in "SBLH"),
    "--model B --gpu l4",
    "--model G --gpu h100",
    "--model e --gpu h100 --gpus 8 --batch 2048",
    "--model e --gpus 8 --batch 2048",
    "--model j --fit --batch 2048",
    "--model j --gpus 4 --batch 2048",
    "--model j --gpus 8 --batch 2048",
    "--model j --gpus 64 --batch 2048",
    "--model j --gpus 256 --batch 4096",
    "--model j --gpu h100 --gpus 64 --batch 2048",
)
TITLES = (
    *("size", "on", "batch", "split over", "recompute", "parts x clips", "GB a rank", "clips/s", "GPU-hours", "days"),
    *("cores", "command"),
)


def cells(plan: Plan, options: str) -> list[str]:
    """Write down a plan."""
    memory = plan.memory
    return [
        plan.model,
        f"{plan.gpus} x {plan.gpu}",
        str(plan.batch),
        str(plan.shard),
        plan.recompute,
        f"{plan.parts} x {plan.clips_per_part}",
        f"{memory.total / 1e9:.1f} of {memory.usable / 1e9:.1f}",
        f"{plan.clips_per_s:,.0f}",
        f"{plan.gpu_hours:,.0f}",
        f"{plan.days:.1f}",
        f"{plan.decode_cores:,.0f}",
        f"`fourd plan {options}`",
    ]


def main() -> None:
    """Plan every row, and print each as soon as it is known."""
    print("| " + " | ".join(TITLES) + " |", "|---" * len(TITLES) + "|", sep="\n")
    for options in COMMANDS:
        print("| " + " | ".join(cells(make_plan(*resolve(shlex.split(options))), options)) + " |", flush=True)


if __name__ == "__main__":
    main()
