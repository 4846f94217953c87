"""Each solid against its definition: where rays enter and leave, which way it faces, what bounds it, how it rests."""

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fourd.datasets.toy_world.normals import normals
from fourd.datasets.toy_world.outlines import ellipsoid_outline, extreme_parts, outline
from fourd.datasets.toy_world.physics import rotation_of
from fourd.datasets.toy_world.room_physics import simulate_in_room
from fourd.datasets.toy_world.scene import NUM_OBJECTS, Bodies, Kind
from fourd.datasets.toy_world.sizes import (
    bounding_radius,
    corners,
    draw_proportions,
    half_height,
    resting_pose,
    turned_about_z,
)
from fourd.datasets.toy_world.solids import spans
from tests.datasets.toy_world.solids_by_hand import inside

seeds = st.integers(0, 2**32 - 1)
kinds = pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.name.lower())


def drawn(kind: Kind, seed: int) -> tuple[np.random.Generator, np.ndarray]:
    chance = np.random.default_rng(seed)
    size = draw_proportions(chance, kind)
    return chance, size * chance.uniform(0.3, 0.6) / bounding_radius(kind, size)


def unit(chance: np.random.Generator, *shape: int) -> np.ndarray:
    vectors = chance.normal(size=(*shape, 3))
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def rays_at(chance: np.random.Generator, num_rays: int) -> tuple[np.ndarray, np.ndarray]:
    start = 3.5 * unit(chance)
    return start, chance.uniform(-0.3, 0.3, (num_rays, 3)) - start


