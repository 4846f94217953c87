"""Measuring the arms of a study by the benchmark's matrix: one contender for each arm and seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from fourd.benchmark.contenders import Contender
from fourd.benchmark.matrix import Matrix, lay_out
from fourd.benchmark.units import AnyUnit
from fourd.study.config import Arm, Study
from fourd.study.costs import Cost, count_parameters
from fourd.weights.load import names
from fourd.weights.starting import identity

ArmSeed = tuple[str, int]
"""The name of an arm, and a seed."""


def contender_of(arm: Arm, weights: Path | None, cost: Cost | None) -> Contender:
    """Say who an arm is for the benchmark: its rows have the arm's name as backbone.

    weights, cost: of its run, where that is complete; without them it is a stand-in by which time can be estimated.
    """
    number = cost.parameters if cost is not None else count_parameters(arm.backbone)
    if arm.pretraining is not None:
        source, of = str(weights or ""), cost.identity if cost is not None else ""
        return Contender(arm.name, "pretrained", arm.backbone, source, of, number)
    if arm.source:
        kind = "published" if arm.source in names() else "given"
        return Contender(arm.name, kind, arm.backbone, arm.source, identity(arm.source), number)
    # what has nothing to learn has no random weights either
    return Contender(arm.name, "random" if number else "none", arm.backbone, num_parameters=number)


def weights_column(arm: Arm) -> str:
    """Give the column `weights` of an arm's frozen rows."""
    if arm.pretraining is not None:
        return "pretrained"
    if arm.source:
        return "published" if arm.source in names() else "given"
    return "random" if count_parameters(arm.backbone) else "none"


def lay_out_all(study: Study, contenders: Mapping[ArmSeed, Contender], out: Path) -> Matrix:
    """List what is to be measured, each arm with its own seed; raise as `fourd.benchmark.matrix.lay_out` does."""
    seeds = sorted({seed for _, seed in contenders})
    parts = []
    for seed in seeds:
        of_seed = [contender for (_, own), contender in contenders.items() if own == seed]
        parts.append(lay_out(study.suite, of_seed, dataclasses.replace(study.wanted, seeds=(seed,)), out))
    units: dict[str, AnyUnit] = {unit.slug: unit for part in parts for unit in part.units}  # controls are in all
    found = tuple(contender for part in parts for contender in part.contenders)
    return dataclasses.replace(parts[0], contenders=found, units=tuple(units.values()))


def alike(units: Sequence[AnyUnit]) -> list[AnyUnit]:
    """Give units that take the same time one contender, so that each kind of encoder is tried once."""
    kinds: list[object] = []
    found: list[AnyUnit] = []
    for unit in units:
        contender = getattr(unit, "contender", None)
        if contender is None:
            found.append(unit)
            continue
        kind = (contender.config, contender.weights == "none")
        if kind not in kinds:
            kinds.append(kind)
        same = dataclasses.replace(contender, backbone=f"encoder {kinds.index(kind)}", identity="", source="")
        found.append(dataclasses.replace(unit, contender=same))  # type: ignore[call-arg]
    return found
