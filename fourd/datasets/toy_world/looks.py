"""The looks of the furnished world: its materials, lights and skies. Nothing here moves anything."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from fourd.datasets.toy_world.scene import LAMP, NUM_OBJECTS, NUM_WALLS, Array, Look, linear_from_hsv
from fourd.datasets.toy_world.studio import ramps
from fourd.datasets.toy_world.textures import BRICKS, CHECKER, DOTS, NUM_STYLES, PLAIN, STRIPES, WOOD

Range = tuple[float, float]
NUM_MATERIALS = NUM_OBJECTS + 1 + NUM_WALLS

_NATURAL = (0, 1, 2, 3)
_EVERYTHING = tuple(range(NUM_STYLES))
_SPREAD_RAD = {0: math.pi, 1: math.radians(70), 2: math.radians(30)}
"""How far aside of the walls' common direction the sun may stand, by their number, so that it shines on each."""


@dataclass(frozen=True)
class LookStyle:
    """Hold what a look draws from: ranges of hue (1 is a full turn), saturation, brightness and shares.

    `light` multiplies the colours of all materials. None of these is from the paper.
    """

    solids: tuple[int, ...]
    ground: tuple[int, ...]
    saturation: Range
    background_saturation: Range
    light: float
    gloss: Range
    metal_chance: float
    sun_height_deg: Range
    sun_hue: Range
    sun_saturation: Range
    sun_strength: Range
    sky_strength: Range
    fill_strength: Range
    zenith_hue: Range
    zenith_saturation: Range
    zenith_value: Range
    horizon_saturation: Range
    horizon_value: Range
    haze_m: Range


LOOKS = {
    "rich": LookStyle(
        solids=_EVERYTHING,
        ground=(*_NATURAL, CHECKER, STRIPES, WOOD, BRICKS),
        saturation=(0.25, 0.95),
        background_saturation=(0.05, 0.5),
        light=1.0,
        gloss=(0.0, 0.8),
        metal_chance=0.25,
        sun_height_deg=(35.0, 68.0),
        sun_hue=(0.06, 0.14),
        sun_saturation=(0.05, 0.4),
        sun_strength=(0.7, 0.95),
        sky_strength=(0.25, 0.42),
        fill_strength=(0.0, 0.2),
        zenith_hue=(0.5, 0.68),
        zenith_saturation=(0.1, 0.7),
        zenith_value=(0.7, 0.9),
        horizon_saturation=(0.02, 0.25),
        horizon_value=(0.85, 1.0),
        haze_m=(11.0, 20.0),
    ),
    "night": LookStyle(
        solids=(*_NATURAL, CHECKER, STRIPES, DOTS, BRICKS),
        ground=(*_NATURAL, CHECKER, WOOD, BRICKS),
        saturation=(0.3, 0.9),
        background_saturation=(0.1, 0.6),
        light=0.6,
        gloss=(0.3, 1.0),
        metal_chance=0.25,
        sun_height_deg=(30.0, 55.0),
        sun_hue=(0.5, 0.75),
        sun_saturation=(0.3, 0.7),
        sun_strength=(0.18, 0.4),
        sky_strength=(0.03, 0.07),
        fill_strength=(0.15, 0.4),
        zenith_hue=(0.6, 0.75),
        zenith_saturation=(0.5, 0.9),
        zenith_value=(0.03, 0.12),
        horizon_saturation=(0.3, 0.8),
        horizon_value=(0.1, 0.3),
        haze_m=(9.0, 16.0),
    ),
    "clay": LookStyle(
        solids=(PLAIN,),
        ground=(PLAIN,),
        saturation=(0.0, 0.3),
        background_saturation=(0.0, 0.12),
        light=1.0,
        gloss=(0.0, 0.0),
        metal_chance=0.0,
        sun_height_deg=(45.0, 75.0),
        sun_hue=(0.1, 0.1),
        sun_saturation=(0.0, 0.08),
        sun_strength=(0.4, 0.55),
        sky_strength=(0.4, 0.55),
        fill_strength=(0.0, 0.1),
        zenith_hue=(0.55, 0.65),
        zenith_saturation=(0.0, 0.06),
        zenith_value=(0.85, 0.95),
        horizon_saturation=(0.0, 0.1),
        horizon_value=(0.95, 1.0),
        haze_m=(25.0, 30.0),
    ),
}
"""What each look draws from. `rich` is daylight; `night` is dark, under coloured lamps; `clay` has no textures."""


