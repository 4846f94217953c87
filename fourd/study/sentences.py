"""The sentences that the numbers support: better, worse, or no difference shown, and whether the paper says so too.

A difference is shown where its 95% interval excludes zero and every seed has it in the same direction.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fourd.study.config import AnyClaim, Best, Claim, Pick, Trend, control_name
from fourd.study.figures import Asked, Figures
from fourd.study.intervals import Estimate, Scores, comparable, contrast, difference, estimate, shared, with_misfit
from fourd.study.numbers import by_thousands

Verdict = Literal["better", "worse", "equal"]


@dataclass(frozen=True)
class Finding:
    """Hold what was found on one entry: how much better (positive is better, whatever the metric), and the verdict.

    told: what else is to be said of it.
    """

    entry: str
    gain: Estimate
    verdict: Verdict
    told: str = ""


@dataclass(frozen=True)
class Sentence:
    """Hold a sentence, and the findings that it rests on."""

    text: str
    findings: tuple[Finding, ...] = ()


def verdict_of(gain: Estimate) -> Verdict:
    """Say what a gain shows."""
    signs = {np.sign(value) for _, value in gain.by_seed}
    if gain.interval.low > 0 and signs == {1.0}:
        return "better"
    return "worse" if gain.interval.high < 0 and signs == {-1.0} else "equal"


def amount(gain: Estimate, sign: str = "+") -> str:
    """Write a gain with its interval, and how many seeds have it."""
    own = gain.interval
    spread = f"[{own.low:{sign}.3g}, {own.high:{sign}.3g}]" if math.isfinite(own.low) else "[no interval: one group]"
    seeds = len(gain.by_seed)
    with_it = sum(value * own.value > 0 for _, value in gain.by_seed)
    told = f"in {with_it} of {seeds} seeds" if seeds > 1 else f"in seed {gain.by_seed[0][0]} alone"
    return f"{own.value:{sign}.3g} {spread} {told}"


def sentences(figures: Figures) -> list[Sentence]:
    """Write a sentence for each claim of a study, and one on who does no better than answers that see no pixels.

    Where it makes no claim, say which arm is best.
    """
    found = [sentence(figures, claim) for claim in figures.study.claims or (Best(),)]
    return [*found, beside_controls(figures)] if figures.controls else found


def sentence(figures: Figures, claim: AnyClaim) -> Sentence:
    """Write the sentence of a claim."""
    asked = [one for one in figures.asked if claim.entry in ("", one.name)]
    if isinstance(claim, Claim):
        return _of_pair(figures, claim, asked)
    return _of_best(figures, claim, asked) if isinstance(claim, Best) else _of_trend(figures, claim, asked)


def _is_of_one_seed(findings: Sequence[Finding]) -> bool:
    return all(len(found.gain.by_seed) == 1 for found in findings)


def _begun(claim: AnyClaim, text: str) -> str:
    return f"{claim.about.rstrip(': ')}: {text}" if claim.about else text


# ----------------------------------------------------------------------------- two arms


def _of_pair(figures: Figures, claim: Claim, asked: Sequence[Asked]) -> Sentence:
    a, b = (side if isinstance(side, Pick) else Pick(side) for side in (claim.a, claim.b))
    findings = [found for one in asked if (found := compared(figures, one, a, b)) is not None]
    names = f"{_named(a)} against {_named(b)}"
    if not findings:
        return Sentence(_begun(claim, f"{names}: not measured on the same seeds and clips yet."))
    text = f"{names}: {_verdicts(findings, _WORDS)}."
    return Sentence(_begun(claim, text + _beside(claim.who, claim.expected, findings)), tuple(findings))


_WORDS: dict[Verdict, str] = {"better": "better on", "worse": "worse on", "equal": "no difference is shown on"}


def _verdicts(findings: Sequence[Finding], words: Mapping[Verdict, str]) -> str:
    """List what is better, what is worse, and what is not shown to be either."""
    told = {kind: [_told(found) for found in findings if found.verdict == kind] for kind in words}
    return "; ".join(f"{words[kind]} {', '.join(names)}" for kind, names in told.items() if names)


def compared(figures: Figures, asked: Asked, a: Pick, b: Pick) -> Finding | None:
    """Compare two arms on one entry; None where they have no seed, or no clip, in common."""
    sides = [figures.scores(asked, pick) for pick in (a, b)]
    known = [side for side in sides if side is not None]
    if len(known) < 2 or not comparable(known):
        return None
    gain = difference(known[0], known[1], asked.average)
    gain = gain if asked.gain > 0 else gain.negated()
    return Finding(asked.name, gain, verdict_of(gain))


def _named(pick: Pick) -> str:
    told = [pick.readout and f"{pick.readout} readout", "" if pick.depth is None else f"depth {pick.depth:g}", pick.use]
    kept = [text for text in told if text]
    return f"{pick.arm} ({', '.join(kept)})" if kept else pick.arm


def _told(found: Finding) -> str:
    """Write how much better or worse; with its sign where neither is shown."""
    name, more = _words(found.entry), f", {found.told}" if found.told else ""
    if found.verdict == "equal":
        return f"{name} ({amount(found.gain)}{more})"
    return f"{name} by {amount(found.gain if found.verdict == 'better' else found.gain.negated(), '')}{more}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _beside(who: str, expected: str, findings: Sequence[Finding]) -> str:
    """Say where what was found is what is expected, and where it is not; one seed says too little for that."""
    if not expected or _is_of_one_seed(findings):
        return ""
    kinds: dict[str, list[str]] = {}
    for found in findings:
        kinds.setdefault(_ANSWERS[expected, found.verdict], []).append(_words(found.entry))
    told = [f"{kind} on {', '.join(names)}" for kind, names in kinds.items()]
    says = "that there is no difference" if expected == "equal" else expected
    return f" {who[:1].upper() + who[1:]} says {says}: {'; '.join(told)}."


_ANSWERS: dict[tuple[str, Verdict], str] = {
    ("better", "better"): "so it is here",
    ("better", "equal"): "not shown here",
    ("better", "worse"): "here the opposite",
    ("worse", "worse"): "so it is here",
    ("worse", "equal"): "not shown here",
    ("worse", "better"): "here the opposite",
    ("equal", "equal"): "none is shown here either",
    ("equal", "better"): "here there is one",
    ("equal", "worse"): "here there is one",
}
"""What is said of an expectation and a verdict."""


# ----------------------------------------------------------------------------- the best of several


def _of_best(figures: Figures, claim: Best, asked: Sequence[Asked]) -> Sentence:
    names = claim.among or tuple(arm.name for arm in figures.study.arms if arm.pretraining is not None)
    names = names if len(names) > 1 else tuple(arm.name for arm in figures.study.arms)
    told: list[str] = []
    findings: list[Finding] = []
    for one in asked:
        values = _on_shared(figures, one, names)
        if len(values) < 2:
            continue
        ranked = sorted(values, key=lambda name: -one.gain * values[name])
        text, pairs = _best_on(figures, one, ranked, values[ranked[0]])
        told.append(text if _is_of_one_seed(pairs) else text + _as_expected(figures, claim, one, ranked))
        findings += pairs
    if not told:
        return Sentence(_begun(claim, "Fewer than two arms are measured yet."))
    return Sentence(_begun(claim, "Best on " + "; on ".join(told) + "."), tuple(findings))


def _on_shared(figures: Figures, asked: Asked, names: Sequence[str]) -> dict[str, float]:
    """Give the figure of each arm on the seeds and clips that all have: means over different seeds do not rank."""
    found = {name: scores for name in names if (scores := figures.scores(asked, Pick(name))) is not None}
    if not found or not comparable(list(found.values())):
        return {}
    seeds, clips = shared(list(found.values()))
    return {name: estimate(scores.only(seeds, clips), asked.average).value for name, scores in found.items()}


def _best_on(figures: Figures, asked: Asked, ranked: Sequence[str], value: float) -> tuple[str, list[Finding]]:
    best, others = ranked[0], ranked[1:]
    pairs = [(name, compared(figures, asked, Pick(best), Pick(name))) for name in others]
    findings = [found for _, found in pairs if found is not None]
    beaten = [name for name, found in pairs if found is not None and found.verdict == "better"]
    level = [name for name in others if name not in beaten]
    text = f"{_words(asked.name)} {best} ({value:.3g})"
    shown = "better in this seed" if _is_of_one_seed(findings) else "shown better"
    if not level:
        return f"{text}, {shown} than all others", findings
    over = f"{shown} than {', '.join(beaten)}, " if beaten else ""
    return f"{text}, {over}not shown better than {', '.join(level)}", findings


def _as_expected(figures: Figures, claim: Best, asked: Asked, ranked: Sequence[str]) -> str:
    """Say how the arm that is expected to be best does."""
    if claim.expected not in ranked:
        return ""
    if ranked[0] == claim.expected:
        return f" ({claim.who} says the same)"
    found = compared(figures, asked, Pick(claim.expected), Pick(ranked[0]))
    if found is None or found.verdict == "equal":
        return f" ({claim.who} says {claim.expected}, which is not shown to be worse)"
    return f" ({claim.who} says {claim.expected}; here it is worse than the best by {amount(found.gain.negated(), '')})"


# ----------------------------------------------------------------------------- along a factor


def _of_trend(figures: Figures, claim: Trend, asked: Sequence[Asked]) -> Sentence:
    findings = [found for one in asked if (found := _trend_on(figures, claim, one)) is not None]
    if not findings:
        return Sentence(_begun(claim, f"Along {claim.x} fewer than two values are measured yet."))
    told = _verdicts(findings, _ALONG)
    text = f"As {_ALONG_WHAT.get(claim.x, claim.x)} grows, from end to end of a line fitted over its values: {told}."
    return Sentence(_begun(claim, text + _beside(claim.who, claim.expected, findings)), tuple(findings))


_ALONG_WHAT = {
    "depth": "the share of the encoder that is read",
    "block": "the number of blocks passed",
    "parameters": "the number of parameters",
}
_ALONG: dict[Verdict, str] = {
    "better": "better on",
    "worse": "worse on",
    "equal": "no change is shown on",
}


def _trend_on(figures: Figures, claim: Trend, asked: Asked) -> Finding | None:
    found = _levels(figures, claim, asked)
    values = sorted(found)
    if len(values) < 2 or not comparable([scores for own in found.values() for scores in own]):
        return None
    places = np.linspace(-0.5, 0.5, len(values))
    slopes = asked.gain * places / (places**2).sum()
    terms = [(slope / len(found[v]), one) for v, slope in zip(values, slopes.tolist(), strict=True) for one in found[v]]
    means = [
        asked.gain * float(np.mean([estimate(one, asked.average).value for one in found[value]])) for value in values
    ]
    slope = contrast(terms, asked.average)
    rest = np.asarray(means) - np.mean(means) - slope.value * places
    gain = with_misfit(slope, rest.tolist(), places.tolist())
    return Finding(asked.name, gain, verdict_of(gain), _steps(means, values))


def _levels(figures: Figures, claim: Trend, asked: Asked) -> dict[float, list[Scores]]:
    """Collect the scores at each value of a factor."""
    found: dict[float, list[Scores]] = {}
    for arm in figures.arms_with(claim.where):
        depths = [pick for pick in figures.picks(arm) if pick.readout == figures.main_readout]
        for pick in depths if claim.x in ("depth", "block") else [Pick(arm.name)]:
            value, scores = figures.level(arm, claim.x, pick), figures.scores(asked, pick)
            if isinstance(value, (int, float)) and scores is not None:
                found.setdefault(float(value), []).append(scores)
    return found


def _steps(means: Sequence[float], values: Sequence[float]) -> str:
    """Say whether gains go one way all along, or where they are best."""
    rises = set(np.sign(np.diff(means)).tolist())
    if len(means) > 2 and len(rises) == 1 and 0.0 not in rises:
        return "the same way at every step"
    if len(means) == 2:
        return ""
    return f"not at every step: best at {by_thousands(values[int(np.argmax(means))])}"


# ----------------------------------------------------------------------------- beside answers that see no pixels


def beside_controls(figures: Figures) -> Sentence:
    """Say on which entries an arm, however measured, is not shown to be better than the best answer without pixels."""
    picks = [pick for arm in figures.measured for pick in figures.picks(arm)]
    told: list[str] = []
    findings: list[Finding] = []
    for one in figures.asked:
        control = figures.best_control(one)
        pairs = [(p, found) for p in picks if control and (found := compared(figures, one, p, control)) is not None]
        findings += [found for _, found in pairs]
        level = [_named(pick) for pick, found in pairs if found.verdict != "better"]
        if control and level:
            best = figures.estimate(one, control)
            beside = f"{_words(one.name)} ({control_name(control.arm)}, {best.value:.3g})" if best else ""
            told.append(f"{beside} {_not_better(level, len(pairs))}")
    rival = "the best answer that sees no pixels"
    if not told:
        return Sentence(f"All {len(findings)} figures are better than {rival}.", tuple(findings))
    return Sentence(f"Not shown better than {rival}: on {'; on '.join(told)}.", tuple(findings))


_MOST_NAMED = 6


def _not_better(names: Sequence[str], of: int) -> str:
    if len(names) == of:
        return f"all {of} figures"
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"{len(names)} of {of} figures: {', '.join(names[:_MOST_NAMED])}{more}"
