"""The embedded world: textured solids under a moving camera, made on the spot, with exact truth of everything."""

from fourd.datasets.toy_world.clips import LABELS, ToyClips, World, make_clips, make_video
from fourd.datasets.toy_world.dataset import ToyWorld, ToyWorldConfig, base, tiny
from fourd.datasets.toy_world.draw import LookName, shapes_of
from fourd.datasets.toy_world.scene import CAMERA_MOTIONS, EVENT_ORDERS, OBJECT_MOTIONS, SHAPES, STUDIO_SHAPES

__all__ = [
    "CAMERA_MOTIONS",
    "EVENT_ORDERS",
    "LABELS",
    "OBJECT_MOTIONS",
    "SHAPES",
    "STUDIO_SHAPES",
    "LookName",
    "ToyClips",
    "ToyWorld",
    "ToyWorldConfig",
    "World",
    "base",
    "make_clips",
    "make_video",
    "shapes_of",
    "tiny",
]
