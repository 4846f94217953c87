"""A plan as a page for people, and as JSON for programs."""

from __future__ import annotations

import json
from dataclasses import asdict

from fourd.planner.ledger import KINDS
from fourd.planner.plan import Plan

_GB = 1e9


def as_json(plan: Plan) -> str:
    """Write a plan as one JSON document; fields as `Plan` names them."""
    return json.dumps(asdict(plan), indent=2)


def as_text(plan: Plan) -> str:
    """Write a plan for people."""
    lines = [
        f"{plan.model} on {plan.gpus} x {plan.gpu}, batches of {plan.batch}, {plan.clips:.3g} clips",
        "",
        *_columns([*_model(plan), *_layout(plan)]),
        "",
        f"memory of a rank at its peak ({plan.memory.at}), GB of 1e9 bytes",
        *_columns(_memory(plan)),
        "",
        *_columns([*_time(plan), *_supply(plan)]),
        *("", *plan.notes) * bool(plan.notes),
        "",
        f"Rates: {plan.gpu_source}. Memory: a step of the real code without numbers; the rest is arithmetic.",
    ]
    return "\n".join(lines)


def train_options(plan: Plan) -> str:
    """Give the options of `fourd pretrain` that lay a run out as planned."""
    return f"--parallel.shard {plan.shard} --parallel.recompute {plan.recompute} --parallel.parts {plan.parts}"


def _model(plan: Plan) -> list[tuple[str, str]]:
    return [
        ("parameters", _count(plan.parameters)),
        ("operations per clip", f"{plan.flop_per_clip / 1e9:,.1f} GFLOP forward and backward"),
        ("checkpoint", f"{_size(plan.checkpoint_bytes)}, {_size(plan.checkpoint_bytes / plan.gpus)} a rank"),
    ]


def _layout(plan: Plan) -> list[tuple[str, str]]:
    held = "whole on every rank" if plan.shard == 1 else f"split over {plan.shard} ranks"
    return [
        ("fastest that fits", f"{held}, recompute {plan.recompute}, {plan.parts} x {plan.clips_per_part} clips a rank"),
        ("options", train_options(plan)),
    ]


def _memory(plan: Plan) -> list[tuple[str, str]]:
    kinds = [(kind, f"{getattr(plan.memory, kind) / _GB:8.2f}") for kind in KINDS]
    share = plan.memory.total / plan.memory.usable
    total = f"{plan.memory.total / _GB:8.2f} of {plan.memory.usable / _GB:.1f} usable ({share:.0%})"
    return [*kinds, ("total", total)]


def _time(plan: Plan) -> list[tuple[str, str]]:
    step = max(plan.compute_s_per_step, plan.traffic_s_per_step)
    beside = f"{plan.traffic_s_per_step:.3g} s of traffic beside it"
    lines = [
        ("speed", f"{plan.clips_per_s:,.0f} clips/s at a utilisation of {plan.utilisation:.0%} (assumed)"),
        ("step", f"{step:.3g} s: {plan.compute_s_per_step:.3g} s of arithmetic, {beside}"),
        ("run", f"{plan.gpu_hours:,.1f} GPU-hours, {plan.days:,.1f} days"),
    ]
    if plan.cost is not None:
        lines.append(("cost", f"{plan.cost:,.0f} at {plan.price:g} a GPU-hour"))
    return lines


def _supply(plan: Plan) -> list[tuple[str, str]]:
    cores = f"{plan.decode_cores:,.0f} cores at {plan.decode_clips_per_s:g} clips/s each"
    return [
        ("clips to decode", f"{plan.unique_clips_per_s:,.0f} a second: {cores}"),
        ("storage to read", f"{_size(plan.read_bytes_per_s)} a second"),
    ]


def _columns(rows: list[tuple[str, str]]) -> list[str]:
    return [f"  {name:<20}{value}" for name, value in rows]


def _count(number: int) -> str:
    return f"{number / 1e9:.2f}e9" if number >= 1e9 else f"{number / 1e6:.1f}e6"


def _size(number: float) -> str:
    for unit, bytes_ in (("TB", 1e12), ("GB", 1e9)):
        if number >= bytes_:
            return f"{number / bytes_:,.1f} {unit}"
    return f"{number / 1e6:,.1f} MB"
