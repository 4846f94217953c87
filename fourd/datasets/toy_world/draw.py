"""From a number to a scene, in any look."""

from __future__ import annotations

from typing import Literal

from fourd.datasets.toy_world.furnished import draw_furnished
from fourd.datasets.toy_world.looks import LOOKS
from fourd.datasets.toy_world.scene import SHAPES, STUDIO_SHAPES, Scene
from fourd.datasets.toy_world.studio import draw_studio

LookName = Literal["studio", "rich", "night", "clay"]


def draw_scene(look: LookName, seed: int, index: int) -> Scene:
    """Draw clip `index` of the world `seed`. All looks but `studio` show the same places, shapes and motions."""
    return draw_studio(seed, index) if look == "studio" else draw_furnished(LOOKS[look], seed, index)


def shapes_of(look: LookName) -> tuple[str, ...]:
    """Name the classes of the task `shape` in a look, in the order of their labels; each is equally likely."""
    return STUDIO_SHAPES if look == "studio" else SHAPES
