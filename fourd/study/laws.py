"""Laws of scaling: how losses and scores move along parameters, operations and samples, and what a law leaves over.

A score is fitted by a line over the logarithm: few sizes cannot tell a curve from it. A loss is fitted by a power law
with a floor, `floor + scale * x ** -exponent` (Hoffmann et al. 2022, section 3.3, one factor at a time), whose
exponent is looked for on a grid: for each, the other two are a least squares solution.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from fourd.study import law_plots
from fourd.study.config import Arm, Pick
from fourd.study.costs import Cost
from fourd.study.figures import Asked, Figures
from fourd.study.intervals import Estimate, Scores, comparable, contrast, with_misfit
from fourd.study.law_plots import Panel
from fourd.study.page import Supplement
from fourd.study.sentences import amount, verdict_of
from fourd.study.tables import Grid

FEWEST = 3
"""Arms that a law needs; with fewer there is nothing left over to judge it by. Not from the paper."""
FEWEST_OF_LOSS = 4
"""Arms that a power law with a floor needs, which has three numbers to be fitted. Not from the paper."""
LOSS = "held_out_loss"
_EXPONENTS = np.geomspace(0.02, 3.0, 400)
_AXES = {"parameters": "parameters", "flop": "operations", "samples": "samples"}


@dataclass(frozen=True)
class LogLine:
    """Hold a line over log10(x): what ten times more brings, where it lies, and what is left over at each place.

    xs: places of the points. step: the slope, for each ten times more. line: its value at each place. rest: what each
    point is above the line.
    """

    xs: tuple[float, ...]
    step: Estimate
    line: tuple[Estimate, ...]
    rest: tuple[Estimate, ...]


@dataclass(frozen=True)
class PowerLaw:
    """Hold `floor + scale * x ** -exponent`, with x relative to the geometric mean of the points."""

    floor: float
    scale: float
    exponent: float
    centre: float

    def at(self, x: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
        """Give its values."""
        return self.floor + self.scale * (x / self.centre) ** -self.exponent

    @property
    def is_at_an_end(self) -> bool:
        """Say whether the exponent lies at an end of what was looked through: then the points do not tell it."""
        return bool(self.exponent in (_EXPONENTS[0], _EXPONENTS[-1]))


# ----------------------------------------------------------------------------- fits


def fit_log_line(xs: Sequence[float], scores: Sequence[Scores], asked: Asked) -> LogLine:
    """Fit a line over log10(x) to the averages of several cells by least squares.

    Slope, line and rest are sums of the averages, so their intervals come from draws that all cells share; that of the
    slope is widened by what the line leaves over. Raises ValueError as `fourd.study.intervals.contrast` does, and for
    fewer than two different places.
    """
    if len(set(xs)) < 2:
        raise ValueError(f"a line needs two places or more, found {sorted(set(xs))}")
    at = np.log10(np.asarray(xs, dtype=np.float64))
    design = np.stack([np.ones_like(at), at], 1)
    solve = np.linalg.pinv(design)
    hat = design @ solve

    def added(weights: Float[np.ndarray, " N"]) -> Estimate:
        return contrast(list(zip(weights.tolist(), scores, strict=True)), asked.average)

    rest = tuple(added(row) for row in np.eye(len(at)) - hat)
    step = with_misfit(added(solve[1]), [one.value for one in rest], at.tolist())
    return LogLine(tuple(xs), step, tuple(added(row) for row in hat), rest)


def fit_power_law(xs: Sequence[float], losses: Sequence[float]) -> PowerLaw:
    """Fit a power law with a floor, which is not below zero, by least squares.

    Raises ValueError for fewer than four different places, where nothing would be left over to judge it by.
    """
    x, y = np.asarray(xs, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    if len(np.unique(x)) < FEWEST_OF_LOSS:
        raise ValueError(
            f"a power law with a floor needs {FEWEST_OF_LOSS} places or more, found {np.unique(x).tolist()}"
        )
    centre = float(np.exp(np.log(x).mean()))
    fits = [_with_exponent(x / centre, y, exponent) for exponent in _EXPONENTS.tolist()]
    left = [float(((floor + scale * (x / centre) ** -exponent - y) ** 2).sum()) for floor, scale, exponent in fits]
    floor, scale, exponent = fits[int(np.argmin(left))]
    return PowerLaw(floor, scale, exponent, centre)


def _with_exponent(x: np.ndarray, y: np.ndarray, exponent: float) -> tuple[float, float, float]:
    """Solve for floor and scale; no loss of pixels is below zero."""
    power = x**-exponent
    floor, scale = np.linalg.lstsq(np.stack([np.ones_like(power), power], 1), y, rcond=None)[0]
    if floor < 0:
        floor, scale = 0.0, float(power @ y / (power @ power))
    return float(floor), float(scale), exponent


# ----------------------------------------------------------------------------- which arms lie along what


def families(figures: Figures) -> dict[str, list[Arm]]:
    """Choose the arms of each axis: sizes that saw equally much, lengths of one size, and all by operations.

    An axis that fewer than three arms lie along, each at its own place, is left out.
    """
    costs = {arm.name: cost for arm in figures.measured if (cost := _cost(figures, arm)) is not None and cost.samples}
    arms = [arm for arm in figures.measured if arm.name in costs]
    chosen = {
        "parameters": _largest(arms, {name: cost.samples for name, cost in costs.items()}),
        "flop": [arm for arm in arms if costs[arm.name].flop],
        "samples": _largest(arms, {name: cost.parameters for name, cost in costs.items()}),
    }
    return {axis: own for axis, own in chosen.items() if len({_place(figures, arm, axis) for arm in own}) >= FEWEST}


def _largest(arms: Sequence[Arm], by: Mapping[str, int]) -> list[Arm]:
    groups: dict[int, list[Arm]] = defaultdict(list)
    for arm in arms:
        groups[by[arm.name]].append(arm)
    return max(groups.values(), key=len, default=[])


def _cost(figures: Figures, arm: Arm) -> Cost | None:
    return next((cost for (name, _), cost in figures.costs.items() if name == arm.name), None)


def _place(figures: Figures, arm: Arm, axis: str) -> float:
    cost = _cost(figures, arm)
    assert cost is not None
    return float(getattr(cost, axis))


# ----------------------------------------------------------------------------- what the page shows


def supplement(figures: Figures, out: Path) -> list[Supplement]:
    """Fit the loss and each task's score along parameters, operations and samples: a part of the page for each axis."""
    parts = [_along(figures, out, axis, arms) for axis, arms in families(figures).items()]
    return [part for part in parts if part is not None]


