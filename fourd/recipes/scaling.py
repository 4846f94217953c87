"""Studies of size: does a larger model, or a longer training, know more of space and time?

    fourd study scaling:first --out runs/first          # 20M parameters, an hour and a half of a core
    fourd study scaling:ladder --out runs/ladder        # four sizes and more, two CPU cores

Scales as in `fourd.recipes.ablations`.
"""

from __future__ import annotations

from dataclasses import replace

from fourd.backbones import video_vit
from fourd.backbones.video_vit import VideoViTConfig
from fourd.recipes._arms import DEPTHS, FROZEN, RANDOM
from fourd.recipes._worlds import Form, Scale, form_of, pretraining, simple_mae, suite
from fourd.study import Arm, Claim, Plot, Study, Trend


def first(scale: Scale = "here") -> Study:
    """Pretrain a model of 20M parameters and ask it about depth: the seed's first experiment.

    Here S sees 16 frames of 64 pixels, 3,000 steps of 32 clips; 75% are hidden, since 95% would leave 6 of 128 tokens.
    An hour and a half of a core; seed 0 is better than random weights on depth, points, boxes and pose.
    """
    form = form_of(scale)
    if scale == "here":
        encoder = replace(video_vit.small().at(64), position_init="sincos")
        form = replace(form, encoder=encoder, steps=3000, rate=1e-3)
    run = pretraining(form, simple_mae(form))
    return Study(
        name="first",
        version=1,
        question="Does a model of 20M parameters learn depth from hidden pixels?",
        why="The smallest of the paper's sizes, on the smallest of worlds: what everything else stands on.",
        arms=(
            Arm(RANDOM, (("steps", 0),), form.encoder),
            Arm("half", (("steps", form.steps // 2),), form.encoder, replace(run, steps=form.steps // 2)),
            Arm("pretrained", (("steps", form.steps),), form.encoder, run),
        ),
        suite=suite(form),
        wanted=FROZEN,
        seeds=(0,),
        plots=(Plot("steps"),),
        claims=(
            Claim("pretrained", RANDOM),
            Claim("half", RANDOM),
            Claim("pretrained", "half", about="Twice as long"),
        ),
        scale=scale,
    )


def ladder(scale: Scale = "here") -> Study:
    """Pretrain a ladder of sizes on the same clips, and draw the paper's figure: each task against parameters.

    One size is also pretrained for a half, a quarter and an eighth of the steps, so that laws can be fitted along
    parameters, operations and samples; what they leave over is shown. Features are read at several depths: where the
    answers lie may change with size.

    Here about an hour of one core for each seed. By three seeds the means mostly rise to 2.8M parameters and fall
    at 17.9M on every geometric task: its clips are too few for that size. Along samples all get better at every
    doubling.
    """
    form = form_of(scale)
    sizes = _sizes(scale, form)
    arms = []
    for name, encoder in sizes.items():
        arms.append(_rung(form, name, encoder, 1.0))
        arms.append(Arm(f"{name} random", (("size", name), ("weights", "random"), _SIZES), encoder))
    middle = list(sizes)[len(sizes) // 2]
    arms += [_rung(form, middle, sizes[middle], share) for share in (0.5, 0.25, 0.125)]
    whole = (("weights", "pretrained"), _SIZES)
    return Study(
        name="ladder",
        version=1,
        question="Do larger models know more of space and time?",
        why="The paper's claim: from 20M to 22B parameters every 4D task keeps getting better.",
        arms=tuple(arms),
        suite=suite(form),
        wanted=replace(FROZEN, depths=DEPTHS),
        plots=(
            Plot("parameters", "weights", log_x=True, where=(_SIZES,)),
            Plot("flop", "size", log_x=True, where=(("weights", "pretrained"),)),
            Plot("depth", "size", where=whole),
        ),
        claims=(
            Trend("parameters", whole, expected="better"),
            Trend("share of the steps", (("size", middle), ("weights", "pretrained")), about=f"{middle}, longer"),
        ),
        notes=("All sizes see the same clips equally often; the learning rate falls as the root of the width grows.",),
        scale=scale,
        supplement="fourd.study.laws:supplement",
    )


_SIZES = ("part", "sizes")
"""The factor of the arms that differ in size alone."""


def _rung(form: Form, name: str, encoder: VideoViTConfig, share: float) -> Arm:
    """Describe one size, pretrained for a share of the steps."""
    own = replace(form, encoder=encoder, rate=_rate(form, encoder))
    part = (_SIZES,) if share == 1.0 else ()
    factors = (("size", name), ("weights", "pretrained"), ("share of the steps", share), *part)
    run = pretraining(own, simple_mae(own), steps=round(share * form.steps))
    return Arm(name if share == 1.0 else f"{name}, {share:g} of the steps", factors, encoder, run)


def _sizes(scale: Scale, form: Form) -> dict[str, VideoViTConfig]:
    if scale in ("gpu", "node"):
        side = form.pixels
        sizes = {"S": video_vit.small, "B": video_vit.base, "L": video_vit.large}
        sizes |= {"H": video_vit.huge} if scale == "node" else {}
        return {name: size().at(side) for name, size in sizes.items()}
    widths = ((64, 4), (96, 5), (128, 6)) if scale == "tiny" else ((64, 4), (96, 5), (192, 6), (256, 8), (384, 10))
    return {
        f"{width} x {depth}": replace(
            form.encoder, width=width, depth=depth, num_heads=width // 32, mlp_width=4 * width
        )
        for width, depth in widths
    }


def _rate(form: Form, encoder: VideoViTConfig) -> float:
    """Lower the rate as the root of the width grows (not from the paper)."""
    return form.rate * min(1.0, (form.encoder.width / encoder.width) ** 0.5)
