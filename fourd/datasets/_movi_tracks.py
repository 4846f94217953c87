"""Tracks of points on simulated objects, computed from where the objects are and what hides them.

Source: the point tracking challenge of Kubric (Greff et al., CVPR 2022; Doersch et al., TAP-Vid, 2022), whose rules are
kept, but for one: points are chosen in the first frame of a clip, since only those that are seen there are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

NEARER = 0.99
"""A point is hidden where all four pixels round it show something nearer than this share of its distance."""
LARGEST_SHARE = 0.1
"""Share of an object's pixels that may become points."""
ROUGH = 0.05
"""How far the surface normals of two neighbours may be apart where a surface is smooth."""
MOST_ROUGH = 2
"""Of a pixel's four diagonal neighbours; where more differ, normals come from painted bumps and say nothing."""
_CORNERS = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.float64)


@dataclass(frozen=True, eq=False)
class Camera:
    """Hold one camera in each of T frames; OpenCV axes, its centre in the middle of the picture."""

    world_from_camera: Float64[np.ndarray, "T 4 4"]
    focal_px: float
    height: int
    width: int

    @property
    def position(self) -> Float64[np.ndarray, "T 3"]:
        """Say where the camera stands."""
        return self.world_from_camera[:, :3, 3]

    def project(
        self, world: Float64[np.ndarray, "N T 3"]
    ) -> tuple[Float64[np.ndarray, "N T 2"], Float64[np.ndarray, "N T"]]:
        """Find where points are seen, in pixels, and how deep they are; what is not before the camera has no place."""
        seen = np.einsum("tji,ntj->nti", self.world_from_camera[:, :3, :3], world - self.position)
        depth = seen[..., 2]
        flat = seen[..., :2] / np.where(depth > 0, depth, 1)[..., None]
        return flat * self.focal_px + (self.width / 2, self.height / 2), depth

    def rays(self) -> Float64[np.ndarray, "H W 3"]:
        """Give the direction in which the centre of each pixel looks: one deep, in the camera's axes."""
        y, x = np.meshgrid(np.arange(self.height) + 0.5, np.arange(self.width) + 0.5, indexing="ij")
        across, down = (x - self.width / 2) / self.focal_px, (y - self.height / 2) / self.focal_px
        return np.stack([across, down, np.ones_like(x)], axis=-1)


@dataclass(frozen=True, eq=False)
class Scene:
    """Hold what the simulation says of the frames of a clip.

    distance: to the camera's centre. segments: 0 the background, one more than an object's number. object_places: in
    the first frame, where in its object's box each pixel is, 0 to 1. normals: of the first frame's surfaces, in the
    world. corners: of the objects' boxes in the world, the last axis first (000, 001, 010, ...). rotations: of objects.
    """

    camera: Camera
    distance: Float[np.ndarray, "T H W"]
    segments: Int64[np.ndarray, "T H W"]
    object_places: Float64[np.ndarray, "H W 3"]
    normals: Float64[np.ndarray, "H W 3"]
    corners: Float64[np.ndarray, "O T 8 3"]
    rotations: Float64[np.ndarray, "O T 3 3"]


@dataclass(frozen=True, eq=False)
class Tracks:
    """Hold paths of points in continuous pixels; `visible` where they can be seen, `known` where they have a place."""

    xy_px: Float64[np.ndarray, "N T 2"]
    visible: Bool[np.ndarray, "N T"]
    known: Bool[np.ndarray, "N T"]


def track(scene: Scene, num_tracks: int, rng: np.random.Generator) -> Tracks:
    """Choose points in the first frame and follow them through all."""
    pixels = choose(scene.segments[0], num_tracks, rng)
    return track_pixels(scene, *pixels)


def track_pixels(scene: Scene, rows: Int64[np.ndarray, " N"], columns: Int64[np.ndarray, " N"]) -> Tracks:
    """Follow what some pixels of the first frame show."""
    own = scene.segments[0][rows, columns]
    world = _follow(scene, own, rows, columns)
    xy, depth = scene.camera.project(world)
    known = depth > 0
    xy = np.where(known[..., None], xy, 0.0)
    inside = ((xy >= 0) & (xy < (scene.camera.width, scene.camera.height))).all(-1)
    hidden = _covered(scene, own, world, xy) | _turned_away(scene, own, world, rows, columns)
    return Tracks(xy, known & inside & ~hidden, known)


