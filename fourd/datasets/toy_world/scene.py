"""What one clip is made of, before anything moves, and the sources of chance that it is drawn from.

The draws come from separate counter-based streams. `LAYOUT` decides all places and shapes of the first
frame (in the studio its colours too); `APPEARANCE` decides colours and light; `MOTION` decides what
happens after the first frame, the labels of motion included. So the first frame is independent of every
such label by construction, and a clip is a pure function of `(look, seed, index)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from jaxtyping import Float, Int

Array = np.ndarray

CAMERA_MOTIONS = ("orbit_left", "orbit_right", "dolly_in", "dolly_out", "rise", "fall")
"""What the camera does: it looks at one spot all the time; left, right and rise are its own move."""

OBJECT_MOTIONS = ("left", "right", "toward", "away")
"""Where the mover sets off to, as seen by the camera in frame 0."""

EVENT_ORDERS = ("forward", "backward")
"""In which order the lamp takes its three colours: 0, 1, 2, 0, ... or 0, 2, 1, 0, ...

At each time each colour is equally likely under both orders, so one frame says nothing about the
order; nor does the set of all frames, except through what else in them tells the time.
"""

NUM_OBJECTS = 4
MOVER = 0
"""The object whose direction is the label `object_motion`."""
LAMP = 1
"""The object whose changing colour is the label `event_order`."""
GROUND = NUM_OBJECTS
SKY = NUM_OBJECTS + 1
WALL = NUM_OBJECTS + 2
"""The first wall; the others follow."""
NUM_WALLS = 2


class Stream(IntEnum):
    """Name the independent sources of chance of one clip."""

    LAYOUT = 0
    MOTION = 1
    POINTS = 2
    APPEARANCE = 3
    PUSHES = 4


class Kind(IntEnum):
    """Name the solids, and what the three numbers of their `size` are; the axis of each is its own z.

    SPHERE: radius. BOX: half-edges. CAPSULE, CYLINDER: radius, half-length. ELLIPSOID, OCTAHEDRON:
    half-axes. CONE: radius of the base at -z, half-height. PRISM: distance of the edges from the axis
    (its ends are equilateral triangles), half-length. RING: outer radius, half-length, radius of the
    hole. DUMBBELL: radius of the balls, their distance from the middle, radius of the bar.
    """

    SPHERE = 0
    BOX = 1
    CAPSULE = 2
    CYLINDER = 3
    ELLIPSOID = 4
    CONE = 5
    PRISM = 6
    OCTAHEDRON = 7
    RING = 8
    DUMBBELL = 9


SHAPES = tuple(kind.name.lower() for kind in Kind)
"""What the mover is: the classes of the task `shape`, each equally likely."""
STUDIO_SHAPES = SHAPES[:4]
"""The shapes of the look `studio`."""


@dataclass(frozen=True)
class Labels:
    """Hold the answers that one frame cannot give, as indices into the tuples above."""

    camera_motion: int
    object_motion: int
    event_order: int


@dataclass(frozen=True)
class CameraPlan:
    """Hold how the camera travels around the spot that it looks at. Angles in radians, metres.

    `stray` is how far (azimuth, distance, elevation) drift by the end of the clip, on top of the class.
    """

    target: Float[Array, "3"]
    azimuth: float
    elevation: float
    distance: float
    orbit_by: float
    dolly_by: float
    rise_by: float
    stray: Float[Array, "3"]


@dataclass(frozen=True)
class Bodies:
    """Hold the solids as they are in frame 0: `K` objects; quaternions are (w, x, y, z).

    `pushes` keep long clips alive: (x, y, speed) is where the solid whose turn it is hops to, and how fast
    it leaves the ground. The studio has none.
    """

    kind: Int[Array, " K"]
    size: Float[Array, "K 3"]
    position: Float[Array, "K 3"]
    quaternion: Float[Array, "K 4"]
    velocity: Float[Array, "K 3"]
    spin: Float[Array, "K 3"]
    mover_speed: float
    bounce: Float[Array, " K"]
    pushes: Float[Array, "P 3"]


@dataclass(frozen=True)
class Look:
    """Hold colours and light; the materials are those of the `K` objects, the ground, and the walls.

    Colours are linear RGB. `fill` is the direction to a second light, which throws no shadows; `metal`
    is the share of a surface that mirrors the sky; at `haze_m` the air hides about two thirds.
    """

    ramp: Float[Array, "M 3 3"]
    style: Int[Array, " M"]
    shift: Float[Array, "M 3"]
    gloss: Float[Array, " K"]
    metal: Float[Array, " K"]
    lamp: Float[Array, "3 3"]
    sun: Float[Array, "3"]
    sun_colour: Float[Array, "3"]
    sky_colour: Float[Array, "3"]
    fill: Float[Array, "3"]
    fill_colour: Float[Array, "3"]
    zenith: Float[Array, "3"]
    horizon: Float[Array, "3"]
    haze_m: float


@dataclass(frozen=True)
class Scene:
    """Hold all that determines a clip, apart from its raster.

    `walls` holds (x, y, distance, height) of each: the level normal that points into the room, how far
    behind the world's origin the wall stands, and where it ends; one of height 0 is not there. The studio
    has no walls at all, and its physics is older: `walls` has no rows there.
    """

    labels: Labels
    camera: CameraPlan
    bodies: Bodies
    look: Look
    walls: Float[Array, "W 4"]
    field_of_view_rad: float
    lamp_start: int
    lamp_phase: float


def generator(seed: int, index: int, stream: Stream) -> np.random.Generator:
    """Give the source of chance of one clip for one purpose; the same arguments, the same draws."""
    key = np.array([seed, index], dtype=np.uint64)
    counter = np.array([0, 0, 0, int(stream)], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def linear_from_hsv(
    hue: Float[Array, "*n"], saturation: Float[Array, "*n"], value: Float[Array, "*n"]
) -> Float[Array, "*n 3"]:
    """Turn hue (1 is a full turn), saturation and value into linear RGB, with gamma 2."""
    sector = (hue[..., None] * 6 + np.array([5.0, 3.0, 1.0])) % 6
    chroma = np.clip(np.minimum(sector, 4 - sector), 0, 1)
    return np.square(value[..., None] * (1 - saturation[..., None] * chroma))