def draw_look(style: LookStyle, chance: np.random.Generator, walls: Float[Array, "W 4"]) -> Look:
    """Draw colours and light."""
    metal = np.where(chance.uniform(size=NUM_OBJECTS) < style.metal_chance, chance.uniform(0.5, 0.85, NUM_OBJECTS), 0.0)
    metal[LAMP] = 0.0
    sun, fill = _draw_lights(style, chance, walls)
    sky_hue = chance.uniform(*style.zenith_hue)
    lamp_hue = chance.uniform()
    return Look(
        ramp=_draw_ramps(style, chance),
        style=np.append(chance.choice(style.solids, NUM_OBJECTS), chance.choice(style.ground, 1 + NUM_WALLS)),
        shift=chance.uniform(0, 1, (NUM_MATERIALS, 3)),
        gloss=chance.uniform(*style.gloss, NUM_OBJECTS),
        metal=metal,
        lamp=linear_from_hsv(lamp_hue + np.array([0.0, 1 / 3, 2 / 3]), np.full(3, 0.68), np.full(3, 1.0)),
        sun=sun,
        sun_colour=_colour(chance, style.sun_hue, style.sun_saturation) * chance.uniform(*style.sun_strength),
        sky_colour=_colour(chance, (sky_hue, sky_hue), (0.0, 0.3)) * chance.uniform(*style.sky_strength),
        fill=fill,
        fill_colour=_colour(chance, (0.0, 1.0), (0.5, 0.9)) * chance.uniform(*style.fill_strength),
        zenith=_colour(chance, (sky_hue, sky_hue), style.zenith_saturation, style.zenith_value),
        horizon=_colour(chance, (sky_hue - 0.05, sky_hue + 0.05), style.horizon_saturation, style.horizon_value),
        haze_m=chance.uniform(*style.haze_m),
    )


def _draw_ramps(style: LookStyle, chance: np.random.Generator) -> Float[Array, "M 3 3"]:
    """Give every material its own hue; no two solids are of nearly the same."""
    hues = np.append(chance.permutation(NUM_OBJECTS) / NUM_OBJECTS, chance.uniform(size=1 + NUM_WALLS))
    hues += chance.uniform() + chance.uniform(-0.08, 0.08, NUM_MATERIALS)
    saturation = np.append(
        chance.uniform(*style.saturation, NUM_OBJECTS), chance.uniform(*style.background_saturation, 1 + NUM_WALLS)
    )
    return ramps(hues, saturation, drift=chance.uniform(-0.12, 0.12, NUM_MATERIALS)) * style.light


def _draw_lights(
    style: LookStyle, chance: np.random.Generator, walls: Float[Array, "W 4"]
) -> tuple[Float[Array, "3"], Float[Array, "3"]]:
    """Draw the directions to the sun, which shines on every wall, and to the fill light across from it."""
    there = walls[walls[:, 3] > 0]
    middle = math.atan2(*there[:, 1::-1].sum(0)) if len(there) else 0.0
    azimuth = middle + _SPREAD_RAD[len(there)] * chance.uniform(-1, 1)
    sun = _toward(azimuth, math.radians(chance.uniform(*style.sun_height_deg)))
    return sun, _toward(azimuth + math.pi * chance.uniform(0.4, 1.6), math.radians(chance.uniform(15, 50)))


def _toward(azimuth: float, height: float) -> Float[Array, "3"]:
    return np.array([math.cos(azimuth) * math.cos(height), math.sin(azimuth) * math.cos(height), math.sin(height)])


def _colour(chance: np.random.Generator, hue: Range, saturation: Range, value: Range = (1.0, 1.0)) -> Float[Array, "3"]:
    return linear_from_hsv(*(np.array(chance.uniform(*part)) for part in (hue, saturation, value)))
