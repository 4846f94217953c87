"""Studies of what matters in pretraining and in reading out; each asks one question. `fourd study` runs them.

    fourd study fourd.recipes.ablations:masking --out runs/masking                # on two CPU cores
    fourd study fourd.recipes.ablations:masking --scale gpu --out runs/masking    # on one GPU

Every recipe takes a scale: `tiny` (minutes, to see it run), `here` (two CPU cores, an hour or a few), `gpu`, `node`;
the embedded world is made on the spot at each. What a study costs is measured and said before it begins. None of the
values is from the paper unless it says so.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from fourd.backbones.video_vit import VideoViTConfig
from fourd.benchmark.units import Wanted
from fourd.datasets.toy_world.draw import LookName
from fourd.masks import Mask
from fourd.objectives.contrastive import ContrastiveConfig
from fourd.objectives.distillation import DistillationConfig
from fourd.objectives.future_prediction import FuturePredictionConfig
from fourd.objectives.latent_prediction import LatentPredictionConfig
from fourd.objectives.video_mae import VideoMAEConfig
from fourd.recipes._worlds import FRAME_S, Form, Scale, clips, form_of, pretraining, simple_mae, suite
from fourd.study import Arm, Best, Claim, Pick, Plot, Study, Trend, weights_of
from fourd.study.costs import flop_of_step, steps_for
from fourd.tokens import Triple, grid_of
from fourd.types import ClipShape, ObjectiveConfig

FROZEN = Wanted(uses=("frozen",))
RANDOM = "random"
"""The arm whose weights nobody trained."""

# ----------------------------------------------------------------------------- what is hidden

MASK_RATIOS = (0.70, 0.85, 0.95, 0.99)


def masking(scale: Scale = "here") -> Study:
    """Ask how much to hide, and whether at random or in tubes: 4 ratios x 2 patterns.

    The paper hides 95% at random; VideoMAE found tubes better. Frames have 10 x 10 patches or more, so that every cell
    keeps a tube; how many tokens each keeps stands in its factors. The decoder's latents are the coarsest of the study
    `decoder`, so that what is hidden decides what a step costs.
    """
    form = _with_patches(form_of(scale), 10)
    latent = tuple(2 * side for side in form.encoder.patch)
    arms = [_random(form)]
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
            *(
                Claim(f"random {ratio:g}", f"tube {ratio:g}", about=f"At {ratio:.0%} hidden", expected="better")
                for ratio in MASK_RATIOS
            ),
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


def _random(form: Form, **factors: Any) -> Arm:
    return Arm(RANDOM, tuple(factors.items()), form.encoder)


# ----------------------------------------------------------------------------- the decoder


def decoder(scale: Scale = "here") -> Study:
    """Ask how fine the latent tokens of the decoder have to be, and how many blocks see them.

    In patches of the encoder, a latent token covers 1x1x1, 2x1x1, 4x1x1 or 2x2x2: 1568, 784, 392 and 196 latents of
    clips of 224 pixels. The shape is not from the paper; that it is coarse is.
    """
    form = _with_patches(form_of(scale), 2)
    arms = [_random(form)]
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
            Claim("2x1x1, 2 blocks", "1x1x1, 2 blocks", about="Half as many latents", expected="equal"),
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
        arms=(_random(form), *arms),
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
    return _objectives(form, scale, "objectives", "samples", {})


def objectives_at_equal_flop(scale: Scale = "here") -> Study:
    """Compare all objectives at the operations that SimpleMAE spends."""
    form = form_of(scale)
    budget = form.steps * flop_of_step(simple_mae(form), form.batch_size)
    steps = {
        name: steps_for(budget, objective, form.batch_size, _native_clip(_loaded(form, objective)))
        for name, objective in _all_objectives(form).items()
    }
    return _objectives(form, scale, "objectives_at_equal_flop", "operations", steps)


def _all_objectives(form: Form) -> dict[str, ObjectiveConfig]:
    """Describe every objective for the same encoder; sizes of heads follow the encoder's."""
    encoder = form.encoder
    predictor = {"num_predictor_blocks": 2, "predictor_width": encoder.width // 2, "predictor_heads": encoder.num_heads}
    latent = LatentPredictionConfig(encoder, mask_ratio=0.75, momentum=0.99, **predictor)  # type: ignore[arg-type]
    contrast = ContrastiveConfig(encoder, hidden_width=2 * encoder.width, projected_width=64, queue_size=4096)
    return {
        "SimpleMAE": simple_mae(form),
        "VideoMAE": VideoMAEConfig(encoder, mask_ratio=0.75, num_decoder_blocks=2),
        "future": FuturePredictionConfig(
            encoder, decoder_patch=simple_mae(form).decoder_patch, final_norm=True, decoder_bias=0.5
        ),
        "V-JEPA": latent,
        "SALT": replace(latent, teacher="frozen", teacher_weights=weights_of("SimpleMAE")),
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


def _objectives(form: Form, scale: Scale, name: str, equal: str, steps: dict[str, int]) -> Study:
    arms = [_random(form)]
    for label, objective in _all_objectives(form).items():
        loaded = _loaded(form, objective)
        run = pretraining(form, objective, **({"steps": steps[label]} if steps else {}))
        data = clips(loaded, 0, form.num_clips, flip=True)
        held_out = replace(data, first_index=run.held_out.first_index, num_clips=256, flip=False)  # type: ignore[union-attr]
        run = replace(run, data=data, held_out=replace(held_out, tasks=run.held_out.tasks))  # type: ignore[union-attr]
        arms.append(Arm(label, (("objective", label),), form.encoder, run))
    others = [arm.name for arm in arms if arm.name not in (RANDOM, "SimpleMAE")]
    return Study(
        name=name,
        version=1,
        question=f"Which objective teaches most about space and time, at equal {equal}?",
        why="The paper compares models that differ in data, size and training too; here only the objective differs.",
        arms=tuple(arms),
        suite=suite(form),
        wanted=FROZEN,
        plots=(Plot("objective"), Plot("flop", "objective", log_x=True)),
        claims=(
            *(Claim("SimpleMAE", other) for other in others),
            Best(expected="SimpleMAE"),
            *(Claim(label, RANDOM) for label in ("SimpleMAE", *others)),
        ),
        notes=("V-JEPA, SALT, SimCLR and MoCo have small predictors and heads here, in proportion to the encoder.",),
        scale=scale,
    )


def distillation(scale: Scale = "here") -> Study:
    """Ask whether a small student that is taught by a pretrained large model beats one trained alone at equal cost.

    The teacher's own pretraining is counted apart: it is there already, as 4DS-e is. Equal cost is equal operations of
    the student's training, the teacher's forward passes included.
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
            Claim("taught, equal operations", "alone", expected="better"),
            Claim("taught, equal samples", "alone", expected="better"),
            Claim("teacher", "taught, equal samples"),
        ),
        scale=scale,
    )


# ----------------------------------------------------------------------------- how it is read out


def readouts(scale: Scale = "here") -> Study:
    """Ask which readout finds most in the same features: the seed's third experiment.

    Attention (the paper's), linear, attention after blocks of self-attention, and convolutions for what is asked of
    each pixel.
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
        claims=tuple(
            Claim(Pick(LEARNED, readout="attention"), Pick(LEARNED, readout=kind), expected=_PAPER_SAYS.get(kind, ""))
            for kind in kinds
        ),
    )


def depth(scale: Scale = "here") -> Study:
    """Ask at which depth of the encoder the answers lie, for each task: one of the paper's open questions."""
    return _reading(
        scale,
        "depth",
        Wanted(uses=("frozen",), readouts=("attention", "linear"), depths=DEPTHS),
        question="At which depth of the encoder do the answers lie?",
        why="The paper reads the last features, or those at 95% of the depth, and does not say what others hold.",
        plots=(Plot("depth", "weights"), Plot("depth", "readout", where=(("weights", "pretrained"),))),
        claims=(
            Trend("depth", (("weights", "pretrained"),)),
            *(
                Claim(Pick(LEARNED, depth=1.0), Pick(LEARNED, depth=depth), about=f"The end against {depth:g}")
                for depth in DEPTHS[:-1]
            ),
        ),
    )


def use(scale: Scale = "here") -> Study:
    """Ask what finetuning adds to frozen features, and whether pretraining is still worth it then."""
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
            Claim(Pick(LEARNED, use="frozen"), Pick(RANDOM, use="frozen"), expected="better"),
            Claim(learned, random, about="When all learns along", expected="better"),
            Claim(Pick(LEARNED, use="frozen"), random, about="Frozen, against all learned from labels alone"),
        ),
    )