def choose(
    segments: Int64[np.ndarray, "H W"], num_tracks: int, rng: np.random.Generator
) -> tuple[Int64[np.ndarray, " N"], Int64[np.ndarray, " N"]]:
    """Draw pixels, as many from each object and the background, but at most `LARGEST_SHARE` of its own.

    What the small ones cannot give, the larger ones do; where all are too small there are fewer pixels.
    """
    ids, sizes = np.unique(segments, return_counts=True)
    chosen: list[np.ndarray] = []
    wanted = num_tracks
    for left, place in zip(range(len(ids), 0, -1), np.argsort(sizes, kind="stable").tolist(), strict=True):
        count = min(round(wanted / left), round(int(sizes[place]) * LARGEST_SHARE))
        chosen.append(rng.permutation(np.flatnonzero(segments == ids[place]))[:count])
        wanted -= count
    rows, columns = np.divmod(np.sort(np.concatenate(chosen)), segments.shape[1])
    return rows.astype(np.int64), columns.astype(np.int64)


def _follow(
    scene: Scene, own: Int64[np.ndarray, " N"], rows: Int64[np.ndarray, " N"], columns: Int64[np.ndarray, " N"]
) -> Float64[np.ndarray, "N T 3"]:
    """Find where in the world the points are: the background's stay, an object's go with its box."""
    ray = scene.camera.rays()[rows, columns]
    ray = ray / np.linalg.norm(ray, axis=-1, keepdims=True) * scene.distance[0][rows, columns, None]
    pose = scene.camera.world_from_camera[0]
    world = np.repeat((ray @ pose[:3, :3].T + pose[:3, 3])[:, None], len(scene.distance), axis=1)
    of_object = own > 0
    if of_object.any():
        place = scene.object_places[rows, columns][of_object]
        place = np.concatenate([place, np.ones_like(place[:, :1])], axis=-1)
        world[of_object] = np.einsum("nk,ntkc->ntc", place, _world_from_box(scene.corners)[own[of_object] - 1])
    return world


def _world_from_box(corners: Float64[np.ndarray, "O T 8 3"]) -> Float64[np.ndarray, "O T 4 3"]:
    """Find the transform that takes places in a box, 0 to 1 and a one, to the world: the best for its corners."""
    objects, frames = corners.shape[:2]
    columns = corners.transpose(2, 0, 1, 3).reshape(8, -1)
    solved = np.linalg.lstsq(_CORNERS, columns, rcond=None)[0]
    return solved.reshape(4, objects, frames, 3).transpose(1, 2, 0, 3)


def _covered(
    scene: Scene, own: Int64[np.ndarray, " N"], world: Float64[np.ndarray, "N T 3"], xy: Float64[np.ndarray, "N T 2"]
) -> Bool[np.ndarray, "N T"]:
    """Tell where all four pixels round a point are nearer than it, or none of them shows its object."""
    left, top = np.floor(np.clip(xy - 0.5, -2.0, 1e6)).astype(np.int64).transpose(2, 0, 1)
    frames = np.arange(len(scene.distance))
    farthest, is_own = np.zeros(left.shape), np.zeros(left.shape, bool)
    for right, down in ((0, 0), (1, 0), (0, 1), (1, 1)):
        column = np.clip(left + right, 0, scene.camera.width - 1)
        row = np.clip(top + down, 0, scene.camera.height - 1)
        farthest = np.maximum(farthest, scene.distance[frames, row, column])
        is_own |= scene.segments[frames, row, column] == own[:, None]
    away = np.linalg.norm(world - scene.camera.position, axis=-1)
    return (farthest < NEARER * away) | ~is_own


def _turned_away(
    scene: Scene,
    own: Int64[np.ndarray, " N"],
    world: Float64[np.ndarray, "N T 3"],
    rows: Int64[np.ndarray, " N"],
    columns: Int64[np.ndarray, " N"],
) -> Bool[np.ndarray, "N T"]:
    """Tell where the surface round a point of an object looks away from the camera.

    Nothing is told of the background, of rough surfaces, and of what seems to look away where it was chosen.
    """
    turned = np.zeros(world.shape[:2], bool)
    told = (own > 0) & ~_rough(scene.normals)[rows, columns]
    if told.any():
        rotations = scene.rotations[own[told] - 1]
        normals = np.einsum("ntij,nkj,nk->nti", rotations, rotations[:, 0], scene.normals[rows, columns][told])
        away = (normals * (world[told] - scene.camera.position)).sum(-1) > 0
        turned[told] = away & ~away[:, :1]
    return turned


def _rough(normals: Float64[np.ndarray, "H W 3"]) -> Bool[np.ndarray, "H W"]:
    height, width = normals.shape[:2]
    padded = np.pad(normals, ((1, 1), (1, 1), (0, 0)))
    differing = np.zeros((height, width), np.int64)
    for row in (0, 2):
        for column in (0, 2):
            apart = ((padded[row : row + height, column : column + width] - normals) ** 2).sum(-1)
            differing += apart > ROUGH**2
    return differing > MOST_ROUGH
