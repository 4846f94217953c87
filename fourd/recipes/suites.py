"""The suites of `fourd evaluate`: what is measured, on which clips, with which constants.

Every constant has its reason and source in docs/protocol.md; what the paper does not give says so there. Changing one
makes another version.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from fourd.benchmark.suite import Entry, Exam, FilmExam, Suite, Training
from fourd.datasets import (
    davis,
    kinetics,
    kubric,
    movi,
    perception_test,
    realestate10k,
    scannet,
    ssv2,
    tap_vid,
    tum_rgbd,
    visp_castle,
    waymo,
)
from fourd.datasets._labelled import LabelledConfig, numbered
from fourd.datasets._sampling import RandomWindow, Segments, Spread, Windows
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

# ----------------------------------------------------------------------------- constants of four_d

CLIP = ClipShape(num_frames=16, height=224, width=224)
READOUT = ReadoutSize(width=1024, num_heads=16, num_frames=16)
POINT_READOUT = replace(READOUT, num_heads=8)
BOX_READOUT = replace(READOUT, num_heads=4)
ACTION_READOUT = replace(READOUT, dropout=0.5)
DEPTH_OF_FEATURES = 0.95
OPTIM = OptimConfig(
    learning_rate=3e-4,
    end_learning_rate=1e-7,
    warmup_steps=1000,
    betas=(0.9, 0.999),
    weight_decay=1e-4,
    clip_norm=0.0,
    backbone_multiplier=0.1,
)
STEPS, BATCH = 40_000, 32
RATES = (0.3, 1.0, 3.0)
NEAR_M, FAR_M = 0.001, 10.0
NUM_TRAIN_POINTS = 64
ACTION_TRAIN_SCALE = (0.3, 1.0)


def _exam(
    name: str, train: LabelledConfig, test: LabelledConfig, *entries: Entry, flip: bool = True, **augmented: Any
) -> Exam:
    """Put together an exam: learned on nine tenths of the training groups, rates chosen on the rest."""
    kinds = tuple(type(entry.task.build()).kind for entry in entries)
    same: dict[str, Any] = {"tasks": kinds, "num_frames": CLIP.num_frames, "size": (CLIP.height, CLIP.width)}
    return Exam(
        name=name,
        dataset=type(test).__module__.rpartition(".")[2],
        train=replace(train, **same, portion="learn", flip=flip, **augmented),
        test=replace(test, **same),
        choose=replace(train, **same, portion="choose"),
        clip=CLIP,
        entries=entries,
        frozen=Training(OPTIM, STEPS, BATCH, RATES),
        finetuned=Training(OPTIM, STEPS, BATCH),
    )


def _depth(name: str, title: str, far: float = FAR_M) -> Entry:
    task = DepthConfig(name, READOUT, output_patch=(2, 8, 8), near=NEAR_M, far=far)
    return Entry(task, title, "How far away is each pixel, in metres?", "abs_rel", "weighted_mean")


def _points(name: str, title: str) -> Entry:
    task = PointTrackingConfig(name, POINT_READOUT, num_tiles=8, num_octaves=16)
    return Entry(task, title, "Where do points of the first frame go?", "average_jaccard_first")


def _boxes(name: str, title: str) -> Entry:
    task = BoxTrackingConfig(name, BOX_READOUT, num_tiles=1, num_octaves=16)
    return Entry(task, title, "Where do objects go, given their boxes in the first frame?", "mean_iou", "weighted_mean")


def _pose(name: str, title: str) -> Entry:
    task = CameraPoseConfig(name, READOUT)
    return Entry(task, title, "How did the camera move from the first frame to the last?", "pose_epe")


def _action(name: str, title: str, class_names: tuple[str, ...]) -> Entry:
    task = ActionConfig(name, class_names, ACTION_READOUT, label_smoothing=0.1)
    return Entry(task, title, "What is done?", "top_1")


def _class_names(reader: Any, root: str, count: int) -> tuple[str, ...]:
    """Read the names of the classes where they lie; number them where the data are not there."""
    try:
        names: tuple[str, ...] = reader.class_names(root)
    except FileNotFoundError:
        return numbered(count)
    return names


# ----------------------------------------------------------------------------- the suites


def four_d(data: Path = Path("data")) -> Suite:
    """Measure the paper's five tasks on its datasets, and action on Kinetics-700 too.

    data: where the datasets lie, each in a folder of its reader's name.
    """
    at = {name: str(data / name) for name in ("scannet", "movi", "perception_test", "waymo", "realestate10k")}
    at |= {name: str(data / name) for name in ("ssv2", "kinetics")}
    exams = (
        _exam(
            "scannet",
            scannet.base(at["scannet"], "train"),
            scannet.base(at["scannet"], "val"),
            _depth("scannet_depth", "ScanNet"),
        ),
        _exam(
            "perception_test",
            replace(movi.base(at["movi"], "train"), sampling=RandomWindow(1), num_points=NUM_TRAIN_POINTS),
            replace(perception_test.base(at["perception_test"], "valid"), sampling=Windows(1)),
            _points("perception_test_points", "Perception Test"),
        ),
        _exam(
            "waymo",
            waymo.base(at["waymo"], "training"),
            waymo.base(at["waymo"], "validation"),
            _boxes("waymo_boxes", "Waymo Open"),
        ),
        _exam(
            "realestate10k",
            replace(realestate10k.base(at["realestate10k"], "train"), sampling=Spread()),
            replace(realestate10k.base(at["realestate10k"], "test"), sampling=Spread()),
            _pose("realestate10k_pose", "RealEstate10K"),
        ),
        _exam(
            "ssv2",
            replace(ssv2.base(at["ssv2"], "train"), sampling=RandomWindow(2)),
            replace(ssv2.base(at["ssv2"], "validation"), sampling=Segments(2, num_segments=2), crop="three"),
            _action("ssv2_action", "Something-Something v2", _class_names(ssv2, at["ssv2"], 174)),
            flip=False,  # left and right are classes
            crop="random",
            crop_scale=ACTION_TRAIN_SCALE,
        ),
        _exam(
            "kinetics700",
            replace(kinetics.k700(at["kinetics"], "train"), sampling=RandomWindow(4)),
            replace(kinetics.k700(at["kinetics"], "val"), sampling=Segments(4, num_segments=4), crop="three"),
            _action("kinetics700_action", "Kinetics-700", _class_names(kinetics, at["kinetics"], 700)),
            crop="random",
            crop_scale=ACTION_TRAIN_SCALE,
        ),
    )
    return Suite(
        name="four_d",
        version=1,
        title="Depth, points, boxes, camera pose and action from frozen and finetuned video encoders",
        exams=exams,
        depths=(DEPTH_OF_FEATURES,),
        table_depth=DEPTH_OF_FEATURES,
        finetuned_depth=DEPTH_OF_FEATURES,
        notes=(
            "The splits, strides and training lengths of the paper are not public: these figures compare encoders with "
            "each other, by this protocol, and are not the paper's.",
        ),
    )


def label_propagation(data: Path = Path("data")) -> Suite:
    """Follow the objects of DAVIS-2017 by the likeness of frozen features; nothing is learned."""
    films = FilmExam(
        name="davis_objects",
        dataset="davis",
        test=davis.base(str(data / "davis"), "val"),
        title="DAVIS 2017",
        question="Where do the objects of the first frame go, pixel by pixel?",
    )
    return Suite(
        name="label_propagation",
        version=1,
        title="Objects followed by features alone",
        film_exams=(films,),
        depths=(DEPTH_OF_FEATURES,),
        table_depth=DEPTH_OF_FEATURES,
    )


TUM_TRAIN = tuple(
    f"rgbd_dataset_{name}"
    for name in (
        *("freiburg1_360", "freiburg1_desk", "freiburg1_desk2", "freiburg1_floor", "freiburg1_plant", "freiburg1_room"),
        *("freiburg1_rpy", "freiburg1_teddy", "freiburg1_xyz", "freiburg2_desk", "freiburg2_rpy", "freiburg2_xyz"),
        "freiburg3_long_office_household",
    )
)
TUM_TEST = tuple(
    f"rgbd_dataset_freiburg3_{what}_{how}"
    for what in ("sitting", "walking")
    for how in ("halfsphere", "rpy", "static", "xyz")
)
"""The eight sequences with people that works on dynamic scenes report; which are learned from is ours."""


def open_four_d(data: Path = Path("data")) -> Suite:
    """Measure the four spatial tasks with nothing but data that anyone may download without signing."""
    at = {name: str(data / name) for name in ("tum_rgbd", "movi", "kubric", "tap_vid", "perception_test")}
    rooms = replace(tum_rgbd.base(at["tum_rgbd"]), sampling=Windows(2))
    exams = (
        _exam(
            "tum_rgbd",
            replace(rooms, sequences=TUM_TRAIN),
            replace(rooms, sequences=TUM_TEST),
            _depth("tum_depth", "TUM RGB-D"),
            _pose("tum_pose", "TUM RGB-D"),
        ),
        _exam(
            "movi",
            replace(movi.base(at["movi"], "train"), sampling=RandomWindow(1)),
            replace(movi.base(at["movi"], "validation"), sampling=Windows(1)),
            _depth("movi_depth", "MOVi-E", far=100.0),
            _boxes("movi_boxes", "MOVi-E"),
            _pose("movi_pose", "MOVi-E"),
        ),
        _exam(
            "tap_vid_davis",
            replace(kubric.base(at["kubric"]), sampling=RandomWindow(1), num_points=NUM_TRAIN_POINTS),
            replace(tap_vid.base(at["tap_vid"]), sampling=Windows(1)),
            _points("davis_points", "TAP-Vid DAVIS"),
        ),
        _exam(
            "perception_test_boxes",
            replace(perception_test.base(at["perception_test"], "train"), frames_per_annotation=4),
            replace(perception_test.base(at["perception_test"], "valid"), frames_per_annotation=4),
            _boxes("perception_test_boxes", "Perception Test"),
        ),
    )
    return replace(four_d(data), name="open_four_d", title="The 4D tasks on data that anyone may download", exams=exams)


def castle(data: Path = Path("data")) -> Suite:
    """Try depth and camera pose on forty real-format frames that a package manager brings; it measures nothing.

    Half of the frames are learned from, the other half tested on, of one scene. None of it is from the paper.
    """
    frames = replace(visp_castle.base(str(data / "visp_castle"), "train"), num_frames=8, size=(64, 64))
    frames = replace(frames, sampling=Windows(1, hop=1))
    optim = OptimConfig(learning_rate=3e-3, warmup_steps=10, weight_decay=0.01, betas=(0.9, 0.999), clip_norm=0.0)
    depth = DepthConfig("castle_depth", TOY_READOUT, output_patch=(2, 16, 16), near=0.01, far=2.0)
    exam = Exam(
        name="castle",
        dataset="visp_castle",
        train=frames,
        test=replace(frames, split="test"),
        choose=None,
        clip=ClipShape(8, 64, 64),
        entries=(
            Entry(depth, "Castle", "How far away is each pixel, in metres?", "abs_rel", "weighted_mean"),
            _pose("castle_pose", "Castle"),
        ),
        frozen=Training(optim, 100, 8),
        finetuned=Training(replace(optim, learning_rate=1e-3, backbone_multiplier=0.3), 50, 8),
    )
    return Suite("castle", 1, "Forty frames of a castle", (exam,), depths=(1.0,), table_depth=1.0, finetuned_depth=1.0)


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
