"""Studies of what matters in pretraining: what is hidden, the decoder, the objective. `fourd study` runs them.

    fourd study ablations:masking --out runs/masking                # on two CPU cores
    fourd study ablations:masking --scale gpu --out runs/masking    # on one GPU

Every recipe takes a scale: `tiny` (minutes, to see it run), `here` (two CPU cores, an hour or a few), `gpu`, `node`;
the embedded world is made on the spot at each. What a study costs is measured and said before it begins. None of the
values is from the paper unless it says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fourd.backbones.video_vit import VideoViTConfig
from fourd.masks import Mask
from fourd.objectives.contrastive import ContrastiveConfig
from fourd.objectives.distillation import DistillationConfig
from fourd.objectives.future_prediction import FuturePredictionConfig
from fourd.objectives.latent_prediction import LatentPredictionConfig
from fourd.objectives.video_mae import VideoMAEConfig
from fourd.recipes._arms import FROZEN, LEARNED, RANDOM, random_arm
from fourd.recipes._worlds import (
    Form,
    Scale,
    clips,
    form_of,
    pretraining,
    simple_mae,
    suite,
)
from fourd.study import Arm, Best, Claim, Plot, Study, Trend, weights_of
from fourd.study.costs import flop_of_step, steps_for
from fourd.tokens import Triple, grid_of
from fourd.types import ClipShape, ObjectiveConfig

# ----------------------------------------------------------------------------- what is hidden

MASK_RATIOS = (0.70, 0.85, 0.95, 0.99)


def masking(scale: Scale = "here") -> Study:
    """Ask how much to hide, and whether at random or in tubes: 4 ratios x 2 patterns.

    The paper hides 95% at random; VideoMAE found tubes better. Frames have 10 x 10 patches or more, so that every cell
    keeps a tube; how many tokens each keeps stands in its factors. The decoder's latents are the coarsest of the study
    `decoder`, so that what is hidden decides what a step costs.

    Here 50 minutes of a core for a seed. By three seeds none of 70% to 95% is best, 99% is worse, and tubes are not
    shown to differ from random masks up to 95%.
    """
    form = _with_patches(form_of(scale), 10)
    latent = tuple(2 * side for side in form.encoder.patch)
    arms = [random_arm(form)]
    for pattern in ("random", "tube"):
        for ratio in MASK_RATIOS:
            objective = simple_mae(form, mask_ratio=ratio, mask_pattern=pattern, decoder_patch=latent)
            kept = Mask(pattern, ratio).num_visible(_grid(form.encoder))  # type: ignore[arg-type]
            factors = (("mask ratio", ratio), ("pattern", pattern), ("tokens kept", kept))
            arms.append(Arm(f"{pattern} {ratio:g}", factors, form.encoder, pretraining(form, objective)))
    return Study(
        name="masking",
        version=1,
        question="How much should be hidden, and in which pattern?",
        why="The paper hides 95% of the patches at random and says that nothing cleverer is needed; VideoMAE hides 90% "
        "in tubes, so that motion does not give the answer away.",
        arms=tuple(arms),
        suite=suite(form),
        wanted=FROZEN,
        plots=(Plot("mask ratio", "pattern"),),
        claims=(
            *(Claim(f"random {ratio:g}", f"tube {ratio:g}", about=f"At {ratio:.0%} hidden") for ratio in MASK_RATIOS),
            Best(tuple(f"random {ratio:g}" for ratio in MASK_RATIOS), expected="random 0.95"),
            Trend("mask ratio", (("pattern", "random"),)),
        ),
        scale=scale,
    )


def _with_patches(form: Form, least: int) -> Form:
    """Give frames so many patches along a side or more, and an even number of them."""
    patch = form.encoder.patch[1]
    patches = max(form.encoder.size[0] // patch, least)
    side = (patches + patches % 2) * patch
    if form.encoder.size == (side, side):
        return form
    return replace(form, encoder=replace(form.encoder, size=(side, side)), pixels=side)


def _grid(encoder: VideoViTConfig) -> Triple:
    return grid_of(encoder.num_frames, encoder.size, encoder.patch)


# ----------------------------------------------------------------------------- the decoder


def decoder(scale: Scale = "here") -> Study:
    """Ask how fine the latent tokens of the decoder have to be, and how many blocks see them.

    In patches of the encoder, a latent token covers 1x1x1, 2x1x1, 4x1x1 or 2x2x2: 1568, 784, 392 and 196 latents of
    clips of 224 pixels. The shape is not from the paper; that it is coarse is.
    """
    form = _with_patches(form_of(scale), 2)
    arms = [random_arm(form)]
    pt, ph, pw = form.encoder.patch
    for shape in ((1, 1, 1), (2, 1, 1), (4, 1, 1), (2, 2, 2)):
        for blocks in (1, 2, 4):
            patch = (shape[0] * pt, shape[1] * ph, shape[2] * pw)
            t, h, w = grid_of(form.encoder.num_frames, form.encoder.size, patch)
            factors = (("latents", t * h * w), ("patches of a latent", "x".join(map(str, shape))), ("blocks", blocks))
            objective = simple_mae(form, decoder_patch=patch, num_decoder_blocks=blocks)
            name = f"{factors[1][1]}, {blocks} blocks"
            arms.append(Arm(name, factors, form.encoder, pretraining(form, objective)))
    return Study(
        name="decoder",
        version=1,
        question="How coarse may the decoder's latent tokens be, and how many blocks should see them?",
        why="Coarse latents in the last two blocks are most of what makes SimpleMAE cheap: half to two thirds of a "
        "small model's step is the decoder.",
        arms=tuple(arms),
        suite=suite(form),
        wanted=FROZEN,
        plots=(Plot("patches of a latent", "blocks"), Plot("flop", "patches of a latent", log_x=True)),
        claims=(
            Claim("2x1x1, 2 blocks", "1x1x1, 2 blocks", about="Half as many latents"),
            Claim("2x2x2, 2 blocks", "2x1x1, 2 blocks", about="An eighth in place of half"),
            Claim("2x1x1, 4 blocks", "2x1x1, 1 blocks", about="Four blocks in place of one"),
        ),
        scale=scale,
    )


def pixels(scale: Scale = "here") -> Study:
    """Ask whether the loss should count hidden pixels alone or all of them. The paper does not say which it counts."""
    form = form_of(scale)
    arms = [
        Arm(name, (("pixels", name),), form.encoder, pretraining(form, simple_mae(form, masked_only=masked)))
        for name, masked in (("all pixels", False), ("hidden pixels", True))
    ]
    return Study(
        name="pixels",
        version=1,
        question="Should the loss count hidden pixels alone, or all of them?",
        why="MAE and VideoMAE count hidden patches; latent tokens that are coarser than patches cover both kinds.",
        arms=(random_arm(form), *arms),
        suite=suite(form),
        wanted=FROZEN,
        plots=(Plot("pixels"),),
        claims=(Claim("all pixels", "hidden pixels"),),
        scale=scale,
    )


# ----------------------------------------------------------------------------- what is learned


def objectives(scale: Scale = "here") -> Study:
    """Compare all objectives at equal samples: the same encoder, clips and loop."""
    form = form_of(scale)
    return _objectives(form, scale, "objectives", "samples", _SHARE_OF_RATE, {})


_SHARE_OF_RATE = {"VideoMAE": 1 / 4, "V-JEPA": 1 / 4, "SimCLR": 1 / 4, "MoCo": 1 / 4}
"""Of the form's learning rate, for those that learn more so: found by `learning_rates` at the scale `here`."""