def spans_of(kind: Kind, size: np.ndarray, start: np.ndarray, lines: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    as_tensor = functools.partial(torch.as_tensor, dtype=torch.float32)
    origin = tuple(as_tensor(value).view(1) for value in start)
    direction = tuple(as_tensor(lines[:, i])[:, None] for i in range(3))
    found = spans(kind, as_tensor(size)[:, None], origin, direction)
    return [tuple(np.broadcast_to(value.double().numpy(), (len(lines), 1)) for value in span) for span in found]


@kinds
@settings(max_examples=8, deadline=None)
@given(seed=seeds)
def test_rays_are_inside_exactly_between_entering_and_leaving(kind, seed):
    chance, size = drawn(kind, seed)
    start, lines = rays_at(chance, 40)
    t = np.linspace(0.7, 1.3, 1801)
    truly = inside(kind, size, start + t[:, None] * lines[:, None])
    found = np.zeros_like(truly)
    for enter, leave in spans_of(kind, size, start, lines):
        found |= (t > enter) & (t < leave)
    wrong = (truly != found).mean(axis=1) * 0.6 * np.linalg.norm(lines, axis=1)
    assert wrong.max() < 0.015, "metres along a ray; a grazing one is off by about the root of float32's rounding"
    assert truly.any()


@kinds
@settings(max_examples=8, deadline=None)
@given(seed=seeds)
def test_normals_are_of_length_one_and_point_out(kind, seed):
    """A small step against the normal is inside, one along it is outside: this fails for any that is 60 degrees off."""
    chance, size = drawn(kind, seed)
    start, lines = rays_at(chance, 60)
    entries = np.stack([np.where(a < b, a, np.inf) for a, b in spans_of(kind, size, start, lines)]).min(0)
    hit = np.isfinite(entries[:, 0])
    points = (start + entries * lines)[hit]
    found = normals(
        torch.full((len(points),), int(kind)),
        torch.as_tensor(size).float()[:, None].expand(3, len(points)),
        torch.as_tensor(points.T).float(),
    )
    facing = found.T.double().numpy()
    assert np.allclose(np.linalg.norm(facing, axis=1), 1, atol=1e-5)
    tilted = facing + 0.3 * unit(chance, len(points))
    good = inside(kind, size, points - 2e-3 * tilted) & ~inside(kind, size, points + 2e-3 * tilted)
    assert good.mean() > 0.93, "only at edges may both sides be the same"
    assert ((facing * lines[hit]).sum(1) < 1e-2).mean() > 0.97, "what is seen faces the eye"


@kinds
@settings(max_examples=4, deadline=None)
@given(seed=seeds)
def test_outlines_touch_what_they_bound(kind, seed):
    chance, size = drawn(kind, seed)
    turn = rotation_of(unit(chance, 1)[0][[0, 1, 2, 0]] * [0.8, 0.8, 0.8, 0] + [0, 0, 0, 0.6])
    place = np.array([chance.uniform(-1, 1), chance.uniform(-1, 1), chance.uniform(2.0, 4.0)])
    points = surface(kind, size, chance) @ turn.T + place
    seen = points[:, :2] / points[:, 2:]
    low, high = np.split(bounds(kind, size, turn, place), 2)
    width = high - low
    assert (seen.min(0) >= low - 1e-5).all()
    assert (seen.max(0) <= high + 1e-5).all()
    assert (seen.min(0) <= low + 0.03 * width).all()
    assert (seen.max(0) >= high - 0.03 * width).all()


def surface(kind: Kind, size: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """Find the outermost points in many directions, and at the corners and rims."""
    directions = unit(chance, 2000)
    if kind in (Kind.BOX, Kind.OCTAHEDRON, Kind.PRISM):
        directions[: len(corners(kind, size))] = corners(kind, size)
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    if kind in (Kind.CYLINDER, Kind.RING, Kind.CONE):
        angle = chance.uniform(0, 2 * np.pi, 800)
        side = chance.choice([-1.0, 1.0], 800) if kind is not Kind.CONE else np.full(800, -1.0)
        directions[:800] = np.stack([size[0] * np.cos(angle), size[0] * np.sin(angle), side * size[1]], -1)
        directions[0] = [0, 0, 1]
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    reach = np.linspace(0, 1.01 * bounding_radius(kind, size), 250)
    within = inside(kind, size, directions[:, None] * reach[:, None])
    last = np.where(within, np.arange(len(reach)), 0).max(1)
    return directions * reach[last][:, None]


def bounds(kind: Kind, size: np.ndarray, turn: np.ndarray, place: np.ndarray) -> np.ndarray:
    turn_, place_, size_ = (torch.as_tensor(value).float() for value in (turn, place, size))
    if kind is Kind.ELLIPSOID:
        found, in_front = ellipsoid_outline(place_, turn_ * size_)
    else:
        centre, radius, disc = extreme_parts(torch.tensor(int(kind)), size_)
        found, in_front = outline(centre @ turn_.T + place_, radius, disc[..., None] * turn_[:, 2])
        found = torch.cat([found[:, :2].amin(0), found[:, 2:].amax(0)])
    assert in_front.all()
    return found.double().numpy()


@kinds
@settings(max_examples=3, deadline=None)
@given(seed=seeds)
def test_height_above_the_ground_and_the_ball_around_are_measured_right(kind, seed):
    chance, size = drawn(kind, seed)
    quaternion = chance.normal(size=4)
    quaternion /= np.linalg.norm(quaternion)
    points = surface(kind, size, chance)
    lowest = (points @ rotation_of(quaternion).T)[:, 2].min()
    assert half_height(kind, size, quaternion) == pytest.approx(-lowest, rel=0.02)
    assert np.linalg.norm(points, axis=1).max() == pytest.approx(bounding_radius(kind, size), rel=0.02)


@kinds
@pytest.mark.parametrize("lying", [False, True])
def test_solids_rest_as_they_are_placed(kind, lying):
    """Let four of a kind go where they rest: none of them tips over."""
    size = np.stack([drawn(kind, seed)[1] for seed in range(NUM_OBJECTS)])
    pose = np.stack([turned_about_z(resting_pose(kind, s, lying), 1.3 * k) for k, s in enumerate(size)])
    places = np.array([[2.0, 2, 0], [2, -2, 0], [-2, 2, 0], [-2, -2, 0]])
    places[:, 2] = [half_height(kind, s, q) for s, q in zip(size, pose, strict=True)]
    still = np.zeros((NUM_OBJECTS, 3))
    bodies = Bodies(np.full(4, int(kind)), size, places, pose, still, still, 0.0, np.full(4, 0.2), np.zeros((0, 3)))
    motion = simulate_in_room(bodies, np.zeros((2, 4)), 0, np.eye(4)[[0, 2, 1, 3]], np.array([0.0, 0.5, 1.0]))
    assert np.abs(motion.position[-1] - motion.position[0]).max() < 0.02
    axis = motion.rotation[..., 2]
    assert ((axis[0] * axis[-1]).sum(-1) > 0.995).all()
