"""A suite that is measured within seconds, for tests: two tasks of the embedded world, everything tiny."""

from __future__ import annotations

from fourd.backbones import video_vit
from fourd.benchmark.suite import Entry, Exam, Suite, Training
from fourd.datasets.toy_world import CAMERA_MOTIONS, ToyWorldConfig
from fourd.optim import OptimConfig
from fourd.readout import ReadoutSize
from fourd.tasks.action import ActionConfig
from fourd.tasks.camera_pose import CameraPoseConfig
from fourd.types import ClipShape

SIZE = ReadoutSize(16, 2, dropout=0.5)
NAMES = ("camera_pose", "camera_motion")


def world(first_index: int, num_clips: int) -> ToyWorldConfig:
    """Describe clips of the embedded world."""
    return ToyWorldConfig(
        first_index=first_index, num_clips=num_clips, num_frames=4, height=32, width=32, num_points=8, tasks=NAMES
    )


def suite(version: int = 1, rates: tuple[float, ...] = (0.3, 1.0), steps: int = 6) -> Suite:
    """Describe two entries on tiny clips; 11 test clips, which no count of processes divides."""
    optim = OptimConfig(learning_rate=3e-3, warmup_steps=2, betas=(0.9, 0.999), clip_norm=0.0)
    entries = (
        Entry(CameraPoseConfig(size=SIZE), "Camera", "How did the camera move?", "pose_epe"),
        Entry(ActionConfig("camera_motion", CAMERA_MOTIONS, SIZE), "Action", "Which way did it move?", "top_1"),
    )
    exam = Exam(
        name="toy_world",
        dataset="toy_world",
        train=world(0, 16),
        test=world(100, 11),
        choose=world(50, 5),
        clip=ClipShape(4, 32, 32),
        entries=entries,
        frozen=Training(optim, steps, 8, rates),
        finetuned=Training(optim, 3, 8),
    )
    return Suite("small", version, "A small suite", (exam,), depths=(0.5, 1.0), table_depth=1.0, finetuned_depth=1.0)


def backbone() -> video_vit.VideoViTConfig:
    """Describe the encoder that is measured."""
    return video_vit.tiny()


def longer() -> Suite:
    """Describe the same with more to do, which leaves time to be killed in."""
    return suite(version=2, steps=40)
