"""What a study is: a question, arms that differ by what is asked about, and what its page shall show and say."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fourd.benchmark.suite import Suite, Use
from fourd.benchmark.units import Wanted
from fourd.trainer import RunConfig
from fourd.types import BackboneConfig

Value = str | float | int

CELL_FACTORS = ("arm", "readout", "depth", "block", "use")
"""The name of an arm, and what one arm is measured by in several ways; any of them may be an axis of a plot."""
COST_FACTORS = ("parameters", "samples", "unique_clips", "flop_per_sample", "flop", "seconds")
"""What an arm cost; any of them may be an axis of a plot."""
_REFERENCE = "arm:"
CONTROL = "control:"
"""What the name of an answer that sees no pixels begins with, such as "control:mean_answer"."""


def control_name(arm: str) -> str:
    """Name an answer that sees no pixels for people."""
    return arm.removeprefix(CONTROL).replace("_", " ")


def weights_of(arm: str) -> str:
    """Name the weights that another arm of the study ends with, under the same seed.

    It may stand wherever a pretraining's config takes a source of weights (`init`, a teacher): that arm is then
    pretrained first.
    """
    return _REFERENCE + arm


def referred(text: str) -> str | None:
    """Give the arm whose weights a text names; None where it names none."""
    return text.removeprefix(_REFERENCE) if text.startswith(_REFERENCE) else None


@dataclass(frozen=True)
class Arm:
    """Describe one cell of a study: what is measured, how its weights came to be, and by what it differs.

    factors: name and value pairs, such as ("mask ratio", 0.95); an arm without the factor of a plot's axis is drawn as
    a level line. backbone: what is measured, which may take other clips than it was pretrained on. pretraining: of its
    weights; its seed is replaced by each seed of the study, and arms of the same pretraining share its run. source:
    weights that exist, anything that `fourd.load` takes. With neither, weights are random, drawn from the seed.
    """

    name: str
    factors: tuple[tuple[str, Value], ...]
    backbone: BackboneConfig
    pretraining: RunConfig | None = None
    source: str = ""

    def __post_init__(self) -> None:
        """Refuse an arm whose weights come from two places, or a name that rows could not keep."""
        if not self.name or self.name.startswith(CONTROL):
            raise ValueError(f"Arm.name is {self.name!r}: expected a name that is not empty, and not of a control")
        if self.pretraining is not None and self.source:
            raise ValueError(
                f"arm {self.name!r} has a pretraining and a source ({self.source}): expected one of them; weights to "
                "start from are named by RunConfig.init"
            )
        names = [name for name, _ in self.factors]
        taken = [name for name in names if names.count(name) > 1 or name in (*CELL_FACTORS, *COST_FACTORS)]
        if taken:
            raise ValueError(
                f"arm {self.name!r}: factors {sorted(set(taken))} are given twice, or mean something else: "
                f"{', '.join((*CELL_FACTORS, *COST_FACTORS))} are known of every arm"
            )

    @property
    def levels(self) -> Mapping[str, Value]:
        """Give its factors by name."""
        return dict(self.factors)

    @property
    def after(self) -> tuple[str, ...]:
        """Name the arms whose weights its pretraining needs."""
        found = [referred(text) for text in texts_of(self.pretraining)]
        return tuple(dict.fromkeys(name for name in found if name is not None))


def texts_of(value: Any) -> Iterator[str]:
    """Give every text that stands somewhere in a config."""
    if isinstance(value, str):
        yield value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for one in dataclasses.fields(value):
            yield from texts_of(getattr(value, one.name))
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from texts_of(item)


@dataclass(frozen=True)
class Pick:
    """Choose one way in which an arm was measured; what is left out is what the table shows."""

    arm: str
    readout: str = ""
    depth: float | None = None
    use: Use | Literal[""] = ""


@dataclass(frozen=True)
class Plot:
    """Describe a plot: a panel for each entry, its headline figure over `x`, a line for each value of `series`.

    x, series: a factor of the arms, "arm", "readout", "depth" (a fraction), "block" (how many of the encoder's blocks
    that is) or "use" (how an arm was measured), or a cost ("parameters", "samples", "unique_clips", "flop_per_sample",
    "flop", "seconds"). where: factors that the arms must have to be drawn. entries: names; empty for all.
    """

    x: str
    series: str = ""
    log_x: bool = False
    title: str = ""
    entries: tuple[str, ...] = ()
    where: tuple[tuple[str, Value], ...] = ()


@dataclass(frozen=True)
class Claim:
    """Ask whether `a` is better than `b`, arms by name or by a `Pick`; the page says what the numbers support.

    entry: empty for each of the suite's, one by one. about: what the sentence begins with. expected: what the paper
    (or `who`) says of a against b; the sentence then says whether it is so here.
    """

    a: str | Pick
    b: str | Pick
    entry: str = ""
    about: str = ""
    expected: Literal["better", "worse", "equal", ""] = ""
    who: str = "the paper"


@dataclass(frozen=True)
class Best:
    """Ask which of several arms is best, and whether it is shown to be better than the others.

    among: names; empty for all that are pretrained, or all arms where fewer than two are. expected: the arm that the
    paper (or `who`) says is best.
    """

    among: tuple[str, ...] = ()
    entry: str = ""
    about: str = ""
    expected: str = ""
    who: str = "the paper"


@dataclass(frozen=True)
class Trend:
    """Ask whether figures get better along a numeric factor or cost: by a line fitted over the order of its values.

    x: a factor of the arms, a cost, "depth" or "block". where: factors that the arms must have. expected: what the
    paper (or `who`) says happens as `x` grows.
    """

    x: str
    where: tuple[tuple[str, Value], ...] = ()
    entry: str = ""
    about: str = ""
    expected: Literal["better", "worse", "equal", ""] = ""
    who: str = "the paper"


AnyClaim = Claim | Best | Trend


@dataclass(frozen=True)
class Study:
    """Describe a study in full.

    why: what makes the question worth asking, in a sentence or two. wanted: how every arm is measured; its seeds are
    the study's. command: what repeats it, but for seeds other than its own; empty for that of the command line. scale:
    which form of the recipe it is. supplement: dotted path of a function that is given `fourd.study.figures.Figures`
    and the study's folder and returns what else the page shows, `fourd.study.page.Supplement`s. References from one
    arm's pretraining to another's weights are written by `weights_of`.
    """

    name: str
    version: int
    question: str
    why: str
    arms: tuple[Arm, ...]
    suite: Suite
    wanted: Wanted = field(default_factory=lambda: Wanted(uses=("frozen",)))
    seeds: tuple[int, ...] = (0, 1, 2)
    plots: tuple[Plot, ...] = ()
    claims: tuple[AnyClaim, ...] = ()
    notes: tuple[str, ...] = ()
    command: str = ""
    scale: str = ""
    supplement: str = ""

    def __post_init__(self) -> None:
        """Refuse names that are there twice, or that nothing has."""
        _require_distinct(self)
        for plot in self.plots:
            for axis in (plot.x, plot.series, *(name for name, _ in plot.where)):
                _require_factor(self, axis, f"a plot of study {self.name!r}")
            _require_some(self, plot.where, f"a plot of study {self.name!r}")
            _require_entries(self, plot.entries)
        for claim in self.claims:
            _require_claim(self, claim)
        _require_order(self)

    def arm(self, name: str) -> Arm:
        """Find an arm; raise ValueError where there is none of that name."""
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise ValueError(
            f"study {self.name!r} has no arm {name!r}; its arms are {', '.join(arm.name for arm in self.arms)}"
        )

    @property
    def factor_names(self) -> tuple[str, ...]:
        """List the factors that any arm has, in their order."""
        return tuple(dict.fromkeys(name for arm in self.arms for name, _ in arm.factors))

    @property
    def entry_names(self) -> tuple[str, ...]:
        """List what is measured."""
        learned = [entry.name for exam in self.suite.exams for entry in exam.entries]
        return (*learned, *(exam.name for exam in self.suite.film_exams))


def _require_distinct(study: Study) -> None:
    names = [arm.name for arm in study.arms]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not names:
        raise ValueError(
            f"study {study.name!r} has {len(names)} arms, several of them called {', '.join(twice) or '(none)'}: "
            "expected one or more, each with its own name"
        )
    if not study.seeds or len(set(study.seeds)) < len(study.seeds) or min(study.seeds) < 0:
        raise ValueError(f"study {study.name!r} has seeds {study.seeds}: expected one or more from 0 on, each once")


def _require_factor(study: Study, name: str, where: str) -> None:
    known = (*study.factor_names, *CELL_FACTORS, *COST_FACTORS)
    if name and name not in known:
        raise ValueError(f"{where} names {name!r}: expected one of {', '.join(known)}")


def _require_entries(study: Study, names: tuple[str, ...]) -> None:
    unknown = [name for name in names if name and name not in study.entry_names]
    if unknown:
        raise ValueError(f"study {study.name!r} measures no {unknown}: it has {', '.join(study.entry_names)}")


def _require_claim(study: Study, claim: AnyClaim) -> None:
    _require_entries(study, (claim.entry,))
    if isinstance(claim, Trend):
        for name in (claim.x, *(name for name, _ in claim.where)):
            _require_factor(study, name, f"a trend of study {study.name!r}")
        _require_some(study, claim.where, f"a trend of study {study.name!r}")
        return
    if isinstance(claim, Best):
        asked = [*claim.among, *([claim.expected] if claim.expected else [])]
    else:
        picks = [side for side in (claim.a, claim.b) if isinstance(side, Pick)]
        for pick in picks:
            _require_measured(study, pick)
        asked = [side.arm if isinstance(side, Pick) else side for side in (claim.a, claim.b)]
    for name in asked:
        study.arm(name)


def _require_some(study: Study, where: tuple[tuple[str, Value], ...], what: str) -> None:
    """Refuse levels that no arm has: nothing would be shown, and nobody told."""
    if where and not any(all(arm.levels.get(name) == level for name, level in where) for arm in study.arms):
        raise ValueError(f"{what} is of arms with {dict(where)}, and none has them; expected levels that arms have")


def _require_measured(study: Study, pick: Pick) -> None:
    """Refuse a way of measuring that the study does not ask for."""
    wanted, suite = study.wanted, study.suite
    depths = {*(wanted.depths or suite.depths), *([suite.finetuned_depth] if "finetuned" in wanted.uses else [])}
    asked: list[tuple[str, Any, Collection[Any]]] = [
        ("use", pick.use, wanted.uses),
        ("readout", pick.readout, wanted.readouts or suite.readouts),
        ("depth", pick.depth, sorted(depths)),
    ]
    for name, value, known in asked:
        if value not in ("", None) and value not in known:
            raise ValueError(
                f"a claim of study {study.name!r} is about {pick.arm!r} at {name} {value!r}, which is not measured: "
                f"expected one of {', '.join(map(str, known))}"
            )


def _require_order(study: Study) -> None:
    """Refuse arms that wait for each other, or for one that is not there or ends with no weights."""
    for arm in study.arms:
        seen, ahead = {arm.name}, list(arm.after)
        while ahead:
            other = study.arm(ahead.pop())
            if other.name in seen:
                raise ValueError(f"study {study.name!r}: the pretraining of {arm.name!r} waits for itself")
            if other.pretraining is None:
                raise ValueError(
                    f"study {study.name!r}: {arm.name!r} needs the weights of {other.name!r}, which is not pretrained"
                )
            seen.add(other.name)
            ahead += other.after
