"""A reader with every kind of label, whose files tests can break: `<split>.txt` names `<name>.npz`, one room each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from fourd.datasets import About, Found, FrameNumbers, Labelled, LabelledConfig, LabelledDataset, Recording
from fourd.media import UnreadableVideo
from fourd.types import BoxTracks, CameraPoses, Depth, Label, PointTracks, Unreadable
from tests.doctor.room import Room

ABOUT = About(
    title="Rooms",
    licence="free for tests",
    how_to_get="call write(root)",
    layout="train.txt, classes.txt, <name>.npz",
    source="these tests",
    official={"train": 4, "test": 1},
    overlaps=("movi",),
)
CLASSES = ("calm", "busy", "odd")
NUM_FRAMES = 12


@dataclass(frozen=True, kw_only=True)
class RoomsConfig(LabelledConfig):
    kinds: ClassVar = ("depth", "point_tracking", "box_tracking", "camera_pose", "action")

    def build(self) -> Rooms:
        return Rooms(self)


class Rooms(LabelledDataset):
    name = "rooms"

    def find(self) -> Found:
        found, lost = [], []
        for line in (self.root / f"{self.config.split}.txt").read_text().splitlines():
            name, num_frames = line.split()
            path = self.root / f"{name}.npz"
            if path.is_file():
                found.append(Recording(name, name, int(num_frames), source=path))
            else:
                lost.append(Unreadable(str(path), "listed, no such file"))
        return Found(tuple(found), tuple(lost))

    def load(self, recording: Recording, frames: FrameNumbers) -> Labelled:
        with np.load(recording.source) as held:
            kept = {name: torch.from_numpy(held[name]) for name in held.files}
        if frames[-1] >= len(kept["video"]):
            found = f"video: found {len(kept['video'])} frames, expected {recording.num_frames}"
            raise UnreadableVideo(str(recording.source), found)
        xyxy, depth = kept["boxes"][:, frames].float()[None], kept["depth"][frames].float()[None]
        visible = kept["visible"][:, frames][None]
        return Labelled(
            kept["video"][frames],
            kept["time_s"][frames],
            Depth(depth, depth > 0),
            PointTracks(kept["points"][:, frames].float()[None], visible, torch.ones_like(visible)),
            BoxTracks(xyxy, (xyxy != 0).any(-1)),
            CameraPoses(kept["poses"][frames].float()[None], kept["intrinsics"].float()[None]),
            Label(kept["label"]),
        )


def base(root: str, split: str = "train") -> RoomsConfig:
    return RoomsConfig(root=root, split=split, tasks=RoomsConfig.kinds, num_frames=6)


def class_names(root: str) -> tuple[str, ...]:
    return tuple((Path(root) / "classes.txt").read_text().split())


def write(root: Path) -> None:
    """Write four rooms to learn from, and one for testing."""
    root.mkdir(parents=True)
    names = [f"room{number}" for number in range(5)]
    for number, name in enumerate(names):
        np.savez(root / f"{name}.npz", **arrays(Room(seed=number, num_frames=NUM_FRAMES)))
    (root / "train.txt").write_text("".join(f"{name} {NUM_FRAMES}\n" for name in names[:4]))
    (root / "test.txt").write_text(f"{names[4]} {NUM_FRAMES}\n")
    (root / "classes.txt").write_text("\n".join(CLASSES))


def arrays(room: Room) -> dict[str, np.ndarray]:
    """Give all that a room's file holds."""
    frames = range(room.num_frames)
    points, visible = room.tracks()
    return {
        "video": room.video(),
        "time_s": np.arange(room.num_frames) / 10,
        "depth": np.stack([room.depth(frame) for frame in frames]),
        "poses": np.stack([room.pose(frame) for frame in frames]),
        "intrinsics": room.intrinsics,
        "points": points,
        "visible": visible,
        "boxes": room.boxes(),
        "label": np.array([room.seed % len(CLASSES)]),
    }


def rewrite(root: Path, **changes) -> None:
    """Change arrays of every room: each value is a function of the array that was there."""
    for path in sorted(root.glob("*.npz")):
        with np.load(path) as held:
            kept = {name: held[name] for name in held.files}
        np.savez(path, **(kept | {name: change(kept[name]) for name, change in changes.items()}))