def _along(figures: Figures, out: Path, axis: str, arms: Sequence[Arm]) -> Supplement | None:
    """Fit what all arms have along one axis; None where they have nothing in common yet."""
    arms = sorted(arms, key=lambda arm: _place(figures, arm, axis))
    xs = [_place(figures, arm, axis) for arm in arms]
    lines = {one: fit_log_line(xs, own, one) for one in figures.asked if (own := _scores(figures, one, arms))}
    losses = _losses(figures, arms) if len(set(xs)) >= FEWEST_OF_LOSS else {}
    panels = [_panel(one, line) for one, line in lines.items()]
    panels += [_loss_panel(xs, losses)] if losses else []
    if not panels:
        return None
    picture = law_plots.draw(panels, _AXES[axis], out / f"law_{axis}.png")
    sentences = [_sentence(axis, one, line) for one, line in lines.items()]
    sentences += [_loss_sentence(axis, xs, losses)] if losses else []
    grid = Grid("What the laws leave over", _heads(arms), tuple(_rest_line(one, line) for one, line in lines.items()))
    return Supplement(f"Along {_AXES[axis]}", tuple(sentences), (picture,), (grid,))


def _scores(figures: Figures, asked: Asked, arms: Sequence[Arm]) -> list[Scores]:
    """Give the scores of all arms; none where one has none, or they have no clip in common."""
    found = [figures.scores(asked, Pick(arm.name)) for arm in arms]
    known = [one for one in found if one is not None]
    return known if len(known) == len(arms) and comparable(known) else []