def objectives_at_equal_flop(scale: Scale = "here") -> Study:
    """Compare all objectives at the operations that SimpleMAE spends.

    Here 26 minutes of a core for a seed; by three seeds those that predict pixels lead, no single one of them is shown
    best, and V-JEPA and the contrastive ones are no better than random weights.
    """
    return _at_equal_flop(form_of(scale), scale, _SHARE_OF_RATE)


def _at_equal_flop(form: Form, scale: Scale, rates: Mapping[str, float]) -> Study:
    budget = form.steps * flop_of_step(simple_mae(form), form.batch_size)
    steps = {
        name: steps_for(budget, objective, form.batch_size, _native_clip(_loaded(form, objective)))
        for name, objective in _all_objectives(form).items()
    }
    return _objectives(form, scale, "objectives_at_equal_flop", "operations", rates, steps)


def learning_rates(scale: Scale = "here") -> Study:
    """Ask whether one learning rate for all decides which objective is best: a quarter and a sixteenth stand beside it.

    At equal operations, with one seed: what it says is only which rate each objective is given in the comparison.
    """
    form = form_of(scale)
    study = _at_equal_flop(form, scale, {})
    whole = [arm for arm in study.arms if arm.pretraining is not None]
    slower = {arm.name: [_slowed(arm, name, share) for name, share in _SLOWER.items()] for arm in whole}
    arms = [one for arm in whole for one in (arm, *slower[arm.name])]
    return replace(
        study,
        name="learning_rates",
        question="Does one learning rate for all decide which objective is best?",
        why="A rate that suits one objective may be too fast for another.",
        arms=(random_arm(form), *(_with_rate(arm) for arm in arms)),
        seeds=(0,),
        notes=(),
        plots=(Plot("learning rate", "objective", log_x=True),),
        claims=(*(Claim(one.name, name) for name, others in slower.items() for one in others), Best()),
    )


