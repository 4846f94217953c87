"""The suites of `fourd evaluate`: what is measured, on which clips, with which constants.

Every constant has its reason and source in docs/protocol.md; what the paper does not give says so there. Changing one
makes another version.
"""

from __future__ import annotations

from fourd.benchmark.suite import Entry, Exam, Suite, Training
from fourd.datasets.toy_world import CAMERA_MOTIONS, ToyWorldConfig
from fourd.optim import OptimConfig
from fourd.readout import ReadoutSize
from fourd.recipes.demo import FIRST_CHOICE_CLIP, FIRST_TEST_CLIP
from fourd.tasks.action import ActionConfig
from fourd.tasks.box_tracking import BoxTrackingConfig
from fourd.tasks.camera_pose import CameraPoseConfig
from fourd.tasks.depth import DepthConfig
from fourd.tasks.point_tracking import PointTrackingConfig
from fourd.types import ClipShape

# ----------------------------------------------------------------------------- the embedded world

TOY_TRAIN_CLIPS, TOY_TEST_CLIPS = 2000, 800
TOY_STEPS, TOY_FINETUNED_STEPS, TOY_BATCH = 300, 200, 32
TOY_READOUT = ReadoutSize(width=192, num_heads=3, query_width=192)
TOY_DEPTHS = (0.2, 0.4, 0.6, 0.8, 1.0)


def toy_four_d() -> Suite:
    """Measure the five tasks on the embedded world, by the code that measures them on real films.

    Nothing of it is from the paper.
    """
    entries = (
        Entry(
            DepthConfig(size=TOY_READOUT, output_patch=(2, 16, 16), near=0.1, far=30.0),
            "Depth",
            "How far away is each pixel?",
            "abs_rel",
            "weighted_mean",
        ),
        Entry(
            PointTrackingConfig(size=TOY_READOUT, num_tiles=1, num_octaves=6, position="offset"),
            "Points",
            "Where do points of the first frame go?",
            "average_jaccard_first",
        ),
        Entry(
            BoxTrackingConfig(size=TOY_READOUT, num_octaves=6, position="offset"),
            "Boxes",
            "Where do the solids go, given their boxes in the first frame?",
            "mean_iou",
            "weighted_mean",
        ),
        Entry(
            CameraPoseConfig(size=TOY_READOUT),
            "Camera",
            "How did the camera move from the first frame to the last?",
            "pose_epe",
        ),
        Entry(
            ActionConfig("camera_motion", CAMERA_MOTIONS, TOY_READOUT),
            "Action",
            "Which of six ways did the camera move? One frame cannot tell.",
            "top_1",
        ),
    )
    names = tuple(entry.name for entry in entries)
    optim = OptimConfig(learning_rate=3e-3, warmup_steps=30, weight_decay=0.01, betas=(0.9, 0.999), clip_norm=0.0)
    slower = OptimConfig(
        learning_rate=1e-3,
        warmup_steps=30,
        weight_decay=0.01,
        betas=(0.9, 0.999),
        clip_norm=0.0,
        backbone_multiplier=0.3,
    )
    exam = Exam(
        name="toy_world",
        dataset="toy_world",
        train=ToyWorldConfig(num_clips=TOY_TRAIN_CLIPS, tasks=names),
        test=ToyWorldConfig(first_index=FIRST_TEST_CLIP, num_clips=TOY_TEST_CLIPS, tasks=names),
        choose=ToyWorldConfig(first_index=FIRST_CHOICE_CLIP, num_clips=320, tasks=names),
        clip=ClipShape(8, 64, 64),
        entries=entries,
        frozen=Training(optim, TOY_STEPS, TOY_BATCH),
        finetuned=Training(slower, TOY_FINETUNED_STEPS, TOY_BATCH),
    )
    return Suite(
        name="toy_four_d",
        version=1,
        title="The 4D tasks on the embedded world",
        exams=(exam,),
        depths=TOY_DEPTHS,
        table_depth=1.0,
        finetuned_depth=1.0,
        notes=(
            "The world is a toy and the networks are small: read the differences, not the scores.",
            "Rivals at their toy size have random weights: their rows say what such a network is worth before it has "
            "learned anything, and nothing of the model of that name.",
        ),
    )
