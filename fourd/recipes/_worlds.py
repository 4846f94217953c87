"""What studies on the embedded world share: its clips, encoders, suites and pretrainings, at four scales.

`tiny` is over within minutes on two CPU cores and shows that a study runs; `here` is what those cores can say in an
hour or a few; `gpu` is for one GPU, `node` for a machine of eight. None of the values is from the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from fourd.backbones import video_vit
from fourd.backbones.video_vit import VideoViTConfig
from fourd.benchmark.suite import Entry, Exam, Suite, Training
from fourd.datasets.toy_world import CAMERA_MOTIONS, ToyWorldConfig, shapes_of
from fourd.datasets.toy_world.draw import LookName
from fourd.objectives.simple_mae import SimpleMAEConfig
from fourd.optim import OptimConfig
from fourd.readout import ReadoutSize
from fourd.recipes.demo import FIRST_CHOICE_CLIP, FIRST_TEST_CLIP
from fourd.results import Average
from fourd.tasks.action import ActionConfig
from fourd.tasks.box_tracking import BoxTrackingConfig
from fourd.tasks.camera_pose import CameraPoseConfig
from fourd.tasks.depth import DepthConfig
from fourd.tasks.point_tracking import PointTrackingConfig
from fourd.trainer import RunConfig
from fourd.types import ClipShape, ObjectiveConfig, TaskConfig

Scale = Literal["tiny", "here", "gpu", "node"]
FRAME_S = 0.1
"""Time between frames: 8 of them last 0.7 s from the first to the last, as in the demo."""


_TOY_READOUT = ReadoutSize(width=192, num_heads=3, query_width=192, num_blocks=1)
_QUICK = replace(video_vit.toy(), width=128, depth=4, num_heads=2, mlp_width=512)
"""Of a million parameters: what two CPU cores train in two minutes."""


@dataclass(frozen=True)
class Form:
    """Hold the sizes of a study at one scale.

    encoder: what is pretrained. pixels: side of the clips, which the encoder may resize to its own. steps, batch_size,
    num_clips: of pretraining. num_train, num_test, probe_steps: of the readouts. rate: largest learning rate of
    pretraining.
    """

    encoder: VideoViTConfig
    pixels: int
    steps: int
    batch_size: int
    num_clips: int
    num_train: int
    num_test: int
    probe_steps: int
    rate: float = 2e-3
    look: LookName = "studio"
    readout: ReadoutSize = _TOY_READOUT
    few_tokens: bool = False

    @property
    def clip(self) -> ClipShape:
        """Give the clips that readouts are asked about."""
        return ClipShape(self.encoder.num_frames, self.pixels, self.pixels)


FORMS: dict[Scale, Form] = {
    "tiny": Form(video_vit.toy_small(), 32, 60, 16, 128, 64, 40, 20, few_tokens=True),
    "here": Form(_QUICK, 64, 2000, 32, 4000, 2000, 800, 300, few_tokens=True),
    "gpu": Form(
        video_vit.small().at(112), 112, 20_000, 256, 20_000, 4000, 1000, 2000, 3e-4, "rich", ReadoutSize(512, 8)
    ),
    "node": Form(
        video_vit.base().at(224), 224, 50_000, 1024, 50_000, 8000, 2000, 5000, 3e-4, "rich", ReadoutSize(1024, 16)
    ),
}


def form_of(scale: str) -> Form:
    """Find the sizes of a scale; raise ValueError for one that is not known."""
    if scale not in FORMS:
        raise ValueError(f"--scale {scale}: expected one of {', '.join(FORMS)}")
    return FORMS[scale]  # type: ignore[index]


def clips(form: Form, first: int, number: int, tasks: Sequence[str] = (), **changes: Any) -> ToyWorldConfig:
    """Describe clips of a form's world."""
    frames = form.encoder.num_frames
    shape = {"num_frames": frames, "height": form.pixels, "width": form.pixels, "duration_s": lasting(frames)}
    return ToyWorldConfig(
        first_index=first, num_clips=number, tasks=tuple(tasks), **{**shape, "look": form.look, **changes}
    )


def lasting(num_frames: int, apart_s: float = FRAME_S) -> float:
    """Say how long a clip lasts, from its first frame to its last, in seconds; of one frame it means nothing."""
    return round(apart_s * max(num_frames - 1, 1), 6)


def simple_mae(form: Form, **changes: Any) -> SimpleMAEConfig:
    """Describe SimpleMAE of a form's encoder: 75% hidden where clips have few tokens, else the paper's."""
    pt, ph, pw = form.encoder.patch
    own = {"mask_ratio": 0.75, "decoder_patch": (2 * pt, ph, pw), "final_norm": True, "decoder_bias": 0.5}
    return SimpleMAEConfig(form.encoder, **{**(own if form.few_tokens else {}), **changes})


