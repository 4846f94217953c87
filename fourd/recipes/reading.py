"""Studies of how features are read out: which readout, how wide, at which depth, frozen or finetuned.

    fourd study reading:readouts --out runs/readouts --runs runs/pretrainings
    fourd study reading:depth --out runs/depth --runs runs/pretrainings      # shares what is the same

Scales as in `fourd.recipes.ablations`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fourd.benchmark.units import Wanted
from fourd.recipes._arms import DEPTHS, FROZEN, LEARNED, RANDOM, two_arms
from fourd.recipes._worlds import Scale, clips, entries_of, form_of, suite, suite_of
from fourd.recipes.demo import FIRST_CHOICE_CLIP
from fourd.study import Claim, Pick, Plot, Study, Trend


def readouts(scale: Scale = "here") -> Study:
    """Ask which readout finds most in the same features: the seed's third experiment.

    Attention (the paper's), linear, attention after blocks of self-attention, and convolutions for what is asked of
    each pixel. Here 10 minutes of a core for a seed, its pretraining counted; by three seeds attention finds more than
    linear on points, boxes and pose, blocks before it add nothing that is shown. In depth linear is no better than the
    mean answer, see `readouts_at_own_rates`.
    """
    kinds = ("linear", "attention_deep", "dense")
    return _reading(
        scale,
        "readouts",
        Wanted(uses=("frozen",), readouts=("attention", "linear", "attention_deep", "dense")),
        question="Which readout finds most in frozen features?",
        why="A linear readout asks whether the answer lies there open; attention, whether it can be found. The paper "
        "reads by attention.",
        plots=(Plot("readout", "weights"),),
        claims=tuple(Claim(Pick(LEARNED, readout="attention"), Pick(LEARNED, readout=kind)) for kind in kinds),
    )


def readouts_at_own_rates(scale: Scale = "here") -> Study:
    """Ask which readout finds most when each learns at a rate of its own, chosen on clips that nothing is tested on.

    The other studies give all readouts one rate, which may suit one kind and not another. Here 15 minutes of a core for
    a seed: attention still finds more, and random weights gain most from a rate that suits them.
    """
    form = form_of(scale)
    shared = suite(form)
    (exam,) = shared.exams
    own = replace(
        exam,
        choose=clips(form, FIRST_CHOICE_CLIP, form.num_test // 2, [entry.name for entry in exam.entries]),
        frozen=replace(exam.frozen, rates=_RATES),
    )
    claims = (
        Claim(Pick(LEARNED, readout="attention"), Pick(LEARNED, readout="linear"), expected="better"),
        *(Claim(Pick(LEARNED, readout=kind), Pick(RANDOM, readout=kind)) for kind in ("attention", "linear")),
    )
    return Study(
        name="readouts_at_own_rates",
        version=1,
        question="Does attention find more than a linear readout when each has the learning rate that suits it?",
        why="A readout that has not learned enough says nothing of the features.",
        arms=two_arms(form),
        suite=replace(shared, name=f"{shared.name}_own_rates", exams=(own,)),
        wanted=Wanted(uses=("frozen",), readouts=("attention", "linear")),
        plots=(Plot("readout", "weights"),),
        claims=claims,
        notes=(f"Rates are {', '.join(map(str, _RATES))} times {exam.frozen.optim.learning_rate:g}.",),
        scale=scale,
    )


_RATES = (0.25, 1.0, 4.0, 16.0, 64.0, 256.0)
"""So wide that no kind of readout is best at an end: a linear one wants far more than attention. Not from the paper."""


def readout_size(scale: Scale = "here") -> Study:
    """Ask how wide an attention readout should be, for what the encoder knows to be found."""
    form = form_of(scale)
    entries, tasks = [], []
    for share in (0.25, 0.5, 1.0, 2.0):
        width, heads = round(form.readout.width * share), max(round(form.readout.num_heads * share), 1)
        wide = replace(form, readout=replace(form.readout, width=width, num_heads=heads))
        own = [entry for entry in entries_of(wide, form.look, f"_width_{width}") if entry.task.name.startswith(_SIZED)]
        entries += own
        tasks += [entry.name.rpartition("_width_")[0] for entry in own]
    return Study(
        name="readout_size",
        version=1,
        question="How wide should an attention readout be?",
        why="The released readouts are 1,024 wide whatever the encoder; a readout that is too small hides what is "
        "there, one that is too large learns by itself.",
        arms=two_arms(form),
        suite=suite_of(form, tuple(entries), tuple(tasks)),
        wanted=FROZEN,
        plots=(Plot("weights"),),
        claims=(Claim(LEARNED, RANDOM),),
        scale=scale,
        supplement="fourd.recipes._readout_sizes:supplement",
    )


_SIZED = ("depth", "point_tracking", "camera_pose")
"""The tasks whose readouts are made in several sizes."""


def depth(scale: Scale = "here") -> Study:
    """Ask at which depth of the encoder the answers lie, for each task: one of the paper's open questions.

    Here 8 minutes of a core for a seed; by three seeds nearly all is there after one block of four, and the end is
    nowhere shown better than the second block.
    """
    return _reading(
        scale,
        "depth",
        Wanted(uses=("frozen",), readouts=("attention", "linear"), depths=DEPTHS),
        question="At which depth of the encoder do the answers lie?",
        why="The paper reads the last features, or those at 95% of the depth, and does not say what others hold.",
        plots=(Plot("block", "weights"), Plot("block", "readout", where=(("weights", "pretrained"),))),
        claims=(
            Trend("block", (("weights", "pretrained"),)),
            *(
                Claim(Pick(LEARNED, depth=1.0), Pick(LEARNED, depth=depth), about=f"The end against {depth:g}")
                for depth in DEPTHS[:-1]
            ),
        ),
    )


def use(scale: Scale = "here") -> Study:
    """Ask what finetuning adds to frozen features, and whether pretraining is still worth it then.

    Here 11 minutes of a core for a seed; by three seeds a pretrained start is better than a random one on all five
    geometric tasks when all learns along; that this adds to frozen pretrained features is not shown.
    """
    learned, random = (Pick(name, use="finetuned") for name in (LEARNED, RANDOM))
    return _reading(
        scale,
        "use",
        Wanted(uses=("frozen", "finetuned")),
        question="What does finetuning add to frozen features?",
        why="The paper reports both; a frozen backbone runs once for all tasks, a finetuned one for each.",
        plots=(Plot("use", "weights"),),
        claims=(
            Claim(learned, Pick(LEARNED, use="frozen"), expected="better"),
            Claim(Pick(LEARNED, use="frozen"), Pick(RANDOM, use="frozen")),
            Claim(learned, random, about="When all learns along"),
            Claim(Pick(LEARNED, use="frozen"), random, about="Frozen, against all learned from labels alone"),
        ),
    )


def _reading(scale: Scale, name: str, wanted: Wanted, **told: Any) -> Study:
    """Describe a study of one matrix of readouts; each asks for its part, and with the same `--runs` they share it."""
    form = form_of(scale)
    return Study(
        name=name,
        version=1,
        arms=two_arms(form),
        suite=suite(form),
        wanted=wanted,
        scale=scale,
        **told,
    )
