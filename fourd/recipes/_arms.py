"""Arms that several studies have, called alike so that studies with the same `--runs` share their runs and readouts."""

from __future__ import annotations

from typing import Any

from fourd.benchmark.units import Wanted
from fourd.recipes._worlds import Form, pretraining, simple_mae
from fourd.study import Arm

FROZEN = Wanted(uses=("frozen",))
RANDOM = "random"
"""The arm whose weights nobody trained."""
LEARNED = "SimpleMAE"
"""The arm that SimpleMAE trained."""
DEPTHS = (0.4, 0.6, 0.8, 1.0)
"""Fractions of an encoder's depth, as the official code counts: of four blocks after none, one, two and three."""


def random_arm(form: Form, **factors: Any) -> Arm:
    """Describe a form's encoder with random weights."""
    return Arm(RANDOM, tuple(factors.items()), form.encoder)


def two_arms(form: Form) -> tuple[Arm, ...]:
    """Describe a form's encoder with random weights and pretrained."""
    return (
        random_arm(form, weights="random"),
        Arm(LEARNED, (("weights", "pretrained"),), form.encoder, pretraining(form, simple_mae(form))),
    )
