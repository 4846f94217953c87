"""Studies of what is seen in pretraining: how many frames, how far apart, clips or images, which look of the world.

    fourd study inputs:clip_length --out runs/clip_length --runs runs/pretrainings

Scales as in `fourd.recipes.ablations`.
"""

from __future__ import annotations

from dataclasses import replace

from fourd.backbones import dinov2, siglip, video_vit, videomae
from fourd.backbones.windowed_vit import by_frames, by_windows
from fourd.datasets.toy_world.draw import LookName
from fourd.recipes._arms import FROZEN, LEARNED, RANDOM, random_arm
from fourd.recipes._worlds import FRAME_S, Scale, clips, form_of, lasting, pretraining, simple_mae, suite
from fourd.study import Arm, Claim, Plot, Study, Trend
from fourd.types import BackboneConfig


def clip_length(scale: Scale = "here") -> Study:
    """Ask what longer clips do for tracking and pose: 4 to 64 frames at the same distance in time.

    The paper's input has 16 frames; what more bring is one of the open questions. Here an hour of a core for a seed,
    its clips counted; in seed 0 no task but camera motion, best at 64, is best at the longest clips.
    """
    form = form_of(scale)
    lengths = (4, 8) if scale == "tiny" else (4, 8, 16, 32, 64)
    longest = replace(form, encoder=replace(form.encoder, num_frames=max(lengths)))
    arms = [random_arm(longest)]
    for length in lengths:
        batch = max(form.batch_size * 8 // length, 4)
        rate = form.rate * (batch / form.batch_size) ** 0.5
        own = replace(form, encoder=replace(form.encoder, num_frames=length), rate=rate)
        run = pretraining(own, simple_mae(own), batch_size=batch)
        arms.append(Arm(f"{length} frames", (("frames", length),), by_windows(own.encoder), run))
    return Study(
        name="clip_length",
        version=1,
        question="What do longer clips do for tracking and pose?",
        why="The paper's models see 16 frames; what longer ones bring is open.",
        arms=tuple(arms),
        suite=suite(longest),
        wanted=FROZEN,
        plots=(Plot("frames", log_x=True),),
        claims=(Trend("frames"),),
        notes=(
            "Each model saw as many frames in pretraining, in as many steps: the shorter the clips, the more of them "
            "in one, the learning rate going as the root of their number, and the oftener each is seen.",
            "All are asked about the longest clips, which each encodes window by window of its own length; readouts "
            "see all windows.",
        ),
        scale=scale,
    )


def image_encoders(scale: Scale = "here") -> Study:
    """Ask what an encoder of single frames lacks: the same blocks and as many pixels, each frame by itself.

    On a GPU published encoders of both kinds stand beside ours.
    """
    form = form_of(scale)
    image = by_frames(form.encoder)
    frames = form.encoder.num_frames
    alone = replace(form, encoder=replace(form.encoder, patch=image.patch, num_frames=1))
    seen = clips(alone, 0, form.num_clips * frames, flip=True)
    objective = simple_mae(alone, mask_ratio=0.75, decoder_patch=image.patch)  # 95% would leave 2 tokens of 49
    run = pretraining(alone, objective, batch_size=form.batch_size * frames, data=seen, held_out=None)
    sees = "sees"
    arms = (
        Arm(RANDOM, ((sees, "clips"), ("weights", "random")), form.encoder),
        Arm("random, frames", ((sees, "frames"), ("weights", "random")), image),
        Arm(LEARNED, ((sees, "clips"), ("weights", "pretrained")), form.encoder, pretraining(form, simple_mae(form))),
        Arm("SimpleMAE, frames", ((sees, "frames"), ("weights", "pretrained")), image, run),
    )
    return Study(
        name="image_encoders",
        version=1,
        question="What does an encoder of single frames lack?",
        why="The paper finds that image models are not competitive on 4D tasks; those that it asks differ from the "
        "video models in data and objective too.",
        arms=arms + (_published() if scale in ("gpu", "node") else ()),
        suite=suite(form),
        wanted=FROZEN,
        plots=(Plot(sees, "weights"),),
        claims=(Claim(LEARNED, "SimpleMAE, frames", about="Clips against frames"),),
        notes=(
            "Both saw as many pixels. The encoder of frames saw first frames alone, of as many more scenes as a clip "
            "has frames, 75% hidden and a latent for each patch; that of clips a latent for several patches in time.",
            "Readouts see all frames, and may compare them where an encoder does not.",
        ),
        scale=scale,
    )


def _published() -> tuple[Arm, ...]:
    """Name encoders that others have trained, by what they see."""
    known: tuple[tuple[str, str, BackboneConfig], ...] = (
        ("dinov2-base", "frames", dinov2.base()),
        ("siglip2-base", "frames", siglip.base()),
        ("videomae-base", "clips", videomae.base()),
        ("4ds-b-dist-e", "clips", video_vit.base()),
    )
    return tuple(
        Arm(name, (("sees", sees), ("weights", "published")), config, source=name) for name, sees, config in known
    )


def stride(scale: Scale = "here") -> Study:
    """Ask how far apart in time the frames of pretraining should be; all are asked about the same clips.

    What is paid for is equal: as many frames, over more or less time.
    """
    form = form_of(scale)
    arms = [random_arm(form)]
    for times in (0.5, 1.0, 2.0):
        seconds = lasting(form.encoder.num_frames, times * FRAME_S)
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
    arms = [random_arm(form)]
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