def pretraining(form: Form, objective: ObjectiveConfig, **changes: Any) -> RunConfig:
    """Describe a pretraining on a form's world, its health looked at ten times along the way."""
    steps = changes.get("steps", form.steps)
    config = RunConfig(
        objective=objective,
        data=clips(form, 0, form.num_clips, flip=True),
        held_out=clips(form, FIRST_CHOICE_CLIP, min(256, form.num_clips), ("camera_motion", "shape")),
        optim=OptimConfig(learning_rate=form.rate, warmup_steps=max(steps // 10, 1), weight_decay=0.05),
        steps=form.steps,
        batch_size=form.batch_size,
        num_held_out=256,
        held_out_every=max(steps // 10, 1),
        save_every=max(steps // 4, 1),
        norms_every=max(steps, 1),
        keep_checkpoints=1,
    )
    return replace(config, **changes)


TITLES = {
    "depth": "How far away is each pixel?",
    "point_tracking": "Where do points of the first frame go?",
    "box_tracking": "Where do the solids go, given their boxes in the first frame?",
    "camera_pose": "How did the camera move from the first frame to the last?",
    "camera_motion": "Which of six ways did the camera move? One frame cannot tell.",
    "shape": "What is the solid that moves? A semantic question.",
}
"""What each entry asks, by the name of its task."""


def suite(form: Form, **changes: Any) -> Suite:
    """Measure the five tasks, and a semantic one beside them, on a form's world.

    changes: of the world that readouts learn and are tested on, such as another look.
    """
    entries = entries_of(form, changes.get("look", form.look))
    return suite_of(form, entries, tuple(entry.name for entry in entries), **changes)


def entries_of(form: Form, look: LookName = "studio", suffix: str = "") -> tuple[Entry, ...]:
    """Describe what is asked; suffix: of the names, where several readouts answer the same."""
    size, patch = form.readout, (2, 16, 16)
    box = BoxTrackingConfig("box_tracking" + suffix, size, num_octaves=6, position="offset")
    point = PointTrackingConfig("point_tracking" + suffix, size, num_tiles=1, num_octaves=6, position="offset")
    depth = DepthConfig("depth" + suffix, size, output_patch=patch, near=0.1, far=30.0)
    return (
        _entry(depth, TITLES["depth"], "abs_rel", "weighted_mean"),
        _entry(point, TITLES["point_tracking"], "average_jaccard_first"),
        _entry(box, TITLES["box_tracking"], "mean_iou", "weighted_mean"),
        _entry(CameraPoseConfig("camera_pose" + suffix, size), TITLES["camera_pose"], "pose_epe"),
        _entry(ActionConfig("camera_motion" + suffix, CAMERA_MOTIONS, size), TITLES["camera_motion"], "top_1"),
        _entry(ActionConfig("shape" + suffix, shapes_of(look), size), TITLES["shape"], "top_1"),
    )


def suite_of(form: Form, entries: tuple[Entry, ...], tasks: tuple[str, ...], **changes: Any) -> Suite:
    """Measure some entries; tasks: of the embedded world, one for each."""
    exam = Exam(
        name=f"toy_world_{changes.get('look', form.look)}",
        dataset="toy_world",
        train=clips(form, 0, form.num_train, tasks, **changes),
        test=clips(form, FIRST_TEST_CLIP, form.num_test, tasks, **changes),
        choose=None,
        clip=form.clip,
        entries=entries,
        frozen=Training(_optim(3e-3), form.probe_steps, 32),
        finetuned=Training(replace(_optim(1e-3), backbone_multiplier=0.3), form.probe_steps, 32),
    )
    return Suite(
        name=f"toy_world_{form.encoder.num_frames}x{form.pixels}",
        version=1,
        title="The five tasks and a semantic one on the embedded world",
        exams=(exam,),
        readouts=("attention",),
        depths=(1.0,),
        table_depth=1.0,
        finetuned_depth=1.0,
        notes=("The world is a toy and the networks are small: read the differences, not the scores.",),
    )


def _entry(task: TaskConfig, question: str, metric: str, average: Average = "clip_mean") -> Entry:
    return Entry(task, task.name.replace("_", " "), question, metric, average)


def _optim(rate: float) -> OptimConfig:
    return OptimConfig(learning_rate=rate, warmup_steps=30, weight_decay=0.01, betas=(0.9, 0.999), clip_norm=0.0)