LEARNED = "SimpleMAE"
DEPTHS = (0.4, 0.6, 0.8, 1.0)
"""Fractions of an encoder's depth, as the official code counts: of six blocks after none, two, four and five."""
_PAPER_SAYS: dict[str, Literal["better"]] = {"linear": "better"}


def _reading(scale: Scale, name: str, wanted: Wanted, **told: Any) -> Study:
    """Describe a study of one matrix of readouts; each asks for its part, and with the same `--runs` they share it."""
    form = form_of(scale)
    return Study(
        name=name,
        version=1,
        arms=(
            Arm(RANDOM, (("weights", "random"),), form.encoder),
            Arm(LEARNED, (("weights", "pretrained"),), form.encoder, pretraining(form, simple_mae(form))),
        ),
        suite=suite(form),
        wanted=wanted,
        scale=scale,
        **told,
    )


# ----------------------------------------------------------------------------- what is seen


def clip_length(scale: Scale = "here") -> Study:
    """Ask what longer clips do for tracking and pose: 4 to 64 frames at the same distance in time.

    The paper's input has 16 frames and calls longer context unexplored.
    """
    form = form_of(scale)
    lengths = (4, 8) if scale == "tiny" else (4, 8, 16, 32, 64)
    arms = []
    longest = replace(form, encoder=replace(form.encoder, num_frames=max(lengths)))
    for length in lengths:
        own = replace(form, encoder=replace(form.encoder, num_frames=length))
        run = pretraining(own, simple_mae(own), batch_size=max(form.batch_size * 8 // length, 4))
        arms.append(Arm(f"{length} frames", (("frames", length),), replace(own.encoder, native_size=False), run))
    return Study(
        name="clip_length",
        version=1,
        question="What do longer clips do for tracking and pose?",
        why="The paper's models see 16 frames; it names longer context as unexplored.",
        arms=tuple(arms),
        suite=suite(longest),
        wanted=FROZEN,
        plots=(Plot("frames", log_x=True),),
        claims=(Trend("frames"),),
        notes=("Each model saw as many frames in pretraining; all are asked about the longest clips.",),
        scale=scale,
    )


def stride(scale: Scale = "here") -> Study:
    """Ask how far apart in time the frames of pretraining should be; all are asked about the same clips.

    What is paid for is equal: as many frames, over more or less time.
    """
    form = form_of(scale)
    arms = [_random(form)]
    for times in (0.5, 1.0, 2.0):
        seconds = times * FRAME_S * form.encoder.num_frames
        run = pretraining(form, simple_mae(form), data=clips(form, 0, form.num_clips, flip=True, duration_s=seconds))
        factors = (("seconds between frames", times * FRAME_S),)
        arms.append(Arm(f"{times:g} x the time", factors, form.encoder, run))
    return Study(
        name="stride",
        version=1,
        question="How far apart in time should the frames of pretraining be?",
        why="The paper samples 16 frames with stride 2 and does not vary it.",
        arms=tuple(arms),
        suite=suite(form),
        wanted=FROZEN,
        plots=(Plot("seconds between frames", log_x=True),),
        claims=(
            Claim("0.5 x the time", "1 x the time", about="Half the time between frames"),
            Claim("2 x the time", "1 x the time", about="Twice the time between frames"),
        ),
        notes=(f"All are asked about frames {FRAME_S} s apart.",),
        scale=scale,
    )


def domain_shift(scale: Scale = "here") -> Study:
    """Ask what a pretraining on one look of the world is worth on another: the same scenes, other colours and light."""
    form = replace(form_of(scale), look="rich")
    looks: tuple[LookName, ...] = ("rich", "night", "clay")
    arms = [_random(form)]
    for look in looks:
        own = replace(form, look=look)
        arms.append(Arm(f"saw {look}", (("pretrained on", look),), form.encoder, pretraining(own, simple_mae(own))))
    return Study(
        name="domain_shift",
        version=1,
        question="Does pretraining on one look of the world help on another?",
        why="Who has no films of their own world wants to know what others' are worth.",
        arms=tuple(arms),
        suite=suite(form, look="night"),
        wanted=FROZEN,
        plots=(Plot("pretrained on"),),
        claims=(
            Claim("saw night", "saw rich", about="On night, having seen it"),
            Claim("saw rich", RANDOM, about="On night, having seen daylight"),
            Claim("saw clay", RANDOM, about="On night, having seen no textures"),
        ),
        scale=scale,
    )