_SLOWER = {"a quarter": 1 / 4, "a sixteenth": 1 / 16}


def _slowed(arm: Arm, name: str, share: float) -> Arm:
    run = arm.pretraining
    assert run is not None
    optim = replace(run.optim, learning_rate=run.optim.learning_rate * share)
    return replace(arm, name=f"{arm.name}, {name}", pretraining=replace(run, optim=optim))


def _with_rate(arm: Arm) -> Arm:
    rate = arm.pretraining.optim.learning_rate  # type: ignore[union-attr]
    return replace(arm, factors=(*arm.factors, ("learning rate", rate)))


def _all_objectives(form: Form) -> dict[str, ObjectiveConfig]:
    """Describe every objective for the same encoder; sizes of heads follow the encoder's."""
    encoder = form.encoder
    predictor = {"num_predictor_blocks": 2, "predictor_width": encoder.width // 2, "predictor_heads": encoder.num_heads}
    latent = LatentPredictionConfig(encoder, mask_ratio=0.75, **predictor)  # type: ignore[arg-type]
    queue = min(4096, form.num_clips // 4)  # so short that a clip has left it before it comes again
    contrast = ContrastiveConfig(
        encoder, hidden_width=2 * encoder.width, projected_width=64, queue_size=queue, momentum=0.99
    )
    return {
        LEARNED: simple_mae(form),
        "VideoMAE": VideoMAEConfig(encoder, mask_ratio=0.75, num_decoder_blocks=2),
        "future": FuturePredictionConfig(
            encoder, decoder_patch=simple_mae(form).decoder_patch, final_norm=True, decoder_bias=0.5
        ),
        "V-JEPA": latent,
        "SALT": replace(latent, teacher="frozen", teacher_weights=weights_of(LEARNED)),
        "SimCLR": contrast,
        "MoCo": replace(contrast, form="moco"),
    }


def _native_clip(form: Form) -> ClipShape:
    return ClipShape(form.encoder.num_frames, *form.encoder.size)


def _loaded(form: Form, objective: ObjectiveConfig) -> Form:
    """Load clips of twice the frames for what compares two clips of one video."""
    if not isinstance(objective, ContrastiveConfig):
        return form
    return replace(form, encoder=replace(form.encoder, num_frames=2 * form.encoder.num_frames))


def _objectives(
    form: Form, scale: Scale, name: str, equal: str, rates: Mapping[str, float], steps: Mapping[str, int]
) -> Study:
    arms = [random_arm(form)]
    for label, objective in _all_objectives(form).items():
        loaded = _loaded(form, objective)
        own = replace(form, rate=form.rate * rates.get(label, 1.0))
        run = pretraining(own, objective, **({"steps": steps[label]} if steps else {}))
        data = clips(loaded, 0, form.num_clips, flip=True)
        held_out = replace(data, first_index=run.held_out.first_index, num_clips=256, flip=False)  # type: ignore[union-attr]
        run = replace(run, data=data, held_out=replace(held_out, tasks=run.held_out.tasks))  # type: ignore[union-attr]
        arms.append(Arm(label, (("objective", label),), form.encoder, run))
    others = [arm.name for arm in arms if arm.name not in (RANDOM, LEARNED)]
    return Study(
        name=name,
        version=1,
        question=f"Which objective teaches most about space and time, at equal {equal}?",
        why="The paper compares models that differ in data, size and training too; here only the objective differs, "
        "and the learning rate that it is given.",
        arms=tuple(arms),
        suite=suite(form),
        wanted=FROZEN,
        plots=(Plot("objective"), Plot("flop", "objective", log_x=True)),
        claims=(
            *(Claim(LEARNED, other) for other in others),
            Best(expected=LEARNED, who="our guess"),
            *(Claim(label, RANDOM) for label in (LEARNED, *others)),
        ),
        notes=(
            "V-JEPA, SALT, SimCLR and MoCo have small predictors and heads here, in proportion to the encoder; MoCo's "
            "queue is a quarter of the clips, and its average keeps 99% in a step, since runs are short.",
            "SALT's teacher is the SimpleMAE run: with its operations (FLOP before) SALT has cost twice as much.",
            "SimCLR and MoCo load films twice as long, for two clips of each.",
            "VideoMAE, V-JEPA, SimCLR and MoCo have a quarter of the others' learning rate: at the scale `here` it did "
            "better for them in one seed of `fourd.recipes.ablations:learning_rates`, asked about the same test clips.",
        ),
        scale=scale,
    )


def distillation(scale: Scale = "here") -> Study:
    """Ask whether a small student that is taught by a pretrained large model beats one trained alone at equal cost.

    The teacher's own pretraining is counted apart: it is there already, as 4DS-e is. Equal cost is equal operations of
    the student's training, the teacher's forward passes included. Here 12 minutes of a core for a seed; by three
    seeds the student that is taught is not better at equal operations; at equal samples it is, on camera pose.
    """
    form = form_of(scale)
    student = replace(form.encoder, width=form.encoder.width // 2, mlp_width=form.encoder.mlp_width // 2)
    alone = simple_mae(replace(form, encoder=student))
    taught = DistillationConfig(student, form.encoder, weights_of("teacher"))
    short = steps_for(form.steps * flop_of_step(alone, form.batch_size), taught, form.batch_size)
    small = replace(form, encoder=student)
    return Study(
        name="distillation",
        version=1,
        question="Does a small model learn more from a large one than alone, at equal cost?",
        why="4DS-B was made from 4DS-e so; how is not public.",
        arms=(
            Arm("teacher", (("model", "teacher"),), form.encoder, pretraining(form, simple_mae(form))),
            Arm("alone", (("model", "alone"),), student, pretraining(small, alone)),
            Arm(
                "taught, equal operations",
                (("model", "taught, equal operations"),),
                student,
                pretraining(small, taught, steps=short),
            ),
            Arm("taught, equal samples", (("model", "taught, equal samples"),), student, pretraining(small, taught)),
            Arm(RANDOM, (), student),
        ),
        suite=suite(form),
        wanted=FROZEN,
        plots=(Plot("model"),),
        claims=(
            Claim("taught, equal operations", "alone"),
            Claim("taught, equal samples", "alone"),
            Claim("teacher", "taught, equal samples"),
        ),
        scale=scale,
    )