def _losses(figures: Figures, arms: Sequence[Arm]) -> dict[int, list[float]]:
    """Give the last held-out losses of all arms, for each seed that all have."""
    seeds = sorted({seed for _, seed in figures.costs})
    found: dict[int, list[float]] = {}
    for seed in seeds:
        costs = [figures.costs.get((arm.name, seed)) for arm in arms]
        known = [cost.health[LOSS] for cost in costs if cost is not None and LOSS in cost.health]
        if len(known) == len(arms):
            found[seed] = known
    return found


def _sentence(axis: str, asked: Asked, line: LogLine) -> str:
    gain = line.step if asked.gain > 0 else line.step.negated()
    name = asked.name.replace("_", " ")
    largest = max(abs(one.value) for one in line.rest)
    shown = {"better": "better", "worse": "worse", "equal": "no change is shown"}[verdict_of(gain)]
    return (
        f"Ten times more {_AXES[axis]}: {name} {shown}, {asked.metric.name} by {amount(line.step)}; the points lie "
        f"within {largest:.2g} of that line."
    )


def _loss_sentence(axis: str, xs: Sequence[float], losses: Mapping[int, Sequence[float]]) -> str:
    law = fit_power_law(xs, np.mean(list(losses.values()), axis=0).tolist())
    if law.scale <= 0:
        return f"The held-out loss does not fall with more {_AXES[axis]}: no power law describes it."
    own = [fit_power_law(xs, values).exponent for values in losses.values()]
    rest = law.at(np.asarray(xs)) - np.mean(list(losses.values()), axis=0)
    told = f"The held-out loss follows {law.floor:.4g} + {law.scale:.3g} (x / {law.centre:.3g})^-{law.exponent:.3g}"
    seeds = f" (exponents of the seeds {min(own):.3g} to {max(own):.3g})" if len(own) > 1 else ""
    end = " The exponent lies at an end of what was looked through: these points do not tell it." * law.is_at_an_end
    return f"{told} with x in {_AXES[axis]}{seeds}; the points lie within {np.abs(rest).max():.2g} of it.{end}"


def _heads(arms: Sequence[Arm]) -> tuple[str, ...]:
    return ("entry", "for ten times more", *(arm.name for arm in arms))


def _rest_line(asked: Asked, line: LogLine) -> tuple[str, ...]:
    return (f"{asked.title}: {asked.headline}", amount(line.step), *(amount(one) for one in line.rest))


def _panel(asked: Asked, line: LogLine) -> Panel:
    values = [fit.value + rest.value for fit, rest in zip(line.line, line.rest, strict=True)]
    band = [(fit.interval.low, fit.interval.high) for fit in line.line]
    rests = [(rest.value, rest.interval.low, rest.interval.high) for rest in line.rest]
    at = np.geomspace(min(line.xs), max(line.xs), 50)
    fitted = np.interp(np.log(at), np.log(line.xs), [fit.value for fit in line.line])
    return Panel(
        asked.title, asked.quantity, line.xs, tuple(values), tuple(rests), tuple(at), tuple(fitted), tuple(band)
    )


def _loss_panel(xs: Sequence[float], losses: Mapping[int, Sequence[float]]) -> Panel:
    every = np.array(list(losses.values()))
    mean = every.mean(0)
    law = fit_power_law(xs, mean.tolist())
    rest = every - law.at(np.asarray(xs))
    rests = [(float(own.mean()), float(own.min()), float(own.max())) for own in rest.T]
    at = np.geomspace(min(xs), max(xs), 50)
    return Panel("held-out loss", "loss ↓", tuple(xs), tuple(mean.tolist()), tuple(rests), tuple(at), tuple(law.at(at)))
